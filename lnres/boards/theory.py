"""Prediction over measurement: networks are measured as the hand moves, and closed forms laid over them."""

import math

import numpy as np

from lnres import theory
from lnres.boards.base import BOARDS, Answer, Board, Panel, Slider
from lnres.boards.networks import common, experiment, measured, patiently, size
from lnres.figures import theory as charts
from lnres.meanfield import predict

ENDS = 5
"""Blocks at both ends that a rate leaves out."""

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
    layers = [0, *(math.ceil(depth * share) for share in (1 / 8, 1 / 2, 1))]
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
    figure = charts.against(rows, "batch size B", "growth of gradient² per layer", log_y=False)
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
