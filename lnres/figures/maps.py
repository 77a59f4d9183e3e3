"""Figures that are maps: one tile a configuration, side by side on one colour scale."""

from collections.abc import Sequence

import numpy as np

from lnres.figures.base import (
    FIGURES,
    MARKED,
    STEPS,
    VANISHED,
    Config,
    axis_of,
    cursor,
    marks,
    names,
    tinted,
    whole,
)  # fmt: skip
from lnres.record import GRAD_DECADES, HIST_BINS, HIST_REACH, PLANE_CLASSES, PLANE_LEVELS

GROUP = "maps"


def _tiles(runs: Sequence[Config], trace, under: str, layout: dict, **across) -> dict:
    """One heat map per configuration, side by side, with a shared vertical axis and colour scale."""
    data, axes = [], {}
    notes = [
        {"text": under, "x": 0.5, "xref": "paper", "y": 0, "yref": "paper", "yanchor": "top", "yshift": -16}
    ]
    for run in runs:
        x = axis_of(run)
        shown = {"shown": run.index}
        place = {"domain": {"tile": run.index}, "visible": shown, "nticks": 3, "showgrid": False}
        place |= {name: how(run) for name, how in across.items()}
        axes[x.replace("x", "xaxis")] = place
        data.append({"type": "heatmap", "xaxis": x, "coloraxis": "coloraxis", "visible": shown} | trace(run))
        notes.append({
            "text": f"<b>{run.letter}</b>", "font": {"color": run.colour, "size": 19}, "visible": shown,
            "x": 0.5, "xref": f"{x} domain", "y": 1, "yref": "paper", "yanchor": "bottom",
        })  # fmt: skip
    layout = {"annotations": notes, "showlegend": False} | axes | layout
    return {"data": data, "layout": layout, "key": "one tile per network", "group": GROUP}


def _histogram(runs: Sequence[Config], array: str, low: float, high: float, ticks: dict) -> dict:
    """Shares of all values per block, in bins from ``low`` to ``high`` and one beyond each end."""
    width = (high - low) / HIST_BINS
    middle = [round(low + width * (bin - 0.5), 6) for bin in range(HIST_BINS + 2)]

    def tile(run: Config) -> dict:
        return {
            "x": list(range(run.depth + 1)), "y": middle,
            "z": {"ref": array, "run": run.index, "at": "frame"},
            "hovertemplate": "block %{x}: %{z:.1%} of the values<extra></extra>",
        }  # fmt: skip

    layout = {
        "margin": {"l": 46, "r": 56, "t": 26, "b": 34},
        "yaxis": {
            "range": [middle[0], middle[-1]], "showgrid": False,
            "tickvals": list(ticks), "ticktext": list(ticks.values()),
        },
        "coloraxis": {
            "cmin": 0, "cmax": 0.4, "colorscale": {"ramp": 2, "from": 0},
            "colorbar": {"tickformat": ".0%", "tickvals": [0.02, 0.1, 0.2, 0.3, 0.4]},
        },
    }  # fmt: skip
    return _tiles(runs, tile, "block", layout, range=lambda run: [-0.5, run.depth + 0.5])


@FIGURES.add("activations", "Activations per block")
def activations(runs: Sequence[Config]) -> dict:
    """How the values of the stream are spread after each block, at the step looked at."""
    values = [-1000, -100, -10, -1, 0, 1, 10, 100, 1000]
    ticks = {round(float(np.arcsinh(value)), 6): f"{value:,}".replace("-", "−") for value in values}
    said = f"Distribution of activations (vertical, from −1000 to 1000) per block for {names(runs)}."
    return _histogram(runs, "act_hist", -HIST_REACH, HIST_REACH, ticks) | {"summary": said}


@FIGURES.add("grad_hist", "Gradients per block")
def grad_hist(runs: Sequence[Config]) -> dict:
    """How large the entries of the loss gradient are at each block, at the step looked at."""
    low, high = GRAD_DECADES
    ticks = {decade: f"10<sup>{decade}</sup>".replace("-", "−") for decade in range(low, high + 1, 4)}
    said = f"Distribution of gradient sizes (vertical, log scale) per block for {names(runs)}."
    return _histogram(runs, "grad_hist", low, high, ticks) | {"summary": said}


@FIGURES.add("gradient_map", "Gradient norm over time")
def gradient_map(runs: Sequence[Config]) -> dict:
    """Norm of the loss gradient, block by block and step by step, on one logarithmic colour scale."""

    def tile(run: Config) -> dict:
        past = {"run": run.index, "at": "past", "grid": 100}
        return {
            "x": {"ref": "probe_step"} | past,
            "y": list(range(run.depth + 1)),
            "z": {"ref": "grad_norm", "over": "mean", "floor": VANISHED, "log": True} | past,
            "hovertemplate": "step %{x}, block %{y}: 10<sup>%{z:.1f}</sup><extra></extra>",
        }

    robust = {"range": "z", "quantiles": [0.02, 0.98], "snap": 1, "least": 2}
    layout = {
        "margin": {"l": 46, "r": 56, "t": 26, "b": 34},
        "yaxis": {
            "title": {"text": "block"},
            "showgrid": False,
        } | whole(-0.5, max((run.depth for run in runs), default=1) + 0.5),
        "coloraxis": {
            "cmin": robust | {"end": 0}, "cmax": robust | {"end": 1}, "colorscale": {"ramp": 1, "from": 1},
            "colorbar": {"tickprefix": "10<sup>", "ticksuffix": "</sup>", "tickformat": "~g", "nticks": 6},
        },
        "shapes": [cursor(axis_of(run)) for run in runs],
    }  # fmt: skip
    said = f"Norm of the loss gradient (colour, log scale) over steps and blocks for {names(runs)}."
    # What stands at the ends of a tile goes, or the last step would touch the next tile's 0.
    across = {"range": lambda run: STEPS, "ticklabeloverflow": lambda run: "hide past domain"}
    spec = _tiles(runs, tile, "step", layout | MARKED, **across)
    return spec | {"data": spec["data"] + marks(runs, tiled=True), "summary": said}


# Hues of classes, none of them a configuration's.
CLASSES = ("#E3A008", "#4C5FD7", "#B3263A", "#3E8E41", "#7A4B2A", "#17A2B8", "#D94FB0", "#808A10", "#6B7280",
           "#8A63D2")  # fmt: skip


def _sureness() -> list[list]:
    """A colour scale of all bytes of ``regions``: each class from pale, at a draw, to its full hue."""
    scale, many = [], PLANE_CLASSES * PLANE_LEVELS
    for i, colour in enumerate(CLASSES):
        low, high = i * PLANE_LEVELS, (i + 1) * PLANE_LEVELS - (i < PLANE_CLASSES - 1)
        for place, alpha in ((low, 0.12), (high, 0.7)):
            scale.append([round(place / many, 6), tinted(colour, alpha)])
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
        "margin": {"l": 46, "r": 12, "t": 26, "b": 34},
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
            "xaxis": axis_of(run), "visible": {"shown": run.index},
            "x": {"ref": "point_x"} | frame, "y": {"ref": "point_y"} | frame,
            "marker": marker | {"size": 5, "line": {"width": 0.7, "color": "#FFFFFF"}},
        })  # fmt: skip
    said = f"Regions that each network gives to the classes of points in the plane, for {names(runs)}."
    applies = any(run.plane for run in runs)
    return spec | {"summary": said, "key": "pale unsure · dots data of the first seed", "applies": applies}
