"""The edge of chaos: the plane of variances, networks that are trained all over it, and one at the dot."""

import math
from functools import lru_cache

import numpy as np

from lnres import theory
from lnres.agreement import sentence
from lnres.boards.base import BOARDS, Answer, Board, Panel, Point, Toggle
from lnres.boards.networks import common, experiment, measured, patiently, size, trained_in_lab
from lnres.boards.profiles import profile_panels
from lnres.figures import theory as charts

LOW, HIGH = (0.5, 0.0), (4.0, 0.5)
CHAOS = (
    Point("dot", "σ_w², σ_b²: drag me", (2.5, 0.1), LOW, HIGH),
    Toggle("ln", "Add LayerNorm", False),
    Toggle(
        "trained", "Train a network at each point", False, about="72 small ones: takes about half a minute"
    ),
    *size(width=256, depth=40),
)
REACHES = 10, 30, 100
"""Depths whose contours are drawn, unless networks of some depth are trained."""


@lru_cache
def plane(ln: bool) -> tuple:
    """The map: axes, rates and the critical line."""
    x, y = np.linspace(LOW[0], HIGH[0], 71), np.linspace(LOW[1], HIGH[1], 41)
    if ln:
        return x, y, np.array([[theory.layernorm_tanh_rate(a, b) for a in x] for b in y]), None
    fine = HIGH[1] * np.linspace(0, 1, 60) ** 2  # it leaves the corner steeply
    return x, y, theory.chi1(x, y[:, None]), (theory.critical_sigma_w2(fine), fine)


@lru_cache
def reach() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes of the plane and 6 ξ_c, (σ_b², σ_w²)."""
    x, y = np.linspace(LOW[0], HIGH[0], 36), np.linspace(0.02, HIGH[1], 13)
    return x, y, 6 * np.minimum(theory.xi_c(x, y[:, None], 25), 1e4)


def contours(depths) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Where 6 ξ_c is each of these, left and right of the critical line."""
    x, y, layers = reach()
    edge, found = theory.critical_sigma_w2(y), {}
    for depth in depths:
        sides = []
        for left in (True, False):
            points = []
            for row, b, middle in zip(layers, y, edge, strict=True):
                inside = (x < middle) == left
                u, v = x[inside], row[inside]
                order = np.argsort(v)
                if len(u) > 1 and v.min() < depth < v.max():
                    points.append((float(np.interp(depth, v[order], u[order])), float(b)))
            sides += [*reversed(points), (math.nan, math.nan)] if left else points
        found[depth] = tuple(np.array(sides).T) if sides else (np.empty(0), np.empty(0))
    return found


COLUMNS, ROWS, TOGETHER, SCATTER = 12, 6, 4, 29
"""Points of the plane at which networks are trained, how many at a time, and how far the next is on."""
SHORT = {"width": 48, "batch": 32, "steps": 200, "optimizer": "sgd", "lr": 0.003, "seeds": TOGETHER}
"""How they are trained."""


def accuracies(v: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes and accuracy (ROWS, COLUMNS) of networks that start on the plane, NaN where it is still to come.

    Each stands for the cell around it; what was trained once is remembered.
    """
    x, y = ((low + (high - low) * (np.arange(n) + 0.5) / n).round(4)
            for low, high, n in zip(LOW, HIGH, (COLUMNS, ROWS), strict=True))  # fmt: skip
    e = at_the_dot(v).replace(depth=v["depth"], **SHORT, sigma_w2=1.0, sigma_b2=1.0)
    found, ask = np.full((ROWS, COLUMNS), np.nan), patiently()
    for i in range(0, found.size, TOGETHER):
        row, column = np.divmod(np.arange(i, i + TOGETHER) * SCATTER % found.size, COLUMNS)
        start = ("sigma_w2", tuple(x[column].tolist())), ("sigma_b2", tuple(y[row].tolist()))
        if seen := ask(e, "trainable", start):
            found[row, column] = seen["accuracy"]
    return x, y, found


def told_of(seen: tuple, depth: int, ln: bool) -> str:
    """What became of the networks that were trained, with what theory says of where they can be."""
    x, y, accuracy = seen
    done = np.isfinite(accuracy)
    said = f"{done.sum()} of {done.size} networks of {depth} layers trained for {SHORT['steps']} steps"
    deep = done & (6 * theory.xi_c(x, y[:, None], 25) >= depth)
    if ln or not deep.any() or deep[done].all():
        return f"{said}."
    inside, outside = (f"{accuracy[part].mean():.0%}" for part in (deep, done & ~deep))
    return f"{said}: inside the dots (6 ξ_c ≥ {depth}) they reach {inside} on average, outside {outside}."


def at_the_dot(v: dict):
    """The tanh network of these variances."""
    w2, b2 = (round(value, 3) for value in v["dot"])
    norm = {"norm": "layer", "placement": "inner"} if v["ln"] else {"norm": "none"}
    return experiment(
        **norm, residual="none", activation="tanh", init="meanfield", sigma_w2=w2, sigma_b2=b2, batch=16,
        **common(v),
    )  # fmt: skip


def chaos(v: dict) -> Answer:
    """The plane of variances, and the network at the dot."""
    e = at_the_dot(v)
    w2, b2 = e.sigma_w2, e.sigma_b2
    seen = measured(e)
    rate = theory.layernorm_tanh_rate(w2, b2) if v["ln"] else float(theory.chi1(w2, b2))
    kind = "explode" if rate > 1.005 else "vanish" if rate < 0.995 else "keep their size"
    said = f"σ_w² = {w2:g}, σ_b² = {b2:g}: gradients {kind}, × {rate:.3f} per layer. {sentence(e, seen)}"
    alt = "Rate of grad² on the plane of variances: blue vanishes, red explodes, the line is critical."
    title = "LN then tanh · C16" if v["ln"] else "Edge of chaos · C08, C06; dotted: 6 ξ_c layers (C10)"
    trained = accuracies(v) if v["trained"] else None
    if trained:
        said = told_of(trained, v["depth"], v["ln"])
        title = f"Accuracy of networks of width {SHORT['width']} that were trained for {SHORT['steps']} steps"
        alt = f"{title} on the plane of variances. {said}"
    depths = {} if v["ln"] else contours([v["depth"]] if trained else REACHES)
    figure = charts.phases(*plane(v["ln"]), depths, trained)
    where = Panel("plane", title, alt, figure, drags="dot")
    panels = [where, *profile_panels(e, seen, names=("gradient", "cosine"))]
    more = trained is not None and bool(np.isnan(trained[2]).any())
    return Answer(panels, said=said, onward=trained_in_lab(e), more=more)


BOARDS.put(
    "chaos", "Edge of chaos", make=Board(CHAOS, chaos, measures=True),
    about="A tanh network has two phases. Drag the dot across the line and watch its gradient turn.",
)  # fmt: skip
