"""The numbers of papers, taken from networks at their start or while they learn."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lnres import theory
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS, Attention, Weights, generator
from lnres.papers.paper import Point
from lnres.probes import Tape
from lnres.train import Run, probe

ENDS, COUNTED = 5, 30
network = partial(Experiment, device="cpu")
"""An experiment as all that is printed here was measured; other devices round otherwise."""
PLAIN = {"residual": "none", "layers": 1, "placement": "inner", "final_norm": False}


def rate(**settings) -> np.ndarray:
    """By how much the squared gradient of a plain network grows per layer towards the input, one a net."""
    e = network(**PLAIN | {"depth": COUNTED + 2 * ENDS, "width": 512, "seeds": 8, "batch": 8} | settings)
    squares = 2 * np.log(probe(e)["grad_norm"].astype(float))
    return np.exp((squares[ENDS] - squares[-1 - ENDS]) / (len(squares) - 1 - 2 * ENDS))


def batchnorm(activation: str, published: Callable[[float], float], *batches: int) -> list[Point]:
    """Rates of plain BatchNorm networks, which a few layers settle."""
    settings = {"norm": "batch", "activation": activation, "depth": 20, "seeds": 4}
    name = ACTIVATIONS[activation].label
    return [
        Point.of(f"{name}, batch of {batch}", published(batch), rate(batch=batch, **settings))
        for batch in batches
    ]


def critical() -> list[Point]:
    """The variance of weights at which a tanh network's gradient neither grows nor shrinks."""
    variances = np.linspace(1.6, 1.95, 6)
    logs = np.log([
        rate(activation="tanh", norm="none", init="meanfield", sigma_w2=float(v), sigma_b2=0.05, depth=50)
        for v in variances
    ])  # fmt: skip
    zeros = [-offset / slope for slope, offset in (np.polyfit(variances, net, 1) for net in logs.T)]
    return [Point.of("critical σ_w² at σ_b² = 0.05", 1.76, zeros)]


def last_gradient() -> list[Point]:
    """How the last block's gradient depends on depth, per example: one example a net."""
    depths, points = np.array([2, 8, 24]), []
    for placement, exponent in theory.LAST_GRADIENT.items():
        sizes = [
            float((next(Run(network(
                depth=depth, width=64, placement=placement, batch=1, seeds=64, final_norm=placement == "pre",
            )))[0]["weight_grad_norm"][0, -1] ** 2).mean() ** 0.5)
            for depth in depths.tolist()
        ]  # fmt: skip
        slope = np.polyfit(np.log(depths + 1), np.log(sizes), 1)[0]
        # What an exponent makes of a depth e times as large can be compared for 0, too.
        points.append(
            Point.of(f"{placement}-LN: last gradient, depth × e", float(np.exp(exponent)), [np.exp(slope)])
        )
    return points


def scatter() -> list[Point]:
    """n times the variance of q(l+1)/q(l) over a thousand narrow ReLU networks, q the mean square."""
    ratios = []
    for first in range(0, 1024, 64):
        e = network(**PLAIN, norm="none", init="he", depth=8, width=64, seeds=64, batch=1, seed=first)
        squares = probe(e)["act_rms"].astype(float) ** 2
        ratios.append((squares[2:] / squares[1:-1]).ravel())
    return [Point.of("n Var q(l+1)/q(l), n = 64", 5.0, [64 * np.var(np.concatenate(ratios))])]


def shrinking() -> list[Point]:
    """The branch's share of each state behind it, against one over the number of branches so far."""
    e = network(norm="batch", placement="pre", depth=32, width=512, seeds=8, batch=256)
    squares = probe(e)["act_rms"].astype(float) ** 2
    added = np.diff(squares, axis=0) / squares[:-1]
    x = np.log(np.arange(1, len(added) + 1))
    slopes = [np.polyfit(x[2:], np.log(net[2:]) / 2, 1)[0] for net in added.T]
    return [Point.of("exponent of branch over skip against depth", -0.5, slopes)]


def exploding() -> list[Point]:
    """Growth per block of a stream without norm or scale, of its power and of its squared gradient."""
    told = probe(network(norm="none", depth=24, width=512, seeds=8, batch=8))
    powers = 2 * np.log(told["act_rms"].astype(float))
    squares = 2 * np.log(told["grad_norm"].astype(float))
    held = probe(network(norm="none", residual="scaled", depth=24, width=512, seeds=8, batch=8))
    scaled = held["act_rms"].astype(float) ** 2
    return [
        Point.of("power per block", theory.bare_rate(), np.exp((powers[-1] - powers[0]) / 24)),
        Point.of("squared gradient per block", theory.bare_rate(), np.exp((squares[0] - squares[-1]) / 24)),
        Point.of("power of all 24, branches over √24", theory.scaled_total(24), scaled[-1] / scaled[0]),
    ]


def started(residual: str, depth: int) -> float:
    """By how much a skip makes the inner weights of the first branch smaller at the start."""
    stds = [
        float(Run(network(depth=depth, width=256, residual=skip, norm="none", seeds=1))
              .weights.named()["blocks.0.first.weight"][0].detach().std())
        for skip in (residual, "identity")
    ]  # fmt: skip
    return stds[0] / stds[1]


def deepnorm() -> list[Point]:
    """β of the branch's weights, at depths where they are drawn."""
    return [
        Point.of(f"β at {depth} blocks", theory.deepnorm(depth)[1], [started("deepnorm", depth)])
        for depth in (8, 64)
    ]


def fixup() -> list[Point]:
    """The factor of the branch's inner weights."""
    return [
        Point.of(f"factor at {depth} blocks", theory.fixup_scale(depth), [started("fixup", depth)])
        for depth in (9, 64)
    ]


def rezero() -> list[Point]:
    """What a gradient keeps on its way through all blocks at the start."""
    told = probe(network(residual="rezero", norm="none", depth=64, width=64, seeds=4, batch=8))
    return [
        Point.of(
            "gradient at the input over that at the top", 1.0, told["grad_norm"][0] / told["grad_norm"][-1]
        )
    ]


def paths() -> list[Point]:
    """The share of all paths through 54 blocks that pass through 5 to 17 of them, in percent."""
    counts = theory.path_counts(54)
    return [Point.of("paths of length 5 to 17, percent", 0.45, [100 * sum(counts[5:18]) / sum(counts)])]


def critical_layernorm() -> list[Point]:
    """LayerNorm before the ReLU: the rate for weights of three sizes, without biases and with."""
    points = [
        Point.of(
            f"σ_w² = {v:g}, no biases", 1.0, rate(norm="layer", init="meanfield", sigma_w2=v, sigma_b2=0.0)
        )
        for v in (0.5, 2.0, 8.0)
    ]
    biased = rate(norm="layer", init="meanfield", sigma_w2=2.0, sigma_b2=0.5)
    return [*points, Point.of("σ_w² = 2, biases of variance 0.5", theory.layernorm_rate(2.0, 0.5), biased)]


# ------------------------------------------------------------------------- away from what a probe measures

FIRST, SEEDS = 100, 8
"""Sizes were tried on seeds below."""


def normal(seeds, shape: tuple[int, ...], *key) -> Tensor:
    """Standard normal numbers of each seed, (S, *shape)."""
    return torch.stack([torch.randn(shape, generator=generator(seed, *key)) for seed in seeds])


def still(**settings) -> Run:
    """Eight networks that are looked into."""
    return Run(network(**{"seed": FIRST, "seeds": SEEDS, "record_every": 0, "final_norm": False} | settings))


def turned(depth: int = 8, pairs: int = 64) -> list[Point]:
    """How fast input gradients of two independent inputs turn apart, per layer; and what that rests on."""
    points, width = [], 512
    nets = {
        "plain, cosine per layer": (0.5, PLAIN | {"init": "he"}),
        "residual, cosine per block": (0.75, {}),
    }
    for name, (printed, settings) in nets.items():
        run, tape = still(norm="none", depth=depth, width=width, **settings), Tape()
        seeds = run.experiment.member_seeds
        h = normal(seeds, (2 * pairs, width), "pairs").requires_grad_()
        out = run.model.stream(h, tape)
        (g,) = torch.autograd.grad(out, h, normal(seeds, (1, width), "cotangent").expand_as(out))
        cosine = torch.nn.functional.cosine_similarity(g[:, ::2], g[:, 1::2], dim=-1).mean(1)
        points.append(Point.of(name, printed, cosine.clamp_min(0).numpy() ** (1 / depth)))
        if settings:
            on = tape.states[-1].detach() > 0
            both = (on[:, ::2] & on[:, 1::2]).double().mean((1, 2))
            points.append(Point.of(f"plain, active for both at layer {depth}", 0.25, both.numpy()))
    return points


def rotation(norm: str, lr: float, weight_decay: float, **settings) -> np.ndarray:
    """Root mean square angle per step of the weights behind a norm, over what is expected, (S,).

    A direction is that of the numbers whose common scale the norm forgets: with LayerNorm all weights and
    biases of the layer, with BatchNorm each unit's own weights.
    """
    half = int(6 / (lr * weight_decay))
    run = Run(network(
        **PLAIN, norm=norm, depth=2, width=64, batch=16, lr=lr, weight_decay=weight_decay, momentum=0.0,
        optimizer="sgd", steps=2 * half, seed=FIRST, seeds=SEEDS, record_every=0, **settings,
    ))  # fmt: skip
    named = run.weights.named()
    weight, bias = (named[f"blocks.1.first.{what}"][0].detach() for what in ("weight", "bias"))

    def direction() -> Tensor:
        joint = torch.cat([weight, bias], 1).flatten(1)[..., None] if norm == "layer" else weight
        return torch.nn.functional.normalize(joint.double(), dim=1)

    for _ in range(half):
        next(run)
    squares, before = 0.0, direction()
    for _ in range(half):
        next(run)
        after = direction()
        # twice the arc sine of half the chord: an arc cosine of nearly one would be rounding
        squares = squares + (2 * torch.asin((after - before).norm(dim=1) / 2)) ** 2 / half
        before = after
    return squares.mean(1).sqrt().numpy() / theory.rotation(lr, weight_decay)


DECAYS = {"ηλ = 0.005": (0.1, 0.05), "ηλ = 0.00125": (0.1, 0.0125)}


def rotations() -> list[Point]:
    """The angle per step of LayerNorm's weights."""
    return [
        Point.of(
            f"radians a step, {name}", theory.rotation(*at), theory.rotation(*at) * rotation("layer", *at)
        )
        for name, at in DECAYS.items()
    ]


def rotations_of_units() -> dict[str, np.ndarray]:
    """The angle per step of BatchNorm's weights, over what is expected; also where ε counts for less.

    Decay makes weights small: once ε counts beside their variance, their scale is not quite forgotten.
    """
    found = {name: rotation("batch", *at) for name, at in DECAYS.items()}
    first = next(iter(DECAYS))
    return found | {f"{first}, ε = 1e-8": rotation("batch", *DECAYS[first], eps=1e-8)}


def dropped() -> list[Point]:
    """The variance that BatchNorm meets in testing, over the one it remembers from training with dropout."""
    points, width = [], 256
    for p in (0.1, 0.3, 0.5):
        run = still(**PLAIN | {"placement": "branch"}, norm="batch", depth=1, width=width, dropout=p)
        seeds, block = run.experiment.member_seeds, run.model.blocks[0]
        run.weights.live = {"dropout": p}
        with torch.no_grad():
            for run.weights.step in range(100):
                block(normal(seeds, (512, width), "x", run.weights.step))
            run.weights.training = False
            seen = block.branch(normal(seeds, (8192, width), "tests")).var(1)
        ratio = (seen / block.between.running_var[:, 0]).mean(1)
        points.append(Point.of(f"dropout {p:g}", theory.dropout_shift(p), ratio.numpy()))
    return points


def ranks(depth: int = 6, width: int = 32, positions: int = 8) -> dict[str, np.ndarray]:
    """What tokens keep of their differences, ‖H − mean‖/‖H‖, layer by layer of attention, in doubles."""
    found, start, seeds = {}, (1 / math.sqrt(width), 0.0, "normal"), range(FIRST, FIRST + SEEDS)
    for name, skip in (("alone", 0), ("with skips", 1)):
        weights = Weights(seeds)
        layers = [Attention(weights, str(i), width, 1, start, start) for i in range(depth)]
        weights.pack()
        h = normal(seeds, (16, positions, width), "tokens").double()
        with torch.no_grad():
            for i, layer in enumerate(layers, 1):
                for linear in (layer.ask, layer.tell):
                    linear.weight, linear.bias = linear.weight.double(), linear.bias.double()
                h = layer(h) + skip * h
                kept = (h - h.mean(2, keepdim=True)).flatten(1).norm(dim=1) / h.flatten(1).norm(dim=1)
                found[f"{name}, layer {i}"] = kept.numpy()
    return found


def transformer_powers(placement: str) -> np.ndarray:
    """Mean square of each sum on the stream of a transformer with uniform attention, (2 depth, S)."""
    run = still(
        model="transformer", norm="layer", placement=placement, init="lecun", width=256, depth=6, heads=1,
        batch=8,
    )  # fmt: skip
    e, powers = run.experiment, []
    with torch.no_grad():
        h = normal(e.member_seeds, (8, e.positions, e.width), "tokens")
        for attend in run.model.blocks[::2]:
            attend.branch.attention.ask.weight[..., : 2 * e.width] = 0.0
        for block in run.model.blocks:
            y = block.skip(h, block.branch(block.before(h)))
            h = block.after(y)
            powers.append(y.square().mean((1, 2, 3)).numpy())
    return np.array(powers)


def summed() -> list[Point]:
    """The mean square of the sum in front of the second norm of a post-LN layer."""
    return [
        Point.of(
            "mean square before the second norm", theory.POST_SUM, transformer_powers("post")[1::2].mean(0)
        )
    ]


def steepness() -> dict[str, np.ndarray]:
    """What a pre-LN layer adds to the mean square of the stream, on average."""
    powers = transformer_powers("pre")[1::2]
    return {"added by a layer": np.polyfit(np.arange(len(powers)), powers, 1)[0]}
