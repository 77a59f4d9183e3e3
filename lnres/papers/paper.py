"""What a paper printed, what is measured against it, and the status that follows."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from lnres.claims import results
from lnres.claims.claim import Ask, Unit, Values
from lnres.claims.judge import DEPENDS, NOT_SETTLED, SUPPORTED, Cell, judge
from lnres.registry import Registry

PAPERS = Registry("paper")
COMMITTED = Path(__file__).parents[2] / "assets" / "papers.json"
REPLICATES, IN_KIND, DIFFERS, NOT_RUN = "replicates", "replicates in kind", "does not replicate", "not run"
IN_PART, OPEN = "replicates in part", "not settled"
STATUSES = {
    REPLICATES: "Every number lies within the tolerance of what was printed.",
    IN_KIND: "The same shape or sign, at another scale and on other data.",
    IN_PART: "The same under some of the conditions, not under others.",
    DIFFERS: "At least one number, or the sign, is another here.",
    OPEN: "The seeds that were run do not decide it.",
    NOT_RUN: "Nothing was measured, so nothing is said.",
}
"""Every status, and when it is given."""


@dataclass(frozen=True)
class Point:
    """One number: as it was printed (none where only the kind can be compared), and as it was measured."""

    name: str
    published: float | None
    measured: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, name: str, published: float | None, values) -> "Point":
        """From one value a network, with the 95 % interval of their mean."""
        return cls.told(Cell.of(name, values), published)

    @classmethod
    def told(cls, cell: Cell, published: float | None = None) -> "Point":
        """A cell as a number of a row."""
        return cls(cell.name, published, cell.effect, cell.low, cell.high, cell.n)


@dataclass(frozen=True)
class Paper:
    """A row: who printed what, and how it is measured or which claim decides it."""

    paper: str
    published: str
    measured: str
    """What is measured against it, in words."""
    tolerance: float = 0.0
    """Of a number, relative to what was printed; 0 is exact to rounding."""
    measure: Callable[[], list[Point]] | None = None
    claim: str = ""
    """The claim whose verdict decides a row that holds in kind only."""
    kind: frozenset[str] = frozenset({SUPPORTED})
    """Verdicts, of that claim or of the row's own cells, which say the same as the paper."""
    asks: tuple[Ask, ...] = ()
    """The row's own cells, where no claim asks what the paper says."""
    experiments: tuple[str, ...] = ()
    """Experiments of the claims that find what these cells need ..."""
    find: Callable[[], Values] | None = None
    """... or what finds it for this row alone."""
    hindsight: bool = False
    """Whether what counts as the same was written down when the result was already known."""

    @property
    def decided(self) -> bool:
        """Whether it follows from what is committed of the claims."""
        return bool(self.claim or self.experiments)

    @property
    def units(self) -> dict[str, Unit]:
        """How its own cells are told."""
        return {ask.name: ask.unit for ask in self.asks}

    def cells(self, values: Values) -> list[Cell]:
        """The row's own cells of what was found."""
        return [Cell.of(ask.name, ask.value(values)) for ask in self.asks]

    def judged(self, cells: Sequence[Cell]) -> str:
        """The verdict of the row's own cells."""
        return judge(cells, {ask.name: ask.criterion for ask in self.asks if ask.criterion}).verdict

    def status(self, points: Iterable[Point], verdict: str | None = None) -> str:
        """What the numbers, or the verdict of the claim, come to."""
        points = list(points)
        if not points and verdict is None:
            return NOT_RUN
        if self.asks:
            verdict = self.judged([Cell(p.name, p.measured, p.low, p.high, p.n) for p in points])
        if self.claim or self.asks:
            if verdict in self.kind:
                return IN_KIND
            return {DEPENDS: IN_PART, NOT_SETTLED: OPEN}.get(verdict, DIFFERS)
        room = max(self.tolerance, 1e-6)
        near = all(abs(p.measured - p.published) <= room * max(abs(p.published), 1e-12) for p in points)
        return REPLICATES if near else DIFFERS


def run(name: str) -> dict:
    """Measure one row and say what it comes to, as it is kept in assets/papers.json."""
    paper, verdict = PAPERS[name].make, None
    points = paper.measure() if paper.measure else []
    if paper.claim:
        row = results.committed().get(paper.claim)
        verdict, cells = (row["verdict"], results.cells_of(row)) if row else (None, [])
        points = list(map(Point.told, cells))
    elif paper.asks and (values := _found(paper)):
        points = list(map(Point.told, paper.cells(values)))
    return {
        "id": name,
        "paper": paper.paper,
        "published": paper.published,
        "measured": [{k: _plain(v) for k, v in asdict(point).items()} for point in points],
        "tolerance": paper.tolerance,
        "status": paper.status(points, verdict),
    } | ({"claim": paper.claim, "verdict": verdict} if paper.claim else {})


def _found(paper: Paper) -> Values | None:
    """What the row's own cells need; None while an experiment was not run."""
    if paper.find:
        return paper.find()
    found = [results.load(name, results.folder_of(results.COMMITTED)) for name in paper.experiments]
    return None if None in found else results.values_of(found)


def _plain(value):
    return results.plain(value) if isinstance(value, float) else value


def points_of(row: Mapping) -> list[Point]:
    """The points of a kept row."""
    numbers = ("published", "measured", "low", "high")
    return [
        Point(**p | {key: p[key] if key == "published" else results.number(p[key]) for key in numbers})
        for p in row["measured"]
    ]


@cache
def committed() -> dict[str, dict]:
    """The rows that the page opens with, by name; what experiments of the claims decide follows those."""
    kept = json.loads(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.exists() else []
    claimed = {name: run(name) for name in PAPERS if PAPERS[name].make.decided}
    return {row["id"]: row for row in kept} | claimed
