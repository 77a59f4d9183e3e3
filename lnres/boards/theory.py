"""Prediction over measurement: networks are measured as the hand moves, and closed forms laid over them."""

import math
import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lnres import theory
from lnres.agreement import percent, sentence
from lnres.blocks import PLACEMENTS
from lnres.boards.base import BOARDS, Answer, Board, Panel, Pick, Slider
from lnres.engine import local
from lnres.experiment import Experiment
from lnres.figures import theory as charts
from lnres.layers import ACTIVATIONS
from lnres.meanfield import predict
from lnres.norms import NORMS
from lnres.registry import Registry
from lnres.residuals import RESIDUALS
from lnres.theory import THEORIES

ENDS = 5
"""Blocks at both ends that a rate leaves out."""
GRAIN = 16
"""Widths are multiples of it, so that they fall into groups."""
SHOWN = {"variance": ("act_rms", 2), "gradient": ("grad_norm", 2), "cosine": ("cosine", 1)}
"""Panels of a profile: what is measured, and its power in the closed forms."""
TITLES = {"variance": "Size of the stream", "gradient": "Gradient", "cosine": "Likeness of examples"}
AXES = {"variance": "mean square", "gradient": "gradient²", "cosine": "mean cosine of pairs"}


@lru_cache(512)
def measured(e, name: str = "probe", options: tuple = ()) -> dict[str, np.ndarray]:
    """A measure of an experiment, remembered; it is frozen, and so is what it does."""
    return local.start().measure(name, e, **dict(options))


PATIENCE = 0.3
"""Seconds after which an answer is given with what is measured so far."""


def patiently() -> Callable[..., dict[str, np.ndarray] | None]:
    """A function that is ``measured`` until a hand has waited long enough, then None."""
    end = time.monotonic() + PATIENCE
    return lambda *what: measured(*what) if time.monotonic() < end else None


def experiment(**settings):
    """An MLP of plain layers, or of blocks with a skip; ``ValueError`` in words where settings do not fit."""
    layers = 1 if settings.get("residual") == "none" else 2
    return Experiment(**{"layers": layers, "record_every": 0} | settings)


def size(**first) -> tuple[Slider, ...]:
    """The sliders that several boards have."""
    return (
        Slider("width", "Width", first.get("width", 256), GRAIN, 512, GRAIN),
        Slider("depth", "Depth", first.get("depth", 32), first.get("least", 4), 60, 1),
        Slider("nets", "Networks", first.get("nets", 4), 1, 16, 1, about="how many are measured"),
    )


def trained_in_lab(e) -> tuple[str, str]:
    """The way to the lab, where this network trains."""
    return "Train this network in the lab →", f"lab?{e.replace(record_every=10).link()}"


def common(v: dict) -> dict:
    """What those sliders say, as settings."""
    return {"width": v["width"] // GRAIN * GRAIN, "depth": v["depth"], "seeds": v["nets"]}


# ------------------------------------------------------------------------------------------------- profiles


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

# ------------------------------------------------------------------------------------------------ waterfall

FALLS = {
    "LN → ReLU": {"norm": "layer", "placement": "inner", "residual": "none"},
    "ReLU → LN": {"norm": "layer", "placement": "activated", "residual": "none"},
    "BN → ReLU": {"norm": "batch", "placement": "inner", "residual": "none"},
    "bare skip": {"norm": "none", "residual": "identity"},
    "pre-LN skip": {"norm": "layer", "placement": "pre", "residual": "identity"},
    "Xavier, no norm": {"norm": "none", "residual": "none", "init": "xavier"},
}
FALL = (
    Slider("batch", "Batch", 16, 5, 128, 1, about="bends BatchNorm's ray, and no other"),
    Slider("sigma", "Weight scale σ", 1.0, 0.25, 4.0, log=True),
    *size(width=128, depth=30, least=12),
)


def waterfall(v: dict) -> Answer:
    """The gradient of six networks on its way down."""
    rows, rates, ask = [], [], patiently()
    for label, settings in FALLS.items():
        e = experiment(**settings, batch=v["batch"], gain=v["sigma"], **common(v))
        seen, found = ask(e), predict(e, "grad_norm")
        grad = seen and seen["grad_norm"].astype(float)
        rows.append({"label": label, "measured": grad, "predicted": found.values})
        known = None if found.values is None else found.values[:, None]
        rates.append((label, _rate(grad), _rate(known), found.theory))
    anchor = max(0, v["depth"] - ENDS)
    more = any(row["measured"] is None for row in rows)
    said = "Six networks are being measured; dashes are what theory expects."
    if not more:
        said = f"BatchNorm's gradient grows × {rates[2][1]:.2f} per layer at batch {v['batch']}; "
        said += f"LayerNorm's, at the same place, × {rates[0][1]:.2f}."
    alt = f"Gradient² at every block relative to block {anchor}, with closed forms dashed. {said}"
    return Answer(
        [
            Panel("waterfall", "Gradient waterfall", alt, charts.waterfall(rows, anchor), wide=2),
            Panel("rates", "Growth per block, towards the input", said, html=_table(rates)),
        ],
        said=said,
        more=more,
    )


def _table(rates) -> str:
    """Measured and predicted rates side by side."""
    head = "<tr><th></th><th>measured</th><th>theory</th><th></th></tr>"
    rows = "".join(
        f"<tr><td><b style='color:{colour}'>{label}</b></td><td>{_times(seen)}</td><td>{_times(known)}</td>"
        f"<td><small>{row}</small></td></tr>"
        for (label, seen, known, row), colour in zip(rates, charts.SIX, strict=True)
    )
    note = f"Of gradient², over all blocks but the first and last {ENDS}; networks' geometric mean."
    note += " –: not known, or past what single precision can say."
    return f"<table>{head}{rows}</table><p><small>{note}</small></p>"


def _rate(grad: np.ndarray | None) -> float:
    """The growth of grad² per block towards the input, without both ends; the mean over networks, or NaN."""
    if grad is None:
        return math.nan
    with np.errstate(all="ignore"):
        return float(np.exp(np.log(grad[ENDS] / grad[-1 - ENDS]).mean() * 2 / (len(grad) - 1 - 2 * ENDS)))


def _times(rate: float) -> str:
    """A rate, where there is one."""
    return f"× {rate:.3f}" if 0 < rate < math.inf else "–"


BOARDS.put(
    "waterfall", "Gradient waterfall", make=Board(FALL, waterfall, measures=True),
    about="The same gradient walks back through six networks. Where does it drown, where does it burst?",
)  # fmt: skip

# --------------------------------------------------------------------------------------------------- carpet

CARPETS = {
    "no norm": {"norm": "none", "init": "he"},
    "LayerNorm": {"norm": "layer", "placement": "inner"},
    "BatchNorm": {"norm": "batch", "placement": "inner"},
}
DIGITS = 40
CARPET = (
    Slider("depth", "Depth", 24, 4, 60, 1),
    Slider("width", "Width", 256, 32, 512, 32),
)


def carpet(v: dict) -> Answer:
    """Who resembles whom, layer by layer."""
    depth = v["depth"]
    layers = sorted({0, 1, *(round(depth * share) for share in (1 / 8, 1 / 4, 1 / 2, 1))})
    panels, rows, apart = [], [], ~np.eye(DIGITS, dtype=bool)
    for label, settings in CARPETS.items():
        e = experiment(residual="none", **settings, width=v["width"], depth=depth, batch=DIGITS)
        seen = measured(e, "likeness", (("examples", DIGITS),))
        cosines = seen["cosines"].astype(float)
        pairs = [cosines[0][apart]]
        for _ in range(depth):
            pairs.append(theory.kappa1(pairs[-1]))
        means = cosines[:, apart].mean(1)
        expected = np.array([p.mean() for p in pairs])
        if e.norm == "batch":
            expected[1:] = theory.batchnorm_cosine(DIGITS)
        rows.append({"label": label, "measured": means, "predicted": expected})
        alt = f"Cosines of {DIGITS} digits sorted by class after layers {layers}, {label}."
        panels.append(Panel(f"carpet-{label}", label, alt, charts.carpet(cosines, layers, seen["pixels"])))
    ends = ", ".join(f"{row['label']} {row['measured'][-1]:.2f}" for row in rows)
    said = f"Mean cosine of two digits after {depth} layers: {ends}."
    alt = "Mean cosine of pairs of digits against the layer, with κ₁ (C04) and C32 dashed."
    panels.append(Panel("cosines", "Mean cosine · C04, C32 dashed", alt, charts.cosines(rows)))
    return Answer(panels, said=said)


BOARDS.put(
    "carpet", "Cosine carpet", make=Board(CARPET, carpet, measures=True),
    about="Forty digits, sorted by class, each compared with each: LayerNorm keeps gradients and makes "
    "inputs alike; BatchNorm does the reverse.",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ exponents

SCHEMES = {
    "pre": {"norm": "layer", "placement": "pre"},
    "post": {"norm": "layer", "placement": "post", "final_norm": False},
    "deepnorm": {"norm": "layer", "placement": "post", "residual": "deepnorm", "final_norm": False},
    "bare": {"norm": "none"},
    "scaled": {"norm": "none", "residual": "scaled"},
}
NAMES = {"pre": "pre-LN", "post": "post-LN", "deepnorm": "DeepNorm", "bare": "bare skip", "scaled": "1/√L"}
DEPTHS = 2, 6, 16, 40
EXAMPLES = 16
"""Over which a cosine with the input is averaged; the last gradient is that of a single one."""
EXPONENTS = (
    Slider("width", "Width", 64, 16, 128, 16),
    Slider("nets", "Networks", 8, 2, 32, 1),
)


def exponents(v: dict) -> Answer:
    """How the last gradient, and what is left of the input, go with depth."""
    last, kept, told, ask = [], [], [], patiently()
    line = np.unique(np.geomspace(2, 60, 40).round())
    for scheme, settings in SCHEMES.items():
        made = [
            experiment(
                **{"residual": "identity"} | settings, depth=depth, width=v["width"], seeds=v["nets"], batch=1
            )
            for depth in DEPTHS
        ]
        seen = [ask(e.replace(batch=EXAMPLES)) for e in made]
        rest = [one["input_cosine"][-1] for one in seen if one]
        curve = [theory.input_cosine(scheme, int(depth)) for depth in line]
        kept.append(_against(NAMES[scheme], DEPTHS, rest, (line, curve)))
        if scheme in ("pre", "post", "deepnorm"):
            sizes = [one["weight_grad_norm"] for one in (ask(e, "last") for e in made) if one]
            ray = np.array([theory.last_gradient(scheme, int(depth)) for depth in line])
            if sizes:
                x, means = DEPTHS[: len(sizes)], np.log(sizes).mean(1)
                ray *= np.exp(np.mean(means - np.log([theory.last_gradient(scheme, depth) for depth in x])))
                last.append(_against(NAMES[scheme], DEPTHS, sizes, (line, ray)))
            if len(sizes) == len(DEPTHS):
                slope = np.polyfit(np.log(np.array(DEPTHS) + 1.0), means, 1)[0]
                told.append(f"{NAMES[scheme]} {slope:+.2f}".replace("-0", "−0"))
    more = min(len(row["x"]) for row in kept) < len(DEPTHS) or len(told) < 3
    said = f"Exponent of the last block's gradient against L + 1, measured: {', '.join(told)}."
    if more:
        said = f"Networks of {DEPTHS[0]} to {DEPTHS[-1]} blocks are being measured; dashes are theory."
    panels = [
        Panel("last", "Gradient of the last block · C22", f"Against the number of blocks. {said}",
              charts.against(last, "blocks L", "norm of its weights' gradient", log_y=True)),
        Panel("kept", "What is left of the input · C24", "Cosine of last and first state against L.",
              charts.against(kept, "blocks L", "cos(x₀, x_L)", log_y=False)),
    ]  # fmt: skip
    return Answer(panels, said=said, more=more)


def _against(label: str, x: tuple, measured: list, ray: tuple) -> dict:
    """A row of a chart against something: the first of ``x`` that were measured so far, and the ray."""
    return {"label": label, "x": x[: len(measured)], "measured": np.array(measured), "ray": ray}


BOARDS.put(
    "exponents", "Pre, post, DeepNorm", make=Board(EXPONENTS, exponents, measures=True),
    about="One move of the norm changes how the last gradient goes with depth: a power of L, or not at all.",
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- batches

BATCHES = 5, 8, 16, 32, 64, 128
EXPLODING = {
    "BatchNorm → ReLU": ({"norm": "batch"}, theory.batchnorm_rate),
    "BatchNorm, linear": ({"norm": "batch", "activation": "identity"}, theory.batchnorm_linear_rate),
    "LayerNorm → ReLU": ({"norm": "layer"}, lambda batch: theory.layernorm_rate()),
}
BATCH = (
    Slider("width", "Width", 128, 32, 512, 32),
    Slider("nets", "Networks", 4, 1, 16, 1),
)


def batches(v: dict) -> Answer:
    """The rate at which BatchNorm's gradient explodes, against the batch size."""
    rows, line, ask = [], np.geomspace(5, 128, 60), patiently()
    for label, (settings, rate) in EXPLODING.items():
        seen = []
        for batch in BATCHES:
            e = experiment(
                residual="none", placement="inner", **settings, width=v["width"], seeds=v["nets"], depth=20,
                batch=batch,
            )  # fmt: skip
            if found := ask(e):
                grad = found["grad_norm"].astype(float)
                seen.append((grad[ENDS] / grad[-1 - ENDS]) ** (2 / (20 - 2 * ENDS)))
        rows.append(_against(label, BATCHES, seen, (line, [rate(b) for b in line])))
    figure = charts.against(rows, "batch size B", "growth of gradient² per layer", log_y=False,
                            key={"x": 0.99, "xanchor": "right", "y": 0.99, "yanchor": "top"})  # fmt: skip
    depth = {"label": "BatchNorm → ReLU", "x": (), "measured": (),
             "ray": (line, [theory.batchnorm_depth(b) for b in line])}  # fmt: skip
    reach = charts.against([depth], "batch size B", "layers", log_y=False)
    more = any(len(row["x"]) < len(BATCHES) for row in rows)
    said = "Networks are being measured; dashes are what theory expects."
    if not more:
        at = {row["label"]: float(row["measured"][2].mean()) for row in rows}
        said = (
            f"At batch {BATCHES[2]}, BatchNorm → ReLU grows × {at['BatchNorm → ReLU']:.2f} per layer "
            f"(theory {theory.batchnorm_rate(BATCHES[2]):.2f}), LayerNorm → ReLU "
            f"× {at['LayerNorm → ReLU']:.2f}. A smaller batch makes it worse."
        )
    return Answer(
        [
            Panel("rates", "BatchNorm's explosion · C11, C12, C14", said, figure),
            Panel("reach", "How deep it can be trained · C13", "16 / log(rate), a published rule.", reach),
        ],
        said=said,
        more=more,
    )


BOARDS.put(
    "batches", "BatchNorm's batch", make=Board(BATCH, batches, measures=True),
    about="Without a skip, BatchNorm makes gradients explode, even in a linear network.",
)  # fmt: skip
