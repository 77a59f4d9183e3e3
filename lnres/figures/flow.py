"""What flows through a network: forward what each block wrote, backward the gradient on its two roads."""

from collections.abc import Sequence

from lnres.figures.base import (
    FIGURES,
    GREY,
    VANISHED,
    Config,
    axis_of,
    band,
    counted,
    decades,
    names,
    tinted,
)  # fmt: skip
from lnres.record import written

GROUP = "flow"
EARLY, LATE = (0x1B, 0x3A, 0x73), (0xA9, 0xDD, 0xC7)
"""Colours of the first and the last band of blocks: dark water to pale."""
WHOLE = {"scale": 1 - 1e-6}
"""Rounding must not lift what adds up to 1 above it, where another tick of the axis would begin."""
COSINES = [[0, "#B3263A"], [0.5, tinted(GREY, 0.18)], [1, "#1F83C4"]]


def _water(place: float) -> str:
    """The colour of what a block wrote, from the first (0) to the last (1)."""
    return "#" + "".join(f"{round(a + (b - a) * place):02X}" for a, b in zip(EARLY, LATE, strict=True))


def _said(blocks: range) -> str:
    """The blocks of a band in words."""
    return f"block {blocks[0]}" if len(blocks) == 1 else f"blocks {blocks[0]} to {blocks[-1]}"


@FIGURES.add("river", "Who wrote the stream")
def river(runs: Sequence[Config]) -> dict:
    """Share of the stream's power after each block that the source (the block's hue) and each block wrote."""
    data, axes, notes = [], {}, []
    for run in runs:
        x = axis_of(run)
        shown = {"shown": run.index}
        axes[x.replace("x", "xaxis")] = {
            "domain": {"tile": run.index}, "visible": shown, "nticks": 5, "showgrid": False,
            "range": [0, run.depth],
        }  # fmt: skip
        blocks = written(run.depth)
        writers = [("shifts of norms", GREY), ("the source", run.colour)]
        writers += [
            (_said(some), _water(i / max(1, len(blocks) - 1))) for i, some in enumerate(blocks)
        ]  # fmt: skip
        along = list(range(run.depth + 1))
        for k, (who, colour) in enumerate(writers):
            data.append({
                "type": "scatter", "mode": "lines", "name": f"{run.letter} · {who}", "xaxis": x,
                "visible": shown, "line": {"width": 0.5, "color": "rgba(255,255,255,0.35)"},
                "fill": "toself", "fillcolor": colour, "hoveron": "fills", "hoverinfo": "name",
                "x": along + along[::-1],
                "y": {"ref": "river", "run": run.index, "at": "frame", "over": "mean", "stack": k} | WHOLE,
            })  # fmt: skip
        if run.source:
            data.append({
                "type": "scatter", "mode": "lines", "name": f"{run.letter} source in theory", "xaxis": x,
                "visible": shown, "line": {"color": "#FFFFFF", "dash": "dash", "width": 1.5}, "x": along,
                "y": list(run.source), "hovertemplate": "the source in theory: %{y:.0%}<extra></extra>",
            })  # fmt: skip
        notes.append({
            "text": f"<b>{run.letter}</b>", "font": {"color": run.colour, "size": 19}, "visible": shown,
            "x": 0.5, "xref": f"{x} domain", "y": 1, "yref": "paper", "yanchor": "bottom",
        })  # fmt: skip
    notes.append(
        {"text": "block", "x": 0.5, "xref": "paper", "y": 0, "yref": "paper", "yanchor": "top", "yshift": -16}
    )
    layout = {
        "margin": {"l": 46, "r": 12, "t": 26, "b": 34}, "showlegend": False, "hovermode": "closest",
        "annotations": notes,
        "yaxis": {
            "range": {"range": "y", "quantiles": [0, 1], "around": 1, "snap": 0.05, "least": 1},
            "tickformat": ".0%", "showgrid": False, "zeroline": True, "zerolinewidth": 1,
        },
    } | axes  # fmt: skip
    known = " · dashed the source in theory at init" if any(run.source for run in runs) else ""
    said = "Share of the power of the stream after each block that its source and each block before wrote"
    return {
        "data": data, "layout": layout, "group": GROUP, "summary": f"{said} for {names(runs)}.",
        "key": f"source at the bottom, then early (dark) to late (pale) blocks{known}, {counted(runs)}",
        "blocks": True,
    }  # fmt: skip


@FIGURES.add("roads", "The gradient's two roads")
def roads(runs: Sequence[Config]) -> dict:
    """The gradient that flows back through each block: up its skip, down its branch, and their cosine.

    Both have one logarithmic scale: where a road is narrow, little comes through.
    """
    last = max((run.depth for run in runs), default=1)
    filled = "tozeroy" if len(runs) == 1 else "none"  # channels of several would be one grey
    data = []
    for run in runs:
        x, shown = list(range(1, run.depth + 1)), {"shown": run.index}
        for road, axis in (("skip", "y"), ("branch", "y2")):
            y = {"ref": f"{road}_grad_norm", "run": run.index, "at": "frame", "floor": VANISHED}
            data += [trace | {"yaxis": axis} for trace in band(run, x + x[::-1], y | {"over": "band"})]
            data.append({
                "type": "scatter", "mode": "lines", "name": f"{run.letter} {road}", "yaxis": axis,
                "visible": shown,
                "line": {"color": run.colour, "dash": run.dash, "width": 2.5, "shape": "hvh"},
                "fill": filled, "fillcolor": tinted(run.colour, 0.13), "x": x,
                "y": y | {"over": "gmean"}, "hovertemplate": f"{road} of block %{{x}}: %{{y:.2~e}}",
            })  # fmt: skip
        data.append({
            "type": "heatmap", "name": run.letter, "yaxis": "y3", "visible": shown, "xgap": 1.5, "ygap": 1,
            "x": x, "y0": len(runs) - 1 - run.index, "dy": 1, "zmin": -1, "zmax": 1, "colorscale": COSINES,
            "showscale": False, "hovertemplate": "block %{x}: cosine of skip and branch %{z:.2f}",
            "z": [{"ref": "skip_branch_cosine", "run": run.index, "at": "frame", "over": "mean"}],
        })  # fmt: skip
    scale = decades(above=VANISHED, quantiles=(0, 1), least=3)
    layout = {
        "margin": {"l": 46, "r": 12, "t": 6, "b": 34}, "showlegend": False, "hovermode": "closest",
        "xaxis": {"title": {"text": "block"}, "range": [0.5, last + 0.5], "anchor": "y2", "showgrid": False},
        "yaxis": scale | {"domain": [0.56, 1]},
        "yaxis2": scale | {"domain": [0, 0.44], "range": scale["range"] | {"flip": True}},
        "yaxis3": {
            "domain": [0.455, 0.545], "visible": False, "fixedrange": True,
            "range": [-0.5, max(0.5, len(runs) - 0.5)],
        },
        "annotations": [
            {"text": text, "x": 0.5, "xref": "paper", "y": y, "yref": "paper", "yanchor": anchor}
            for text, y, anchor in (("<b>through the skip</b>", 1, "top"),
                                    ("<b>through the branch</b>", 0, "bottom"))
        ] + [
            {"text": "← gradient", "x": 1, "xref": "paper", "xanchor": "right", "y": 1, "yref": "paper",
             "yanchor": "top"},
        ],
    }  # fmt: skip
    said = (
        "Norm of the gradient through the skip (up) and through the branch (down) of each block, on a log "
        "scale, and the cosine between them"
    )
    return {
        "data": data, "layout": layout, "group": GROUP, "summary": f"{said}, for {names(runs)}.",
        "key": f"boxes cosine: blue along, red against · band all seeds, {counted(runs)}",
        "blocks": True,
    }  # fmt: skip
