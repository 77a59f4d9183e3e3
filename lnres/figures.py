"""A figure is a view: a Plotly spec whose arrays are references by name, filled here or in the browser.

Filling replaces these nodes of a spec; everything else is Plotly's own.

``{"ref": name, "run": i, "at": "past" | "frame" | "events"}``
    rows of a record's array: all, the last at or before the step looked at, or those at the run's events.
    ``over`` reduces the members (``mean``, ``gmean``) or goes along their lowest and back along their highest
    (``band``; its clock with ``loop``), after ``floor`` lifted what vanished; ``log`` takes the logarithm.
    ``thin`` keeps about so many rows and the last, ``grid`` what holds at so many evenly spaced steps.
    Two axes become a ``z``.
``{"say": key, "run": i}``        the texts of a run's events.
``{"range": "y" | "z", ...}``     a robust range of what is visible, snapped outwards; ``end`` picks one side.
``{"now": true}``, ``{"past": true}`` the step looked at, and whether it is not simply the latest.
``{"shown": i}``, ``{"tile": i}`` whether a configuration is shown, and its share of the width.
``{"ramp": power, "from": k}``    the theme's magnitude scale from its k-th colour, stretched by ``power``.

``assets/player.js`` implements the same grammar, and a test holds the two equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from lnres.record import CLOCK_OF, HIST_BINS, HIST_REACH, PLANE_CLASSES, PLANE_LEVELS, Record
from lnres.registry import Registry

FIGURES = Registry("figure")

# Okabe and Ito's vermilion, blue, purple and green, moved to contrast 3 on white and on near-black.
COLOURS = ("#D55E00", "#1F83C4", "#C4699C", "#009E73")
DASHES = ("solid", "dash", "dot", "dashdot")
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

# ---------------------------------------------------------------------------------------------- the figures


def _names(runs: Sequence[Config]) -> str:
    return ", ".join(f"{run.letter} {run.label}" for run in runs)


def _band(run: Config, x, array: str, **how) -> list[dict]:
    """The range over members as one tinted area; nothing for a single member."""
    if run.seeds < 2:
        return []
    red, green, blue = (int(run.colour[i : i + 2], 16) for i in (1, 3, 5))
    band = {"ref": array, "run": run.index, "over": "band"} | how
    return [{
        "type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "x": x, "y": band,
        "visible": {"shown": run.index}, "fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.16)",
        "connectgaps": True,  # or the area would fall apart where a run diverged
    }]  # fmt: skip


def _curves(runs: Sequence[Config], what: str, axis: dict, **how) -> dict:
    """Train (line and band), test (thin line and markers) and a cross at each event, against the step."""
    data = []
    for run in runs:
        i, common = run.index, {"type": "scatter", "visible": {"shown": run.index}}
        past = {"run": i, "at": "past", "thin": 300}
        train, test, floor = f"{what}_train", f"{what}_test", {k: v for k, v in how.items() if k == "floor"}
        data += _band(run, {"ref": "step", "loop": True} | past, train, at="past", thin=300, **floor)
        data.append(common | {
            "mode": "lines", "name": f"{run.letter} train",
            "line": {"color": run.colour, "dash": run.dash, "width": 2},
            "x": {"ref": "step"} | past, "y": {"ref": train} | past | how,
            "hovertemplate": "step %{x}: %{y:.3~g}",
        })  # fmt: skip
        past["thin"] = 40
        data.append(common | {
            "mode": "lines+markers", "name": f"{run.letter} test", "opacity": 0.8,
            "line": {"color": run.colour, "width": 1}, "marker": {"color": run.colour, "size": 5},
            "x": {"ref": "test_step"} | past, "y": {"ref": test} | past | how,
            "hovertemplate": "step %{x}: %{y:.3~g}",
        })  # fmt: skip
        at = {"run": i, "at": "events"}
        data.append(common | {
            "mode": "markers", "name": f"{run.letter} event", "cliponaxis": False,
            "marker": {"symbol": "x", "size": 10, "color": run.colour},
            "x": {"ref": "step"} | at, "y": {"ref": train} | at | how,
            "text": {"say": "text", "run": i}, "hovertemplate": "step %{x}: %{text}",
        })  # fmt: skip
    layout = {
        "margin": {"l": 46, "r": 12, "t": 6, "b": 34},
        "showlegend": False,
        "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
        "yaxis": axis,
        "shapes": [_cursor("x")],
    }
    return {"data": data, "layout": layout, "key": "line train · dots test · band all seeds"}


def _cursor(x: str) -> dict:
    """A line at the step looked at."""
    now = {"x0": {"now": True}, "x1": {"now": True}, "visible": {"past": True}}
    return {"type": "line", "y0": 0, "y1": 1, "xref": x, "yref": "paper"} | now


def _tiles(runs: Sequence[Config], trace, under: str, layout: dict) -> dict:
    """One heat map per configuration, side by side, with a shared vertical axis and colour scale."""
    data, axes = [], {}
    notes = [
        {"text": under, "x": 0.5, "xref": "paper", "y": 0, "yref": "paper", "yanchor": "top", "yshift": -16}
    ]
    for run in runs:
        x = f"x{run.index + 1}" if run.index else "x"
        shown = {"shown": run.index}
        place = {"domain": {"tile": run.index}, "visible": shown, "nticks": 3, "showgrid": False}
        axes[x.replace("x", "xaxis")] = place
        data.append({"type": "heatmap", "xaxis": x, "coloraxis": "coloraxis", "visible": shown} | trace(run))
        notes.append({
            "text": f"<b>{run.letter}</b>", "font": {"color": run.colour, "size": 13}, "visible": shown,
            "x": 0.5, "xref": f"{x} domain", "y": 1, "yref": "paper", "yanchor": "bottom",
        })  # fmt: skip
    return {"data": data, "layout": {"annotations": notes} | axes | layout, "key": "one tile per network"}


@FIGURES.add("loss", "Loss")
def loss(runs: Sequence[Config]) -> dict:
    """Training and test loss against the step: geometric mean over the seeds, with their range."""
    axis = {
        "type": "log", "nticks": 6, "exponentformat": "power",
        "range": {"range": "y", "log": True, "quantiles": [0.0, 0.98], "snap": 0.5, "least": 1},
    }  # fmt: skip
    said = f"Training (line) and test (dots) loss against the step, on a log scale, for {_names(runs)}."
    return _curves(runs, "loss", axis, over="gmean", floor=VANISHED) | {"summary": said}


@FIGURES.add("accuracy", "Accuracy")
def accuracy(runs: Sequence[Config]) -> dict:
    """Share of examples classified correctly against the step: mean over the seeds, with their range."""
    axis = {"range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.25}
    said = f"Training (line) and test (dots) accuracy against the step for {_names(runs)}."
    return _curves(runs, "acc", axis, over="mean") | {"summary": said}


@FIGURES.add("activations", "Activations per block")
def activations(runs: Sequence[Config]) -> dict:
    """How the values of the stream are spread after each block, at the step looked at."""
    width = 2 * HIST_REACH / HIST_BINS
    middle = [round(-HIST_REACH + width * (bin - 0.5), 6) for bin in range(HIST_BINS + 2)]
    ticks = [-1000, -100, -10, -1, 0, 1, 10, 100, 1000]

    def tile(run: Config) -> dict:
        return {
            "x": list(range(run.depth + 1)), "y": middle,
            "z": {"ref": "act_hist", "run": run.index, "at": "frame"},
            "hovertemplate": "block %{x}: %{z:.1%} of the values<extra></extra>",
        }  # fmt: skip

    layout = {
        "margin": {"l": 46, "r": 56, "t": 20, "b": 34},
        "yaxis": {
            "range": [middle[0], middle[-1]], "showgrid": False,
            "tickvals": [round(float(np.arcsinh(tick)), 6) for tick in ticks],
            "ticktext": [f"{tick:,}".replace("-", "−") for tick in ticks],
        },
        "coloraxis": {
            "cmin": 0, "cmax": 0.4, "colorscale": {"ramp": 2, "from": 0},
            "colorbar": {"tickformat": ".0%", "tickvals": [0.02, 0.1, 0.2, 0.3, 0.4]},
        },
    }  # fmt: skip
    said = f"Distribution of activations (vertical, from −1000 to 1000) per block for {_names(runs)}."
    return _tiles(runs, tile, "block", layout) | {"summary": said}


@FIGURES.add("gradients", "Gradient norm per block")
def gradients(runs: Sequence[Config]) -> dict:
    """Norm of the loss gradient at each block, at the step looked at: geometric mean and range."""
    data = []
    for run in runs:
        blocks, how = list(range(run.depth + 1)), {"at": "frame", "floor": VANISHED}
        data += _band(run, blocks + blocks[::-1], "grad_norm", **how)
        data.append({
            "type": "scatter", "mode": "lines", "name": run.letter, "visible": {"shown": run.index},
            "line": {"color": run.colour, "dash": run.dash, "width": 2.5},
            "x": blocks, "y": {"ref": "grad_norm", "run": run.index, "over": "gmean", **how},
            "hovertemplate": "block %{x}: %{y:.2~e}",
        })  # fmt: skip
    layout = {
        "margin": {"l": 46, "r": 12, "t": 6, "b": 34},
        "showlegend": False,
        "xaxis": {"title": {"text": "block"}, "range": [0, max((run.depth for run in runs), default=1)]},
        "yaxis": {
            "type": "log", "nticks": 8, "exponentformat": "power",
            "range": {"range": "y", "log": True, "quantiles": [0.02, 0.98], "snap": 1, "least": 2},
        },
        "annotations": [{
            "text": "below 10<sup>−38</sup>", "x": 1, "xref": "paper", "xanchor": "right", "xshift": -4,
            "y": float(np.log10(VANISHED)), "yanchor": "bottom",
        }],
    }  # fmt: skip
    said = f"Norm of the loss gradient at each block, on a log scale, for {_names(runs)}."
    return {"data": data, "layout": layout, "summary": said, "key": "line mean · band all seeds"}


@FIGURES.add("gradient_map", "Gradient norm over time")
def gradient_map(runs: Sequence[Config]) -> dict:
    """Norm of the loss gradient, block by block and step by step, on one logarithmic colour scale."""

    def tile(run: Config) -> dict:
        past = {"run": run.index, "at": "past", "grid": 100}
        return {
            "x": {"ref": "probe_step"} | past,
            "y": list(range(run.depth + 1)),
            "z": {"ref": "grad_norm", "over": "gmean", "floor": VANISHED, "log": True} | past,
            "hovertemplate": "step %{x}, block %{y}: 10<sup>%{z:.1f}</sup><extra></extra>",
        }

    robust = {"range": "z", "quantiles": [0.02, 0.98], "snap": 1, "least": 2}
    layout = {
        "margin": {"l": 46, "r": 56, "t": 20, "b": 34},
        "yaxis": {
            "title": {"text": "block"},
            "range": [-0.5, max((run.depth for run in runs), default=1) + 0.5],
            "showgrid": False,
        },
        "coloraxis": {
            "cmin": robust | {"end": 0}, "cmax": robust | {"end": 1}, "colorscale": {"ramp": 1, "from": 1},
            "colorbar": {"tickprefix": "10<sup>", "ticksuffix": "</sup>", "tickformat": "d", "nticks": 6},
        },
        "shapes": [_cursor(f"x{run.index + 1}" if run.index else "x") for run in runs],
    }  # fmt: skip
    said = f"Norm of the loss gradient (colour, log scale) over steps and blocks for {_names(runs)}."
    return _tiles(runs, tile, "step", layout) | {"summary": said}


# Hues of classes, none of them a configuration's.
CLASSES = ("#E3A008", "#4C5FD7", "#B3263A", "#3E8E41", "#7A4B2A", "#17A2B8", "#D94FB0", "#808A10", "#6B7280",
           "#8A63D2")  # fmt: skip


def _sureness() -> list[list]:
    """A colour scale of all bytes of ``regions``: each class from pale, at a draw, to its full hue."""
    scale, many = [], PLANE_CLASSES * PLANE_LEVELS
    for i, colour in enumerate(CLASSES):
        red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
        low, high = i * PLANE_LEVELS, (i + 1) * PLANE_LEVELS - (i < PLANE_CLASSES - 1)
        for place, alpha in ((low, 0.12), (high, 0.7)):
            scale.append([round(place / many, 6), f"rgba({red},{green},{blue},{alpha})"])
    return scale


@FIGURES.add("boundary", "Decision boundary")
def boundary(runs: Sequence[Config]) -> dict:
    """The class that the first seed's network gives to each point, paler where it is unsure, and its data."""

    def tile(run: Config) -> dict:
        frame = {"run": run.index, "at": "frame"}
        return {
            "x": {"ref": "plane_x"} | frame, "y": {"ref": "plane_y"} | frame, "z": {"ref": "regions"} | frame,
            "hoverinfo": "skip",
        }  # fmt: skip

    layout = {
        "margin": {"l": 46, "r": 12, "t": 20, "b": 34},
        "yaxis": {"title": {"text": "second feature"}, "showgrid": False, "nticks": 5},
        "coloraxis": {
            "cmin": 0, "cmax": PLANE_CLASSES * PLANE_LEVELS, "colorscale": _sureness(), "showscale": False,
        },
        "showlegend": False,
    }  # fmt: skip
    spec = _tiles(runs, tile, "first feature", layout)
    steps = [[i / (len(CLASSES) - 1), colour] for i, colour in enumerate(CLASSES)]
    for run in runs:
        frame = {"run": run.index, "at": "frame"}
        marker = {
            "color": {"ref": "point_class"} | frame,
            "colorscale": steps,
            "cmin": 0,
            "cmax": len(steps) - 1,
        }
        spec["data"].append({
            "type": "scatter", "mode": "markers", "name": f"{run.letter} data", "hoverinfo": "skip",
            "xaxis": f"x{run.index + 1}" if run.index else "x", "visible": {"shown": run.index},
            "x": {"ref": "point_x"} | frame, "y": {"ref": "point_y"} | frame,
            "marker": marker | {"size": 5, "line": {"width": 0.7, "color": "#FFFFFF"}},
        })  # fmt: skip
    said = f"Regions that each network gives to the classes of points in the plane, for {_names(runs)}."
    return spec | {"summary": said, "key": "pale unsure · dots data of the first seed"}


@FIGURES.add("time_gradients", "Gradient norm through time")
def time_gradients(runs: Sequence[Config]) -> dict:
    """Norm of the loss gradient at each time step of the last recurrent layer, at the step looked at."""
    data = []
    for run in runs:
        times, how = list(range(1, run.times + 1)), {"at": "frame", "floor": VANISHED}
        data += _band(run, times + times[::-1], "time_grad_norm", **how)
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": run.letter, "visible": {"shown": run.index},
            "line": {"color": run.colour, "dash": run.dash, "width": 2.5}, "marker": {"size": 5},
            "x": times, "y": {"ref": "time_grad_norm", "run": run.index, "over": "gmean", **how},
            "hovertemplate": "time step %{x}: %{y:.2~e}",
        })  # fmt: skip
    layout = {
        "margin": {"l": 46, "r": 12, "t": 6, "b": 34},
        "showlegend": False,
        "xaxis": {"title": {"text": "time step"}, "range": [1, max((run.times for run in runs), default=2)]},
        "yaxis": {
            "type": "log", "nticks": 8, "exponentformat": "power",
            "range": {"range": "y", "log": True, "quantiles": [0.02, 0.98], "snap": 1, "least": 2},
        },
    }  # fmt: skip
    said = f"Norm of the loss gradient at each time step, on a log scale, for {_names(runs)}."
    return {"data": data, "layout": layout, "summary": said, "key": "line mean · band all seeds"}


# ---------------------------------------------------------------------------------------------- filling them


def shade(counts: np.ndarray) -> np.ndarray:
    """Histogram counts (rows, L+1, S, bins) as bytes for the wire: the root of the share over all members.

    The square root keeps shares down to one in a quarter million above zero.
    """
    pooled = counts.sum(axis=2, dtype=np.float64)
    whole = pooled.sum(axis=-1, keepdims=True)
    return np.round(255 * np.sqrt(pooled / np.maximum(whole, 1))).astype(np.uint8)


def spans(shades: np.ndarray) -> np.ndarray:
    """Histograms (..., bins) as one row of bytes, without the empty bins at both ends of each.

    Each is written as its first bin that is not empty, how many follow up to the last such, and these: less
    than half as long, and nothing is lost. ``player.js`` knows the shape and reads it back.
    """
    flat = shades.reshape(-1, shades.shape[-1])
    seen, bins = flat > 0, np.arange(flat.shape[1])
    first = seen.argmax(1)
    end = np.where(seen.any(1), flat.shape[1] - seen[:, ::-1].argmax(1), first)
    inside = (bins >= first[:, None]) & (bins < end[:, None])
    told = np.column_stack([first, end - first])
    return np.hstack([told, flat])[np.hstack([np.ones_like(told, bool), inside])].astype(np.uint8)


def thinned(rows: int, most: int) -> np.ndarray:
    """Indices of about ``most`` rows and the last; strides double, so that curves do not shimmer."""
    stride = 1
    while rows > most * stride:
        stride *= 2
    kept = np.arange(0, rows, stride)
    return kept if not rows or kept[-1] == rows - 1 else np.append(kept, rows - 1)


def gridded(steps: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` evenly spaced steps up to the last: even columns are what Plotly draws fast."""
    stride = 1
    while steps[-1] >= most * stride:
        stride *= 2
    return np.arange(0, steps[-1] + 1, stride)


def _over(values: np.ndarray, how: str) -> np.ndarray:
    """Reduce the last axis over its finite entries; NaN where there is none."""
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    if how in ("low", "high"):
        worst, pick = (np.inf, np.min) if how == "low" else (-np.inf, np.max)
        return np.where(count, pick(np.where(finite, values, worst), axis=-1), np.nan)
    kept = np.where(finite, values, 1)
    total = np.where(finite, np.log(kept) if how == "gmean" else kept, 0).sum(axis=-1) / np.maximum(count, 1)
    return np.where(count, np.exp(total) if how == "gmean" else total, np.nan)


def _last(steps: np.ndarray, step: float) -> int:
    """The row of the last tick at or before the step, -1 if there is none."""
    return int(np.searchsorted(steps, step, "right")) - 1


def _rows(ref: dict, record: Record, rows) -> np.ndarray:
    """Some rows of an array, floored, reduced and scaled as the reference says."""
    values = record[ref["ref"]][rows]
    if ref["ref"] == "act_hist":
        return (shade(values) / 255) ** 2
    values = values.astype(np.float64)
    if "floor" in ref:
        values = np.where(values < ref["floor"], ref["floor"], values)
    if "over" in ref:
        values = _over(values, ref["over"])
    return np.log10(values) if ref.get("log") else values


def _array(ref: dict, record: Record, step: float) -> np.ndarray:
    if ref.get("over") == "band":
        low, high = (_array(ref | {"over": edge}, record, step) for edge in ("low", "high"))
        return np.append(low, high[::-1])
    if ref.get("loop"):
        there = _array(ref | {"loop": False}, record, step)
        return np.append(there, there[::-1])
    name, at = ref["ref"], ref["at"]
    clock = CLOCK_OF[name]
    if name not in record or not record.rows(clock):
        return np.empty(0)
    steps = record[clock]
    if at == "events":  # where the curve was last finite, so that the mark stands at its end
        values = []
        for event in record.events:
            row = _last(steps, event["step"])
            while row > 0 and not np.isfinite(_rows(ref, record, [row])).all():
                row -= 1
            values.append(_rows(ref, record, [row])[0] if row >= 0 else np.nan)
        return np.array(values)
    if at == "frame":
        row = _last(steps, step)
        return _rows(ref, record, [row])[0].T if row >= 0 else np.empty(0)
    if "grid" in ref:
        ticks = gridded(steps, ref["grid"])
        return (
            ticks if name == clock else _rows(ref, record, [max(0, _last(steps, tick)) for tick in ticks]).T
        )
    return _rows(ref, record, thinned(len(steps), ref.get("thin", len(steps)))).T


def _range(ask: dict, traces: list[dict]) -> list[float]:
    """Quantiles of every visible value, snapped outwards to whole multiples of ``snap``."""
    seen = [np.asarray(t[ask["range"]], float).ravel() for t in traces if t["visible"] and ask["range"] in t]
    values = np.concatenate([np.empty(0), *seen])
    if ask.get("log"):
        values = np.log10(values[values > 0])
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return [-ask["least"], 0]
    low, high = ask["quantiles"]
    snap, last = ask["snap"], len(values) - 1
    bottom = np.floor(values[int(np.floor(low * last))] / snap) * snap
    top = np.ceil(values[int(np.ceil(high * last))] / snap) * snap
    return [float(min(bottom, top - ask["least"])), float(top)]


def fill(
    spec: dict,
    records: Sequence[Record],
    step: int | None = None,
    shown: Sequence[int] | None = None,
    theme: str = "light",
) -> go.Figure:
    """The figure of a spec at a step (``None``: the latest), of all configurations or those shown."""
    now = max((record.last_step for record in records), default=-1) if step is None else step
    shown = list(range(len(records))) if shown is None else list(shown)
    data: list[dict] = []

    def resolve(node):
        match node:
            case {"ref": _, "run": run}:
                return _array(node, records[run], now)
            case {"say": key, "run": run}:
                return [event[key] for event in records[run].events]
            case {"range": str()}:
                both = _range(node, data)
                return both[node["end"]] if "end" in node else both
            case {"now": _}:
                return now
            case {"past": _}:
                return step is not None
            case {"shown": run}:
                return run in shown
            case {"tile": run}:
                gap, many = 0.035, max(len(shown), 1)
                wide = (1 - gap * (many - 1)) / many
                left = shown.index(run) * (wide + gap) if run in shown else 0
                return [left, left + wide]
            case {"ramp": power, "from": first}:
                ramp = THEMES[theme]["ramp"][first:]
                return [[(i / (len(ramp) - 1)) ** power, colour] for i, colour in enumerate(ramp)]
            case dict():
                return {key: resolve(value) for key, value in node.items()}
            case list():
                return [resolve(value) for value in node]
        return node

    for trace in spec["data"]:
        data.append(resolve(trace))
    return go.Figure(data, {"template": THEMES[theme]["template"]} | resolve(spec["layout"]))
