"""What a training step costs: against plain PyTorch, with recording, with seeds, with depth."""

import math
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lnres.experiment import Experiment
from lnres.train import Run, one_thread
from tests.bench import BENCHES


def interleaved(sides: dict, rounds: int = 15, steps: int = 20) -> dict[str, list[float]]:
    """CPU seconds per call of each side, round by round: what disturbs one disturbs all."""
    for side in sides.values():
        for _ in range(25):  # past the densely probed first steps
            side()
    seconds = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.process_time()
            for _ in range(steps):
                side()
            seconds[name].append((time.process_time() - start) / steps)
    return seconds


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Median over the rounds of one side's time divided by another's."""
    pairs = zip(seconds[over], seconds[under], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


def milliseconds(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median milliseconds per step."""
    return {name: round(1e3 * statistics.median(times), 3) for name, times in seconds.items()}


def stepper(**settings):
    """A run's ``next``, ready to be timed."""
    return Run(Experiment(**{"steps": 10_000} | settings)).__next__


class PlainBlock(nn.Module):
    """What anyone would write: a pre-LN residual block."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.last = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.last(torch.relu(self.first(self.norm(x))))


def plain_loop(depth: int, width: int, batch: int):
    """A usual training loop on the same data: nn.Module, autograd, Adam(fused=True), random minibatches."""
    blocks = [PlainBlock(width) for _ in range(depth)]
    model = nn.Sequential(nn.Linear(64, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    batches = Run(Experiment(depth=1, width=2, seeds=1)).batches
    x, y = batches.x[0], batches.y[0]

    def step():
        picked = torch.randint(len(x), (batch,))
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x[picked]), y[picked]).backward()
        optimizer.step()

    return step


@BENCHES.add("step", "a step against a plain nn.Module")
def step() -> dict:
    """One seed, depth 32, width 64, batch 128, LayerNorm, Adam, one thread: steps per CPU-second."""
    one_thread()
    settings = {"optimizer": "adam", "lr": 1e-3, "batch": 128, "seeds": 1}
    seconds = interleaved({
        "plain": plain_loop(32, 64, 128),
        "bare": stepper(**settings, record_every=0),
        "lab": stepper(**settings),
    })  # fmt: skip
    return {
        "speed_bare": ratio(seconds, "plain", "bare"),
        "speed_at_lab_cadence": ratio(seconds, "plain", "lab"),
        "ms": milliseconds(seconds),
    }


@BENCHES.add("recording", "what recording costs")
def recording() -> dict:
    """The lab's default network: probing every step, and at the default cadence, over never."""
    one_thread()
    every, usual, never = stepper(record_every=1), stepper(), stepper(record_every=0)
    seconds = interleaved({"every": every, "lab": usual, "never": never}, rounds=9, steps=100)
    return {
        "every_step": ratio(seconds, "every", "never"),
        "lab_cadence": ratio(seconds, "lab", "never"),
        "ms": milliseconds(seconds),
    }


@BENCHES.add("seeds", "what seeds cost")
def seeds() -> dict:
    """Eight seeds over one at batch 32, 64 and 128, the lab's default network."""
    one_thread()
    sides = {f"{s}x{b}": stepper(seeds=s, batch=b, record_every=0) for b in (32, 64, 128) for s in (1, 8)}
    seconds = interleaved(sides)
    ratios = {f"batch_{b}": ratio(seconds, f"8x{b}", f"1x{b}") for b in (32, 64, 128)}
    return ratios | {"ms": milliseconds(seconds)}


GOOD = {
    "mlp": "depth=2&width=64&optimizer=adam&lr=0.005&norm=batch",
    "conv": "model=conv&depth=3&width=8&stages=3&optimizer=adam&lr=0.01&batch=32",
    "transformer": "model=transformer&depth=4&width=32&optimizer=adam&lr=0.003&batch=32",
    "lstm": "model=lstm&depth=1&width=32&optimizer=adam&lr=0.01&residual=none&placement=inner",
}
"""Configurations that learn the digits quickly, found by trying a few dozen."""


@BENCHES.add("seeds_positions", "what seeds cost a convnet, a transformer and an LSTM")
def seeds_positions() -> dict:
    """Eight seeds over one, the configurations that ``reach`` takes."""
    one_thread()
    found = {}
    for name in ("conv", "transformer", "lstm"):
        good = Experiment.parse(GOOD[name]).replace(steps=10_000, record_every=0)
        seconds = interleaved({str(s): Run(good.replace(seeds=s)).__next__ for s in (1, 8)}, rounds=11)
        found |= {name: ratio(seconds, "8", "1"), f"{name}_ms": milliseconds(seconds)}
    return found


@BENCHES.add("reach", "time to 95 % of the test digits")
def reach() -> dict:
    """CPU seconds of whole runs, tested every ten steps, until 95 % are right: eight seeds, each alone.

    The network is made within the time; libraries and the data set have been loaded before.
    """
    one_thread()
    Run(Experiment(depth=1)).test()
    found = {}
    for name, link in GOOD.items():
        taken, steps = [], []
        for seed in range(8):
            start = time.process_time()
            run = Run(Experiment.parse(link).replace(seed=seed, seeds=1, steps=1000, record_every=0))
            while float(run.test()[1]) < 0.95 and run.step < 1000:
                for _ in range(10):
                    next(run)
            taken.append(time.process_time() - start if run.step < 1000 else math.inf)
            steps.append(run.step)
        found[name] = {
            "experiment": link, "seconds": round(statistics.median(taken), 2), "worst": round(max(taken), 2),
            "steps": statistics.median(steps),
        }  # fmt: skip
    return found


def thousand() -> None:
    """1000 blocks of width 32 for a few steps; prints the peak memory in MiB, beyond the libraries
    and in all."""
    one_thread()
    next(Run(Experiment(depth=1, width=32, seeds=1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = Run(Experiment(depth=1000, width=32, seeds=1))
    for _ in range(5):
        next(run)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(round((peak - before) / 1024), round(peak / 1024), bool(run.diverged[0]))


@BENCHES.add("depth", "cost against depth")
def depth() -> dict:
    """Width 32, 8 to 1000 blocks: slope of log time against log depth, and the memory of 1000 blocks."""
    one_thread()
    depths = 8, 32, 125, 500, 1000
    sides = {str(d): stepper(depth=d, width=32, seeds=1, record_every=0) for d in depths}
    seconds = interleaved(sides, rounds=7, steps=4)
    medians = [statistics.median(seconds[str(d)]) for d in depths]
    slope = float(np.polyfit(np.log(depths), np.log(medians), 1)[0])
    told = subprocess.run([sys.executable, "-c", "from tests.bench.core import thousand; thousand()"],
                          capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    return {
        "slope": round(slope, 3),
        "slope_125_to_1000": round(float(np.log(medians[-1] / medians[2]) / np.log(8)), 3),
        "peak_mib_of_1000_blocks": int(told[1]),
        "mib_beyond_libraries": int(told[0]),
        "ms": milliseconds(seconds),
    }
