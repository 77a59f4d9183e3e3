"""Speed: cost of a step, loss after a budget of steps, usable learning rates, width (E26 to E29)."""

import math
import time

import numpy as np
import torch
from torch import nn

from lnres.claims.bench import (
    ADAM,
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

WIDTHS_TIMED = 64, 256, 1024
LAYERS_TIMED = {
    "none": lambda n: nn.Identity(), "layer": nn.LayerNorm, "rms": nn.RMSNorm, "batch": nn.BatchNorm1d,
}  # fmt: skip
RATES_TRIED = 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0
WIDTHS = 2, 3, 4, 8, 16, 64


@EXPERIMENTS.add("E26", "Cost of a step")
def cost(first: int = FIRST) -> Steps:
    """Eight times (linear, norm, ReLU), batch 64: forward and backward, torch's kernels, one CPU thread.

    Arms are interleaved; a value is the ratio to no norm of one of seven blocks, each the median of its runs.
    """
    found = Found(seeds=1)
    for width in WIDTHS_TIMED:
        torch.manual_seed(first)
        x = torch.randn(64, width)
        nets = {
            norm: nn.Sequential(*[
                part for _ in range(8) for part in (nn.Linear(width, width), layer(width), nn.ReLU())
            ])
            for norm, layer in LAYERS_TIMED.items()
        }  # fmt: skip
        seconds = {norm: [] for norm in nets}
        for _ in range(8):  # the first block warms up
            block = {norm: [] for norm in nets}
            for _ in range(max(5, 5_000 // width)):
                for norm, net in nets.items():
                    start = time.perf_counter()
                    net(x).square().mean().backward()
                    block[norm].append(time.perf_counter() - start)
                yield f"width {width}"
            for norm, times in block.items():
                seconds[norm].append(np.median(times))
        for norm in ("layer", "rms", "batch"):
            found.put(f"{norm} time w={width}", np.array(seconds[norm][1:]) / np.array(seconds["none"][1:]))
    found.told["kernel"] = "torch.nn on one CPU thread; every network of one width in turn"
    return found


def last_losses(trial: Trial) -> dict[str, np.ndarray]:
    """Mean train loss of the last 30 steps; a network that diverged has the loss of a guess."""
    loss = trial.told["loss_train"][-30:]
    return {"final loss": np.where(np.isfinite(loss).all(0), loss.mean(0), -math.log(trial.chance))}


@EXPERIMENTS.add("E27", "Loss after 200 steps")
def speed(first: int = FIRST) -> Steps:
    """Plain networks of 8 blocks, 200 steps; every arm's rate is chosen on other seeds."""
    found = Found()
    grids = rates(SGD, 0.01, 0.03, 0.1, 0.3), rates(ADAM, 3e-4, 1e-3, 3e-3, 1e-2)
    for grid in grids:
        arms = {f"{norm} {grid[0][0]}": e for norm, e in compared(first, depth=8, steps=200).items()}
        yield from sweep(found, arms, grid, last_losses, choose=True)
    return found


@EXPERIMENTS.add("E28", "Usable learning rates")
def usable(first: int = FIRST) -> Steps:
    """Plain networks of 6 blocks, SGD at seven rates, 200 steps: the largest that passes 95 % and 90 %."""
    found = Found()
    for norm in ("none", "layer", "rms", "batch"):
        reached = []
        for lr in RATES_TRIED:
            e = plain(norm=norm, depth=6, steps=200, lr=lr, seed=first)
            trial = yield from train(e, f"{norm}, lr {lr:g}")
            reached.append(trial.train_accuracy())
            found.put(f"{norm} accuracy at sgd {lr:g}", reached[-1])
        for goal in (0.95, 0.9):
            good = np.array(reached) > goal
            largest = np.where(good, np.array(RATES_TRIED)[:, None], 0).max(0)
            found.put(
                f"{norm} largest rate above {goal:g}", np.where(largest > 0, largest, RATES_TRIED[0] / 3)
            )
    found.told["below"] = f"A seed that got there at no rate counts as {RATES_TRIED[0] / 3:g}."
    return found


@EXPERIMENTS.add("E29", "Width")
def width(first: int = FIRST) -> Steps:
    """Plain networks of 3 blocks and width 2 to 64, SGD, 400 steps."""
    found = Found()
    for n in WIDTHS:
        arms = {
            f"{norm} w={n}": plain(norm=norm, depth=3, width=n, steps=400, seed=first)
            for norm in ("none", "layer", "rms", "batch")
        }
        yield from sweep(found, arms, rates(SGD, 0.02, 0.05, 0.1), tests)
    return found
