"""What a lesson shows beside its runs: charts of a few numbers that were measured for it."""

from collections.abc import Mapping, Sequence

import numpy as np

from lnres.figures.base import COLOURS, DASHES, GREY, tinted


def _laid(data: list[dict], **layout) -> dict:
    common = {
        "dragmode": False, "margin": {"l": 52, "r": 14, "t": 34, "b": 44},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }  # fmt: skip
    return {"data": data, "layout": common | layout}


def against(x: Sequence[float], lines: Mapping[str, tuple], axis: str) -> dict:
    """Shares against a quantity that was turned: ``lines`` maps names to means, lows and highs."""
    data = []
    for i, (name, (mean, low, high)) in enumerate(lines.items()):
        look = {"color": COLOURS[i], "width": 2.5, "dash": DASHES[i]}
        spread = {"type": "data", "symmetric": False, "array": np.subtract(high, mean), "width": 0}
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": mean, "line": look,
            "error_y": spread | {"arrayminus": np.subtract(mean, low), "thickness": 1.2},
            "hovertemplate": "%{y:.0%} at × %{x}",
        })  # fmt: skip
    turned = {"type": "log", "title": {"text": axis}, "tickvals": list(x), "ticktext": [f"{v:g}" for v in x]}
    shares = {"range": [0, 1.02], "tickformat": ".0%", "title": {"text": "test accuracy"}}
    return _laid(data, xaxis=turned, yaxis=shares)


def remembered(
    step: Sequence[int], batch: Sequence[float], kept: Sequence[float], classes: Sequence[int]
) -> dict:
    """One unit's mean in every batch beside the one that it remembers; above, the class of each batch."""
    data, edges, digits = [], [], []
    for i, (name, y) in enumerate({"mean of the batch": batch, "remembered mean": kept}.items()):
        data.append({
            "type": "scatter", "mode": "lines", "name": name, "x": step, "y": y, "customdata": classes,
            "line": {"color": COLOURS[i], "width": 2.5, "shape": "hv", "dash": DASHES[i]},
            "hovertemplate": "digit %{customdata}: %{y:.2f}",
        })  # fmt: skip
    starts = [k for k in range(len(classes)) if not k or classes[k] != classes[k - 1]]
    for k in starts:
        edges.append({
            "type": "line", "x0": step[k] - 0.5, "x1": step[k] - 0.5, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"width": 1, "color": tinted(GREY, 0.35), "dash": "solid"},
        })  # fmt: skip
        digits.append(
            {"x": step[k] + 1.5, "y": 1, "yref": "paper", "yanchor": "top", "text": f"{classes[k]}"}
        )
    return _laid(
        data, hovermode="x", shapes=edges, annotations=digits,
        xaxis={"title": {"text": "step"}, "showgrid": False, "range": [step[0] - 0.5, step[-1] + 1]},
        yaxis={"title": {"text": "mean of one unit"}, "zeroline": False},
    )  # fmt: skip


def squares(tables: Mapping[str, np.ndarray], columns: Sequence[str], row: str) -> dict:
    """Tables (rows, columns) of shares from 0 to 1 side by side, under their names."""
    data, axes, names, many = [], {}, [], len(tables)
    for i, (name, table) in enumerate(tables.items()):
        which = f"{i + 1}" if i else ""
        data.append({
            "type": "heatmap", "z": table, "xaxis": f"x{which}", "yaxis": f"y{which}", "zmin": 0, "zmax": 1,
            "colorscale": {"ramp": 1, "from": 0}, "showscale": False, "xgap": 1, "ygap": 1,
            "hovertemplate": f"{row} %{{y}}, column %{{x}}: %{{z:.2f}}<extra></extra>",
        })  # fmt: skip
        domain = [(i + 0.04 * bool(i)) / many, (i + 1 - 0.04) / many]
        ticks = {"tickvals": list(range(len(columns))), "ticktext": list(columns), "showgrid": False}
        axes[f"xaxis{which}"] = {"domain": domain, "fixedrange": True, "tickangle": 0} | ticks
        axes[f"yaxis{which}"] = {
            "anchor": f"x{which}",
            "visible": False,
            "autorange": "reversed",
            "fixedrange": True,
        }
        names.append({
            "text": name, "x": sum(domain) / 2, "xref": "paper", "y": 1.02, "yref": "paper",
            "xanchor": "center", "yanchor": "bottom", "font": {"size": 12},
        })  # fmt: skip
    return _laid(data, margin={"l": 8, "r": 8, "t": 34, "b": 30}, annotations=names, **axes)
