"""A claim is a sentence somebody wrote, the experiments behind it, and a rule fixed before they were run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lnres.claims.judge import FACT, UNTESTABLE, Cell, Criterion, Judged, Rule, common, judge
from lnres.registry import Registry

CLAIMS = Registry("claim")
"""Rows K01 ...; ``make`` is a ``Claim``."""

SOURCES = {
    "S0": "Layer normalization and residuals",
    "S1": "Dancing with the layers",
    "S2": "Layer normalization, encyclopedia",
    "S3": "Layer normalization in deep learning",
}
"""The four articles."""

TOPICS = {
    "what": "what a norm computes",
    "batch": "batch size",
    "shift": "covariate shift and smoothness",
    "depth": "depth and skips",
    "place": "where the norm stands",
    "nets": "recurrent, transformer, convnet, GAN",
    "robust": "over-fitting, noise and shift",
    "data": "scaling the data",
    "speed": "speed, cost and width",
}

Values = Mapping[str, np.ndarray]
"""What the experiments of a claim found: one value a seed under every name."""


@dataclass(frozen=True)
class Unit:
    """How an effect is told: ``say`` turns a cell's number into words, ``axis`` names the chart's."""

    axis: str
    say: Callable[[float], str]
    form: str = "plain"
    """How the chart scales it: points, factor or plain."""


POINTS = Unit("difference in accuracy, percentage points", lambda x: f"{100 * x:+.1f} pt", "points")
SHARE = Unit("share", lambda x: f"{x:.3f}")
FACTOR = Unit("ratio (1: no difference)", lambda x: f"× {np.exp(x):.3g}", "factor")
NUMBER = Unit("value", lambda x: f"{x:.3g}")


def decades(axis: str) -> Unit:
    """Of logarithms of values that lie decades apart."""
    return Unit(axis, lambda x: f"{np.exp(x):.2g}", "factor")


@dataclass(frozen=True)
class Ask:
    """One cell of a claim: what it measures, in what unit, and what it has to show; None: shown beside."""

    name: str
    value: Callable[[Values], np.ndarray]
    criterion: Criterion | None = None
    unit: Unit = POINTS


@dataclass(frozen=True)
class Claim:
    """A sentence, who says it, what is known, and how it is decided; ``settled`` is what a document says."""

    id: str
    sentence: str
    sources: tuple[str, ...]
    topic: str
    known: str
    said: str
    experiments: tuple[str, ...] = ()
    asks: tuple[Ask, ...] = ()
    rule: Rule = common
    settled: str = ""
    testable: bool = True
    against: tuple[str, ...] = ()
    """Claims that contradict this one."""
    version: int = 1
    """Of the rule."""
    revised: str = ""
    """What was wrong with the version before."""

    @property
    def criteria(self) -> dict[str, Criterion]:
        """The cells that the rule needs."""
        return {ask.name: ask.criterion for ask in self.asks if ask.criterion}

    @property
    def units(self) -> dict[str, Unit]:
        """The unit of every cell."""
        return {ask.name: ask.unit for ask in self.asks}

    @property
    def runs(self) -> bool:
        """Whether experiments decide it."""
        return bool(self.asks)

    def cells(self, values: Values) -> list[Cell]:
        """Every cell of what was found; ``KeyError`` where an experiment is missing."""
        return [Cell.of(ask.name, ask.value(values)) for ask in self.asks]

    def judged(self, cells: Sequence[Cell] = ()) -> Judged:
        """The verdict of these cells, or of the document that settles it."""
        if not self.runs:
            return Judged(FACT if self.testable else UNTESTABLE)
        return judge(cells, self.criteria, self.rule)


def claim(
    id: str, sources: str, topic: str, sentence: str, known: str, said: str, *asks: Ask, **more
) -> None:
    """Register a claim; ``sources`` and ``experiments`` are written with spaces between them."""
    names = tuple(more.pop("experiments", "").split())
    row = Claim(id, sentence, tuple(sources.split()), topic, known, said, names, tuple(asks), **more)
    CLAIMS.put(id, sentence, make=row, about=said, paper="")


# -------------------------------------------------------------------------------- how values become cells


def of(name: str) -> Callable[[Values], np.ndarray]:
    """A value as it was found."""
    return lambda v: v[name]


def beside(*names: str, unit: Unit = NUMBER) -> list[Ask]:
    """Values that are shown and decide nothing."""
    return [Ask(name, of(name), None, unit) for name in names]


def minus(a: str, b: str) -> Callable[[Values], np.ndarray]:
    """The paired difference of two values."""
    return lambda v: v[a] - v[b]


def points(a: str, b: str) -> Callable[[Values], np.ndarray]:
    """The paired difference of two arms in accuracy."""
    return minus(f"{a} accuracy", f"{b} accuracy")


def times(a: str, b: str) -> Callable[[Values], np.ndarray]:
    """The paired logarithm of a ratio."""
    return lambda v: np.log(v[a]) - np.log(v[b])


def log_of(name: str) -> Callable[[Values], np.ndarray]:
    """The logarithm of a value."""
    return lambda v: np.log(v[name])


def extreme(names: Sequence[str], pick: Callable) -> Callable[[Values], str]:
    """The name whose mean is the largest (``max``) or smallest (``min``)."""
    return lambda v: pick(names, key=lambda name: v[name].mean())


def spread(names: Sequence[str]) -> Callable[[Values], np.ndarray]:
    """The paired difference of the arm with the largest mean and the one with the smallest."""
    return lambda v: v[extreme(names, max)(v)] - v[extreme(names, min)(v)]


def best(names: Sequence[str]) -> Callable[[Values], np.ndarray]:
    """The arm with the largest mean."""
    return lambda v: v[extreme(names, max)(v)]


def lead(names: Sequence[str], others: Sequence[str]) -> Callable[[Values], np.ndarray]:
    """The paired difference of the best of some arms and the best of others."""
    return lambda v: best(names)(v) - best(others)(v)
