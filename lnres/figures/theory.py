"""Measurement under theory: bands and lines are measured, dashed rays are closed forms."""

from collections.abc import Mapping, Sequence

import numpy as np

from lnres.figures.base import COLOURS, GREY, VANISHED, tinted

SIX = (*COLOURS, "#E3A008", "#7A5FD7")
"""Hues of up to six configurations."""
BALANCE = [[0, "#1B4F91"], [0.3, "#7FB1DB"], [0.5, "#F4F1EA"], [0.7, "#E9A27C"], [1, "#A33A16"]]
"""Below 1, at 1 and above 1: gradients vanish, keep their size, explode."""
LEARNT = [[0, "#F4F1EA"], [0.1, "#F4F1EA"], [0.5, "#8CC5A2"], [1, "#1E7A54"]]
"""Accuracies: from guessing, on paper, to right."""
FADED = 0.45
FIFTHS = [0, 0.2, 0.4, 0.6, 0.8, 1]


def along(rows: np.ndarray, x: Sequence[float], colour: str, name: str) -> list[dict]:
    """The mean of measured rows (n, S) and the band of all networks; what is not finite is a gap."""
    rows = np.where(np.isfinite(rows), rows, np.nan)
    seen = np.isfinite(rows).any(1)
    x, rows = np.asarray(x)[seen], rows[seen]
    low, high, middle = np.nanmin(rows, 1), np.nanmax(rows, 1), np.nanmean(rows, 1)
    band = {
        "type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "fill": "toself",
        "x": [*x, *x[::-1]], "y": [*low, *high[::-1]], "fillcolor": tinted(colour, 0.18), "showlegend": False,
    }  # fmt: skip
    line = {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": middle,
        "line": {"color": tinted(colour, 0.6), "width": 4}, "hovertemplate": "%{x}: %{y:.3~g}",
    }  # fmt: skip
    return [band, line] if rows.shape[1] > 1 else [line]


def ray(values, x: Sequence[float], colour: str, name: str, faded: bool = False) -> dict:
    """A closed form, drawn thin and dashed over what was measured; faded where it is only a reference."""
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": list(x), "y": list(values),
        "line": {"color": colour, "width": 1.6, "dash": "5px,4px"}, "opacity": FADED if faded else 1,
        "hovertemplate": "theory %{x}: %{y:.3~g}",
    }  # fmt: skip


INK = "#6B7280"


def logarithm(values) -> np.ndarray:
    """log10, with what single precision lost at its floor."""
    return np.log10(np.maximum(np.asarray(values, float), VANISHED))


def chart(data: list[dict], x: str, y: Mapping, floor: bool = False, **layout) -> dict:
    """Traces with their axes; with a band where single precision ends, if a ``floor`` is in sight."""
    shapes, notes = layout.pop("shapes", []), layout.pop("annotations", [])
    if floor:
        bottom = float(np.log10(VANISHED))
        shapes = [*shapes, {
            "type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": bottom - 2, "y1": bottom,
            "fillcolor": tinted(GREY, 0.25), "line": {"width": 0},
        }]  # fmt: skip
        notes = [*notes, {
            "text": "below 10<sup>−38</sup>", "xref": "paper", "x": 0.5, "y": bottom - 1, "yanchor": "middle",
        }]  # fmt: skip
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": dict(y)}
    whole = {"margin": {"l": 54, "r": 14, "t": 8, "b": 38}, "showlegend": False}
    return {"data": data, "layout": whole | axes | {"shapes": shapes, "annotations": notes} | layout}


def decades(*profiles) -> dict:
    """An axis of powers of ten, whose values are logarithms."""
    values = np.concatenate([np.ravel(p) for p in profiles])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (-1.0, 1.0)
    margin = max(0.15 * (high - low), 0.35)
    step = max(1, round((high - low) / 5))
    return {"range": [low - margin, high + margin], "tickprefix": "10<sup>", "ticksuffix": "</sup>",
            "dtick": step if high - low > 1.5 else 0.5, "tickformat": "~g"}  # fmt: skip


LEGEND = {"showlegend": True, "legend": {
    "orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)", "font": {"size": 11},
}}  # fmt: skip
"""A small key above the chart, where no line passes."""


def profile(
    measured: np.ndarray, predicted: np.ndarray | None, colour: str, *, log: bool, faded: bool = False,
    title: str = "",
) -> dict:  # fmt: skip
    """A quantity along the blocks: measured (L+1, S) and the ray over it."""
    x = list(range(len(measured)))
    if log:
        rows = np.where(measured > 0, logarithm(measured), np.log10(VANISHED))
        rows = np.where(np.isfinite(measured), rows, np.nan)
    else:
        rows = np.asarray(measured, float)
    data = along(rows, x, colour, "measured")
    seen = [rows]
    if predicted is not None:
        values = np.log10(np.maximum(predicted, 1e-300)) if log else predicted
        data.append(ray(values, x, INK, "theory", faded))
        seen.append(np.clip(values, np.log10(VANISHED), 60))
    floor = log and bool((rows <= np.log10(VANISHED) + 1e-6).any())
    axis = decades(*seen) if log else {"range": [-0.05, 1.2], "tickvals": FIFTHS}
    return chart(data, "block", axis | {"title": {"text": title}}, floor, **LEGEND)


def waterfall(rows: Sequence[Mapping], anchor: int) -> dict:
    """log10 of grad² relative to the anchor block: one line a configuration, its ray in the same hue.

    What is ``measured`` may be None yet, and ``predicted`` be None.
    """
    data, seen = [], []
    for row, colour in zip(rows, SIX, strict=False):
        if row["measured"] is not None:
            squares = 2 * logarithm(row["measured"])
            values = np.where(row["measured"] > VANISHED, squares - squares[anchor], np.nan)
            data += along(values, np.arange(len(values)), colour, row["label"])
            seen.append(values)
        if row["predicted"] is not None:
            theory, x = 2 * np.log10(np.maximum(row["predicted"], 1e-300)), range(len(row["predicted"]))
            seen += [theory - theory[anchor]] if row["measured"] is None else []
            data.append(ray(theory - theory[anchor], x, colour, row["label"]) | {"showlegend": False})
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0}
    axis = decades(*seen) | {"title": {"text": f"gradient² relative to block {anchor}"}}
    return chart(data, "block", axis, shapes=[line], **LEGEND)


CLASSES, SIDE = 10, 8
"""Of the digits on a carpet's edges: how many kinds there are, and pixels on a side of one."""


def carpet(cosines: np.ndarray, layers: Sequence[int], pixels: np.ndarray) -> dict:
    """Square tiles side by side: the cosines of all pairs of examples after each of these layers.

    Examples are sorted by class, and on the edges stands one of each, from its ``pixels`` (n, 64) in 0..1.
    For who points at a cell, ``meta`` of the layout has all ``pictures``, and which of them each of the
    ``columns`` is.
    """
    many, gap = cosines.shape[1], max(1, cosines.shape[1] // 16)
    blank = np.full((many, gap), np.nan)
    tiles = [part for layer in layers for part in (np.round(cosines[layer], 2), blank)][:-1]
    ticks = [i * (many + gap) + many / 2 for i in range(len(layers))]
    each = many // CLASSES
    dot = each / SIDE  # a digit is as large as the cells of its class
    digits = np.round(pixels[::each].reshape(CLASSES, SIDE, SIDE), 2)
    row, rest = np.hstack(digits), np.full((SIDE, round(gap / dot)), np.nan)
    edge = np.hstack([part for _ in layers for part in (row, rest)][:-1])
    ink = {"type": "heatmap", "zmin": 0, "zmax": 1, "colorscale": {"ramp": 1, "from": 0}, "showscale": False}
    small = ink | {"dx": dot, "dy": dot, "hoverinfo": "skip"}
    first = dot / 2 - 0.5
    data = [
        ink
        | {"z": np.hstack(tiles), "hovertemplate": "cosine %{z:.2f}<extra></extra>", "hoverongaps": False},
        small | {"z": np.vstack(digits), "x0": first - each - gap / 2, "y0": first},
        small | {"z": edge, "x0": first, "y0": first + many + gap / 2},
    ]
    x = {
        "tickvals": ticks,
        "ticktext": [f"layer {n}" if n else "input" for n in layers],
        "showgrid": False,
        "constrain": "domain",
    }
    y = {"visible": False, "scaleanchor": "x", "autorange": "reversed", "constrain": "domain"}
    figure = chart(data, "", y, margin={"l": 8, "r": 8, "t": 4, "b": 26})
    columns = np.arange(len(layers) * (many + gap)) % (many + gap)
    meta = {"pictures": np.round(pixels, 2), "columns": columns[: data[0]["z"].shape[1]]}
    figure["layout"] |= {"xaxis": x, "meta": meta}
    return figure


def cosines(rows: Sequence[Mapping]) -> dict:
    """Mean cosine of pairs against the layer, each measured line with its closed form."""
    data = []
    for row, colour in zip(rows, SIX, strict=False):
        x = list(range(len(row["measured"])))
        data += along(np.asarray(row["measured"])[:, None], x, colour, row["label"])
        data.append(ray(row["predicted"], x, colour, row["label"]) | {"showlegend": False})
    axis = {"range": [-0.05, 1.05], "title": {"text": "mean cosine of pairs"}}
    return chart(data, "layer", axis, **LEGEND)


def phases(
    x: np.ndarray, y: np.ndarray, rate: np.ndarray, line: tuple | None, depths: Mapping,
    trained: tuple | None = None,
) -> dict:  # fmt: skip
    """log rate on the plane (σ_w², σ_b²), the critical line, and how deep a network can be trained.

    Over it, cell by cell, lie the accuracies (rows, columns) of networks that were ``trained`` at (x, y).
    """
    bar = {"thickness": 9, "outlinewidth": 0}
    data = [{
        "type": "heatmap", "x": x, "y": y, "z": np.round(np.log(rate), 4), "zmin": -0.7, "zmax": 0.7,
        "colorscale": BALANCE, "zsmooth": "best", "showscale": trained is None,
        "colorbar": bar | {
            "tickvals": [float(np.log(v)) for v in (0.5, 0.7, 1, 1.4, 2)],
            "ticktext": ["0.5", "0.7", "1", "1.4", "2"], "title": {"text": "rate", "side": "top"},
        },
        "hovertemplate": "σ_w² %{x:.2f}, σ_b² %{y:.2f}<br>log rate %{z:.2f}<extra></extra>",
    }]  # fmt: skip
    if trained is not None:
        u, v, accuracy = trained
        data.append({
            "type": "heatmap", "x": u, "y": v, "z": np.round(accuracy, 3), "zmin": 0, "zmax": 1,
            "colorscale": LEARNT, "colorbar": bar | {"tickformat": ".0%"}, "hoverongaps": False,
            "hovertemplate": "σ_w² %{x:.2f}, σ_b² %{y:.2f}<br>accuracy %{z:.0%}<extra></extra>",
        })  # fmt: skip
    notes = []
    for depth, (u, v) in depths.items():
        data.append({
            "type": "scatter", "mode": "lines", "x": u, "y": v, "hoverinfo": "skip",
            "line": {"color": "#3A4652", "width": 1, "dash": "dot"},
        })  # fmt: skip
        if len(u):
            notes.append({
                "text": f"{depth}", "x": u[0], "y": v[0], "font": {"color": "#3A4652", "size": 11},
                "yanchor": "top", "xanchor": "right",
            })  # fmt: skip
    if line is not None:
        data.append({
            "type": "scatter", "mode": "lines", "x": line[0], "y": line[1], "hoverinfo": "skip",
            "line": {"color": "#1B2430", "width": 2},
        })  # fmt: skip
        data.append({
            "type": "scatter", "mode": "markers", "x": [1.76], "y": [0.05],
            "marker": {"symbol": "star", "size": 11, "color": "#1B2430"},
            "hovertemplate": "published: 1.76 at 0.05<extra></extra>",
        })  # fmt: skip
    axis = {"title": {"text": "σ<sub>b</sub>²"}, "range": [float(y[0]), float(y[-1])]}
    figure = chart(data, "σ<sub>w</sub>²", axis, annotations=notes)
    figure["layout"]["xaxis"]["range"] = [float(x[0]), float(x[-1])]
    return figure


def against(rows: Sequence[Mapping], x: str, y: str, *, log_y: bool = True) -> dict:
    """Measured dots of every network and their mean against something, with a ray for each row."""
    data = []
    for row, colour in zip(rows, SIX, strict=False):
        data.append(
            ray(row["ray"][1], row["ray"][0], colour, row["label"]) | {"showlegend": len(row["x"]) == 0}
        )
        many = np.asarray(row["measured"], float)
        if not len(row["x"]):
            continue
        data.append({
            "type": "scatter", "mode": "markers", "x": np.repeat(row["x"], many.shape[1]),
            "y": many.ravel(), "marker": {"size": 4, "color": tinted(colour, 0.35)}, "hoverinfo": "skip",
            "showlegend": False,
        })  # fmt: skip
        middle = np.exp(np.log(many).mean(1)) if log_y else many.mean(1)
        data.append({
            "type": "scatter", "mode": "markers", "x": row["x"], "name": row["label"],
            "y": middle, "marker": {"size": 9, "color": colour},
            "hovertemplate": "%{x}: %{y:.3~g}",
        })  # fmt: skip
    axes = {"type": "log" if log_y else "linear", "title": {"text": y}, "exponentformat": "power"}
    figure = chart(data, x, axes, **LEGEND)
    ticks = sorted({tick for row in rows for tick in row["x"]})
    figure["layout"]["xaxis"] |= {"type": "log"} | ({"tickvals": ticks} if ticks else {})
    return figure
