"""What a field of an experiment can be: a choice, a number, a switch, what single blocks do, a timeline."""

from dataclasses import field
from typing import Any

from lnres.registry import Registry


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
