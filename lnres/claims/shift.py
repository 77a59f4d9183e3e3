"""Internal covariate shift and smoothness, each measured as its paper defines it (E05, E06)."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lnres.claims.bench import EXPERIMENTS, FIRST, NORMS_COMPARED, Found, Steps, plain, train
from lnres.layers import along, generator
from lnres.probes import Tape
from lnres.train import Run

LAYER, EVERY, FROM = 5, 5, 10
"""The hidden layer that is watched, how often, and from which step on."""
IMAGES, WATCHED = 256, 512
"""Fixed training images that drift and smoothness are read on."""
RATES_SHOWN = 0.02, 0.05, 0.1, 0.2


class Jitter:
    """A norm followed by a random shift and scale of each unit, drawn anew in every step of training."""

    def __init__(self, norm, weights, name: str):
        self.norm, self.weights, self.name = norm, weights, name

    def __call__(self, x: Tensor) -> Tensor:
        """The norm's output, disturbed in training."""
        y, step = self.norm(x), self.weights.step
        if not self.weights.training:
            return y
        drawn = [
            torch.randn((2, 1, y.shape[-1]), generator=generator(seed, self.name, "jitter", step))
            for seed in self.weights.seeds
        ]
        scale, shift = torch.stack(drawn).mul_(0.5).unbind(1)
        return y * along(y, scale.exp()) + along(y, shift)


def jittered(run: Run) -> None:
    """Put noise behind every norm of a plain network (Santurkar et al. 2018)."""
    for i, block in enumerate(run.model.blocks):
        block.branch.inner = Jitter(block.branch.inner, run.weights, f"blocks.{i}")


def gradient(run: Run, x: Tensor, y: Tensor) -> Tensor:
    """Of the watched layer's weights, (S, n n)."""
    run.weights.backward(run.batches.loss(run.model(x), y).sum())
    return run.weights.named()[f"blocks.{LAYER}.first.weight"][1].flatten(1).clone()


def earlier(name: str) -> bool:
    """Whether a parameter stands before the watched layer."""
    place, _, rest = name.partition(".")
    return place == "stem" or (place == "blocks" and int(rest.split(".")[0]) < LAYER)


class Shift:
    """Reads drift and gradient shift of a run before some of its steps; ``means`` has what came out, (S,)."""

    def __init__(self):
        self.last: dict[str, Tensor] = {}
        self.read: dict[str, list[np.ndarray]] = {}

    def __call__(self, run: Run) -> None:
        """Before a step; the run does not notice."""
        if run.step >= FROM and run.step % EVERY == 0:
            self.drift(run)
            self.gradients(run)

    def keep(self, name: str, value: Tensor) -> None:
        """One more reading (S,)."""
        self.read.setdefault(name, []).append(value.numpy())

    @torch.no_grad()
    def drift(self, run: Run) -> None:
        """How far unit means moved since the last reading, against the units' standard deviation."""
        tape = Tape()
        with run.mode(training=True, keep=True):
            run.model(run.batches.view(run.batches.x[:, :IMAGES]), tape)
        entered = tape.states[LAYER]
        places = {"input": entered, "before the norm": run.model.blocks[LAYER].branch.first(entered)}
        for place, z in places.items():
            mean, std = z.mean(1), z.std(1, correction=0)
            if place in self.last:
                moved, size = ((v.square().mean(1)).sqrt() for v in (mean - self.last[place], std))
                self.keep(f"drift, {place}", moved / size)
            self.last[place] = mean

    def gradients(self, run: Run) -> None:
        """How the layer's gradient changes once the layers before it have made their step, same batch."""
        x, y = run.batches(run.step, run.experiment.batch)
        run.weights.step = run.step
        with run.mode(training=True, keep=True):
            before = gradient(run, x, y)
            flat = run.weights.flat.clone()
            with torch.no_grad():
                for name, (value, grad) in run.weights.named().items():
                    if earlier(name):
                        value -= run.experiment.lr * grad
            after = gradient(run, x, y)
        with torch.no_grad():
            run.weights.flat.copy_(flat)
            self.keep("gradient shift", (after - before).norm(dim=1) / before.norm(dim=1))
            self.keep("gradient cosine", torch.cosine_similarity(after, before, dim=1))

    @property
    def means(self) -> dict[str, np.ndarray]:
        """The mean of all finite readings of each member."""
        return {
            name: np.nanmean(np.where(np.isfinite(rows), rows, np.nan), 0) for name, rows in self.read.items()
        }


ARMS: dict[str, tuple[str, Callable[[Run], None]]] = {
    **{norm: (norm, lambda run: None) for norm in NORMS_COMPARED},
    "batch + noise": ("batch", jittered),
}


@EXPERIMENTS.add("E05", "Internal covariate shift")
def covariate_shift(first: int = FIRST, arms: Sequence[str] = tuple(ARMS), **settings) -> Steps:
    """Plain networks of 8 blocks, SGD at 0.02 and 0.1, 200 steps: drift and gradient shift at layer 5."""
    found = Found()
    for lr in (0.02, 0.1):
        for arm in arms:
            (norm, prepare), shift = ARMS[arm], Shift()
            e = plain(norm=norm, depth=8, steps=200, lr=lr, seed=first, **settings)
            trial = yield from train(e, f"{arm}, lr {lr:g}", prepare=prepare, watch=shift)
            loss = np.minimum(trial.loss, -np.log(trial.chance))
            for name, value in (shift.means | {"final loss": loss}).items():
                found.put(f"{arm} lr {lr:g} {name}", value)
    found.told["by construction"] = (
        "At the layer's input, behind norm and ReLU, BatchNorm's unit means can move through β alone."
    )
    return found


EXPERIMENTS.put(
    "E05 short", "Internal covariate shift, no norm and BatchNorm", listed=False,
    make=partial(covariate_shift, arms=("none", "batch"), seeds=5),
    about="As E05, in the time that a lesson has.",
)  # fmt: skip


class Uphill:
    """The loss of fixed images every five steps, BatchNorm with their own statistics."""

    def __init__(self):
        self.losses: list[np.ndarray] = []

    def __call__(self, run: Run) -> None:
        """Before a step."""
        if run.step % EVERY == 0:
            x, y = run.batches.view(run.batches.x[:, :WATCHED]), run.batches.y[:, :WATCHED].contiguous()
            self.losses.append(run.judged(x, y, own_statistics=True)[0].numpy())

    @property
    def share(self) -> np.ndarray:
        """Of all its moves, how much went uphill, (S,); what diverged moves uphill only."""
        moves = np.diff(self.losses, axis=0)
        up, down = np.maximum(moves, 0).sum(0), np.maximum(-moves, 0).sum(0)
        return np.where(np.isfinite(moves).all(0), up / np.maximum(up + down, 1e-30), 1.0)


@EXPERIMENTS.add("E06", "Smoothness of the loss")
def smoothness(first: int = FIRST) -> Steps:
    """Plain networks of 8 blocks, SGD at four rates, 200 steps: the share of moves that go uphill."""
    found = Found()
    for lr in RATES_SHOWN:
        for norm in NORMS_COMPARED:
            uphill = Uphill()
            e = plain(norm=norm, depth=8, steps=200, lr=lr, seed=first)
            trial = yield from train(e, f"{norm}, lr {lr:g}", watch=uphill)
            found.put(f"{norm} lr {lr:g} uphill", uphill.share)
            found.put(f"{norm} lr {lr:g} loss", trial.loss)
    for norm in NORMS_COMPARED:
        losses = {lr: np.mean(found.values[f"{norm} lr {lr:g} loss"]) for lr in RATES_SHOWN}
        best = min(losses, key=lambda lr: losses[lr] if np.isfinite(losses[lr]) else np.inf)
        found.put(f"{norm} best rate uphill", found.values[f"{norm} lr {best:g} uphill"])
        found.told[norm] = f"sgd {best:g}"
    return found
