"""The bench of all claims: the networks, the learning rate of each arm, what is read off trained ones."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from lnres.claims.judge import beyond, chosen, final_loss, settled
from lnres.experiment import Experiment
from lnres.registry import Registry
from lnres.train import Run

EXPERIMENTS = Registry("experiment")
"""Rows E01 ...: ``make(first)`` is a generator that says what it does after every step of training, and
returns a ``Found``; ``first`` is the number of its first seed."""

FIRST, SEEDS, CHOOSING = 100, 8, 0
"""Seeds that judge are numbered from 100 up and were never used while settings were chosen; where a training
quantity is judged, seeds from 0 choose the learning rate."""
EXTENSIONS = 2
"""How often a grid of learning rates may go on beyond its edge."""

Steps = Generator[str, None, Any]
"""Work that can be interrupted after every step: it yields what it is doing."""
Grid = Sequence[tuple[str, float]]
SGD, ADAM = "sgd", "adam"


def rates(optimizer: str, *lrs: float) -> list[tuple[str, float]]:
    """A grid of learning rates for one optimizer."""
    return [(optimizer, lr) for lr in lrs]


@dataclass
class Found:
    """What an experiment found: named values, one a seed, and sentences beside them."""

    values: dict[str, list[float]] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    seeds: int = 0
    """How many seeds made them, where that is not as many as the longest has values."""

    def put(self, name: str, values) -> None:
        """Keep one value a seed (or a single one) under a name."""
        self.values[name] = np.asarray(values, float).ravel().tolist()


# ------------------------------------------------------------------------------------------------- networks

# on a CPU, where what is committed was measured: another device rounds otherwise
_COMMON = {"momentum": 0.0, "record_every": 0, "seed": FIRST, "seeds": SEEDS, "device": "cpu"}
NORMS_COMPARED = "none", "layer", "batch"
SCHEMES: Mapping[str, dict] = {
    "bare": {"norm": "none"},
    "scaled": {"norm": "none", "residual": "scaled"},
    "ReZero": {"norm": "none", "residual": "rezero"},
    "pre-LN": {"norm": "layer", "placement": "pre"},
    "pre-BN": {"norm": "batch", "placement": "pre"},
    "post-LN": {"norm": "layer", "placement": "post", "final_norm": False},
    "DeepNorm": {"norm": "layer", "placement": "post", "residual": "deepnorm", "final_norm": False},
}
"""How a residual network keeps its signal in bounds."""


def plain(**settings) -> Experiment:
    """A plain network: blocks ReLU(norm(W h)), weights of variance 2/n, no norm before the head."""
    return Experiment(
        **_COMMON | {"residual": "none", "layers": 1, "placement": "inner", "final_norm": False} | settings
    )


def residual(scheme: str, **settings) -> Experiment:
    """A residual network of unit branches, W2 ReLU(W1 h), in one of ``SCHEMES``."""
    return Experiment(**_COMMON | SCHEMES[scheme] | settings)


# ------------------------------------------------------------------------------------------------- training


@dataclass
class Trial:
    """A run that made all its steps, with what it told at each: loss_train (steps, S), ..."""

    run: Run
    told: dict[str, np.ndarray]

    @property
    def loss(self) -> np.ndarray:
        """Mean train loss (S,) of the last 20 steps, infinite where it diverged."""
        return final_loss(self.told["loss_train"])

    @property
    def chance(self) -> float:
        """The accuracy of a guess."""
        return 1 / self.run.batches.outputs

    def read(self, loss: Tensor, accuracy: Tensor) -> np.ndarray:
        """Accuracies (S,), chance where the outputs are not finite."""
        return settled(accuracy.numpy(), np.isfinite(loss.numpy()), self.chance)

    def test_accuracy(self) -> np.ndarray:
        """On the test split, in evaluation mode, (S,)."""
        return self.read(*self.run.test())

    def train_accuracy(self) -> np.ndarray:
        """On the whole training split, in evaluation mode, (S,)."""
        batches = self.run.batches
        return self.read(*self.run.judged(batches.view(batches.x), batches.y))

    def diverged(self) -> np.ndarray:
        """1 where a member diverged, else 0, (S,)."""
        return np.asarray(self.run.diverged, float)


def train(
    e: Experiment, said: str = "", prepare: Callable[[Run], None] = lambda run: None,
    watch: Callable[[Run], None] = lambda run: None,
) -> Steps:  # fmt: skip
    """All steps of an experiment; returns its ``Trial``. ``watch`` sees the run before every step."""
    run = Run(e)
    prepare(run)
    rows: list[dict] = []
    for _ in range(e.steps):
        watch(run)
        arrays, _ = next(run)
        rows.append({name: value[0] for name, value in arrays.items() if name[:4] in ("loss", "acc_")})
        yield said
    return Trial(run, {name: np.stack([row[name] for row in rows]) for name in rows[0]})


Measures = Callable[[Trial], dict[str, np.ndarray]]


def tests(trial: Trial) -> dict[str, np.ndarray]:
    """Test accuracy."""
    return {"accuracy": trial.test_accuracy()}


def trainings(trial: Trial) -> dict[str, np.ndarray]:
    """Accuracy on the training split."""
    return {"accuracy": trial.train_accuracy()}


def sweep(
    found: Found, arms: Mapping[str, Experiment], grid: Grid, measures: Measures = tests, *,
    choose: bool = False, **training,
) -> Steps:  # fmt: skip
    """Train every arm at every learning rate, choose ONE for each by mean train loss, keep what it measured.

    A measure of the arm at its chosen rate is kept as ``"<arm> <measure>"``, at every rate as ``"<arm>
    <measure> at sgd 0.05"``, and the rate itself in ``told["<arm>"]``. Where the best rate is at the edge of
    the grid, it goes on for all arms; where an arm learns nothing at any rate, for itself alone. With
    ``choose``, the rates are chosen on seeds from 0, and the chosen runs made anew.
    """
    points = {arm: list(grid) for arm in arms}
    tried = {arm: {} for arm in arms}
    for left in range(EXTENSIONS, -1, -1):
        for arm, e in arms.items():
            for optimizer, lr in points[arm]:
                if (optimizer, lr) in tried[arm]:
                    continue
                e_at = e.replace(optimizer=optimizer, lr=lr, **{"seed": CHOOSING} if choose else {})
                trial = yield from train(e_at, f"{arm}, {optimizer} {lr:g}", **training)
                told = {"diverged": trial.diverged(), "loss": trial.loss} | measures(trial)
                tried[arm][optimizer, lr] = told
                for measure, value in told.items():
                    found.put(f"{arm} {measure} at {optimizer} {lr:g}", value)
                guess = math.log(trial.run.batches.outputs)
        best = {arm: chosen({at: told["loss"].mean() for at, told in tried[arm].items()}) for arm in arms}
        wanted = {arm: beyond(points[arm], best[arm]) for arm in arms}
        if not left:
            break
        for arm, point in wanted.items():
            for other in (arm,) if idle(tried[arm], guess) else arms:
                if point and point not in points[other]:
                    points[other].append(point)
    for arm, (optimizer, lr) in best.items():
        told = tried[arm][optimizer, lr]
        if choose:
            e_at = arms[arm].replace(optimizer=optimizer, lr=lr)
            trial = yield from train(e_at, f"{arm}, judged", **training)
            told = {"diverged": trial.diverged(), "loss": trial.loss} | measures(trial)
        for measure, value in told.items():
            found.put(f"{arm} {measure}", value)
        found.told[arm] = f"{optimizer} {lr:g}{', the edge of the grid' if wanted[arm] else ''}"


def idle(rows: Mapping, guess: float) -> bool:
    """Whether nothing was learnt at any learning rate: a finite loss, never 2 % below that of a guess."""
    losses = [told["loss"].mean() for told in rows.values()]
    return any(map(math.isfinite, losses)) and min(losses) > 0.98 * guess


def compared(first: int, **settings) -> dict[str, Experiment]:
    """The plain network without norm, with LayerNorm and with BatchNorm."""
    return {norm: plain(norm=norm, seed=first, **settings) for norm in NORMS_COMPARED}
