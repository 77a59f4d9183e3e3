"""What an experiment will measure at init, predicted block by block from its own equation.

Mean-field theory needs a few numbers of a wide network: a state's mean square, mean and overlap with another
example's state and with its own h_0, and the gradient's mean square and overlap. Each part of a block maps
them forward and returns how it maps the gradient back; the closed forms of ``theory`` are what comes out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from lnres.blocks import PLACEMENTS, branch_factors, branch_open, skip_open
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS, INITS, Weights, second_moment
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.residuals import RESIDUALS
from lnres.theory import SHORT_BATCH, kappa0, kappa1

SMALL_BATCH, SMALL_GROUP = 32, 64
"""Below, what BatchNorm puts out is not normal enough for what is not piecewise linear, and the variance of
so few values that are not normal has an inverse of its own law."""

MOST_EPS = 0.02
"""The share of a batch's variance up to which ε may be taken for granted."""


class Unpredictable(Exception):
    """No closed form is known; the sentence says why."""


def said(why: Unpredictable) -> str:
    """As a sentence."""
    text = str(why)
    return f"{text[0].upper()}{text[1:]}."


class State(NamedTuple):
    """Averages over the features of a wide layer."""

    q: float
    """Mean square."""
    k: float
    """Mean product of two examples' values."""
    m: float
    """Mean, the same for all examples."""
    r: float
    """Mean product with the same example's h_0."""
    normal: bool
    """Whether values of all examples are jointly normal."""


class Gradient(NamedTuple):
    """Averages over features of what arrives at a layer, in units of the last state's."""

    a: float
    """Mean square."""
    b: float
    """Mean product of two examples' gradients."""


Back = Callable[[Gradient], Gradient]
Part = Callable[[State], tuple[State, Back]]
"""A part of a block: the state behind it, and how it takes a gradient back."""


@dataclass(frozen=True)
class Prediction:
    """Values of a quantity at every state (L+1,) or block (L,); none where it says why there are none."""

    values: np.ndarray | None
    theory: str = ""
    why: str = ""
    """The assumption, or why there is no prediction."""


# ---------------------------------------------------------------------------------------- averages of a curve

_LINE, _PLANE = (torch.linspace(-8.5, 8.5, n, dtype=torch.float64) for n in (801, 97))


def _mass(z: torch.Tensor) -> torch.Tensor:
    mass = torch.exp(-z * z / 2)
    return mass / mass.sum()


class Averages(NamedTuple):
    """Of f and its slope at one normal variable, and at two that are correlated."""

    mean: float
    square: float
    product: float
    slope: float
    slope_square: float
    slope_product: float
    push_square: float
    """E (z f'(z))², and for two variables:"""
    push_product: float
    straight: bool = False
    """Whether f is a multiple of its argument, so that what is normal remains so."""


def averages(f: Callable, q: float, c: float) -> Averages:
    """E over normal variables of variance q and correlation c, where f is any elementwise torch function."""
    right, left = (float(f(torch.tensor([x], dtype=torch.float64))) * x for x in (1.0, -1.0))
    ends = torch.tensor([-300.0, -0.01, 0.0, 0.01, 300.0], dtype=torch.float64)
    if torch.allclose(f(ends), torch.where(ends > 0, right, left) * ends, rtol=1e-6, atol=1e-9):
        return _piecewise(right, left, q, c)
    size, c = math.sqrt(q), min(max(c, -1.0), 1.0)
    a = (size * _LINE).requires_grad_()
    y = f(a)
    slope = torch.autograd.grad(y.sum(), a)[0]
    y, z, mass = y.detach(), a.detach(), _mass(_LINE)
    one = [float(mass @ v) for v in (y, y**2, slope, slope**2, (z * slope) ** 2)]
    first = (size * _PLANE).requires_grad_()
    second = (size * (c * _PLANE[:, None] + math.sqrt(1 - c * c) * _PLANE)).requires_grad_()
    ys = f(first), f(second)
    slopes = torch.autograd.grad([y.sum() for y in ys], [first, second])
    mass = _mass(_PLANE)
    pairs = ys, slopes, [z * slope for z, slope in zip((first, second), slopes, strict=True)]
    two = [float((mass * v.detach()) @ (w.detach() @ mass)) for v, w in pairs]
    return Averages(one[0], one[1], two[0], one[2], one[3], two[1], one[4], two[2])


def _piecewise(right: float, left: float, q: float, c: float) -> Averages:
    """Of a curve with one slope on each side of 0: exact."""
    bend = right - left
    even = left * left + left * bend
    square, product = q * (even + bend**2 / 2), q * (even * c + bend**2 * float(kappa1(c)) / 2)
    slopes = even + bend**2 / 2, even + bend**2 * float(kappa0(c)) / 2
    mean = bend * math.sqrt(q / (2 * math.pi))
    return Averages(mean, square, product, (right + left) / 2, *slopes, square, product, right == left)


# ------------------------------------------------------------------------------------------- parts of a block


def linear(gain: float, bias: float = 0.0, centred: bool = False) -> Part:
    """Weights of variance gain/n and biases: whatever enters, what leaves is normal."""

    def part(s: State) -> tuple[State, Back]:
        out = s.m**2 if centred else 0.0
        then = State(gain * (s.q - out) + bias, gain * (s.k - out) + bias, 0.0, 0.0, True)
        return then, lambda g: Gradient(gain * g.a, gain * g.b)

    return part


def curve(f: Callable) -> Part:
    """An elementwise function of normal values."""

    def part(s: State) -> tuple[State, Back]:
        if not s.normal or s.m:
            raise Unpredictable("what enters an elementwise function here is not normally distributed")
        e = averages(f, s.q, s.k / s.q if s.q else 0.0)
        then = State(e.square, e.product, e.mean, s.r * e.slope, False)
        return then, lambda g: Gradient(e.slope_square * g.a, e.slope_product * g.b)

    return part


def over_features(d: int, centred: bool, eps: float, gain: float) -> Part:
    """LayerNorm and its kin over d features of each example; to leading order but for 1/d.

    A sample's variance is as often too small as too large, and its inverse is larger on average; one or two
    directions of d do not pass. Together (d-2)/(d-3), or (d-1)/(d-2) where the mean stays.
    """

    def part(s: State) -> tuple[State, Back]:
        mean = s.m if centred else 0.0
        scale = gain**2 / (s.q - mean**2 + eps) if s.q else 0.0
        root = math.sqrt(scale)
        then = State(
            (s.q - mean**2) * scale, (s.k - mean**2) * scale, (s.m - mean) * root, s.r * root, s.normal
        )

        def back(g: Gradient) -> Gradient:
            free = d - centred
            if free < 4 or (d < SMALL_GROUP and not s.normal):
                raise Unpredictable(f"{d} features are too few for the gradient of a norm over them")
            lift = scale * (free - 1) / (free - 2)
            return Gradient(lift * g.a, lift * g.b)

        return then, back

    return part


def over_batch(batch: int, eps: float, gain: float, f: Callable) -> Part:
    """BatchNorm and the elementwise function right behind it: examples share mean and variance."""

    def part(s: State) -> tuple[State, Back]:
        if not s.normal:
            raise Unpredictable("BatchNorm stands behind values that are not normally distributed")
        spread = s.q - s.k
        if eps > MOST_EPS * spread:
            raise Unpredictable(f"ε = {eps:g} is not small against the variance over the batch")
        scale, c = gain**2 / (spread * (1 - 1 / batch) + eps), -1 / (batch - 1)
        power = spread * (1 - 1 / batch) * scale
        e = averages(f, power, c)
        if batch < SMALL_BATCH and not math.isclose(e.push_square, e.square, rel_tol=1e-9):
            raise Unpredictable(
                f"with {batch} examples BatchNorm's output is not normal, "
                "and no closed form is known for this activation"
            )
        kept = s.r * math.sqrt(scale) * (1 - 1 / batch) * e.slope
        then = State(e.square, e.product, e.mean, kept, batch >= SMALL_BATCH and e.straight)

        def back(g: Gradient) -> Gradient:
            if batch < SHORT_BATCH:
                raise Unpredictable(
                    f"with {batch} examples BatchNorm's gradient has no finite mean; "
                    f"choose batch={SHORT_BATCH} or more"
                )
            others = batch - 1
            direct = others * (e.slope_square * g.a - e.slope_product * g.b)
            along = (e.push_square * g.a + others * e.push_product * g.b) / power
            a = gain**2 * (direct - along) / ((batch - 3) * (spread + eps))
            return Gradient(a, -a / others)

        return then, back

    return part


def dropped(share: float) -> Part:
    """Dropout: each example has a mask of its own."""
    lift = 1 / (1 - share)
    return lambda s: (s._replace(q=s.q * lift), lambda g: Gradient(g.a * lift, g.b))


def chain(parts: list[Part]) -> Part:
    """One part behind the other."""

    def part(s: State) -> tuple[State, Back]:
        backs = []
        for each in parts:
            s, back = each(s)
            backs.append(back)

        def all_back(g: Gradient) -> Gradient:
            for back in reversed(backs):
                g = back(g)
            return g

        return s, all_back

    return part


# ------------------------------------------------------------------------------------------------ experiments

OVER_FEATURES = {"layer": True, "group": True, "rms": False, "scale": False}
"""Norms over the features of an example, and whether the mean goes."""


class Walk:
    """An experiment's blocks as parts; ``Unpredictable`` where one of them has no closed form."""

    def __init__(self, e: Experiment):
        if e.model != "mlp":
            raise Unpredictable(f"no closed form is known for a {MODELS[e.model].label}; choose model=mlp")
        normed = e.norm != "none"
        if normed and e.affine and e.beta:
            raise Unpredictable(f"the closed forms hold for norms without a shift, not for β = {e.beta:g}")
        if e.drop_path:
            raise Unpredictable("with drop path every example passes through another network")
        self.e = e
        self.gain = (e.gamma if e.affine else 1.0) * e.norm_gain
        self.keep, self.add = mixture(e)

    slots: frozenset[str]
    """Where norms stand."""

    def norm(self, slot: str, f: Callable | None = None) -> list[Part]:
        """The norm of a slot, and an elementwise function right behind it."""
        e, behind = self.e, [curve(f)] if f else []
        if slot not in self.slots or (NORMS[e.norm].make.over in ("", "w") and e.norm not in ELEMENTWISE):
            return behind
        if e.norm in OVER_FEATURES:
            d = e.width // (e.groups if e.norm == "group" else 1)
            eps = 0.0 if e.norm == "scale" else e.eps
            return [over_features(d, OVER_FEATURES[e.norm], eps, self.gain), *behind]
        if e.norm == "batch":
            return [over_batch(e.batch, e.eps, self.gain, f or torch.nn.Identity())]
        if e.norm in ELEMENTWISE:
            bend = ELEMENTWISE[e.norm]
            return [curve(lambda z: (f or torch.nn.Identity())(self.gain * bend(0.5 * z)))]
        raise Unpredictable(f"no closed form is known for {NORMS[e.norm].label}")

    def weights(self, power: float, factor: float) -> Part:
        """A linear layer: its variances at the start, through what normalizes weights."""
        e = self.e
        std, bias, _ = e.scaled(INITS[e.init].make(e, e.width, e.width, power), factor)
        if e.norm == "standardized":
            std *= std / (std + e.eps) if std else 0.0
        if NORMS[e.norm].make.over == "w":
            std *= e.gamma
        return linear(e.width * std**2, bias**2, centred=e.norm == "standardized")

    def branch(self) -> Part:
        """F, with the norms before and behind it."""
        e, (inner, last) = self.e, branch_factors(self.e)
        f = ACTIVATIONS[e.activation].make()
        power, two = second_moment(f.__call__), e.layers == 2
        parts = [*self.norm("before"), self.weights(1 if two else power, inner if two else last)]
        parts += [*self.norm("inner", f), *self.norm("activated")]
        parts += [dropped(e.dropout)] * bool(e.dropout)
        parts += [self.weights(power, last)] * two
        return chain([*parts, *self.norm("branch")])

    drifts = False
    """Whether the stream grows along one direction, its mean."""

    def states(self, first: State, most: int | None = None) -> tuple[list[State], list]:
        """h_0 .. h_L, and each block's (skip, back through the branch, back through after).

        ``most`` blocks are walked, all without.
        """
        e, live, roads = self.e, self.e.knobs, {}
        for place in {e.placement, *live["placements"].values()}:
            self.slots = PLACEMENTS[place].make
            roads[place] = self.branch(), chain(self.norm("after"))
        states, backs = [first], []
        for block in range(1, min(e.depth, most or e.depth) + 1):
            x, (branch, after) = states[-1], roads[live["placements"].get(block, e.placement)]
            keep = self.keep * skip_open(live, block)
            fx, through_branch = branch(x)
            add = self.add * branch_open(live, block)
            cross = 2 * keep * add * x.m * fx.m
            both = State(  # a sum of normal values is normal
                keep**2 * x.q + add**2 * fx.q + cross, keep**2 * x.k + add**2 * fx.k + cross,
                keep * x.m + add * fx.m, keep * x.r + add * fx.r,
                (x.normal or not keep) and (fx.normal or not add),
            )  # fmt: skip
            if both.m and keep and e.norm == "none":
                self.drifts = True
            then, through_after = after(both)
            states.append(then)
            backs.append((keep, add, through_branch, through_after))
        return states, backs

    def gradients(self, backs: list) -> dict[str, np.ndarray]:
        """Mean squares of what arrives at h_0 .. h_L, and of its parts through every skip and branch."""
        if self.drifts:
            raise Unpredictable("the stream grows along its mean, where gradients outgrow all others")
        g, total, skips, branches = Gradient(1.0, 0.0), [1.0], [], []
        for keep, add, through_branch, through_after in reversed(backs):
            g = through_after(g)
            skip = Gradient(keep**2 * g.a, keep**2 * g.b)
            branch = through_branch(Gradient(add**2 * g.a, add**2 * g.b))
            g = Gradient(skip.a + branch.a, skip.b + branch.b)
            skips.append(skip.a)
            branches.append(branch.a)
            total.append(g.a)
        return {
            "grad_norm": np.array(total[::-1]),
            "skip_grad_norm": np.array(skips[::-1]),
            "branch_grad_norm": np.array(branches[::-1]),
        }


ELEMENTWISE = {"dyt": torch.tanh, "derf": torch.erf}
"""Norms that are a curve, whose slope starts at one half."""


def mixture(e: Experiment) -> tuple[float, float]:
    """By what the skip multiplies stream and branch at the start, read off the layer itself."""
    weights = Weights((0,))
    skip = RESIDUALS[e.residual].make(weights, "blocks.0", e)
    weights.pack()
    both = torch.randn(2, 1, 8, e.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = skip(*both).flatten().double()
    ways = both.flatten(1).double().T
    found = torch.linalg.lstsq(ways, seen[:, None]).solution
    if not torch.allclose(ways @ found, seen[:, None], atol=1e-4):
        raise Unpredictable(f"{RESIDUALS[e.residual].label}: no closed form is known for a gate")
    keep, add = (round(float(value), 6) for value in found[:, 0])
    return keep, add


NOISE = State(1.0, 0.0, 0.0, 1.0, True)
"""What the probe sends into h_0."""


@lru_cache(256)
def predicted(e: Experiment, first: State = NOISE) -> dict[str, Prediction]:
    """Everything that can be said of an experiment at init, by the name of what is measured.

    h_0 is ``first``, and what arrives at h_L are independent standard normal entries.
    """
    try:
        states, backs = (walk := Walk(e)).states(first)
    except Unpredictable as why:
        return {name: Prediction(None, why=said(why)) for name in QUANTITIES}
    q, k, m, r = (np.array([getattr(s, name) for s in states]) for name in ("q", "k", "m", "r"))
    with np.errstate(all="ignore"):
        found = {
            "act_rms": np.sqrt(q), "act_std": np.sqrt(np.maximum(q - m**2, 0)), "act_mean": m,
            "cosine": np.where(q > 0, k / q, 0.0),
            "input_cosine": np.where(q > 0, r / np.sqrt(q * first.q), 0.0),
        }  # fmt: skip
    why = ""
    try:
        gradients = walk.gradients(backs)
        found |= {name: np.sqrt(e.width * value) for name, value in gradients.items()}
        found["skip_branch_cosine"] = np.zeros(e.depth)
    except Unpredictable as error:
        why = said(error)
    return {
        name: Prediction(found[name], named(e, name), assumption(e)) if name in found
        else Prediction(None, why=why)
        for name in QUANTITIES
    }  # fmt: skip


ENDS = 5
"""Blocks behind which a gradient is compared: at the end the loss knows the last weights."""


ALIKE, FIRST = State(1.0, 0.5, 0.0, 1.0, True), 3
"""Examples that are half alike, and the blocks in which nearly all that there is no theory for shows."""


@lru_cache(256)
def foreseeable(e: Experiment) -> dict[str, Prediction]:
    """What ``foreseen`` may say, at little cost: no values, but the row of ``THEORIES`` or why none."""
    try:
        backs = (walk := Walk(e)).states(ALIKE, FIRST)[1]
    except Unpredictable as why:
        return {name: Prediction(None, why=said(why)) for name in FORESEEN}
    refused = {}
    try:
        walk.gradients(backs)
    except Unpredictable as why:
        refused["grad_norm"] = Prediction(None, why=said(why))
    taken = f"{assumption(e)}, inputs equally long"
    return {name: Prediction(None, named(e, name), taken) for name in FORESEEN} | refused


def foreseen(e: Experiment, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What theory says of a run's first probe, (1, L+1, S) each: an array's name, and ``_theory``.

    It starts from the means of that probe's own h_0, whose examples it takes to be equally long, and has the
    size of the gradient from a late block. Empty where the run was not probed, or nothing is predicted.
    """
    if "act_rms" not in seen:
        return {}
    power, alike = float(np.square(seen["act_rms"][0, 0]).mean()), float(seen["cosine"][0, 0].mean())
    if not np.isfinite([power, alike]).all():
        return {}
    told = predicted(e, State(power, power * alike, 0.0, power, True))
    found = {name: told[name].values for name in FORESEEN if told[name].values is not None}
    if "grad_norm" in found:
        at = max(e.blocks - ENDS, (e.blocks + 1) // 2)
        with np.errstate(all="ignore"):
            size = np.exp(np.log(seen["grad_norm"][0, at]).mean()) / found["grad_norm"][at]
        found["grad_norm"] = found["grad_norm"] * size
    shape = seen["act_rms"].shape
    rows = {
        f"{name}_theory": np.broadcast_to(v[:, None], shape).astype(np.float32) for name, v in found.items()
    }
    return rows | {"theory_step": seen["probe_step"]} if rows else {}


QUANTITIES = (
    "act_rms", "act_std", "act_mean", "cosine", "input_cosine",
    "grad_norm", "skip_grad_norm", "branch_grad_norm", "skip_branch_cosine",
)  # fmt: skip


FORESEEN = "act_std", "cosine", "grad_norm"
"""Quantities whose theory is laid over what a run records."""


def predict(e: Experiment, quantity: str) -> Prediction:
    """A quantity along the blocks at init, with the row of ``THEORIES`` that says it."""
    if quantity not in QUANTITIES:
        raise ValueError(f"{quantity!r}: there is a theory for {', '.join(QUANTITIES)}")
    return predicted(e)[quantity]


PLAIN, SKIP = {"residual": "none", "layers": 1}, {"residual": "identity", "layers": 2}
RELU, TANH = {"activation": "relu"}, {"activation": "tanh"}
FORWARD, BACKWARD = {"act_rms", "act_std"}, {"grad_norm"}
ROWS = [
    ("C01", FORWARD | BACKWARD, PLAIN | RELU | {"norm": "none", "init": "he"}),
    ("C03", FORWARD | BACKWARD, PLAIN | RELU | {"norm": "none", "init": "xavier"}),
    ("C04", {"cosine"}, PLAIN | RELU | {"norm": "none"}),
    ("C04", {"cosine"}, PLAIN | RELU | {"norm": "layer", "placement": "inner"}),
    ("C07", FORWARD, PLAIN | TANH | {"norm": "none"}),
    ("C08", BACKWARD, PLAIN | TANH | {"norm": "none"}),
    ("C10", {"cosine"}, PLAIN | TANH | {"norm": "none"}),
    ("C11", BACKWARD, PLAIN | RELU | {"norm": "batch", "placement": "inner"}),
    ("C12", BACKWARD, PLAIN | {"activation": "identity", "norm": "batch", "placement": "inner"}),
    ("C14", BACKWARD, PLAIN | RELU | {"norm": "layer", "placement": "inner"}),
    ("C15", BACKWARD, PLAIN | RELU | {"norm": "layer", "placement": "activated"}),
    ("C16", BACKWARD, PLAIN | TANH | {"norm": "layer", "placement": "inner"}),
    ("C17", FORWARD | BACKWARD, SKIP | {"norm": "none"}),
    ("C18", FORWARD | BACKWARD, {"residual": "scaled", "layers": 2, "norm": "none", "alpha": 0.0}),
    ("C19", FORWARD | BACKWARD, SKIP | {"norm": "layer", "placement": "pre"}),
    ("C20", FORWARD | BACKWARD, SKIP | RELU | {"norm": "batch", "placement": "pre"}),
    ("C21", BACKWARD, SKIP | RELU | {"norm": "layer", "placement": "post"}),
    ("C24", {"input_cosine"}, {"layers": 2, "norm": "none"}),
    ("C24", {"input_cosine"}, {"layers": 2, "norm": "layer", "placement": "pre"}),
    ("C24", {"input_cosine"}, {"layers": 2, "norm": "layer", "placement": "post"}),
    ("C32", {"cosine"}, PLAIN | RELU | {"norm": "batch", "placement": "inner"}),
]
"""Which closed form an experiment's quantity is: the first whose fields agree; else the general theory."""


def named(e: Experiment, quantity: str) -> str:
    """The row of ``THEORIES`` for a quantity of an experiment."""
    fitting = (
        row for row, quantities, fields in ROWS
        if quantity in quantities and all(getattr(e, name) == value for name, value in fields.items())
    )  # fmt: skip
    return next(fitting, "MF")


def assumption(e: Experiment) -> str:
    """What a prediction takes for granted."""
    batch = f", {e.batch} examples a batch" if e.norm == "batch" else ""
    return f"at init, independent weights, width {e.width} taken as wide{batch}"
