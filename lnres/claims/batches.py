"""Batch size: accuracy and steps to a loss against it (E04, E30)."""

import numpy as np

from lnres.claims.bench import (
    EXPERIMENTS,
    FIRST,
    NORMS_COMPARED,
    SGD,
    Found,
    Steps,
    compared,
    plain,
    rates,
    sweep,
    train,
)

SIZES = {1: 4000, 2: 4000, 4: 3000, 16: 750, 64: 400}
"""Batch sizes and how many steps each is trained."""
CAPS = {4: 1200, 16: 1000, 64: 437, 256: 296}
TARGET = 0.3


@EXPERIMENTS.add("E04", "Batch size")
def batch_size(first: int = FIRST) -> Steps:
    """Plain networks of 4 blocks at batch 1 to 64, SGD; norms are compared at equal batch size."""
    found = Found()
    for size, steps in SIZES.items():
        arms = compared(first, depth=4, steps=steps)
        if size == 1:
            del arms["batch"]  # one example has no variance: BatchNorm would give out β
        arms = {f"{norm} B={size}": e.replace(batch=size) for norm, e in arms.items()}
        yield from sweep(found, arms, rates(SGD, 0.01, 0.02, 0.05))
    return found


def steps_to(losses: np.ndarray, target: float) -> np.ndarray:
    """The first step (S,) where the running mean (0.9) of a loss (steps, S) is below the target, or all."""
    mean, reached = losses[0], np.full(losses.shape[1], float(len(losses)))
    for t, loss in enumerate(losses):
        mean = 0.9 * mean + 0.1 * loss
        reached = np.minimum(reached, np.where(mean < target, t + 1, np.inf))
    return reached


@EXPERIMENTS.add("E30", "Steps to a loss, by batch size")
def steps_by_batch(first: int = FIRST) -> Steps:
    """Plain networks of 4 blocks, SGD at one rate of 0.05: steps until the train loss is below 0.3."""
    found = Found()
    for norm in NORMS_COMPARED:
        reached = []
        for size, cap in CAPS.items():
            e = plain(norm=norm, depth=4, batch=size, steps=cap, lr=0.05, seed=first)
            trial = yield from train(e, f"{norm}, batch {size}")
            reached.append(steps_to(trial.told["loss_train"], TARGET))
            found.put(f"{norm} steps B={size}", reached[-1])
            found.put(f"{norm} examples B={size}", reached[-1] * size)
        found.put(f"{norm} most over fewest steps", np.max(reached, 0) / np.min(reached, 0))
    found.told["cap"] = "A run that never reached the loss counts as its cap: at least " + ", ".join(
        f"{cap} steps at batch {size}" for size, cap in CAPS.items()
    )
    return found
