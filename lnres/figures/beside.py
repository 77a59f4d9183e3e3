"""The chart of the papers: every number that was measured over the one that was printed."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from lnres.figures.base import COLOURS, THEMES

ROW = 38


def ratios(rows: Sequence[Mapping], theme: str) -> go.Figure:
    """One line a number: ``paper``, ``name``, ``published``, ``measured``, ``low``, ``high``, ``tolerance``,
    ``near``. What was printed is 1, a grey bar the tolerance around it, a line the 95 % interval.
    """
    figure = go.Figure()
    for k, row in enumerate(rows):
        printed = row["published"]
        ratio, low, high = (row[key] / printed for key in ("measured", "low", "high"))
        low, high = sorted((low, high))
        room = max(row["tolerance"], 0.002)
        figure.add_shape(
            type="rect", x0=1 - room, x1=1 + room, y0=k - 0.16, y1=k + 0.22, layer="below",
            line={"width": 0}, fillcolor="rgba(138,148,160,0.25)",
        )  # fmt: skip
        colour = COLOURS[3] if row["near"] else COLOURS[0]
        if math.isfinite(low):
            figure.add_scatter(
                x=[low, high], y=[k, k], mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip"
            )
        figure.add_scatter(
            x=[ratio], y=[k], mode="markers",
            marker={"size": 10, "color": colour, "symbol": "circle" if row["near"] else "x"},
            hovertemplate=f"printed {printed:.4g}, measured {row['measured']:.4g}<extra></extra>",
        )  # fmt: skip
        figure.add_annotation(
            text=f"{row['paper'].split(',')[0]} · {row['name']}", x=0, xref="paper", xanchor="left",
            y=k, yshift=14, font={"size": 11},
        )  # fmt: skip
    layout = {
        "template": THEMES[theme]["template"], "showlegend": False, "height": 60 + ROW * len(rows),
        "margin": {"l": 10, "r": 12, "t": 14, "b": 40},
        "yaxis": {"visible": False, "range": [len(rows) - 0.4, -0.8], "fixedrange": True},
        "xaxis": {"title": {"text": "measured over printed"}, "fixedrange": True},
    }  # fmt: skip
    return figure.update_layout(layout)
