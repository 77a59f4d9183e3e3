"""What figures are made of: configurations, themes, and the parts that several of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lnres.registry import Registry
from lnres.theory import THEORIES, source_shares

FIGURES = Registry("figure")

# Okabe and Ito's vermilion, blue, purple and green, moved to contrast 3 on white and on near-black:
# enough for lines, and for letters of 19 bold pixels.
COLOURS = ("#D55E00", "#1F83C4", "#C4699C", "#009E73")
DASHES = ("solid", "dash", "dot", "dashdot")
GREY = "#8A94A0"  # of what is only to be compared with, on light and on dark
VANISHED = 1e-38  # the smallest normal float32 is 1.2e-38, and training flushes what is below it to zero


@dataclass(frozen=True)
class Config:
    """What a figure knows of a run: its place among the compared, its name, and its shape."""

    index: int
    label: str
    depth: int
    seeds: int
    times: int = 0
    """Time steps of a recurrent network's sequence; 0 without."""
    plane: bool = False
    """Whether its classes are regions of a plane."""
    online: bool = False
    """Whether every batch is answered before it is learnt from."""
    invariant: bool = False
    """Whether a norm stands right behind every linear map, so that the size of weights does not matter."""
    units: bool = True
    """Whether dead and saturated units can be counted."""
    pairing: str = ""
    """What must be the same for member k of two configurations to be a pair."""

    source: tuple[float, ...] = ()
    """The source's share of the stream at init in theory, state by state; empty without a closed form."""
    theory: Mapping[str, str] = field(default_factory=dict)
    """Of quantities that theory may foresee at step 0, the closed form and what it takes for granted."""
    untold: Mapping[str, str] = field(default_factory=dict)
    """Of those for which none is known, why."""

    @classmethod
    def of(cls, index: int, label: str, e) -> "Config":
        """Of an experiment, under the name it has among the compared."""
        pairing = f"{e.data}, {e.scaler}, seeds {e.seed} to {e.seed + e.seeds - 1}"
        known = source_shares(e)
        source = () if known is None else tuple(known.tolist())
        return cls(
            index, label, e.blocks, e.seeds, e.times, e.drawable, e.online, e.scale_invariant, e.units,
            pairing, source, *_closed_forms(e),
        )  # fmt: skip

    @property
    def letter(self) -> str:
        """A, B, C or D."""
        return "ABCD"[self.index]

    @property
    def colour(self) -> str:
        """The configuration's hue in every figure."""
        return COLOURS[self.index]

    @property
    def dash(self) -> str:
        """The configuration's line pattern, for eyes and projectors that do not tell hues apart."""
        return DASHES[self.index]


def _closed_forms(e) -> tuple[dict[str, str], dict[str, str]]:
    """What is to be said of quantities that theory may foresee of an experiment, and of those it may not."""
    from lnres.meanfield import foreseeable  # torch, which whoever has an experiment has

    rows = foreseeable(e).items()
    told = {name: f"{p.theory} · {THEORIES[p.theory].label}<br>{p.why}" for name, p in rows if p.theory}
    return told, {name: p.why for name, p in rows if not p.theory}


def _theme(ink: str, muted: str, grid: str, paper: str, ramp: list[str]) -> dict:
    axis = {
        "gridcolor": grid, "linecolor": grid, "zeroline": False, "ticks": "",
        "tickfont": {"color": muted}, "title": {"font": {"color": muted, "size": 12}},
        "automargin": False, "ticklabeloverflow": "allow",  # measuring labels is a fifth of a paint
    }  # fmt: skip
    layout = {
        "font": {"color": ink, "size": 11, "family": "Source Sans, Source Sans Pro, system-ui, sans-serif"},
        "paper_bgcolor": paper,
        "plot_bgcolor": paper,
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {"bgcolor": paper, "bordercolor": grid, "font": {"color": ink}},
        "shapedefaults": {"line": {"color": muted, "width": 1, "dash": "dot"}},
        "annotationdefaults": {"font": {"color": muted}, "showarrow": False},
        "coloraxis": {"colorbar": {"thickness": 9, "outlinewidth": 0, "tickfont": {"color": muted}}},
    }
    return {"paper": paper, "ramp": ramp, "template": {"layout": layout}}


# More is always more ink: towards dark on paper, towards light on a dark screen.
THEMES = {
    "light": _theme("#1B2430", "#5A6675", "#E6EAEF", "#FFFFFF",
                    ["#FFFFFF", "#D3E8EE", "#8CC5D3", "#3F93BC", "#23609E", "#1B2F6B", "#120F33"]),
    "dark": _theme("#E8ECF1", "#9AA6B4", "#28313C", "#10151B",
                   ["#10151B", "#1B2C55", "#23568F", "#2F8DB0", "#6CC3B5", "#C3E8AE", "#FFFCE0"]),
}  # fmt: skip


# ------------------------------------------------------------------------------------------- shared parts


def tinted(colour: str, alpha: float) -> str:
    """A hue as ink that lets the paper through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def names(runs: Sequence[Config]) -> str:
    """The configurations by letter and label, for a sentence."""
    return ", ".join(f"{run.letter} {run.label}" for run in runs)


def counted(runs: Sequence[Config]) -> str:
    """How many seeds there are, for the key of a figure: ``n = 4``."""
    return "n = " + ", ".join(map(str, sorted({run.seeds for run in runs})))


def axis_of(run: Config) -> str:
    """The horizontal axis of a configuration's tile."""
    return f"x{run.index + 1}" if run.index else "x"


def band(run: Config, x, y: dict) -> list[dict]:
    """What ``y`` goes along, there and back, as one tinted area; nothing for a single member."""
    if run.seeds < 2:
        return []
    return [{
        "type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": x, "y": y,
        "visible": {"shown": run.index}, "fill": "toself", "fillcolor": tinted(run.colour, 0.16),
        "connectgaps": True,  # or the area would fall apart where a run diverged
    }]  # fmt: skip


STEPS = {"until": 5}  # the range of a time axis


def cursor(x: str) -> dict:
    """A line at the step looked at."""
    now = {"x0": {"now": True}, "x1": {"now": True}, "visible": {"past": True}}
    return {"type": "line", "y0": 0, "y1": 1, "xref": x, "yref": "paper"} | now


def marks(runs: Sequence[Config], tiled: bool = False) -> list[dict]:
    """A cross and a line down from it at every event, on an axis of its own: ``MARKED`` in the layout."""
    return [{
        "type": "scatter", "mode": "markers", "name": f"{run.letter} event", "cliponaxis": False,
        "visible": {"shown": run.index, "eventful": True},
        "xaxis": axis_of(run) if tiled else "x", "yaxis": "y2",
        "x": {"say": "step", "run": run.index}, "y0": 1, "dy": -1e-9,  # Plotly takes 0 for 1
        "marker": {"symbol": "x", "size": 8, "color": run.colour, "line": {"width": 0}},
        "error_y": {
            "type": "constant", "symmetric": False, "value": 0, "valueminus": 1,
            "width": 0, "thickness": 1, "color": run.colour,
        },
        "text": {"say": "text", "run": run.index}, "hovertemplate": "step %{x}: %{text}",
    } for run in runs]  # fmt: skip


MARKED = {"yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}}


def straight(y: float) -> dict:
    """A level that is worth comparing with."""
    return {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": y, "y1": y, "line": {"dash": "dash"}}


def decades(snap: float = 1, least: float = 2, quantiles: Sequence[float] = (0.02, 0.98), **more) -> dict:
    """A logarithmic axis over what is visible, without its rarest values."""
    robust = {"range": "y", "log": True, "quantiles": list(quantiles), "snap": snap, "least": least} | more
    return {"type": "log", "nticks": 4, "exponentformat": "power", "range": robust}


def linear(around: float = 0.0, least: float = 0.01) -> dict:
    """A linear axis over what is visible and one level, without its rarest values."""
    return {"range": {"range": "y", "quantiles": [0.02, 0.98], "around": around, "least": least}}


def whole(first: float, last: float) -> dict:
    """An axis of blocks or time steps that is nowhere marked between two of them."""
    return {"range": [first, last]} | ({"dtick": 1} if last - first < 6 else {})


def shares(low: float = 0.0) -> dict:
    """An axis of shares, from ``low`` to all."""
    return {"range": [low - 0.02, 1.02], "tickformat": ".0%", "dtick": 0.25}
