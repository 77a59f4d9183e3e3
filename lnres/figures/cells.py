"""The chart of a claim: every seed a dot, the mean with its interval, and the minimum that would count."""

import math
from collections.abc import Mapping, Sequence

from lnres.figures.base import COLOURS, GREY

WORDS = {
    "supported": (COLOURS[3], "circle"),
    "refuted": (COLOURS[0], "x"),
    "no effect": (GREY, "square"),
    "not settled": (COLOURS[1], "diamond"),
    "": (GREY, "circle-open"),
}
"""Colour and symbol of a cell's word; the last is of cells that are shown beside."""
ROW = 40
"""Pixels that a cell takes: its name, and below it its dots."""


def ratios(rows: Sequence[Mapping]) -> dict:
    """A logarithmic axis: the fewer decades it shows, the more digits between powers of ten are named."""
    seen = [value / math.log(10) for row in rows for value in row["values"] if math.isfinite(value)]
    span = max(seen) - min(seen)
    axis = {"type": "log", "exponentformat": "power"}
    if span > 3:
        return axis | {"dtick": math.ceil(span / 8)}
    digits = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9) if span < 0.7 else (1, 2, 5)
    powers = range(math.floor(min(seen)) - 1, math.ceil(max(seen)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return axis | {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def dots(rows: Sequence[Mapping], axis: str, form: str) -> dict:
    """One row a cell: ``name``, ``word``, ``effect``, ``low``, ``high``, ``lines``, ``values``, ``each``.

    ``each`` says what a value is of, such as "seed 100".
    ``form`` is "points" (numbers times 100), "factor" (logarithms, told as ratios) or "plain".
    """
    scale = {"points": lambda x: 100 * x, "factor": math.exp, "plain": lambda x: x}[form]
    data, shapes, names = [], [], []
    for k, row in enumerate(rows):
        word = row.get("word", "")
        names.append({
            "text": f"{row['name']}  <b>{word}</b>", "x": 0, "xref": "paper", "xanchor": "left",
            "y": k, "yshift": 15, "font": {"size": 12},
        })  # fmt: skip
        if not math.isfinite(row["effect"]):
            continue
        colour, symbol = WORDS[word]
        many = len(row["values"])
        spread = [0.2 * (i / max(many - 1, 1) - 0.5) for i in range(many)] if many > 1 else [0.0] * many
        effect, low, high = (scale(row[key]) for key in ("effect", "low", "high"))
        data += [
            {
                "type": "scatter", "mode": "markers", "x": [scale(value) for value in row["values"]],
                "y": [k + shift for shift in spread], "text": row["each"],
                "marker": {"size": 5, "color": colour, "opacity": 0.45},
                "hovertemplate": "%{text}: %{x:.4g}<extra></extra>",
            },
            {
                "type": "scatter", "mode": "lines", "x": [low, high], "y": [k, k], "hoverinfo": "skip",
                "line": {"color": colour, "width": 3},
            },
            {
                "type": "scatter", "mode": "markers", "x": [effect], "y": [k],
                "marker": {"size": 11, "color": colour, "symbol": symbol},
                "hovertemplate": f"mean %{{x:.4g}}, 95 % interval {low:.4g} to {high:.4g}<extra></extra>",
            },
        ]  # fmt: skip
        shapes += [
            {"type": "line", "x0": scale(line), "x1": scale(line), "y0": k - 0.2, "y1": k + 0.25,
             "line": {"dash": "dot", "width": 1.5}}
            for line in row["lines"]
        ]  # fmt: skip
    neutral = {"points": 0.0, "factor": 1.0}.get(form)
    if neutral is not None:
        shapes.append({
            "type": "line", "x0": neutral, "x1": neutral, "y0": 0, "y1": 1, "yref": "paper",
            "layer": "below", "line": {"dash": "solid"},
        })  # fmt: skip
    layout = {
        "showlegend": False, "hovermode": "closest", "dragmode": False, "shapes": shapes,
        "annotations": names, "margin": {"l": 14, "r": 18, "t": 4, "b": 40},
        "xaxis": {"title": {"text": axis}} | (ratios(rows) if form == "factor" else {}),
        "yaxis": {"visible": False, "range": [len(rows) - 0.6, -0.8], "fixedrange": True},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def height(rows: Sequence) -> int:
    """Pixels that a chart of so many rows takes as a panel, its title and its axis included."""
    return 84 + ROW * len(rows)
