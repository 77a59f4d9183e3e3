"""A verdict is computed: intervals of paired differences against rules that were fixed before the runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

SUPPORTED, REFUTED, DEPENDS = "supported", "refuted", "depends"
NO_EFFECT, NOT_SETTLED, EXACT = "no effect", "not settled", "exact"
FACT, UNTESTABLE = "fact", "not testable here"

VERDICTS = {
    SUPPORTED: "The 95 % interval lies on the claimed side, and the mean is at least the minimum.",
    REFUTED: "The interval lies on the other side, or the rule's own line of refutation is met.",
    DEPENDS: "It holds in some of the cells and not in others; the cells say where.",
    NO_EFFECT: "The whole interval is smaller than what would count.",
    NOT_SETTLED: "These seeds do not decide it.",
    EXACT: "Algebra, reproduced to the stated tolerance.",
    FACT: "Settled by a document.",
    UNTESTABLE: "No honest experiment of seconds to minutes exists.",
}
"""Every verdict, and when it is given."""

POINT = 0.01
"""One percentage point of accuracy: nothing smaller can be claimed with 8 seeds on 500 test digits."""
TENTH = math.log(1.1)
"""Ten percent, of quantities that are compared as logarithms: losses, drifts, times."""
RATE = 0.02
"""Two percent, of gradient rates."""


@dataclass(frozen=True)
class Cell:
    """One condition of a claim: the mean over n seeds with its 95 % interval, and every seed's value."""

    name: str
    effect: float
    low: float
    high: float
    n: int
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> "Cell":
        """From one value a seed (a paired difference, where arms are compared): mean ± t sd/√n.

        A single value is exact: its interval is itself. Where a value is not finite nothing is known.
        """
        x = np.asarray(values, float).ravel()
        if not len(x):
            raise ValueError(f"cell {name!r} has no values; give at least one")
        if not np.isfinite(x).all():
            return cls(name, math.nan, math.nan, math.nan, len(x), tuple(x.tolist()))
        mean, half = float(x.mean()), 0.0
        if len(x) > 1:
            half = float(stdtrit(len(x) - 1, 0.975)) * float(x.std(ddof=1)) / math.sqrt(len(x))
        return cls(name, mean, mean - half, mean + half, len(x), tuple(x.tolist()))

    def seeds_wanted(self, minimum: float) -> int:
        """About how many seeds it would take until the interval is no wider than the minimum."""
        half = (self.high - self.low) / 2
        return max(self.n, math.ceil(self.n * (half / minimum) ** 2)) if minimum > 0 and half > 0 else self.n


# ----------------------------------------------------------------------- what a cell has to show: criteria


@dataclass(frozen=True)
class Criterion:
    """Base of all criteria: ``word`` judges one cell. ``line`` is where its minimum lies, for the chart."""

    minimum: float = 0.0

    @property
    def lines(self) -> tuple[float, ...]:
        """Levels that a chart draws beside zero."""
        return (self.minimum, -self.minimum) if self.minimum else ()

    def room(self, cell: Cell) -> float:
        """Half the width that an interval around this mean may have to be decided."""
        return min((abs(cell.effect - line) for line in self.lines), default=abs(cell.effect))

    def word(self, cell: Cell) -> str:
        """supported, refuted, no effect or not settled; the last wherever a number is not finite."""
        known = all(map(math.isfinite, (cell.effect, cell.low, cell.high)))
        return self.decide(cell) if known else NOT_SETTLED

    def decide(self, cell: Cell) -> str:
        """The word of a cell whose numbers are finite."""
        raise NotImplementedError


def negligible(cell: Cell, minimum: float) -> bool:
    """Whether the interval lies wholly inside plus or minus the minimum."""
    return -minimum < cell.low and cell.high < minimum


def distinct(cell: Cell, minimum: float) -> int:
    """1 or -1 where the interval excludes 0 on that side and the mean is at least the minimum, else 0."""
    side = (cell.low > 0) - (cell.high < 0)
    return side if abs(cell.effect) >= minimum else 0


def clearance(cell: Cell, minimum: float) -> float:
    """From a mean to what would leave it undecided: to 0 where it counts, else to the minimum."""
    size = abs(cell.effect)
    return size if size >= minimum else minimum - size


@dataclass(frozen=True)
class Above(Criterion):
    """The effect is claimed to be positive and at least the minimum.

    ``nothing`` is what counts as no effect, where that is less than the minimum.
    """

    nothing: float | None = None
    sign = 1

    def room(self, cell: Cell) -> float:
        """As far as the mean clears 0, or stays below the minimum."""
        return clearance(cell, self.minimum)

    def decide(self, cell: Cell) -> str:
        """By the interval and the mean."""
        side = distinct(cell, self.minimum) * self.sign
        if side:
            return SUPPORTED if side > 0 else REFUTED
        least = self.minimum if self.nothing is None else self.nothing
        return NO_EFFECT if negligible(cell, least) else NOT_SETTLED


@dataclass(frozen=True)
class Below(Above):
    """The effect is claimed to be negative and at least the minimum."""

    sign = -1


@dataclass(frozen=True)
class Fall(Criterion):
    """The effect is claimed to lie below minus the minimum; refuted once all of it is above ``refuted``."""

    refuted: float = 0.0

    @property
    def lines(self) -> tuple[float, ...]:
        """What it has to fall by."""
        return (-self.minimum,)

    def decide(self, cell: Cell) -> str:
        """The line of refutation comes first: it is the rule's own."""
        if cell.low >= self.refuted:
            return REFUTED
        if cell.high < 0 and cell.effect <= -self.minimum:
            return SUPPORTED
        return NO_EFFECT if negligible(cell, self.minimum) else NOT_SETTLED


@dataclass(frozen=True)
class Whole(Criterion):
    """The whole interval is claimed to lie below ``minimum``: refuted where it lies wholly above."""

    @property
    def lines(self) -> tuple[float, ...]:
        """The level."""
        return (self.minimum,)

    def decide(self, cell: Cell) -> str:
        """By the interval alone."""
        if cell.high <= self.minimum:
            return SUPPORTED
        return REFUTED if cell.low > self.minimum else NOT_SETTLED


@dataclass(frozen=True)
class AtLeast(Criterion):
    """The whole interval is claimed to lie at or above ``minimum``: refuted where it lies wholly below."""

    @property
    def lines(self) -> tuple[float, ...]:
        """The level."""
        return (self.minimum,)

    def decide(self, cell: Cell) -> str:
        """By the interval alone."""
        if cell.low >= self.minimum:
            return SUPPORTED
        return REFUTED if cell.high < self.minimum else NOT_SETTLED


@dataclass(frozen=True)
class NotBelow(Criterion):
    """Nothing is claimed but that the effect is not wholly below 0."""

    def decide(self, cell: Cell) -> str:
        """By the interval alone."""
        return REFUTED if cell.high < 0 else SUPPORTED


@dataclass(frozen=True)
class Within(Criterion):
    """The effect is claimed to be nothing: the interval wholly inside plus or minus the minimum."""

    equal = SUPPORTED

    def room(self, cell: Cell) -> float:
        """As far as the mean clears 0, or stays below the minimum."""
        return clearance(cell, self.minimum)

    def decide(self, cell: Cell) -> str:
        """Refuted where it excludes 0 and the mean is at least the minimum."""
        if negligible(cell, self.minimum):
            return self.equal
        return REFUTED if distinct(cell, self.minimum) else NOT_SETTLED


@dataclass(frozen=True)
class Same(Within):
    """As ``Within``, for rules that call an effect of nothing by that name."""

    equal = NO_EFFECT


@dataclass(frozen=True)
class Differs(Criterion):
    """A difference of either sign is asked for."""

    def room(self, cell: Cell) -> float:
        """As far as the mean clears 0, or stays below the minimum."""
        return clearance(cell, self.minimum)

    def decide(self, cell: Cell) -> str:
        """By the interval and the mean."""
        if distinct(cell, self.minimum):
            return SUPPORTED
        return NO_EFFECT if negligible(cell, self.minimum) else NOT_SETTLED


@dataclass(frozen=True)
class Harm(Criterion):
    """A loss of at least the minimum is claimed: refuted once the lower bound is above minus the minimum."""

    @property
    def lines(self) -> tuple[float, ...]:
        """The loss that would count."""
        return (-self.minimum,)

    def decide(self, cell: Cell) -> str:
        """The lower bound refutes alone."""
        if cell.low > -self.minimum:
            return REFUTED
        return SUPPORTED if cell.high < 0 and cell.effect <= -self.minimum else NOT_SETTLED


@dataclass(frozen=True)
class Bounds(Criterion):
    """A level: supported wholly below ``low``, no effect wholly between, refuted wholly above ``high``."""

    low: float = 0.0
    high: float = 0.0

    @property
    def lines(self) -> tuple[float, ...]:
        """Both levels."""
        return (self.low, self.high)

    def decide(self, cell: Cell) -> str:
        """By the interval alone."""
        if cell.high < self.low:
            return SUPPORTED
        if cell.low > self.high:
            return REFUTED
        return NO_EFFECT if self.low <= cell.low and cell.high <= self.high else NOT_SETTLED


@dataclass(frozen=True)
class Rate(Criterion):
    """A factor per layer claimed to be 1; refuted where it is ``against``, both within the minimum."""

    against: float = 2.0

    @property
    def lines(self) -> tuple[float, ...]:
        """Both factors."""
        return (1.0, self.against)

    def decide(self, cell: Cell) -> str:
        """By the interval of the factor."""
        for factor, said in ((1.0, SUPPORTED), (self.against, REFUTED)):
            if factor * (1 - self.minimum) <= cell.low and cell.high <= factor * (1 + self.minimum):
                return said
        return NOT_SETTLED


@dataclass(frozen=True)
class Zero(Criterion):
    """Algebra: the size of an error is at most the minimum."""

    @property
    def lines(self) -> tuple[float, ...]:
        """The tolerance."""
        return (self.minimum,)

    def decide(self, cell: Cell) -> str:
        """Exact or not."""
        return SUPPORTED if max(abs(cell.low), abs(cell.high)) <= self.minimum else REFUTED


@dataclass(frozen=True)
class NotZero(Zero):
    """Algebra: a size is more than the minimum."""

    def decide(self, cell: Cell) -> str:
        """Exact or not."""
        return REFUTED if super().decide(cell) == SUPPORTED else SUPPORTED


# ---------------------------------------------------------------- from the cells' words to a claim's: rules

Words = Mapping[str, str]
Rule = Callable[[Words], str]


def common(words: Words) -> str:
    """The word of all cells; *depends* where decided ones differ, else *not settled* where one is open."""
    decided = set(words.values()) - {NOT_SETTLED}
    if len(decided) > 1:
        return DEPENDS
    return decided.pop() if decided and NOT_SETTLED not in words.values() else NOT_SETTLED


def exact(words: Words) -> str:
    """Algebra that holds in every cell; one cell that fails refutes it."""
    return EXACT if set(words.values()) == {SUPPORTED} else REFUTED


def opposed(words: Words) -> str:
    """Refuted where every cell shows that the opposite holds exactly."""
    return REFUTED if set(words.values()) == {REFUTED} else SUPPORTED


def anywhere(words: Words) -> str:
    """Supported by a single cell; no effect where no cell has one."""
    if SUPPORTED in words.values():
        return SUPPORTED
    return NO_EFFECT if set(words.values()) == {NO_EFFECT} else NOT_SETTLED


def nowhere(words: Words) -> str:
    """Refuted by a single cell, else as all cells say."""
    return REFUTED if REFUTED in words.values() else common(words)


def at_least(count: int, among: str = "") -> Rule:
    """Supported by so many cells (of those whose name contains ``among``), as long as none is refuted.

    Refuted by so many the other way round; *depends* where both happen; *no effect* where all say so.
    """

    def rule(words: Words) -> str:
        counted = [word for name, word in words.items() if among in name]
        good, bad = counted.count(SUPPORTED) >= count, counted.count(REFUTED) >= count
        both = {SUPPORTED, REFUTED} <= set(words.values())
        if both:
            return DEPENDS
        if good or bad:
            return SUPPORTED if good else REFUTED
        return NO_EFFECT if set(words.values()) == {NO_EFFECT} else NOT_SETTLED

    return rule


# --------------------------------------------------------------------------------------------------- claims


@dataclass(frozen=True)
class Judged:
    """A verdict with the cells that decided it, and the word of each."""

    verdict: str
    cells: tuple[Cell, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)


def judge(cells: Sequence[Cell], criteria: Mapping[str, Criterion], rule: Rule = common) -> Judged:
    """The verdict of a claim; ``criteria`` names every cell that the rule needs, and what it has to show.

    Cells without a criterion are shown beside and decide nothing; one that is needed and absent is open.
    """
    there = {cell.name: cell for cell in cells}
    words = {
        name: criterion.word(there[name]) if name in there else NOT_SETTLED
        for name, criterion in criteria.items()
    }
    return Judged(rule(words), tuple(cells), words)


# --------------------------------------------------------------------------------------- the learning rate


def chosen(losses: Mapping[tuple[str, float], float]) -> tuple[str, float]:
    """The (optimizer, rate) of the lowest mean train loss; what is not finite is infinitely bad.

    Of equally bad ones it is the smallest rate.
    """
    if not losses:
        raise ValueError("no learning rate was tried; give a grid of at least one")
    known = {at: loss if math.isfinite(loss) else math.inf for at, loss in losses.items()}
    return min(known, key=lambda at: (known[at], at[1]))


def beyond(grid: Sequence[tuple[str, float]], best: tuple[str, float]) -> tuple[str, float] | None:
    """The next learning rate outwards where the best is at the edge of its optimizer's grid, else None.

    A grid goes on by the ratio of its two outermost rates; a single rate is no grid and stays.
    """
    rates = sorted(lr for optimizer, lr in grid if optimizer == best[0])
    if len(rates) < 2 or best[1] not in (rates[0], rates[-1]):
        return None
    edge, inner = (rates[0], rates[1]) if best[1] == rates[0] else (rates[-1], rates[-2])
    return best[0], float(f"{edge * edge / inner:.3g}")


def final_loss(losses: np.ndarray, steps: int = 20) -> np.ndarray:
    """Mean train loss (S,) of the last steps of (steps, S); infinite where any of them is not finite."""
    last = np.asarray(losses, float)[-steps:]
    return np.where(np.isfinite(last).all(0), last.mean(0), np.inf)


def settled(accuracy: np.ndarray, finite: np.ndarray, chance: float) -> np.ndarray:
    """Accuracy (S,) where a network with non-finite outputs scores chance."""
    return np.where(finite, accuracy, chance)
