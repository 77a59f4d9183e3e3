"""What a record says of a run at one step: one number per network, for the verdicts and for people."""

import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lnres.record import DENSE, Record

if TYPE_CHECKING:
    from lnres.experiment import Experiment

RECENT = 3
"""Probes at the end among which, beside the dense ones at the start, the largest update is looked for; so
many of the last tests are averaged."""
LEARNED = 0.9
"""Share of right answers with which a network has learned."""
TINY = 1e-37
"""What is smaller was flushed to zero, or nearly."""


def times(value: float) -> str:
    """A factor as people read it: 0.031, 24 or 3·10⁻⁷."""
    if value < TINY:
        return "less than 10⁻³⁷"
    if 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    digits, power = f"{value:.0e}".split("e")
    return f"{digits}·10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def mean_log(values: np.ndarray) -> float:
    """Geometric mean of what is positive and finite, 0 if nothing is."""
    good = values[np.isfinite(values) & (values > 0)]
    return float(np.exp(np.log(good.astype(np.float64)).mean())) if good.size else 0.0


def mean(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Mean of what is finite, NaN where nothing is."""
    good = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(good, values, 0.0).sum(axis, dtype=np.float64) / good.sum(axis)


def logs(values: np.ndarray) -> np.ndarray:
    """Logarithms; what is zero or not finite counts as the smallest or largest float."""
    largest = np.nan_to_num(values, nan=1 / TINY, posinf=1 / TINY, neginf=TINY)
    return np.log(np.clip(largest, TINY, 1 / TINY, dtype=np.float64))


@lru_cache(64)
def experiment(link: str) -> "Experiment":
    """The experiment of a link."""
    from lnres.experiment import Experiment  # needs torch, and words alone do not

    return Experiment.read(link)[0]


@lru_cache(64)
def bounded(activation: str) -> bool:
    """Whether an activation is flat far from zero on both sides."""
    import torch

    from lnres.layers import ACTIVATIONS

    far = torch.tensor([-30.0, 30.0])
    return bool(ACTIVATIONS[activation].make.flat(far, torch.empty(2)).all())


class Reading:
    """A record as it was at a step: one number per network, computed when a rule asks for it.

    Without ``step`` the latest; with ``member`` one network of the S alone.
    """

    def __init__(self, record: Record, step: int | None = None, member: int | None = None):
        self.record = record
        self.member = slice(None) if member is None else slice(member, member + 1)
        self.counts = {
            clock: record.rows(clock)
            if step is None or not record.rows(clock)
            else int(np.searchsorted(record[clock], step, "right"))
            for clock in ("step", "probe_step", "test_step")
        }
        self.steps = self.counts["step"]

    @property
    def step(self) -> int:
        """The step that is looked at."""
        return int(self.record["step"][self.steps - 1]) if self.steps else -1

    @cached_property
    def ready(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.steps and self.counts["probe_step"])

    @cached_property
    def start(self) -> "Reading":
        """The record as it was at its first probe."""
        first = Reading.__new__(Reading)
        first.record, first.member, first.steps = self.record, self.member, 1
        first.counts = {"step": 1, "probe_step": 1, "test_step": min(1, self.counts["test_step"])}
        return first

    @cached_property
    def settings(self) -> "Experiment | None":
        """The experiment, with the values that live knobs had at this step."""
        if "experiment" not in self.record.header:
            return None
        e = experiment(self.record.header["experiment"]).at(self.step)
        live = {
            event["name"]: event["value"]
            for event in self.record.events
            if event["kind"] == "change" and event["step"] <= self.step
        }
        return e.replace(**live)

    def curve(self, name: str) -> np.ndarray:
        """What is kept at every step, (steps, S)."""
        return self.record[name][: self.steps, self.member]

    def probed(self, name: str) -> np.ndarray:
        """The last row of what is probed, (L or L+1, S); NaN where it never was, as units behind gates."""
        if name not in self.record:
            return np.full_like(self.probed("update_ratio"), np.nan)
        return self.record[name][self.counts["probe_step"] - 1][:, self.member]

    @property
    def test_step(self) -> int:
        """The step of the last test, -1 before the first."""
        tests = self.counts["test_step"]
        return int(self.record["test_step"][tests - 1]) if tests else -1

    def tested(self, name: str) -> np.ndarray:
        """The last row of what is tested (S,), NaN where it never was."""
        if not self.counts["test_step"] or name not in self.record:
            return np.full(self.members, np.nan)
        return self.record[name][self.counts["test_step"] - 1][self.member]

    def tested_lately(self, name: str, since: int) -> np.ndarray:
        """Mean of the last tests, none from before a step (S,), NaN where there are none."""
        tests = self.counts["test_step"]
        if name not in self.record:
            return np.full(self.members, np.nan)
        begun = int(np.searchsorted(self.record["test_step"][:tests], since))
        return mean(self.record[name][max(begun, tests - RECENT) : tests, self.member], 0)

    @cached_property
    def worst(self) -> np.ndarray:
        """Largest training loss so far."""
        curve = self.curve("loss_train")
        return np.max(curve, 0, where=np.isfinite(curve), initial=0)

    @cached_property
    def fallen(self) -> list[dict]:
        """The events of networks that diverged, in order."""
        whose = range(self.record["loss_train"].shape[1])[self.member]
        return [
            event
            for event in self.record.events
            if event["kind"] == "diverged" and event["step"] <= self.step and event["member"] in whose
        ]

    @cached_property
    def members(self) -> int:
        """How many networks are judged."""
        return self.record["loss_train"][:1, self.member].shape[1]

    @cached_property
    def alive(self) -> np.ndarray:
        """Networks whose loss is finite, (S,)."""
        return np.isfinite(self.curve("loss_train")[-1])

    @cached_property
    def window(self) -> int:
        """Steps that are averaged: more of them, the longer the curve."""
        return max(10, self.steps // 10)

    @cached_property
    def loss(self) -> np.ndarray:
        """Training loss of late."""
        return mean(self.curve("loss_train")[-self.window :], 0)

    @cached_property
    def first_loss(self) -> np.ndarray:
        """Training loss at the first step."""
        return self.curve("loss_train")[0]

    @cached_property
    def accuracy(self) -> np.ndarray:
        """Training accuracy of late, NaN where there is none."""
        return mean(self.curve("acc_train")[-self.window :], 0)

    @cached_property
    def answers(self) -> bool:
        """Whether there are answers that can be right: a class to name, not a vector to come near to."""
        return bool(np.isfinite(self.accuracy).any())

    @cached_property
    def gained(self) -> np.ndarray:
        """Training accuracy of late beyond that of the first steps, or share of the loss that is gone."""
        answers = self.accuracy - mean(self.curve("acc_train")[:5], 0)
        return np.where(np.isfinite(answers), answers, 1 - self.loss / self.first_loss)

    @cached_property
    def learned(self) -> np.ndarray:
        """Where nearly all answers are right, or the loss is nearly gone if there are no answers."""
        return np.where(np.isfinite(self.accuracy), self.accuracy >= LEARNED, self.gained >= LEARNED)

    @cached_property
    def slope(self) -> np.ndarray:
        """Least-squares slope of the logarithm of the gradient over blocks, counted upwards, (S,)."""
        gradient = logs(self.probed("grad_norm"))
        block = np.arange(len(gradient)) - (len(gradient) - 1) / 2
        return block @ gradient / (block @ block)

    @cached_property
    def reach(self) -> np.ndarray:
        """Gradient at the bottom over that at the top, by the fitted slope."""
        return np.exp(np.clip(-self.slope * (len(self.probed("grad_norm")) - 1), -87, 87))

    @cached_property
    def growth(self) -> np.ndarray:
        """Size of the signal at the top over that at the bottom."""
        size = logs(self.probed("act_rms"))
        return np.exp(np.clip(size[-1] - size[0], -87, 87))

    @cached_property
    def dead(self) -> np.ndarray:
        """Share of units that no example of the batch moves, mean over blocks; 1 if a block shuts the way."""
        share, gradient = self.probed("dead"), logs(self.probed("grad_norm"))
        there = logs(self.probed("act_rms"))[:-1] > math.log(1e-30)  # what has vanished moves no unit
        shut = (share > 0.99) & (gradient[:-1] - gradient[1:] < math.log(1e-6))
        return np.where((shut & there).any(0), 1.0, mean(np.where(there, share, np.nan), 0))

    @cached_property
    def bounded(self) -> bool:
        """Whether the activation is flat on both sides."""
        return bool(self.settings and bounded(self.settings.activation))

    @cached_property
    def saturated(self) -> np.ndarray:
        """Share of a bounded activation's values on its flat parts, mean over blocks."""
        return mean(self.probed("saturated"), 0)

    @cached_property
    def alike(self) -> np.ndarray:
        """Mean cosine between different examples at the top."""
        return self.probed("cosine")[-1]

    @cached_property
    def update(self) -> np.ndarray:
        """Largest update : weight, geometric mean over blocks, of the first and of the latest probes."""
        ratio, count = self.record["update_ratio"], self.counts["probe_step"]
        rows = np.concatenate([ratio[: min(count, DENSE)], ratio[max(DENSE, count - RECENT) : count]])
        return np.exp(logs(rows[:, :, self.member]).mean(1).max(0))

    @cached_property
    def gap(self) -> np.ndarray:
        """Training accuracy, at the time of the last test, beyond the accuracy of that test.

        Two standard errors, at most, of the examples that were trained on are taken off: a few small
        batches tell little.
        """
        end = int(np.searchsorted(self.record["step"][: self.steps], self.test_step, "right"))
        right = self.curve("acc_train")[max(0, end - self.window) : end]
        examples = max(1, len(right)) * (self.settings.batch if self.settings else 1)
        return mean(right, 0) - self.tested("acc_test") - 1 / examples**0.5

    def right(self, holds: np.ndarray) -> str:
        """Share of right answers in words."""
        share = float(mean(self.accuracy[holds]))
        return f"{share:.0%} right" if math.isfinite(share) else f"loss {float(mean(self.loss[holds])):.2g}"
