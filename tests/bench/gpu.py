"""What a GPU makes of the lab's default network: the same losses as the CPU, and what seeds cost there."""

import statistics
import time

import numpy as np
import torch

from lnres.experiment import Experiment
from lnres.train import Run, one_thread
from tests.bench import BENCHES

SEEDS = 1, 4, 16, 64, 256


def losses(steps: int, **settings) -> np.ndarray:
    """Of the first steps, (steps, S)."""
    run = Run(Experiment(steps=steps, record_every=0, **settings))
    return np.concatenate([next(run)[0]["loss_train"] for _ in range(steps)])


def steps_per_second(capture: bool, rounds: int = 9, steps: int = 20, **settings) -> float:
    """Median over the rounds; the losses of a round are read at its end, so all its steps have ended then."""
    run, rates = Run(Experiment(steps=10_000, record_every=0, device="cuda", **settings)), []
    run.graph = run.graph if capture else None
    for _ in range(rounds + 1):  # the first, with what is loaded, tested and captured once, does not count
        start = time.perf_counter()
        run.read([run.ahead() for _ in range(steps)])
        rates.append(steps / (time.perf_counter() - start))
    if capture and run.graph.refused:
        raise RuntimeError(f"no step was captured: {run.graph.refused}")
    return round(statistics.median(rates[1:]), 1)


@BENCHES.add("gpu", "a GPU against the CPU")
def gpu() -> dict:
    """First 20 losses on both, and steps per second with 1 to 256 seeds, captured and uncaptured."""
    if not torch.cuda.is_available():
        return {"device": "no GPU that torch can use: nothing was measured"}
    one_thread()
    apart = np.abs(losses(20, device="cuda") - losses(20, device="cpu")).max()
    rates, plain = ({s: steps_per_second(how, seeds=s) for s in SEEDS} for how in (True, False))
    return {
        "device": torch.cuda.get_device_name(),
        "largest_difference_of_20_losses": float(apart),
        "steps_per_second": rates,
        "steps_per_second_uncaptured": plain,
        "cost_of_seeds": {seeds: round(rates[1] / rate, 2) for seeds, rate in rates.items()},
    }
