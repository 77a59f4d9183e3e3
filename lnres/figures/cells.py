"""The chart of a claim: every seed a dot, the mean with its interval, and the minimum that would count."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from lnres.figures.base import COLOURS, THEMES

WORDS = {
    "supported": (COLOURS[3], "circle"),
    "refuted": (COLOURS[0], "x"),
    "no effect": ("#8A94A0", "square"),
    "not settled": (COLOURS[1], "diamond"),
    "": ("#8A94A0", "circle-open"),
}
"""Colour and symbol of a cell's word; the last is of cells that are shown beside."""
ROW = 34


def ratios(rows: Sequence[Mapping]) -> dict:
    """A logarithmic axis: 1, 2, 5, 10 are named where two decades show all, else powers of ten alone."""
    seen = [value for row in rows for value in row["values"] if math.isfinite(value)]
    return {"type": "log", "dtick": "D2" if max(seen) - min(seen) < math.log(100) else 1}


def dots(rows: Sequence[Mapping], axis: str, form: str, theme: str) -> go.Figure:
    """One row a cell: ``name``, ``word``, ``effect``, ``low``, ``high``, ``values`` by seed, ``lines``.

    ``form`` is "points" (numbers times 100), "factor" (logarithms, told as ratios) or "plain".
    """
    scale = {"points": lambda x: 100 * x, "factor": math.exp, "plain": lambda x: x}[form]
    figure = go.Figure()
    for k, row in enumerate(rows):
        colour, symbol = WORDS[row.get("word", "")]
        if not math.isfinite(row["effect"]):
            continue
        many = len(row["values"])
        spread = [0.22 * (i / max(many - 1, 1) - 0.5) for i in range(many)] if many > 1 else [0.0] * many
        effect, low, high = (scale(row[key]) for key in ("effect", "low", "high"))
        figure.add_scatter(
            x=[scale(value) for value in row["values"]], y=[k + shift for shift in spread], mode="markers",
            marker={"size": 5, "color": colour, "opacity": 0.45}, text=row["seeds"],
            hovertemplate="seed %{text}: %{x:.4g}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[low, high], y=[k, k], mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip"
        )
        figure.add_scatter(
            x=[effect], y=[k], mode="markers", marker={"size": 11, "color": colour, "symbol": symbol},
            hovertemplate=f"mean %{{x:.4g}}, 95 % interval {low:.4g} to {high:.4g}<extra></extra>",
        )  # fmt: skip
        for line in row["lines"]:
            figure.add_shape(
                type="line",
                x0=scale(line),
                x1=scale(line),
                y0=k - 0.4,
                y1=k + 0.4,
                line={"dash": "dot", "width": 1.5},
            )
    names = [
        f"{row['name']}  <b>{row.get('word', '')}</b>" if row.get("word") else row["name"] for row in rows
    ]
    neutral = {"points": 0.0, "factor": 1.0}.get(form)
    if neutral is not None:
        figure.add_shape(
            type="line", x0=neutral, x1=neutral, y0=0, y1=1, yref="paper", line={"dash": "solid"}
        )
    figure.update_layout(
        template=THEMES[theme]["template"], showlegend=False, height=70 + ROW * len(rows),
        margin={"l": 10, "r": 16, "t": 8, "b": 42}, hovermode="closest",
        xaxis={"title": {"text": axis}} | (ratios(rows) if form == "factor" else {}),
        yaxis={
            "tickvals": list(range(len(rows))), "ticktext": names, "range": [len(rows) - 0.5, -0.5],
            "automargin": True, "showgrid": False, "fixedrange": True,
        },
    )  # fmt: skip
    return figure
