"""Over-fitting, noise, shifts and streams (E20 to E24)."""

import math

import numpy as np
import torch
from torch import Tensor

from lnres.claims.bench import (
    EXPERIMENTS,
    FIRST,
    SGD,
    Found,
    Steps,
    Trial,
    compared,
    plain,
    rates,
    sweep,
    tests,
    train,
)
from lnres.claims.judge import settled
from lnres.data import DATA, Table, digits
from lnres.layers import generator
from lnres.train import Run

for _count in (200, 600, 1000):
    DATA.put(
        f"digits_{_count}", f"{_count} training digits", listed=False, paper="Alpaydin & Kaynak 1998",
        make=Table(f"digits_{_count}", digits, 64, 10, _count, 1797 - _count, 0.01),
        about=f"The same digits, {_count} to learn from and all others for testing.",
    )  # fmt: skip

GRID = rates(SGD, 0.02, 0.05, 0.1)


def gaps(trial: Trial) -> dict[str, np.ndarray]:
    """Test accuracy and how far training accuracy is above it."""
    accuracy = trial.test_accuracy()
    return {"accuracy": accuracy, "gap": trial.train_accuracy() - accuracy}


@EXPERIMENTS.add("E20", "Over-fitting")
def overfitting(first: int = FIRST) -> Steps:
    """200 training digits, 4 blocks, dropout behind the activation, labels clean or 20 % drawn anew."""
    found = Found()
    for noise in (0.0, 0.2):
        for dropout in (0.0, 0.2, 0.5):
            arms = compared(
                first, data="digits_200", depth=4, batch=32, steps=600, dropout=dropout, label_noise=noise
            )
            arms = {f"{norm} labels {noise:g} dropout {dropout:g}": e for norm, e in arms.items()}
            yield from sweep(found, arms, GRID, gaps)
    return found


SHIFTED = {
    "clean": {}, "noise 0.3": {"noise": 0.3}, "noise 0.6": {"noise": 0.6},
    "own contrast": {"contrast_spread": 0.7}, "contrast × 5": {"contrast": 5.0},
    "contrast × 0.2": {"contrast": 0.2}, "brightness + 0.5": {"brightness": 0.5},
}  # fmt: skip
"""What is done to test inputs that a network has never seen in training."""


def when_shifted(trial: Trial) -> dict[str, np.ndarray]:
    """Test accuracy under every shift."""
    run, found = trial.run, {}
    trained = run.experiment
    for name, change in SHIFTED.items():
        run.experiment = trained.replace(shift="test", **change)
        found[name] = trial.test_accuracy()
    run.experiment = trained
    return found


@EXPERIMENTS.add("E21", "Test inputs that have changed")
def changed_tests(first: int = FIRST) -> Steps:
    """Digits in [0, 1], trained clean, 4 blocks, 600 steps; tested under noise, contrast, brightness."""
    found = Found()
    yield from sweep(found, compared(first, scaler="unit", depth=4, steps=600), GRID, when_shifted)
    return found


CONTRASTS, BEFORE = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0), 300
"""What is tried, and the steps of training that come first."""


def turned(first: int = FIRST) -> Steps:
    """The networks of E21 after fewer steps at rate 0.05, five seeds, tested at every contrast."""
    found = Found()
    for norm, e in compared(first, seeds=5, scaler="unit", depth=4, steps=BEFORE, lr=0.05).items():
        trial = yield from train(e, norm)
        trained = trial.run.experiment
        for contrast in CONTRASTS:
            trial.run.experiment = trained.replace(shift="test", contrast=contrast)
            found.put(f"{norm} × {contrast:g}", trial.test_accuracy())
    return found


EXPERIMENTS.put(
    "E21 turned", "Contrast turned up and down", listed=False, make=turned,
    about="As E21, one rate, every contrast in between.",
)  # fmt: skip


@EXPERIMENTS.add("E22", "Noisy training")
def noisy_training(first: int = FIRST) -> Steps:
    """600 training digits with Gaussian noise on every input, 4 blocks, 400 steps; tested clean."""
    found = Found()
    for noise in (0.0, 1.0, 2.0, 4.0):
        arms = compared(first, data="digits_600", depth=4, batch=32, steps=400, noise=noise)
        yield from sweep(found, {f"{norm} noise {noise:g}": e for norm, e in arms.items()}, GRID)
    return found


def online(trial: Trial) -> dict[str, np.ndarray]:
    """Accuracy of what was predicted before it was learnt from, over the last two thirds."""
    loss, accuracy = (trial.told[f"{what}_online"] for what in ("loss", "acc"))
    start = len(loss) // 3
    return {"accuracy": settled(accuracy[start:].mean(0), np.isfinite(loss).all(0), trial.chance)}


class Drifting:
    """Batches whose every pixel has a slowly changing gain and the whole image a changing offset."""

    def __init__(self, batches):
        self.batches = batches
        self.phase = 2 * math.pi * torch.rand(64, generator=generator("drift"))

    def __getattr__(self, name: str):
        return getattr(self.batches, name)

    def __call__(self, step: int, size: int, **shift: float) -> tuple[Tensor, Tensor]:
        """A batch of the stream as it is at this step."""
        x, y = self.batches(step, size, **shift)
        turn = 2 * math.pi * step / 150
        return x * torch.exp(torch.sin(turn + self.phase)) + 0.5 * math.sin(turn / 2), y


def drift(run: Run) -> None:
    """Let the inputs of a run drift."""
    run.batches = Drifting(run.batches)


@EXPERIMENTS.add("E23", "Streams")
def streams(first: int = FIRST) -> Steps:
    """Digits in [0, 1] that arrive 8 at a time, 3 blocks: predicted in evaluation mode, then learnt from."""
    found = Found()
    settings = {"scaler": "unit", "depth": 3, "batch": 8, "steps": 600}
    for stream in ("iid", "drift", "sorted"):
        arms = compared(first, stream=stream, **settings)
        yield from sweep(found, {f"{norm} {stream}": e for norm, e in arms.items()}, GRID, online)
    arms = {
        f"γ, β {name}": plain(norm="layer", affine=affine, stream="iid", seed=first, **settings)
        for name, affine in (("trained", True), ("frozen", False))
    }
    yield from sweep(found, arms, GRID, online, prepare=drift)
    return found


ROUNDS = 80
"""Steps that are kept: twice through all classes of a sorted stream, four batches each."""


def remembering(first: int = FIRST) -> Steps:
    """The last batches of a class-sorted stream: a unit's mean in each, and the one BatchNorm remembered.

    The unit is the one of the first layer whose mean moves most.
    """
    found, kept = Found(), []

    def watch(run: Run) -> None:
        kept.append(run.model.blocks[0].branch.inner.running_mean[0, 0].double().numpy().copy())

    settings = {"scaler": "unit", "depth": 3, "batch": 8, "lr": 0.05, "steps": 600}
    trial = yield from train(
        plain(norm="batch", stream="sorted", seed=first, seeds=1, **settings), "a unit", watch=watch
    )
    watch(trial.run)
    old, new = np.stack(kept[:-1])[-ROUNDS:], np.stack(kept[1:])[-ROUNDS:]
    share = trial.run.experiment.norm_momentum
    means = (new - (1 - share) * old) / share
    unit = means.std(0).argmax()
    found.put("step", np.arange(len(kept) - 1)[-ROUNDS:])
    found.put("mean of the batch", means[:, unit])
    found.put("remembered mean", old[:, unit])
    return found


EXPERIMENTS.put(
    "E23 unit", "What BatchNorm remembers of a class-sorted stream", listed=False, make=remembering,
    about="One network of E23, one unit, looked at as it learns.",
)  # fmt: skip


@torch.no_grad()
def equality(trial: Trial) -> dict[str, np.ndarray]:
    """Coefficients of variation on test data at the third hidden norm, before and after γ and β.

    Over units of the unit's standard deviation, and over examples of the example's norm.
    """
    run = trial.run
    with run.mode(training=False):
        h = run.model.enter(run.batches.view(run.batches.test_x))
        for block in run.model.blocks[:2]:
            h = block(h)
        branch = run.model.blocks[2].branch
        z = branch.first(h)
        after = branch.inner(z)
        before = branch.inner.normalize(z) if run.experiment.norm != "none" else z
    found = {}
    for place, y in (("before", before), ("after", after)):
        units, examples = y.std(1), torch.linalg.vector_norm(y, dim=2)
        found[f"CV of units {place}"] = (units.std(1) / units.mean(1)).numpy()
        found[f"CV of examples {place}"] = (examples.std(1) / examples.mean(1)).numpy()
    return found


@EXPERIMENTS.add("E24", "Equal units")
def equal_units(first: int = FIRST) -> Steps:
    """Plain networks of 4 blocks, 300 steps: how equal units, and examples, are behind a norm."""
    found = Found()
    yield from sweep(found, compared(first, depth=4, steps=300), GRID, lambda t: tests(t) | equality(t))
    return found
