"""The chart of the papers: every number that was measured over the one that was printed."""

import math
from collections.abc import Mapping, Sequence

from lnres.figures.base import COLOURS, GREY, tinted

ROW = 38
"""Pixels that a number takes: its name, and below it its dot."""


def ratios(rows: Sequence[Mapping]) -> dict:
    """One line a number: ``paper``, ``name``, ``published``, ``measured``, ``low``, ``high``, ``tolerance``,
    ``near``. What was printed is 1, a grey bar the tolerance around it, a line the 95 % interval.
    """
    data, shapes, names = [], [], []
    for k, row in enumerate(rows):
        printed = row["published"]
        ratio, low, high = (row[key] / printed for key in ("measured", "low", "high"))
        low, high = sorted((low, high))
        room = max(row["tolerance"], 0.002)
        shapes.append({
            "type": "rect", "x0": 1 - room, "x1": 1 + room, "y0": k - 0.16, "y1": k + 0.22, "layer": "below",
            "line": {"width": 0}, "fillcolor": tinted(GREY, 0.25),
        })  # fmt: skip
        colour = COLOURS[3] if row["near"] else COLOURS[0]
        if math.isfinite(low):
            data.append({
                "type": "scatter", "mode": "lines", "x": [low, high], "y": [k, k], "hoverinfo": "skip",
                "line": {"color": colour, "width": 3},
            })  # fmt: skip
        data.append({
            "type": "scatter", "mode": "markers", "x": [ratio], "y": [k],
            "marker": {"size": 10, "color": colour, "symbol": "circle" if row["near"] else "x"},
            "hovertemplate": f"printed {printed:.4g}, measured {row['measured']:.4g}<extra></extra>",
        })  # fmt: skip
        names.append({
            "text": f"{row['paper'].split(',')[0]} · {row['name']}", "x": 0, "xref": "paper",
            "xanchor": "left", "y": k, "yshift": 14, "font": {"size": 11},
        })  # fmt: skip
    layout = {
        "showlegend": False, "hovermode": "closest", "dragmode": False, "shapes": shapes,
        "annotations": names, "margin": {"l": 14, "r": 16, "t": 36, "b": 8},
        "yaxis": {"visible": False, "range": [len(rows) - 0.5, -0.8], "fixedrange": True},
        "xaxis": {
            "title": {"text": "measured over printed", "standoff": 4}, "side": "top", "fixedrange": True,
        },
    }  # fmt: skip
    return {"data": data, "layout": layout}
