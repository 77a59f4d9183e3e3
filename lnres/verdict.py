"""What is happening in plain words, the numbers that decided it, and one change to try."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lnres.reading import TINY, Reading, logs, mean, mean_log, times
from lnres.record import Record
from lnres.registry import Registry

if TYPE_CHECKING:
    from lnres.experiment import Experiment

VERDICTS = Registry("verdict")

VANISHED, EXPLODED = 1e-3, 1e3
"""Gradient at the first block over that at the top, or growth of the signal, beyond which depth alone
explains the trouble."""
GREW = 10
"""Growth of the signal that makes a structure, not the learning rate, the first suspect of a divergence."""
ALIKE = 0.95
"""Mean cosine between different examples at which a network can hardly tell them apart."""
IDLE = 0.7
"""Share of units that are flat for every example at which what they compute hardly matters."""
SQUASHED = 0.6
"""Share of a bounded activation's values on its flat ends at which too little gradient gets through."""
COARSE, ROUGH = 0.1, 0.02
"""Change of the weights in one step, over their size: too much by itself, or if nothing improves."""
TIMID = 3e-5
"""A step that changes the weights by less than this share would need tens of thousands of its kind."""
GAP, STALE = 0.1, 0.05
"""Differences of accuracy that are worth telling: of training and test, and of one test run in two ways."""
GAINED = 0.15
"""Gain of accuracy since the start that is no chance."""
PATIENCE = 30
"""Steps before which nobody should ask whether a network learns."""

WAITING = "Waiting for the first step."

FIRST, CAUSE, RATE, CONSEQUENCE, OUTCOME, ELSE = range(6)
"""In which order verdicts are told: what was so from the start may explain what came about in training."""


@dataclass(frozen=True)
class Number:
    """A number that decided: its mean over the seeds concerned, its spread, the threshold it crossed.

    One without a threshold stands beside those that decided, to be compared with.
    """

    name: str
    value: float
    threshold: float | None
    spread: float


@dataclass(frozen=True)
class Verdict:
    """What holds at a step of a run.

    ``change`` are values of the experiment's fields to try, empty where nothing is wrong; ``seeds`` says in
    how many networks of how many it holds; ``rewind`` is the last step before the first number that was not
    finite.
    """

    kind: str
    sentence: str
    numbers: tuple[Number, ...]
    change: dict[str, Any]
    step: int
    seeds: tuple[int, int]
    rewind: int | None = None

    @property
    def label(self) -> str:
        """The name of its kind."""
        return VERDICTS[self.kind].label


def share(name: str, values: np.ndarray, threshold: float | None = None) -> Number:
    """Mean and standard deviation over the networks."""
    centre = float(mean(values))
    return Number(name, centre, threshold, float(mean((values - centre) ** 2)) ** 0.5)


def factor(name: str, values: np.ndarray, threshold: float) -> Number:
    """Geometric mean, and the factor that is one standard deviation of the logarithm."""
    middle = logs(values)
    return Number(name, float(np.exp(middle.mean())), threshold, float(np.exp(min(middle.std(), 87.0))))


def first(e: "Experiment", *changes: "dict[str, Any] | bool") -> dict[str, Any]:
    """The first of these changes that would change anything and that the experiment allows."""
    for change in changes:
        if change and any(getattr(e, name) != value for name, value in change.items()):
            try:
                e.replace(**change)
            except ValueError:
                continue
            return change
    return {}


def rate(e: "Experiment", power: int) -> dict[str, Any]:
    """The learning rate, so many powers of ten larger."""
    return {"lr": min(float(f"{e.lr * 10.0**power:.1g}"), 1.0)}


def calmer(e: "Experiment", update: float, aim: float) -> dict[str, Any]:
    """A learning rate that brings an update : weight near ``aim``: a tenth to a millionth of today's."""
    return first(e, rate(e, -min(6, max(1, round(math.log10(max(update, TINY) / aim))))))


def passing(e: "Experiment") -> dict[str, Any]:
    """A skip that lets signal and gradient by without growth.

    A branch of one layer ends in its activation: added up, its outputs would all point the same way.
    """
    return {"residual": "rezero" if e.layers == 1 else "scaled" if e.norm == "none" else "identity"}


class Kind:
    """Base of all verdicts: where it holds, what is said, the numbers that decided, what to try.

    ``told`` (S,) are the networks of which it is told. Kinds of a lower ``rank`` are told first.
    """

    rank = OUTCOME

    def __init__(self, now: Reading):
        self.now = now

    def holds(self, now: Reading) -> np.ndarray:
        """In which networks, (S,)."""
        raise NotImplementedError

    def place(self, holds: np.ndarray) -> int:
        """The rank of what holds."""
        return self.rank

    def sentence(self, told: np.ndarray) -> str:
        """One sentence."""
        raise NotImplementedError

    def numbers(self, told: np.ndarray) -> list[Number]:
        """What decided."""
        raise NotImplementedError

    def change(self, e: "Experiment", told: np.ndarray) -> dict[str, Any]:
        """Values of the experiment's fields to try."""
        return {}

    def rewind(self, told: np.ndarray) -> int | None:
        """The last step that was still good."""
        return None


class Structure(Kind):
    """Trouble with what the network is: a cause if it stood at the start, else perhaps a consequence."""

    def place(self, holds: np.ndarray) -> int:
        """A cause where most networks that have it now had it at the start."""
        return CAUSE if 2 * (self.holds(self.now.start) & holds).sum() >= holds.sum() else CONSEQUENCE

    def mend(self, e: "Experiment") -> dict[str, Any]:
        """What to try if it stood at the start."""
        raise NotImplementedError

    def change(self, e: "Experiment", told: np.ndarray) -> dict[str, Any]:
        """Mend the cause; what training brought about, a smaller step may avoid."""
        return self.mend(e) if self.place(told) == CAUSE else first(e, rate(e, -1))


@VERDICTS.add("diverged", "diverged")
class Diverged(Kind):
    """The loss is no longer a number: steps so long that each made the next one longer."""

    rank = FIRST

    def holds(self, now):
        return ~now.alive

    def sentence(self, told):
        if not (fallen := self.now.fallen):
            return "Diverged: no finite loss."
        begun, last = fallen[0], len(self.now.probed("act_rms")) - 1
        where = {0: "the stem", last + 1: "the head"}.get(begun["block"], f"block {begun['block']}")
        who = "all seeds" if told.all() else f"{told.sum()} of {len(told)} seeds"
        growth = mean_log(self.now.start.growth[told])
        grew = f" The signal grew {times(growth)}-fold up the stack." if growth > GREW else ""
        return f"Diverged: {who}, first at step {begun['step']} in {where}.{grew}"

    def numbers(self, told):
        return [
            share("seeds without a finite loss", told.astype(float), 0.5),
            factor("signal at the top : at the bottom, at the start", self.now.start.growth[told], GREW),
            factor("update : weight, at the start", self.now.start.update[told], COARSE),
        ]

    def change(self, e, told):
        start = self.now.start
        grew = mean_log(start.growth[told]) > GREW
        return Exploding(self.now).mend(e) if grew else calmer(e, mean_log(start.update[told]), 3e-3)

    def rewind(self, told):
        return max(0, self.now.fallen[0]["step"] - 1) if self.now.fallen else None


@VERDICTS.add("dead", "dead units")
class Dead(Structure):
    """Units that are flat for every example: nothing they receive changes anything, nor teaches them."""

    def holds(self, now):
        return (now.dead > IDLE) & (not now.bounded)

    def sentence(self, told):
        return f"Dead units: {float(mean(self.now.dead[told])):.0%} pass nothing on; {self.now.right(told)}."

    def numbers(self, told):
        return [share("dead units", self.now.dead[told], IDLE)]

    def mend(self, e):
        return first(e, e.beta < 0 and {"beta": 0.0}, {"activation": "leaky"}, {"norm": "batch"}, rate(e, -1))


@VERDICTS.add("saturated", "saturated units")
class Saturated(Structure):
    """Units pushed far out on the flat ends of their activation, where the slope is nearly zero."""

    def holds(self, now):
        return (now.saturated > SQUASHED) & ~now.learned & now.bounded

    def sentence(self, told):
        squashed = f"{float(mean(self.now.saturated[told])):.0%}"
        return f"Saturated: {squashed} of the units' values lie on flat ends; {self.now.right(told)}."

    def numbers(self, told):
        return [share("saturated values", self.now.saturated[told], SQUASHED)]

    def mend(self, e):
        return first(
            e,
            e.gain > 1 and {"gain": 1.0},
            abs(e.gamma) > 1 and {"gamma": 1.0},
            {"init": "unit"},
            {"norm": "layer"},
            {"activation": "relu"},
        )


@VERDICTS.add("exploding", "exploding gradient")
class Exploding(Structure):
    """Signal or gradient grow block by block, until steps that suit one block are absurd for another."""

    def holds(self, now):
        return ((now.reach > EXPLODED) | (now.growth > EXPLODED)) & ~now.learned

    def sentence(self, told):
        reach, growth = mean_log(self.now.reach[told]), mean_log(self.now.growth[told])
        if reach > EXPLODED:
            return f"Exploding gradient: {times(reach)} times the top's at block 1; {self.now.right(told)}."
        return f"Exploding signal: {times(growth)} times block 1's at the top; {self.now.right(told)}."

    def numbers(self, told):
        return [
            factor("gradient at block 1 : at the top", self.now.reach[told], EXPLODED),
            factor("factor per block downwards", np.exp(-self.now.slope[told]), 1.0),
            factor("signal at the top : at the bottom", self.now.growth[told], EXPLODED),
        ]

    def mend(self, e):
        return first(
            e,
            e.gain > 1 and {"gain": 1.0},
            e.residual == "none" and passing(e),
            {"norm": "layer"},
            {"init": "unit"},
            {"residual": "scaled"},
            rate(e, -1),
        )


@VERDICTS.add("vanishing", "vanishing gradient")
class Vanishing(Structure):
    """The gradient shrinks block by block on its way down: the first blocks never learn what is wrong."""

    def holds(self, now):
        return (now.reach < VANISHED) & ~now.learned

    def sentence(self, told):
        reach = mean_log(self.now.reach[told])
        return f"Vanishing gradient: block 1 receives {times(reach)} of the top's; {self.now.right(told)}."

    def numbers(self, told):
        return [
            factor("gradient at block 1 : at the top", self.now.reach[told], VANISHED),
            factor("factor per block downwards", np.exp(-self.now.slope[told]), 1.0),
        ]

    def mend(self, e):
        return first(
            e,
            e.residual == "none" and passing(e),
            e.gain < 1 and {"gain": 1.0},
            {"placement": "pre"},
            {"init": "unit"},
            {"norm": "layer"},
        )


@VERDICTS.add("collapsed", "collapsed representation")
class Collapsed(Structure):
    """Different examples come out of the stack all alike, so that no head can tell them apart."""

    def holds(self, now):
        return (now.alike > ALIKE) & (now.probed("cosine")[0] < ALIKE) & ~now.learned

    def sentence(self, told):
        alike = float(mean(self.now.alike[told]))
        return f"Collapsed: at the top all examples look alike (cosine {alike:.3f}); {self.now.right(told)}."

    def numbers(self, told):
        return [
            share("cosine between examples at the top", self.now.alike[told], ALIKE),
            share("cosine at the bottom", self.now.probed("cosine")[0][told], ALIKE),
        ]

    def mend(self, e):
        return first(e, e.residual == "none" and passing(e), {"placement": "pre"}, {"norm": "batch"})


@VERDICTS.add("too_high", "learning rate too high")
class TooHigh(Kind):
    """Steps so long that they undo one another: the loss jumps about, or stays where it is."""

    rank = RATE

    def holds(self, now):
        stuck = (now.gained < GAINED) if now.steps >= PATIENCE else np.zeros(now.members, bool)
        rose = now.worst > 2 * now.first_loss
        return ~now.learned & ((now.update > COARSE) | ((now.update > ROUGH) & (stuck | rose)))

    def sentence(self, told):
        update = mean_log(self.now.update[told])
        return f"Learning rate too high: a step moves the weights by {update:.0%}; {self.now.right(told)}."

    def numbers(self, told):
        return [
            factor("update : weight, largest", self.now.update[told], ROUGH),
            factor("largest loss : first", (self.now.worst / self.now.first_loss)[told], 2.0),
            share("accuracy gained", self.now.gained[told], GAINED),
        ]

    def change(self, e, told):
        return calmer(e, mean_log(self.now.update[told]), 1e-2)


@VERDICTS.add("too_low", "learning rate too low")
class TooLow(Kind):
    """Steps so short that the weights stay where they were drawn."""

    rank = OUTCOME

    def holds(self, now):
        warm = now.steps > (now.settings.warmup if now.settings else 0)
        return (now.update < TIMID) & (now.gained < GAINED) & ~now.learned & (now.steps > 5) & warm

    def sentence(self, told):
        update = times(mean_log(self.now.update[told]))
        right = self.now.right(told)
        return f"Learning rate too low: a step moves the weights by {update} of their size; {right}."

    def numbers(self, told):
        return [
            factor("update : weight, largest", self.now.update[told], TIMID),
            share("accuracy gained", self.now.gained[told], GAINED),
        ]

    def change(self, e, told):
        lack = 1e-3 / max(mean_log(self.now.update[told]), TINY)
        return first(e, {"lr": 0.01} if not e.lr else rate(e, max(1, round(math.log10(lack)))))


@VERDICTS.add("stale", "stale BatchNorm statistics")
class Stale(Kind):
    """Tests go wrong only for what BatchNorm remembers: with the test batch's own statistics they go well."""

    @staticmethod
    def both(now) -> tuple[np.ndarray, np.ndarray]:
        """Accuracy with the batch's own statistics and with those remembered, of the last few tests."""
        return now.tested_lately("acc_batch", PATIENCE), now.tested_lately("acc_test", PATIENCE)

    def holds(self, now):
        own, remembered = self.both(now)
        return (own - remembered > STALE) & (now.gained > GAINED)

    def sentence(self, told):
        own, remembered = (float(mean(accuracy[told])) for accuracy in self.both(self.now))
        tested = f"{remembered:.0%} right in the last tests"
        return f"Stale BatchNorm: {tested}, {own:.0%} with the batch's own statistics."

    def numbers(self, told):
        own, remembered = (accuracy[told] for accuracy in self.both(self.now))
        return [
            share("gain of test accuracy from the batch's own statistics", own - remembered, STALE),
            share("test accuracy, remembered statistics", remembered),
            share("test accuracy, own statistics", own),
        ]

    def change(self, e, told):
        return first(
            e, e.norm_momentum < 0.1 and {"norm_momentum": 0.1}, {"running": False}, {"norm": "layer"}
        )


@VERDICTS.add("overfitting", "overfitting")
class Overfitting(Kind):
    """The training examples are learned by heart: right there, much less so on others."""

    def holds(self, now):
        return (now.gap > GAP) & (now.gained > GAINED)

    def sentence(self, told):
        test = float(mean(self.now.tested("acc_test")[told]))
        return f"Overfitting: {self.now.right(told)} in training, {test:.0%} on new examples."

    def numbers(self, told):
        return [
            share("accuracy in training beyond that in tests", self.now.gap[told], GAP),
            share("test accuracy", self.now.tested("acc_test")[told]),
        ]

    def change(self, e, told):
        return first(
            e,
            e.label_noise > 0 and {"label_noise": 0.0},
            e.dropout < 0.3 and {"dropout": 0.3},
            e.weight_decay < 0.01 and {"weight_decay": 0.01},
        )


@VERDICTS.add("not_learning", "not learning")
class NotLearning(Kind):
    """Signal, gradient and steps are sound, and still nothing is learned: look at the data."""

    rank = ELSE

    def holds(self, now):
        return ~now.learned & (now.gained < GAINED) & (now.steps >= PATIENCE)

    def sentence(self, told):
        loss, reach = float(mean(self.now.loss[told])), times(mean_log(self.now.reach[told]))
        right = f", {self.now.right(told)}" if self.now.answers else ""
        return f"Not learning yet: loss {loss:.2f}{right}; block 1 receives {reach} times the top's gradient."

    def numbers(self, told):
        return [share("accuracy gained", self.now.gained[told], GAINED)]

    def change(self, e, told):
        return first(
            e,
            e.noise > 0 and {"noise": 0.0},
            e.label_noise > 0 and {"label_noise": 0.0},
            e.scaler != "z" and {"scaler": "z"},
            mean_log(self.now.update[told]) < 1e-3 and rate(e, 1),
            {"optimizer": "adam", "lr": 1e-3},
        )


@VERDICTS.add("healthy", "healthy")
class Healthy(Kind):
    """Signal and gradient reach every block, and the answers get better."""

    rank = ELSE

    def holds(self, now):
        return now.alive

    def sentence(self, told):
        now, reach = self.now, times(mean_log(self.now.reach[told]))
        if 2 * now.learned[told].sum() >= told.sum():
            return f"Learns: {now.right(told)}; block 1 receives {reach} times the gradient of the top."
        if float(mean(now.gained[told])) > GAINED:
            begun, loss = float(mean(now.first_loss[told])), float(mean(now.loss[told]))
            so_far = f", {now.right(told)} so far" if now.answers else ""
            return f"Learning: loss from {begun:.2g} to {loss:.2g}{so_far}."
        return f"Healthy so far: block 1 receives {reach} times the gradient of the top; {now.right(told)}."

    def numbers(self, told):
        return [
            factor("gradient at block 1 : at the top", self.now.reach[told], VANISHED),
            factor("signal at the top : at the bottom", self.now.growth[told], EXPLODED),
            share("accuracy gained", self.now.gained[told], GAINED),
        ]


def verdicts(record: Record, step: int | None = None, member: int | None = None) -> list[Verdict]:
    """All that holds at a step (the latest), most important first; empty before the first probe.

    A verdict holds of a run if it does in at least half of its networks, or, where none does, in any; with
    ``member`` one of the S networks is judged alone.
    """
    now = Reading(record, step, member)
    if not now.ready:
        return []
    found = []
    for name in VERDICTS:
        kind = VERDICTS[name].make(now)
        holds = kind.holds(now) & (now.alive | (kind.rank == FIRST))  # what has diverged is judged no further
        if holds.any():
            found.append((kind.place(holds), name, kind, holds))
    found.sort(key=lambda one: one[0])
    told, free = [], np.ones(now.members, bool)
    for rank, name, kind, holds in found:
        holds = holds & free if rank == ELSE else holds
        free = free & ~holds
        if holds.any():
            told.append((name, kind, holds))
    most = [
        (name, kind, holds)
        for name, kind, holds in told
        if 2 * holds.sum() >= (now.members if kind.rank == FIRST else now.alive.sum())
    ]
    return [_verdict(name, kind, holds) for name, kind, holds in most or told]


def _verdict(name: str, kind: Kind, told: np.ndarray) -> Verdict:
    now = kind.now
    lost = now.members - int(now.alive.sum())
    others = f" {lost} of {now.members} seeds diverged." if lost and kind.rank != FIRST else ""
    return Verdict(
        kind=name,
        sentence=kind.sentence(told) + others,
        numbers=tuple(kind.numbers(told)),
        change=kind.change(now.settings, told) if now.settings else {},
        step=now.step,
        seeds=(int(told.sum()), now.members),
        rewind=kind.rewind(told),
    )


def verdict(record: Record, step: int | None = None, member: int | None = None) -> Verdict | None:
    """The most important of all that holds; None before the first probe."""
    return next(iter(verdicts(record, step, member)), None)


def sentence(record: Record, step: int | None = None) -> str:
    """One sentence on a run at a step, the latest if none is named."""
    found = verdict(record, step)
    return found.sentence if found else WAITING
