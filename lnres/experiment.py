"""An experiment is a frozen value: everything that decides what a run will do, bit for bit."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from lnres.blocks import PLACEMENTS
from lnres.data import DATA, SCALERS, SHIFTS, STREAMS, VIEWS
from lnres.fields import (
    FIELDS,
    LAST_STEP,
    checked,
    knob,
    live,
    pick,
    read_blocks,
    read_changes,
    single,
    spoken,
    switch,
    tell_changes,
    text,
    timeline,
)
from lnres.layers import ACTIVATIONS, INITS
from lnres.models import MODELS, WIDEST
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS, SCHEDULES
from lnres.registry import Registry
from lnres.residuals import RESIDUALS

MAX_FLOPS, MAX_BYTES, MAX_RECORD, MAX_PROBE = 2e11, 4 * 2**30, 2 * 2**30, 20 * 2**30
"""What one step may cost (about three seconds of one core, and 4 GiB), how large a record may grow, and what
a single probe at init may take."""
ROW_BYTES = 390
"""What a probe writes per block and member: sixteen numbers, the bands of a river and two histograms."""

DEVICES = Registry("device")
DEVICES.put("auto", "automatic", make=None, about="The GPU where there is one, else the CPU.")
DEVICES.put("cpu", "CPU", make="cpu", about="One thread of the processor.")
DEVICES.put("cuda", "GPU", make="cuda", about="An NVIDIA GPU.")


DIALS = "norm", "placement", "residual"
"""The three fields that shape a block."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to train. Widgets, validation, link, name and command line all come from these fields."""

    model: str = pick(MODELS, "mlp", "model", "network")
    norm: str = pick(NORMS, "layer", "norm", "block")
    placement: str = pick(PLACEMENTS, "pre", "placement", "block")
    residual: str = pick(RESIDUALS, "identity", "skip", "block")
    depth: int = knob(
        32, 1, 1000, "depth", "network", about="blocks along the stream",
        marks=(1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1000),
    )  # fmt: skip
    width: int = knob(
        64,
        2,
        WIDEST,
        "width",
        "network",
        about="features of the stream",
        marks=(2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    )
    layers: int = knob(2, 1, 2, "linear layers per branch", "network")
    activation: str = pick(ACTIVATIONS, "relu", "activation", "network")
    init: str = pick(INITS, "unit", "init", "network")
    gain: float = knob(
        1.0, 0.0, 10.0, "init gain", "network", about="multiplies the std of every branch weight"
    )
    sigma_w2: float = knob(
        2.0, 0.0, 100.0, "σ_w² (mean field)", "network", about="times 1/n, the variance of branch weights",
        marks=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 6.0, 8.0),
    )  # fmt: skip
    sigma_b2: float = knob(
        0.0, 0.0, 100.0, "σ_b² (mean field)", "network", about="the variance of branch biases",
        marks=(0.0, 0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0),
    )  # fmt: skip
    alpha: float = knob(
        0.0, 0.0, 10.0, "α of the skip", "block",
        about="0 stands for the skip's own: 1/√blocks if scaled, 0 for SkipInit, by depth for others",
    )  # fmt: skip
    gamma: float = knob(1.0, -100.0, 100.0, "γ at the start", "block")
    beta: float = knob(0.0, -100.0, 100.0, "β at the start", "block")
    norm_momentum: float = knob(
        0.1,
        0.0,
        1.0,
        "BatchNorm momentum",
        "block",
        about="weight of the newest batch in the running statistics",
    )
    running: bool = switch(True, "test with running statistics", "block")
    eps: float = knob(1e-5, 0.0, 1.0, "ε", "block")
    affine: bool = switch(True, "γ and β", "block")
    final_norm: bool = switch(True, "norm before the head", "block")

    zero_last: bool = switch(False, "branch starts at zero", "network")
    heads: int = knob(4, 1, 64, "attention heads", "network")
    stages: int = knob(
        1, 1, 3, "stages (convnet)", "network",
        about="each after the first halves the image's sides and doubles its features, with a projected skip",
    )  # fmt: skip
    groups: int = knob(4, 1, 1024, "groups (GroupNorm)", "block")
    joint: bool = knob(
        True, False, True, "one norm on Wx + Uh", "block",
        about="for norms inside a recurrence; off: one on Wx and one on Uh",
    )  # fmt: skip
    forget: float = knob(1.0, -10.0, 10.0, "forget bias (LSTM)", "network")
    dropout: float = knob(0.0, 0.0, 0.95, "dropout", "training", live=True, about="behind the activation")
    drop_path: float = knob(
        0.0,
        0.0,
        0.95,
        "drop path",
        "training",
        live=True,
        about="stochastic depth (Huang et al. 2016): whole branches are left out, per example; "
        "without a skip, nothing of the example is left",
    )
    norm_gain: float = knob(
        1.0, 0.0, 100.0, "norm gain", "block", live=True, about="multiplies what every norm puts out"
    )
    skip_gain: float = knob(1.0, 0.0, 100.0, "skip gain", "block", live=True, about="multiplies every skip")
    gain_block: int = knob(
        0, 0, 2000, "skip gain in", "block", live=True, about="the block whose skip has the gain; 0: all"
    )
    skip_gains: str = single(
        "gain of a single skip",
        "block",
        of="skip_gain",
        about="factors on the skips of blocks: 5-0.5_9-2; 0: none",
    )
    cut: str = single("cut skip", "block", about="blocks whose skip is cut: 5_9; 0: none")
    drop_branch: str = single("drop branch", "block", about="blocks whose branch is left out: 5_9; 0: none")
    placements: str = single(
        "norm moved",
        "block",
        of="placement",
        about="where the norms of blocks stand: 5-post_9-inner; 0: as all",
    )

    optimizer: str = pick(OPTIMIZERS, "sgd", "optimizer", "training")
    lr: float = knob(
        0.05, 0.0, 100.0, "learning rate", "training", live=True,
        marks=(1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
    )  # fmt: skip
    momentum: float = knob(0.9, 0.0, 0.9999, "momentum", "training", live=True)
    weight_decay: float = knob(0.0, 0.0, 10.0, "weight decay", "training", live=True)
    clip: float = knob(
        0.0,
        0.0,
        1e6,
        "gradient clipping",
        "training",
        live=True,
        about="largest norm of the gradient; 0: none",
    )
    schedule: str = pick(SCHEDULES, "constant", "schedule", "training")
    warmup: int = knob(0, 0, 1_000_000, "warm-up steps", "training")
    data: str = pick(DATA, "digits", "data", "data")
    scaler: str = pick(SCALERS, "z", "scaler", "data")
    view: str = pick(VIEWS, "auto", "view", "data")
    stream: str = pick(STREAMS, "random", "order of examples", "data")
    noise: float = knob(
        0.0, 0.0, 100.0, "input noise", "data", live=True, about="std of what is added to the scaled inputs"
    )
    contrast: float = knob(
        1.0, 0.0, 100.0, "contrast", "data", live=True, about="multiplies the scaled inputs"
    )
    contrast_spread: float = knob(
        0.0, 0.0, 3.0, "contrast of its own", "data", live=True,
        about="std of the logarithm of a factor that each example draws for itself",
    )  # fmt: skip
    brightness: float = knob(
        0.0, -100.0, 100.0, "brightness", "data", live=True, about="added to the scaled inputs"
    )
    shift: str = pick(SHIFTS, "train", "noise, contrast, brightness in", "data")
    label_noise: float = knob(
        0.0, 0.0, 1.0, "label noise", "data", about="share of training labels drawn anew"
    )
    batch: int = knob(
        64, 1, 1024, "batch size", "training", live=True, marks=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    )

    seed: int = knob(0, 0, 2**31 - 1, "first seed", "run")
    seeds: int = knob(4, 1, 256, "seeds", "run", about="networks trained together: seed, seed + 1, ...",
                       marks=(1, 2, 4, 8, 16))  # fmt: skip
    steps: int = knob(2000, 1, LAST_STEP, "steps", "run")
    changes: str = timeline("changes on the way", "run")
    record_every: int = knob(10, 0, 10_000, "record every", "run", about="steps between probes; 0: never")
    device: str = pick(DEVICES, "auto", "device", "run")

    def __post_init__(self):
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, checked(spec, getattr(self, spec.name)))
        model, data = MODELS[self.model].make, DATA[self.data].make
        if self.view not in ("auto", *model.views):
            raise ValueError(
                f"view={self.view!r}: model={self.model} does not look at it so; "
                f"choose one of auto, {', '.join(model.views)}"
            )
        if self.positions and data.features != 64:
            raise ValueError(
                f"model={self.model!r}: {self.data} has {data.features} features, "
                "not the 64 of an 8 x 8 image; choose data=digits or model=mlp"
            )
        NORMS[self.norm].make.check(self)
        model.check(self)
        if self.batch > data.train:
            raise ValueError(
                f"batch={self.batch}: {self.data} has {data.train} training examples; "
                f"choose at most {data.train}"
            )
        if not data.classes and (self.label_noise or self.stream == "sorted"):
            named = f"label_noise={self.label_noise:g}" if self.label_noise else "stream='sorted'"
            raise ValueError(f"{named}: {self.data} has no classes; choose data=digits, or leave it out")
        for block, placement in read_blocks(self.placements, "placement").items():
            if placement not in self.places(block):
                raise ValueError(f"placements={self.placements!r}: {self._stuck(block, placement)}")
        for step, _, _ in read_changes(self.changes):
            try:
                self.at(step)  # what holds from then on must go together too
            except ValueError as error:
                raise ValueError(f"changes={self.changes!r}: {error}") from None

    @property
    def seen_as(self) -> type:
        """The row of VIEWS through which the model looks at an example."""
        return VIEWS[self.view].make or VIEWS[MODELS[self.model].make.views[0]].make

    @property
    def positions(self) -> int:
        """How many positions the stream has; 0 without a position axis."""
        return self.seen_as.positions

    @property
    def drawable(self) -> bool:
        """Whether the classes are regions of a plane."""
        return DATA[self.data].make.drawable

    def shifts(self, where: str) -> dict[str, float]:
        """What changes the inputs ``where`` ("train" or "test") it is to; nothing elsewhere."""
        names = "noise", "contrast", "contrast_spread", "brightness"
        return {name: getattr(self, name) for name in names} if where in SHIFTS[self.shift].make else {}

    @property
    def blocks(self) -> int:
        """How many blocks the stream has: a transformer layer is two."""
        return self.depth * MODELS[self.model].make.sublayers

    @property
    def times(self) -> int:
        """How many time steps a recurrent network walks along; 0 for others."""
        return self.positions if MODELS[self.model].make.recurrent else 0

    @property
    def units(self) -> bool:
        """Whether dead and saturated units can be counted."""
        return MODELS[self.model].make.units

    @property
    def online(self) -> bool:
        """Whether every batch is answered, in evaluation mode, before it is learnt from."""
        return STREAMS[self.stream].make.online

    @property
    def scale_invariant(self) -> bool:
        """Whether a norm that divides by a size stands right behind every linear map of the branches."""
        places = {self.placement, *read_blocks(self.placements, "placement").values()}
        model, slots = MODELS[self.model].make, frozenset.intersection(*(PLACEMENTS[p].make for p in places))
        behind = {"inner"} if self.layers == 1 else {"inner", "branch"}
        sized = NORMS[self.norm].make.over not in ("", "w")
        return sized and behind <= slots and model.sublayers == 1 and not model.recurrent

    @property
    def knobs(self) -> dict[str, Any]:
        """The live knobs as layers look them up: those of single blocks by the block's number."""
        told = {name: FIELDS[name].metadata for name in self.live()}
        values = {name: getattr(self, name) for name in told}
        return {n: read_blocks(v, told[n]["single"]) if "single" in told[n] else v for n, v in values.items()}

    def places(self, block: int) -> list[str]:
        """The placements in which the norms of a block can stand: as many slots, for as many features."""
        mine, fixed = PLACEMENTS[self.placement].make, MODELS[self.model].make.fixed(self, block)
        if self.norm == "none" or NORMS[self.norm].make.over == "w":
            return []
        slots = {name: PLACEMENTS[name].make for name in PLACEMENTS}
        return [n for n, there in slots.items() if len(there) == len(mine) and not (there ^ mine) & fixed]

    def _stuck(self, block: int, placement: str) -> str:
        """Why the norms of a block cannot stand in another placement."""
        if not (there := self.places(block)):
            return f"norm={self.norm} has none that could move; choose norm=layer, or placements=0"
        had, wanted = (len(PLACEMENTS[name].make) for name in (self.placement, placement))
        if had == wanted:
            why = f"in block {block} of model={self.model} not every slot has room for as many features"
        else:
            why = f"{placement} takes {wanted} norms, and with placement={self.placement} a block has {had}"
        return f"{why}; choose one of {', '.join(there)}"

    @property
    def member_seeds(self) -> range:
        """The seeds of the S members."""
        return range(self.seed, self.seed + self.seeds)

    def scaled(self, start: tuple, factor) -> tuple:
        """An init's (weight std, bias std, law) with the gain and a factor, or one a column, on the first."""
        std, bias_std, law = start
        return std * self.gain * factor, bias_std, law

    def replace(self, **changes) -> "Experiment":
        """The same experiment but for ``changes``, checked."""
        return dataclasses.replace(self, **changes) if changes else self

    def at(self, step: float) -> "Experiment":
        """The values that hold in a step, without the changes that led to them or come later."""
        if not self.changes:
            return self
        made = {name: value for when, name, value in read_changes(self.changes) if when <= step}
        return self.replace(changes="", **made)

    def change(self, step: int, **values) -> "Experiment":
        """The same experiment with other values of ``live`` knobs from a step on, checked and affordable."""
        new = [(step, n, checked(FIELDS[n], v) if n in live() else v) for n, v in values.items()]
        return self.replace(changes=tell_changes([*read_changes(self.changes), *new])).affordable()

    def fork(self, step: int, **values) -> "Experiment":
        """The same up to a step; from there on other values of ``live`` knobs, and no other changes."""
        kept = [change for change in read_changes(self.changes) if change[0] < step]
        return self.replace(changes=tell_changes(kept)).change(step, **values)

    def cost(self) -> tuple[float, float]:
        """Estimated floating point operations and bytes of one optimizer step."""
        model, n = MODELS[self.model].make, self.width
        widths = model.widths(self)
        matrix = self.layers * model.cost  # of a block, in units of a linear layer's
        rows = self.seeds * self.batch * max(self.positions, 1)
        kept = 3 * self.layers + 4 + model.kept  # tensors of the stream's size wait for the backward pass
        # where an image is halved, features double: each pixel costs four times as much, a quarter is left
        flops = 6.0 * rows * matrix * len(widths) * n**2
        weights = self.seeds * matrix * sum(wide**2 for wide in widths)
        return flops, 4.0 * (5 * weights + rows * kept * sum(n**2 / wide for wide in widths))

    def affordable(self) -> "Experiment":
        """Itself, or ``ValueError`` with the number and the limit if one step costs too much."""
        stages = [self, *(self.at(step) for step, _, _ in read_changes(self.changes))]
        flops, size = map(max, zip(*(stage.cost() for stage in stages), strict=True))
        if flops > MAX_FLOPS or size > MAX_BYTES:
            raise ValueError(
                f"one step would take {flops / 1e9:,.0f} GFLOP and {size / 2**30:.1f} GiB; the limit is "
                f"{MAX_FLOPS / 1e9:,.0f} GFLOP and {MAX_BYTES / 2**30:.0f} GiB: "
                "choose a smaller depth, width, batch or number of seeds"
            )
        rows = self.steps // self.record_every if self.record_every else 0
        if (size := rows * (self.blocks + 1) * self.seeds * ROW_BYTES) > MAX_RECORD:
            raise ValueError(
                f"the record would grow to {size / 2**30:.1f} GiB; "
                f"the limit is {MAX_RECORD / 2**30:.0f} GiB: "
                f"choose fewer steps than {self.steps} or a larger record_every than {self.record_every}"
            )
        return self

    def label(self, beside: Sequence["Experiment"] = ()) -> str:
        """A short name: what differs from those ``beside`` it, else depth, norm, place and skip."""
        apart = self.differing(*beside)
        names = apart or ["depth", *DIALS]
        if self.norm == "none" or NORMS[self.norm].make.over == "w":  # then its place says nothing
            names = [name for name in names if name != "placement"] or ["norm"]
        names = [name for name in names if name != "changes" or self.changes] or names
        return " · ".join(map(self._told, names))

    def _told(self, name: str) -> str:
        told, value = FIELDS[name].metadata, getattr(self, name)
        if "timeline" in told:
            made = (f"{spoken(n, v)} from step {at}" for at, n, v in read_changes(value))
            return ", ".join(made) or "unchanged"
        return told["registry"][value].label if "registry" in told else spoken(name, value)

    @staticmethod
    def live() -> list[str]:
        """The knobs that can change while a run goes on."""
        return live()

    def differing(self, *others: "Experiment") -> list[str]:
        """The fields in which any of the others differs from this one."""
        return [
            name for name in FIELDS if any(getattr(self, name) != getattr(other, name) for other in others)
        ]

    def changed(self) -> dict[str, Any]:
        """The fields that differ from the defaults."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        }

    def link(self) -> str:
        """The experiment as a query string, ``depth=16&norm=rms``."""
        return urlencode({key: text(value) for key, value in self.changed().items()})

    @classmethod
    def parse(cls, values: Mapping[str, Any] | str) -> "Experiment":
        """From names and values, or a query string; ``ValueError`` says in one sentence what is wrong."""
        known, complaints = cls.read(values)
        if complaints:
            raise ValueError(complaints[0])
        return known

    @classmethod
    def read(cls, values: Mapping[str, Any] | str) -> tuple["Experiment", list[str]]:
        """What could be read, wrong values replaced by their defaults, and a sentence about each of these."""
        if isinstance(values, str):
            values = dict(parse_qsl(values, keep_blank_values=True))
        good, complaints = {}, []
        for name, value in values.items():
            try:
                good[name] = checked(FIELDS[name], value)
            except KeyError:
                said = name if name.isprintable() else ascii(name)
                close = difflib.get_close_matches(said, FIELDS, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                complaints.append(
                    f"{said}={value!r}: there is no such setting{hint}; choose among {', '.join(FIELDS)}"
                )
            except ValueError as error:
                complaints.append(str(error))
        while True:
            try:
                return cls(**good), complaints
            except ValueError as error:  # values that do not go together: the one it names falls back,
                name = str(error).partition("=")[0]  # or, where that is a default, the last one given
                del good[name if name in good else next(reversed(good))]
                complaints.append(str(error))


FIELDS.update({spec.name: spec for spec in dataclasses.fields(Experiment)})
