"""Size, gradient and likeness block by block: measured, and by theory."""

import time

import numpy as np

from lnres.agreement import percent, sentence
from lnres.blocks import PLACEMENTS
from lnres.boards.base import BOARDS, Answer, Board, Panel, Pick, Slider
from lnres.boards.networks import common, experiment, measured, size, trained_in_lab
from lnres.figures import theory as charts
from lnres.layers import ACTIVATIONS
from lnres.meanfield import ENDS, predict
from lnres.norms import NORMS
from lnres.registry import Registry
from lnres.residuals import RESIDUALS
from lnres.theory import THEORIES

SHOWN = {"variance": ("act_rms", 2), "gradient": ("grad_norm", 2), "cosine": ("cosine", 1)}
"""Panels of a profile: what is measured, and its power in the closed forms."""
TITLES = {"variance": "Size of the stream", "gradient": "Gradient", "cosine": "Likeness of examples"}
AXES = {"variance": "mean square", "gradient": "gradient²", "cosine": "mean cosine of pairs"}


def choices(registry: Registry, *names: str) -> dict[str, str]:
    """Rows of a registry that a board offers."""
    return {name: registry[name].label for name in names}


PROFILE = (
    Pick("skip", "Skip", "identity", choices(
        RESIDUALS, "none", "identity", "scaled", "deepnorm", "rezero", "highway")),
    Pick("norm", "Norm", "none", choices(NORMS, "none", "layer", "rms", "batch", "group")),
    Pick("place", "Place of the norm", "pre", choices(
        PLACEMENTS, "pre", "post", "inner", "activated", "sandwich")),
    Pick("activation", "Activation", "relu", choices(ACTIVATIONS, "relu", "tanh", "gelu", "identity")),
    *size(),
    Slider("batch", "Batch", 32, 2, 128, 1),
    Slider("sigma", "Weight scale σ", 1.0, 0.25, 4.0, log=True, about="times that of a unit branch"),
    Slider("steps", "Steps trained", 0, 0, 100, 1, about="on digits; theory is of step 0"),
)  # fmt: skip


AT_ONCE = 0.01
"""Seconds that it takes at most to remember a measure."""


def chosen(v: dict):
    """The network whose profiles are shown."""
    return experiment(
        residual=v["skip"], norm=v["norm"], placement=v["place"], activation=v["activation"],
        batch=v["batch"], gain=v["sigma"], **common(v),
    )  # fmt: skip


def profiles(v: dict) -> Answer:
    """Size, gradient and likeness along the blocks."""
    e = chosen(v)
    idle = ["place"] * (v["norm"] == "none")
    begun, seen = time.monotonic(), measured(e)
    known = time.monotonic() - begun < AT_ONCE
    said, more, faded = sentence(e, seen), False, False
    if v["steps"] and not known:
        said, more = f"At init; {v['steps']} steps of training are being made …", True
    elif v["steps"]:
        try:
            seen = measured(e, "trained", (("steps", v["steps"]),))
            said, faded = strayed(e, seen, v["steps"]), True
        except ValueError as error:
            said = f"{error}."
    return Answer(profile_panels(e, seen, faded), idle, said, trained_in_lab(e), more)


def reference(e, name: str, rows: np.ndarray) -> np.ndarray | None:
    """A panel's closed form of step 0, moved to where trained networks' sizes begin; None without one."""
    (array, power), at = SHOWN[name], max(0, e.depth - ENDS) if name == "gradient" else 0
    values = predict(e, array).values
    if values is None or name == "cosine":
        return values
    there = rows[at][np.isfinite(rows[at]) & (rows[at] > 0)]
    return (values / values[at]) ** power * np.exp(np.log(there).mean()) if len(there) else None


def strayed(e, seen: dict, steps: int) -> str:
    """How far training has led away from theory, and at which blocks."""
    told, after = [], f"After {steps} step{'s' * (steps > 1)}"
    if not np.isfinite(seen["act_rms"]).all(0).any():
        return f"{after} these networks have diverged: no number is left to be compared."
    for name, (array, power) in SHOWN.items():
        rows = np.asarray(seen[array], float) ** power
        theory_ = reference(e, name, rows)
        if theory_ is None or not np.isfinite(rows).all() or not (rows.min() > 0 or name == "cosine"):
            continue
        middle = rows.mean(1) if name == "cosine" else np.exp(np.log(rows).mean(1))
        off = np.abs(middle - theory_) if name == "cosine" else np.expm1(np.abs(np.log(middle / theory_)))
        far = f"{off.max():.2f}" if name == "cosine" else percent(off.max())
        told.append(f"{TITLES[name].lower()} {far} at block {off.argmax()}")
    if not told:
        return f"{after} there is nothing that theory could be compared with."
    return f"{after} weights know their data, and theory of step 0 is off: {', '.join(told)}."


def profile_panels(e, seen: dict, faded: bool = False, names=tuple(SHOWN)) -> list[Panel]:
    """Measured rows (L+1, S) under their closed forms; ``faded`` where these are of another time."""
    panels = []
    for name in names:
        (array, power), found = SHOWN[name], predict(e, SHOWN[name][0])
        values, rows = found.values, np.asarray(seen[array], float) ** power
        if values is not None:  # of what has learnt from data, with a loss, only the shape can be compared
            values = reference(e, name, rows) if faded else values**power
        figure = charts.profile(
            rows, values, charts.SIX[1], log=name != "cosine", faded=faded, title=AXES[name]
        )
        row = f"{found.theory} · {THEORIES[found.theory].label}" if found.theory else ""
        why = found.why if not faded else "at init; after the first step a reference"
        figure["layout"]["annotations"] = [*figure["layout"]["annotations"], _note(row or found.why, 1.0)]
        figure["layout"]["annotations"] += [_note(why, 0.93)] * bool(row)
        alt = f"{TITLES[name]} after each block of {e.seeds} networks; {row or found.why}".rstrip(".") + "."
        panels.append(Panel(name, TITLES[name], alt, figure))
    return panels


def _note(text: str, y: float) -> dict:
    """A line of small print at the top of a chart."""
    return {
        "text": text, "x": 0.01, "xref": "paper", "xanchor": "left", "y": y, "yref": "paper",
        "yanchor": "top", "font": {"size": 10.5}, "align": "left",
    }  # fmt: skip


BOARDS.put(
    "profiles", "Depth profiles", make=Board(PROFILE, profiles, measures=True),
    about="The signal and its gradient, block by block: lines and bands are measured, dashes are theory.",
)  # fmt: skip
