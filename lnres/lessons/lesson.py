"""A lesson asks first: a guess, then the live run that answers it, and only numbers just measured."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from lnres.claims.judge import Cell
from lnres.experiment import Experiment
from lnres.fields import text
from lnres.figures import GREY
from lnres.reading import Reading
from lnres.record import Record
from lnres.registry import Registry
from lnres.scene import LETTERS, Scene

PROSE = Path(__file__).parents[2] / "assets" / "lessons"
FIRST, MORE = 100, 5
"""The number of a lesson's first seed, and how many a button adds."""
OPEN = None
"""The answer as long as the intervals do not decide."""


class Runs(list[Reading]):
    """The runs of a lesson, read at their ends, and what its study ``found``, one value a seed."""

    def __init__(self, records: Sequence[Record], found: Mapping[str, Sequence[float]]):
        super().__init__(map(Reading, records))
        self.found = found


Measure = Callable[[Runs], np.ndarray]


def said(value: float, unit: str) -> str:
    """A number in a unit: ``%``, ``pt`` for percentage points, ``x`` for a factor, or a format of digits."""
    if not math.isfinite(value):
        return "–"
    if unit == "%":
        return f"{100 * value:.0f} %"
    if unit == "pt":
        return f"{100 * value:+.1f} points"
    return f"×{value:.3g}" if unit == "x" else format(value, unit or ".3g")


def interval(cell: Cell, unit: str) -> str:
    """From where to where the mean may lie."""
    return f"{said(cell.low, unit)} to {said(cell.high, unit)}"


@dataclass(frozen=True)
class Quantity:
    """What is measured once the run is over: one number a seed."""

    about: str
    unit: str
    measure: Measure

    def say(self, value: float) -> str:
        """The value as people read it."""
        return said(value, self.unit)


@dataclass(frozen=True)
class Option:
    """One guess: the ranges in which quantities have to lie if it is right, and the curve that it draws.

    ``drawn`` are values at evenly spaced places of the sketch.
    """

    text: str
    ranges: Mapping[str, tuple[float, float]]
    drawn: Sequence[float] = ()

    def right(self, measured: Mapping[str, Cell]) -> bool:
        """Whether every 95 % interval lies wholly where this option says."""
        cells = ((measured[name], *ends) for name, ends in self.ranges.items())
        return all(low <= cell.low and cell.high <= high for cell, low, high in cells)


@dataclass(frozen=True)
class Sketch:
    """The empty chart on which a guess is drawn, and the figure over which it is laid."""

    figure: str
    along: str
    end: int
    low: float
    high: float
    about: str
    log: bool = False
    anchor: tuple[str, int, int] | None = None
    """(array, configuration, block) of the first probe by which what is drawn is multiplied."""

    def curve(self, values: Sequence[float], records: Sequence[Record] = (), points: int = 41) -> dict:
        """The drawn values as x and y of a line, straight between them on the sketch's own scale."""
        x, values = np.linspace(0, self.end, points), np.clip(values, self.low, self.high)
        places = np.linspace(0, self.end, len(values))
        y = np.exp(np.interp(x, places, np.log(values))) if self.log else np.interp(x, places, values)
        if self.anchor and records:
            name, run, block = self.anchor
            if records[run].rows("probe_step"):
                y = y * float(np.exp(np.log(records[run][name][0, block]).mean()))
        return {"x": x.tolist(), "y": y.tolist()}


@dataclass(frozen=True)
class Lesson:
    """A question, its guesses, the scene that answers, and what is read from its records."""

    scene: str
    panels: Sequence[str]
    options: Sequence[Option]
    quantities: Mapping[str, Quantity]
    claims: Sequence[str]
    change: str
    """The scene of the one thing to change."""
    sketch: Sketch | None = None
    study: str = ""
    """An experiment of the claims that measures, on the same seeds, what no record has."""
    seeds: int = 4
    """How many it starts with."""
    at: int | None = None
    """The step that tells it all, where that is not the last."""
    aside: Callable[[Runs], dict] | None = None
    """The figure below the answer of the runs that were just made."""
    shows: str = ""
    """The title of that figure."""

    def experiments(self, done: int = 0) -> list[Experiment]:
        """What is trained: the first seeds, or more than those that are done."""
        seeds = f"&seed={FIRST + done}&seeds={MORE if done else self.seeds}"
        return Scene.parse(self.scene + seeds).experiments

    def measured(
        self, records: Sequence[Record], found: Mapping[str, Sequence[float]] | None = None
    ) -> dict[str, list[float]]:
        """Every quantity, one number a seed, once all runs have made their steps."""
        runs = Runs(records, {} if found is None else found)
        return {name: [float(v) for v in q.measure(runs)] for name, q in self.quantities.items()}

    def cells(self, seen: Mapping[str, Sequence[float]]) -> dict[str, Cell]:
        """Every quantity with its 95 % interval."""
        return {name: Cell.of(name, seen[name]) for name in self.quantities}

    def answer(self, seen: Mapping[str, Sequence[float]]) -> int | None:
        """Which option the numbers bear out; ``OPEN`` where the intervals do not decide."""
        measured = self.cells(seen)
        right = [i for i, option in enumerate(self.options) if option.right(measured)]
        return right[0] if right else OPEN

    def guessed(self, values: Sequence[float], records: Sequence[Record] = ()) -> dict:
        """Traces to lay over the figure of the sketch: a guess."""
        if not self.sketch:
            return {}
        line = {"color": GREY, "width": 6, "dash": "dot"}
        trace = {"type": "scatter", "mode": "lines", "name": "your guess", "opacity": 0.75, "line": line}
        trace |= {"visible": True, "hovertemplate": "your guess", "showlegend": False}
        return {self.sketch.figure: [trace | self.sketch.curve(values, records)]}


LESSONS = Registry("lesson")


@cache
def prose(name: str) -> dict[str, str]:
    """The parts of a lesson's text by their headings; what comes first is the ``question``."""
    parts = re.split(r"^## (.+)$", (PROSE / f"{name}.md").read_text("utf-8"), flags=re.MULTILINE)
    return {"question": parts[0].strip()} | {
        heading.strip().lower(): text.strip() for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


NUMBER = re.compile(r"\{([A-D])\.([a-z_]+)\}|\{([a-z]\w*)\}")
"""Where a number goes in a lesson's text: a setting, ``{A.batch}``, or a quantity, ``{gap}``."""


def told(name: str, part: str, seen: Mapping[str, Sequence[float]] | None = None) -> str:
    """A part of a lesson's text with its numbers: settings of A, B, C and D, and what was measured."""
    lesson = LESSONS[name].make
    experiments, measured = lesson.experiments(), lesson.cells(seen) if seen else {}

    def number(found: re.Match) -> str:
        letter, setting, quantity = found.groups()
        if letter:
            return text(getattr(experiments[LETTERS.index(letter)], setting))
        if quantity in measured:
            return lesson.quantities[quantity].say(measured[quantity].effect)
        return found[0]  # a pair of braces in a formula

    return NUMBER.sub(number, prose(name)[part])


def question(name: str) -> str:
    """What a lesson asks, without what leads to it."""
    return told(name, "question").rpartition("\n\n")[2].strip("*")


def handout(name: str) -> str:
    """The plan of a class, or the worksheet: the text of a file, with the lessons it speaks of."""
    sheets = [
        "\n\n".join([
            f"### {i}. {LESSONS[lesson].label}",
            told(lesson, "question"),
            "  \n".join(f"☐ {option.text}" for option in LESSONS[lesson].make.options),
            "Measured: " + "_" * 60,
        ])
        for i, lesson in enumerate(LESSONS, 1)
    ]  # fmt: skip
    numbers = {lesson: str(i) for i, lesson in enumerate(LESSONS, 1)}
    return (PROSE / f"{name}.md").read_text("utf-8").format(sheets="\n\n".join(sheets), **numbers)
