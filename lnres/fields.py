"""What a field of an experiment can be, and how its values are read and told: the same way everywhere."""

from collections.abc import Iterable, Mapping
from dataclasses import Field, field
from functools import lru_cache
from typing import Any

from lnres.registry import Registry

LAST_STEP, LAST_BLOCK, MOST_CHANGES = 1_000_000, 2000, 64
HOW_CHANGES = "write step.setting.value, as in 120.lr.0.01, and -- between two changes"

FIELDS: dict[str, Field] = {}
"""The fields of an experiment by name; ``lnres.experiment`` fills it."""


def live() -> list[str]:
    """The fields that can change while a run goes on."""
    return [name for name, spec in FIELDS.items() if spec.metadata.get("live")]


def pick(registry: Registry, default: str, label: str, group: str) -> Any:
    """A field whose value is the name of a registry's row."""
    return field(default=default, metadata={"registry": registry, "label": label, "group": group})


def knob(
    default, low, high, label: str, group: str, *, live: bool = False, about: str = "", marks: tuple = ()
) -> Any:
    """A number or switch between ``low`` and ``high``; a ``live`` one may change while the run goes on.

    ``marks`` are the stops of its slider; links and the command line may name any value in between.
    """
    told = {"label": label, "group": group, "live": live, "about": about, "marks": marks}
    return field(default=default, metadata={"low": low, "high": high} | told)


def single(label: str, group: str, *, of: str = "", about: str = "") -> Any:
    """A live field of single blocks, counted from 1: ``5_9`` names two of them, ``0`` none.

    ``of`` is a field of which they have values of their own: ``5-post_9-inner``.
    """
    told = {"label": label, "group": group, "live": True, "about": about}
    return field(default="0", metadata={"single": of} | told)


def timeline(label: str, group: str) -> Any:
    """A field that says which ``live`` knobs change at which step: ``120.lr.0.01--200.dropout.0.3``."""
    return field(default="", metadata={"timeline": True, "label": label, "group": group})


def switch(default: bool, label: str, group: str) -> Any:
    """A field that is on or off."""
    return knob(default, False, True, label, group)


def text(value: Any) -> str:
    """A value as links and the command line write it: as short as reads back equal."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def spoken(name: str, value: Any) -> str:
    """What a knob is set to, in words."""
    told = FIELDS[name].metadata
    said = text(value).replace("_", ", ").replace("-", ": ") if "single" in told else text(value)
    return f"{told['label']} {said}"


def checked(spec: Field, value: Any) -> Any:
    """The value in the field's type; ``ValueError`` names the key, the value and what is allowed."""
    if registry := spec.metadata.get("registry"):
        registry[value]
        return value
    if "timeline" in spec.metadata:
        if not isinstance(value, str):
            raise ValueError(f"{spec.name}={value!r}: {HOW_CHANGES}")
        return tell_changes(read_changes(value))
    if "single" in spec.metadata:
        try:
            return tell_blocks(read_blocks(str(value), spec.metadata["single"]))
        except ValueError as error:
            raise ValueError(f"{spec.name}={value!r}: {error}") from None
    low, high, kind = spec.metadata["low"], spec.metadata["high"], type(spec.default)
    try:
        if kind is bool:
            number = {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        else:
            number = kind(float(value)) if isinstance(value, str) else kind(value)
            if isinstance(value, bool) or (kind is int and number != float(value)):
                raise ValueError
        if not low <= number <= high:  # NaN is not in any range
            raise ValueError
    except (ValueError, KeyError, TypeError, OverflowError):
        whole = "a whole" if kind is int else "a"
        allowed = "true or false" if kind is bool else f"{whole} number from {low} to {high}"
        raise ValueError(f"{spec.name}={value!r}: choose {allowed}") from None
    return number


@lru_cache
def read_blocks(value: str, of: str = "") -> dict[int, Any]:
    """What a field of single blocks says: its own value of the field ``of`` for each block, by number.

    True where blocks are only named; ``ValueError`` says what is wrong. Do not write into what is returned.
    """
    found = {}
    for part in value.split("_"):
        block, dash, own = part.partition("-")
        known = block.isdecimal() and block.isascii() and len(block) < 5 and int(block) <= LAST_BLOCK
        if not known or (dash != ("-" if of else "") and part != "0"):
            how = {"": "5_9", "skip_gain": "5-0.5_9-2"}.get(of, "5-post_9-inner")
            raise ValueError(f"name blocks from 1 to {LAST_BLOCK}, as in {how}, or 0 for none")
        found |= {int(block): checked(FIELDS[of], own) if of else True} if part != "0" else {}
    return found


def tell_blocks(values: Mapping[int, Any]) -> str:
    """Values of single blocks as links and the command line write them."""
    told = (str(n) if own is True else f"{n}-{text(own)}" for n, own in sorted(values.items()))
    return "_".join(told) or "0"


@lru_cache
def read_changes(value: str) -> tuple[tuple[int, str, Any], ...]:
    """(step, name of a live knob, value) of all changes, by step; ``ValueError`` if one cannot be."""
    found, parts = {}, value.split("--") if value else []
    if len(parts) > MOST_CHANGES:
        raise ValueError(f"changes: {len(parts)} changes are too many; the limit is {MOST_CHANGES}")
    for change in parts:
        at, name, new = [*change.split(".", 2), "", ""][:3]
        if not new or not (at.isdecimal() and at.isascii()) or len(at) > 7 or int(at) > LAST_STEP:
            raise ValueError(f"changes={value!r}: {HOW_CHANGES}")
        if name not in FIELDS or not FIELDS[name].metadata.get("live"):
            named = ", ".join(live())
            raise ValueError(f"changes={value!r}: only {named} can change while a run goes on, not {name}")
        try:
            found[int(at), name] = checked(FIELDS[name], new)
        except ValueError as error:
            raise ValueError(f"changes={value!r}: {error}") from None
    return tuple((step, name, new) for (step, name), new in sorted(found.items()))


def tell_changes(changes: Iterable[tuple[int, str, Any]]) -> str:
    """Changes as links and the command line write them; of two of one knob in one step the last counts."""
    last = {(step, name): new for step, name, new in changes}
    return "--".join(f"{step}.{name}.{text(new)}" for (step, name), new in sorted(last.items()))
