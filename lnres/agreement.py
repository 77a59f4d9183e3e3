"""How far a measurement is from its theory, and why, in one sentence that is computed."""

import math
from dataclasses import dataclass

import numpy as np

from lnres.experiment import Experiment
from lnres.figures import VANISHED
from lnres.meanfield import predict
from lnres.theory import relu_scatter

LARGEST = 3e38
"""Beyond, single precision knows infinity only."""
SLACK, NARROW, FEW = 0.05, 0.1, 8
"""What is allowed beside scatter; the scatter from which networks are called narrow; a batch called short."""
COSINES = "cosine", "input_cosine"
TOLD = {"act_rms": "size", "grad_norm": "gradient", "cosine": "likeness"}
"""Quantities that sentences are made of, and what they call them."""


@dataclass(frozen=True)
class Agreement:
    """The largest error along the blocks, relative or (of cosines) absolute, and where it is too large."""

    error: float
    allowed: float
    block: int | None = None
    why: str = ""


def scatter(e: Experiment, quantity: str, blocks: int) -> np.ndarray:
    """How much the mean of S networks may scatter at each state: two standard deviations of its logarithm.

    That of plain ReLU networks (C02), which of all scatter most, along the way from where a profile is given.
    """
    way = np.arange(1, blocks + 1) * 1.0
    way = way[::-1] if quantity == "grad_norm" else way
    return way * np.array([relu_scatter(e.width * e.seeds, length) for length in way])


def agreement(e: Experiment, quantity: str, measured: np.ndarray) -> Agreement | None:
    """Between a measured profile, (L+1, S), and what is predicted; None where nothing is."""
    predicted = predict(e, quantity).values
    if predicted is None:
        return None
    measured = np.asarray(measured, float)
    spread = scatter(e, quantity, len(measured))
    with np.errstate(all="ignore"):
        if quantity in COSINES:
            error = np.abs(measured.mean(1) - predicted)
            allowed = 0.02 + np.minimum(spread, 0.3)
        else:
            error = np.expm1(np.abs(np.log(measured).mean(1) - np.log(predicted)))
            error = np.where(measured.max(1) + predicted == 0, 0, error)
            allowed = SLACK + spread
    wrong = ~(error <= allowed)
    if not wrong.any():
        return Agreement(float(error.max()), float(allowed.max()))
    order = range(len(wrong))[:: -1 if quantity == "grad_norm" else 1]
    block = next(i for i in order if wrong[i])
    return Agreement(float(error[block]), float(allowed[block]), block, reason(e, spread, measured[block]))


def reason(e: Experiment, spread: np.ndarray, there: np.ndarray) -> str:
    """What is known to part measurement and theory, the first that is the case."""
    if not np.isfinite(there).all() or (np.abs(there) > LARGEST).any():
        return "single precision ends at 3·10³⁸"
    if (np.abs(there) < VANISHED).any():
        return "single precision ends at 10⁻³⁸"
    if e.norm == "batch" and e.batch < FEW:
        return f"with {e.batch} examples a batch, BatchNorm's rates scatter wildly"
    if spread.max() > NARROW:
        few = f"a network of width {e.width} scatters"
        if e.seeds > 1:
            few = f"{e.seeds} networks of width {e.width} scatter"
        return f"it is for wide networks: {few} by {percent(spread.max())} here"
    return "what theory takes as independent is not quite, over so many blocks"


def sentence(e: Experiment, measured: dict[str, np.ndarray]) -> str:
    """Whether theory holds for the sizes, gradients and likeness that were measured; why, where not."""
    found = {name: agreement(e, name, measured[name]) for name in TOLD}
    if all(one is None for one in found.values()):
        return f"Measured only: {predict(e, 'act_rms').why}"
    broken = {name: one for name, one in found.items() if one and one.block is not None}
    if broken:
        name = min(broken, key=lambda n: depth_of(e, n, broken[n].block))
        one = broken[name]
        return f"Theory breaks here: the {TOLD[name]} leaves it at block {one.block} because {one.why}."
    held = [f"{told(name, one)} for the {TOLD[name]}" for name, one in found.items() if one]
    rest = [f" {predict(e, name).why}" for name, one in found.items() if one is None]
    most = percent(max(scatter(e, "act_rms", e.depth + 1)))
    return (
        f"Theory holds within {', '.join(held[:-1])}{' and ' * (len(held) > 1)}{held[-1]} "
        f"(networks so wide and so many may scatter by {most}).{''.join(rest)}"
    )


def depth_of(e: Experiment, quantity: str, block: int) -> int:
    """How far from where a profile is given."""
    return e.depth - block if quantity == "grad_norm" else block


def told(quantity: str, one: Agreement) -> str:
    """An error as people say it."""
    return f"{max(one.error, 0.01):.2f}" if quantity in COSINES else percent(one.error)


def percent(share: float) -> str:
    """Rounded up to a whole percent, or to a factor where it is large."""
    return f"{math.ceil(100 * share)} %" if share < 1 else f"a factor of {1 + share:.2g}"
