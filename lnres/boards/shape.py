"""The shape of normalization: three numbers land on a circle, two numbers on two points."""

import math
from typing import Any

import numpy as np

from lnres.boards.base import BOARDS, Answer, Board, Panel, Pick, Slider, Toggle
from lnres.figures import COLOURS
from lnres.slices import alone, walk

POINTS, ARROWS = 60, 8
GREY = "#8892A0"  # seen on light and on dark
LIFT = math.radians(22)  # of the eye above the floor
NAMES = {
    "layer": ("feature", "features of one sample", "LayerNorm"),
    "batch": ("sample", "samples of one feature", "BatchNorm"),
}

WHEEL = [[0, "#8E63C7"], [0.25, "#1F83C4"], [0.5, "#009E73"], [0.75, "#D9A300"], [1, "#8E63C7"]]
"""Colours of the directions in which the vectors leave, so that each can be followed."""

FIELDS = (
    Slider("morph", "From x to y", 0.7, 0.0, 1.0, 0.02, play=60, about="0: as it comes in, 1: as it leaves"),
    Slider("radius", "ε of the shape", 1e-5, 1e-5, 10.0, log=True, about="short vectors stay short"),
    Slider("stretch", "γ₁", 1.0, -2.0, 2.0, 0.1, about="γ of the first axis; the others keep 1"),
    Slider("lift", "β₁", 0.0, -2.0, 2.0, 0.1, about="β of the first axis; the others keep 0"),
    Slider("turn", "Turn", 20, -180, 180, 1, about="walk around the cloud, in degrees"),
    Toggle("arrows", "Gradients", True, about="what comes back before and after the norm took its share"),
    Pick("axes", "The axes are", "layer", {key: f"{row[1]} ({row[2]})" for key, row in NAMES.items()}),
)  # fmt: skip


def cloud(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of d numbers with an offset and a spread of their own, and gradients that come back to them."""
    rng = np.random.default_rng(5)
    x = rng.normal(0.6, 0.9, (POINTS, 1)) + rng.normal(0, 1, (POINTS, d)) * rng.lognormal(
        -0.3, 0.6, (POINTS, 1)
    )
    pull = rng.normal(0, 1, (POINTS, d))
    return x, 0.9 * pull / np.linalg.norm(pull, axis=1, keepdims=True)


def seen(x: np.ndarray, turn: float) -> np.ndarray:
    """Points in space (n, 3) as they are seen from afar: right and up, and how near."""
    a = math.radians(turn)
    right = np.array([-math.sin(a), math.cos(a), 0])
    near = np.array([math.cos(a) * math.cos(LIFT), math.sin(a) * math.cos(LIFT), math.sin(LIFT)])
    return x @ np.stack([right, np.cross(near, right), near], 1)


def _line(points: np.ndarray, colour: str, width: float = 1.5, **more) -> dict:
    x, y = points[:, :2].T.round(3)
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip",
        "line": {"color": colour, "width": width} | more,
    }  # fmt: skip


def _arrows(start: np.ndarray, end: np.ndarray, colour: str) -> dict:
    """Arrows from each start to its end, as one line with gaps and heads at the ends."""
    gaps = np.full((len(start), 2), np.nan)
    points = np.stack([start[:, :2], end[:, :2], gaps], 1).reshape(-1, 2)
    way = end - start
    angles = np.repeat(np.degrees(np.arctan2(way[:, 0], way[:, 1])).round(1), 3)
    heads = {"symbol": "triangle-up", "size": [0, 9, 0] * len(start), "angle": angles, "color": colour}
    return _line(points, colour, 2) | {"mode": "lines+markers", "marker": heads | {"opacity": 1}}


def _axes(ends: np.ndarray, names: list[str]) -> dict:
    """Lines from the origin to where each axis ends, with its name there."""
    gaps = np.full((len(ends), 2), np.nan)
    points = np.stack([0 * ends[:, :2], ends[:, :2], gaps], 1).reshape(-1, 2)
    words = [text for name in names for text in ("", name, "")]
    return _line(points, GREY) | {"mode": "lines+text", "text": words, "textposition": "top center"}


def picture(d: int, v: dict[str, Any]) -> tuple[dict, float]:
    """Figure of the cloud of d numbers part of the way, and its largest distance from where theory has it."""
    x, pull = cloud(d)
    norm = alone("layer", d, eps=v["radius"])
    norm.gain[..., 0], norm.shift[..., 0] = v["stretch"], v["lift"]
    told = walk(norm, x, pull)
    at = (1 - v["morph"]) * x + v["morph"] * told.y
    flat = (lambda p: seen(p, v["turn"])) if d == 3 else (lambda p: p)

    angles = np.linspace(0, 2 * np.pi, 91)
    plane = np.linalg.svd(np.ones((1, d)))[2][1:]  # what is orthogonal to (1, ..., 1)
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)[:, : d - 1]
    goal = math.sqrt(d) * ring @ plane * told.gain[0] + told.shift[0]
    hue = np.arctan2(*(told.normal @ np.pad(plane, ((0, 3 - d), (0, 0))).T)[:, ::-1].T)
    places = flat(at)
    near = 6.5 + 0.9 * places[:, 2].clip(-3, 3).round(1) if d == 3 else 7
    told_x, told_y = (", ".join(f"%{{customdata[{k + i}]}}" for i in range(d)) for k in (0, d))
    target = _line(flat(goal), COLOURS[1], 2)
    if d == 2:
        ends = {"symbol": "circle-open", "size": 17, "color": COLOURS[1], "line": {"width": 2}}
        target |= {"mode": "markers", "marker": ends, "x": goal[[0, 45], 0], "y": goal[[0, 45], 1]}
    name = NAMES[v["axes"]][0]
    alike = flat(np.stack([k * np.ones(d) for k in (-2.2, 2.2)]))
    traces = [
        _line(alike, GREY, 1.5, dash="dot") | {"mode": "lines+text", "text": ["", "all alike"],
                                               "textposition": "top center"},
        _axes(flat(2.4 * np.eye(d)), [f"{name} {i + 1}" for i in range(d)]),
        target,
        {
            "type": "scatter", "mode": "markers", "x": places[:, 0].round(3), "y": places[:, 1].round(3),
            "marker": {"size": near, "color": hue.round(2), "cmin": -np.pi, "cmax": np.pi, "opacity": 0.85,
                       "colorscale": WHEEL},
            "customdata": np.concatenate([x, told.y], 1).round(2),
            "hovertemplate": f"x = ({told_x})<br>y = ({told_y})<extra></extra>",
        },
    ]  # fmt: skip
    if v["arrows"]:
        some = slice(0, ARROWS)
        left = (1 - v["morph"]) * told.asked[some] + v["morph"] * told.kept[some]
        ways = (told.asked[some], GREY), (left, COLOURS[0])
        traces += [_arrows(flat(at[some]), flat(at[some] + way), colour) for way, colour in ways]
    reach = max(2.8, 0.4 + float(np.abs(flat(goal)[:, :2]).max()))
    bare = {"visible": False, "range": [-reach, reach]}
    layout = {
        "xaxis": bare, "yaxis": bare | {"scaleanchor": "x"}, "showlegend": False,
        "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
    }  # fmt: skip
    spread = told.variance[:, 0]
    radius = np.sqrt(d * spread / (spread + v["radius"]))
    off = np.abs(np.linalg.norm(told.normal, axis=1) - radius).max()
    return {"data": traces, "layout": layout}, float(off)


def shape(v: dict[str, Any]) -> Answer:
    """The board's function."""
    (space, off3), (plane, off2) = picture(3, v), picture(2, v)
    name, several, norm = NAMES[v["axes"]]
    panels = [
        Panel("three", f"Three {name}s: a circle of radius √3",
              f"A cloud of vectors of three {several} on its way to a circle.", space, height=440),
        Panel("two", f"Two {name}s: two points",
              f"A cloud of pairs of {several} on its way to two points.", plane, height=440),
    ]  # fmt: skip
    said = (
        f"{norm} on {several}: what all have in common goes (the dotted line), and so does the size. "
        f"Radius² = d σ²/(σ² + ε), within {max(off2, off3):.0e}. Grey arrows: the gradient that comes; "
        "orange: what of it can still move x."
    )
    return Answer(panels, (), said)


BOARDS.put(
    "shape", "The shape of normalization",
    make=Board(FIELDS, shape), about="Three numbers land on a circle, two numbers on two points.",
)  # fmt: skip
