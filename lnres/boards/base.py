"""A board is a pure function from the values of its controls to panels; the screen only asks it.

    def waves(v):
        x = np.linspace(0, v["length"], 200)
        figure = {"data": [{"type": "scatter", "x": x, "y": np.sin(x)}], "layout": {}}
        return Answer([Panel("wave", "A wave", "A sine from 0 to the length.", figure)])

    WAVES = Board((Slider("length", "Length", 3.0, 0.1, 9.0),), waves)

In a page, ``board(WAVES, "waves")`` of ``lnres.ui.board`` asks by reruns of a fragment: the function may
close over what the page knows (a run, a record). After ``BOARDS.put("waves", "Waves", make=WAVES,
about=...)`` in a module that ``lnres/boards/__init__.py`` imports, ``board("waves", "waves")`` lets the
browser ask over a WebSocket, without a rerun, which is quicker; such a function knows its values only, and
runs in a thread of the server. Names of controls stand in the address, so they are unique within a page. A
figure is Plotly's data and layout, or a spec of ``lnres.figures`` filled by ``filled(spec, records, ...)``
without a theme: palette, template and ``{"ramp": ...}`` are the browser's.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas  # noqa: F401  plotly takes one that another thread is still importing for whole
from plotly.utils import PlotlyJSONEncoder

from lnres.registry import Registry

BOARDS = Registry("board")


@dataclass(frozen=True)
class Field:
    """A control: its name in the values and in the address, its label, and its value at first.

    ``panel`` names the panel above which it stands; without one it stands above all of them.
    """

    name: str
    label: str
    value: Any
    panel: str = field(default="", kw_only=True)

    def check(self, value) -> Any:
        """The value as the function gets it; ``ValueError`` where it cannot be."""
        raise NotImplementedError

    def parse(self, text: str) -> Any:
        """The value that an address spells."""
        return self.check(json.loads(text))

    def refuse(self, value, wanted: str) -> ValueError:
        """A sentence about a value that cannot be."""
        return ValueError(f"{self.name}={str(value)[:40]}: choose {wanted}")


def _number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


@dataclass(frozen=True)
class Slider(Field):
    """A number from ``low`` to ``high`` in steps (0: finely); ``log`` spaces it by decades.

    With ``play`` a button beside it walks through its values, so many milliseconds each.
    """

    low: float = 0.0
    high: float = 1.0
    step: float = 0.0
    log: bool = False
    about: str = ""
    play: int = 0
    kind: str = field(default="slider", init=False)

    def check(self, value) -> float:
        """A number in the range; a whole one where the step is whole."""
        if not _number(value) or not self.low <= value <= self.high:
            raise self.refuse(value, f"a number from {self.low:g} to {self.high:g}")
        return int(value) if isinstance(self.step, int) and self.step else float(value)


@dataclass(frozen=True)
class Toggle(Field):
    """Yes or no."""

    about: str = ""
    kind: str = field(default="toggle", init=False)

    def check(self, value) -> bool:
        """True or false."""
        if not isinstance(value, bool):
            raise self.refuse(value, "true or false")
        return value


@dataclass(frozen=True)
class Pick(Field):
    """One of ``options``, which map names to labels."""

    options: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    kind: str = field(default="pick", init=False)

    def check(self, value) -> str:
        """One of the names."""
        if not isinstance(value, str) or value not in self.options:
            raise self.refuse(value, f"one of {', '.join(self.options)}")
        return value

    def parse(self, text: str) -> str:
        """The name itself."""
        return self.check(text)


@dataclass(frozen=True)
class Index(Field):
    """What was clicked in a panel that ``clicks`` it: a whole number below each of ``below``.

    A point answers with its ``customdata``, else its number; a cell of a heat map with its row and column.
    """

    below: tuple[int, ...] = ()
    kind: str = field(default="index", init=False)

    def check(self, value) -> tuple[int, ...]:
        """As many whole numbers as there are axes."""
        whole = isinstance(value, (list, tuple)) and len(value) == len(self.below)
        if not whole or not all(
            type(i) is int and 0 <= i < n for i, n in zip(value, self.below, strict=True)
        ):
            raise self.refuse(value, f"whole numbers below {self.below}")
        return tuple(value)


@dataclass(frozen=True)
class Point(Field):
    """Where the handle of a panel that ``drags`` it stands, in the units of its axes: (x, y)."""

    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (1.0, 1.0)
    kind: str = field(default="point", init=False)

    def check(self, value) -> tuple[float, float]:
        """Two numbers within the bounds."""
        pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_number, value))
        if not pair or not all(a <= v <= b for a, v, b in zip(self.low, value, self.high, strict=True)):
            raise self.refuse(value, f"x and y from {self.low} to {self.high}")
        return float(value[0]), float(value[1])


@dataclass(frozen=True)
class Cells(Field):
    """Numbers written into single cells of a table that ``edits`` it: triples of row, column and number."""

    below: tuple[int, int] = (1, 1)
    low: float = -100.0
    high: float = 100.0
    kind: str = field(default="cells", init=False)

    def check(self, value) -> tuple[tuple[int, int, float], ...]:
        """Triples within the table, each cell at most once."""
        triples = value if isinstance(value, (list, tuple)) else [None]
        if len(triples) > math.prod(self.below):
            raise self.refuse(len(triples), f"at most {math.prod(self.below)} numbers")
        for one in triples:
            inside = isinstance(one, (list, tuple)) and len(one) == 3 and all(map(_number, one))
            if not inside or not all(
                type(i) is int and 0 <= i < n for i, n in zip(one[:2], self.below, strict=True)
            ):
                raise self.refuse(one, f"a row and a column below {self.below}, and a number")
            if not self.low <= one[2] <= self.high:
                raise self.refuse(one[2], f"a number from {self.low:g} to {self.high:g}")
        if len({(i, j) for i, j, _ in triples}) < len(triples):
            raise self.refuse(value, "each cell once")
        return tuple((i, j, float(v)) for i, j, v in triples)


@dataclass(frozen=True)
class Panel:
    """One picture: a figure, or words, or a table of numbers that can be edited.

    ``alt`` is its text alternative, one sentence. ``html`` is the server's own, never a visitor's. ``table``
    holds ``values`` (rows of numbers), and may hold ``rows`` and ``columns`` (heads), ``hues`` (a number or
    None for each cell: equal ones share a colour), ``marked`` ([[row, column], ...]), ``breaks`` (rows with
    a gap above) and ``digits``. ``clicks``, ``drags`` and ``edits`` name the Index, Point and Cells that a
    hand changes here.
    """

    name: str
    title: str
    alt: str
    figure: Any = None
    html: str = ""
    table: Mapping | None = None
    clicks: str = ""
    drags: str = ""
    edits: str = ""
    wide: int = 1
    """Columns of the grid that it takes, where there are as many."""
    tall: int = 1
    """Rows of the grid that it takes, where there are several columns."""
    height: int = 0
    """Of each of its rows in pixels; 0 shares what the window leaves."""


@dataclass(frozen=True)
class Answer:
    """What a board shows for the values of its controls."""

    panels: Sequence[Panel]
    idle: Sequence[str] = ()
    """Names of controls that play no part now; they are greyed."""
    said: str = ""
    """One sentence above the panels, read out when it changes."""
    onward: tuple[str, str] | None = None
    """Words and the address, relative to the page's, of where one may go on from here."""
    more: bool = False
    """Whether there is more to see for the same values: the browser asks again."""


@dataclass(frozen=True)
class Board:
    """Controls and the pure function from their values to an answer."""

    fields: Sequence[Field]
    function: Callable[[dict[str, Any]], Answer]
    measures: bool = False
    """Whether an answer may take a second: a page then stands without it, and asks."""

    @property
    def values(self) -> dict[str, Any]:
        """What the controls say at first."""
        return {field.name: field.value for field in self.fields}

    def check(self, values) -> dict[str, Any]:
        """Values as the function gets them, what is missing as at first; ``ValueError`` names a wrong one."""
        if not isinstance(values, Mapping):
            raise ValueError("values must map names of controls to what they are set to")
        if unknown := [str(name)[:40] for name in values if name not in self.values]:
            raise ValueError(f"{unknown[0]}: choose controls of {', '.join(self.values)}")
        return {f.name: f.check(values.get(f.name, f.value)) for f in self.fields}

    def parse(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Values from the words of an address; what cannot be read is as at first."""
        values = {}
        for field_ in self.fields:
            try:
                values[field_.name] = field_.parse(query[field_.name])
            except (KeyError, ValueError, RecursionError):
                values[field_.name] = field_.value
        return values

    def answer(self, values) -> str:
        """The answer to these values, as the JSON that the browser gets."""
        answer = self.function(self.check(values))
        panels = [{k: v for k, v in vars(panel).items() if v not in (None, "")} for panel in answer.panels]
        told = {name: value for name, value in vars(answer).items() if name != "panels"} | {"panels": panels}
        return json.dumps(told, cls=PlotlyJSONEncoder, separators=(",", ":"))

    @property
    def specs(self) -> list[dict]:
        """The controls, as the browser gets them."""
        return [asdict(field) for field in self.fields]
