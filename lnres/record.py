"""A record is what was seen of a run: named arrays that grow by frames, one safetensors blob each."""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

# Each array grows by one row per tick of one of six clocks; the clock's own array holds the steps.
CLOCKS = {
    "step": ("loss_train", "acc_train", "loss_online", "acc_online", "lr"),
    "test_step": ("loss_test", "acc_test", "loss_batch", "acc_batch", "regions"),
    "plane_step": ("plane_x", "plane_y", "point_x", "point_y", "point_class"),
    "probe_step": (
        "act_mean", "act_std", "act_rms", "act_hist", "dead", "saturated", "cosine", "input_cosine",
        "grad_norm", "grad_hist", "weight_norm", "weight_grad_norm", "update_ratio",
        "skip_grad_norm", "branch_grad_norm", "skip_branch_cosine", "time_grad_norm",
    ),
    "river_step": ("river",),
    "theory_step": ("act_std_theory", "cosine_theory", "grad_norm_theory"),
}  # fmt: skip
AXES = {
    name: axes
    for axes, names in {
        "s": (*CLOCKS["step"], "loss_test", "acc_test", "loss_batch", "acc_batch"),
        "ls": (
            "act_mean", "act_std", "act_rms", "cosine", "input_cosine", "grad_norm", *CLOCKS["theory_step"]
        ),
        "bs": (
            "dead", "saturated", "weight_norm", "weight_grad_norm", "update_ratio", "skip_grad_norm",
            "branch_grad_norm", "skip_branch_cosine",
        ),
        "lsh": ("act_hist", "grad_hist"), "lws": ("river",), "ts": ("time_grad_norm",), "xy": ("regions",),
        "x": ("plane_x",), "y": ("plane_y",), "p": ("point_x", "point_y", "point_class"),
    }.items()
    for name in names
}  # fmt: skip
"""What a row of each array is, a letter an axis: s members, l states h_0 .. h_L, b blocks, h bins, w writers
of the stream, t time steps, x and y the cells of a plane, p its points."""
DTYPES = dict.fromkeys(AXES, np.float32) | dict.fromkeys(CLOCKS, np.int32)
DTYPES |= {"act_hist": np.uint16, "grad_hist": np.uint16, "regions": np.uint8, "point_class": np.uint8}
NEEDED = {
    "step": ("loss_train", "acc_train"), "probe_step": ("act_rms", "cosine", "grad_norm", "update_ratio")
}  # fmt: skip
"""Arrays without which nothing can be said of what has a clock."""
CLOCK_OF = {name: clock for clock, names in CLOCKS.items() for name in (clock, *names)}

DENSE = 20
"""Until this step every step is probed: the first spike is the story."""

# Values are counted on an asinh scale: linear near 0, logarithmic beyond 1, with a bin below and one above.
HIST_BINS, HIST_REACH = 64, 8.0
GRAD_DECADES = -12, 4
"""Range of log10 of a gradient's entries in ``grad_hist``, in as many bins."""

MOST_BANDS = 12
"""How many bands the blocks of a river share: so many writers can be told apart."""


def written(blocks: int) -> list[range]:
    """The blocks, from 1 on, whose writings one band of a river joins, band by band."""
    many = min(blocks, MOST_BANDS)
    edges = [1 + blocks * i // many for i in range(many + 1)]
    return [range(*pair) for pair in pairwise(edges)]


# Regions of the plane are bytes: the class, and within it so many levels of certainty.
PLANE_CLASSES, PLANE_LEVELS = 10, 25

EVENT = {"step": int, "kind": str, "text": str}
"""What every event says; those of some kinds say more."""

Frame = tuple[dict[str, np.ndarray], dict]
"""One increment: arrays with a leading axis of new rows, and a JSON-able header (``events``)."""


def pack(arrays: Mapping[str, np.ndarray], header: Mapping) -> bytes:
    """A frame as bytes that any safetensors reader opens; the header travels as JSON in its metadata."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save(whole, metadata={"lnres": json.dumps(header)})


def unpack(blob: bytes) -> Frame:
    """The arrays and header of a frame; ``ValueError`` with one sentence if the bytes are damaged."""
    try:
        arrays = safetensors.numpy.load(blob)
        size = int.from_bytes(blob[:8], "little")
        header = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"]["lnres"])
        if not isinstance(header, dict):
            raise TypeError("its header is no JSON object")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"this is not a record of lnres: {error}") from None
    return arrays, header


class Record:
    """Named arrays that grow: ``record["grad_norm"]`` is the view of all rows so far.

    An array has a row for each tick of its clock, and ``AXES`` says what is in a row. ``header`` carries the
    experiment, ``events`` what happened when: ``{"step", "kind", "text"}``.
    """

    def __init__(self, header: Mapping | None = None):
        self.header = dict(header or {})
        self.events: list[dict] = list(self.header.pop("events", []))
        self._rows: dict[str, np.ndarray] = {}
        self._count: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._count

    def __getitem__(self, name: str) -> np.ndarray:
        count = self._count[name]  # first: there are always as many rows as were counted, or more
        return self._rows[name][:count]

    def __iter__(self):
        return iter(self._count)

    def rows(self, clock: str) -> int:
        """How many rows the arrays of a clock have."""
        return self._count.get(clock, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(self[name].nbytes for name in self)

    @property
    def last_step(self) -> int:
        """The last optimizer step seen, -1 before the first."""
        return int(self["step"][-1]) if self.rows("step") else -1

    def extend(self, arrays: Mapping[str, np.ndarray], header: Mapping | None = None) -> None:
        """Append a frame's rows and its events; who reads in another thread sees all of its rows, or none."""
        count = dict(self._count)
        for name, new in arrays.items():
            have, room = count.get(name, 0), self._rows.get(name)
            if room is None or have + len(new) > len(room):  # doubling keeps appending linear
                grown = np.empty((max(64, 2 * (have + len(new))), *new.shape[1:]), new.dtype)
                if room is not None:
                    grown[:have] = room[:have]
                self._rows[name] = room = grown
            room[have : have + len(new)] = new
            count[name] = have + len(new)
        self._count = count
        self.events += (header or {}).get("events", [])

    def since(self, have: Mapping[str, int], names=None) -> dict[str, np.ndarray]:
        """The rows beyond ``have`` (array -> rows), of all arrays or of those named."""
        return {name: self[name][have.get(name, 0) :] for name in self if names is None or name in names}

    def snapshot(self) -> "Record":
        """What was seen so far, on the same memory: it stays when this one grows."""
        still = Record(self.header | {"events": self.events})
        still._rows, still._count = {name: self[name] for name in self}, dict(self._count)
        return still

    def until(self, step: int) -> "Record":
        """A record of what was seen before a step."""
        early = Record(self.header | {"events": [event for event in self.events if event["step"] < step]})
        early.extend({name: self[name][: np.searchsorted(self[CLOCK_OF[name]], step)] for name in self})
        return early

    def tobytes(self) -> bytes:
        """The whole record as one frame."""
        return pack({name: self[name] for name in self}, self.header | {"events": self.events})

    def save(self, path: str | Path) -> None:
        """Write the record as a safetensors file."""
        Path(path).write_bytes(self.tobytes())

    @classmethod
    def parse(cls, blob: bytes) -> "Record":
        """Read the bytes of a record; ``ValueError`` with one sentence if they are damaged."""
        arrays, header = unpack(blob)
        problem = next(_problems(arrays, header), None)
        if problem:
            raise ValueError(f"this is not a record of lnres: {problem}")
        record = cls(header)
        record.extend(arrays)
        return record

    @classmethod
    def load(cls, path: str | Path) -> "Record":
        """Read the file of a record; ``ValueError`` with one sentence if it is damaged."""
        return cls.parse(Path(path).read_bytes())


def _problems(arrays: Mapping[str, np.ndarray], header: Mapping) -> Iterator[str]:
    """What keeps arrays and a header from being a record, in words."""
    for name, array in arrays.items():
        clock = arrays.get(CLOCK_OF.get(name))
        if clock is None or clock.ndim != 1 or array.shape[:1] != clock.shape:
            yield f"{name!r} has no clock or does not fit it"
        elif array.dtype != DTYPES[name]:
            yield f"{name!r} is {array.dtype}, not {np.dtype(DTYPES[name])}"
        elif name in CLOCKS and (np.diff(array, prepend=-1) <= 0).any():
            yield f"the steps in {name!r} do not increase"
        elif name not in CLOCKS and (array.ndim != 1 + len(AXES[name]) or 0 in array.shape[1:]):
            yield f"{name!r} has no seeds, or not the axes that it should have"
    for clock in arrays.keys() & NEEDED:
        if missing := set(NEEDED[clock]) - arrays.keys():
            yield f"it has no {min(missing)!r}"
    events = header.get("events", [])
    if not isinstance(events, list) or not all(map(_is_event, events)):
        yield "an event lacks its step, its kind or its text"
    for key in ("experiment", "label"):
        if not isinstance(header.get(key, ""), str):
            yield f"its {key} is no text"


def _is_event(event) -> bool:
    """Whether this may stand among the events of a record."""
    return isinstance(event, dict) and [type(event.get(key)) for key in EVENT] == list(EVENT.values())
