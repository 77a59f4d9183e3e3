"""What needs no training: algebra, and which examples a norm's output depends on (E01, E02)."""

import math
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnres.claims.bench import EXPERIMENTS, FIRST, SGD, Found, Steps, plain, train
from lnres.layers import Weights, generator
from lnres.norms import NORMS

EPS = 1e-5


def alone(norm: str, features: int, groups: int = 1, eps: float = EPS):
    """A norm by itself, one member, without γ and β."""
    weights = Weights([0])
    e = SimpleNamespace(eps=eps, affine=False, norm_momentum=0.1, running=True, groups=groups, gamma=1.0)
    made = NORMS[norm].make(weights, "norm", features, e)
    weights.pack()
    return made


@EXPERIMENTS.add("E01", "Which examples an output depends on")
def independence(first: int = FIRST) -> Steps:
    """One layer alone, x = 3 randn(32, 64): how far example 0 moves when other examples do."""
    found = Found()
    for norm in ("layer", "rms", "batch"):
        changes: dict[str, list[float]] = {}
        for seed in range(first, first + 8):
            g = generator(seed, "independence")
            x, others = (3 * torch.randn(1, 32, 64, generator=g) for _ in range(2))
            layer = alone(norm, 64)
            own = layer(x)[:, 0]
            moved = {
                "others replaced": layer(torch.cat([x[:, :1], others[:, 1:]], 1))[:, 0],
                "order permuted": layer(x[:, torch.randperm(32, generator=g)].index_copy(
                    1, torch.tensor([0]), x[:, :1]))[:, 0],
                "batch of 4": layer(x[:, :4])[:, 0],
                "batch of 1": layer(x[:, :1])[:, 0],
            }  # fmt: skip
            for _ in range(20):
                layer(3 * torch.randn(1, 32, 64, generator=g))
            layer.weights.training = False
            moved["evaluation mode"] = layer(x)[:, 0]
            for name, y in moved.items():
                changes.setdefault(name, []).append(float((y - own).abs().max()))
            yield f"{norm} alone"
        for name, values in changes.items():
            found.put(f"{norm} {name}", values)
    return found


def jacobian(x: Tensor, eps: float) -> Tensor:
    """Of LayerNorm's own written-out equation at one row (n,), in double precision: (n, n)."""
    layer = alone("layer", len(x), eps=eps)
    return torch.autograd.functional.jacobian(lambda row: layer.equation(row[None, None])[0, 0], x)


@EXPERIMENTS.add("E02", "Algebra of the norms")
def algebra(first: int = FIRST) -> Steps:
    """Own norms against the library's, sweeps of scale, Jacobians, identities and shifts; mostly float64."""
    found = Found()
    g = generator(first, "algebra")
    x = torch.randn(1, 32, 64, generator=g, dtype=torch.float64)
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        row = (3 * x + 1).to(dtype)
        own = alone("layer", 64).equation(row)
        found.put(f"own minus library {name}", float((own - F.layer_norm(row, (64,), eps=EPS)).abs().max()))
    yield "LayerNorm against the library"

    unit = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
    power, along = [], []
    for s in np.logspace(-6, 3, 19):
        power.append(float((alone("layer", 64).equation(s * unit).square().mean(-1)
                            - s**2 / (s**2 + EPS)).abs().max()))  # fmt: skip
        row, expected = s * unit[0, 0], EPS / (s**2 + EPS) ** 1.5
        direction = unit[0, 0] / unit[0, 0].norm()
        error = float(direction @ jacobian(row, EPS) @ direction) - expected
        along.append(abs(error) * math.sqrt(s**2 + EPS))
        yield "scale of the input"
    constant = alone("layer", 64).equation(torch.full((1, 1, 64), 7.0, dtype=torch.float64))
    found.put("output power minus s²/(s²+ε)", max(power))
    found.put("√(s²+ε) times (gradient along x̂ minus ε/(s²+ε)^1.5)", max(along))
    found.put("output of a constant row", float(constant.abs().max()))
    sizes = np.logspace(-6, 3, 19) ** 2
    found.put("output power by scale", sizes / (sizes + EPS))
    found.put("scales", np.logspace(-6, 3, 19))

    worst, rank = [], []
    for sigma in (0.1, 1.0, 10.0):
        row = sigma * unit[0, 1] + 3
        values = torch.linalg.svdvals(jacobian(row, 0.0))
        worst.append(float((values[:62] * sigma - 1).abs().max()))
        rank.append(float((values[62:] * sigma).max()))
        yield "Jacobian of LayerNorm"
    found.put("62 singular values times σ, minus 1", max(worst))
    found.put("2 singular values times σ", max(rank))
    tallest = alone("layer", 64).equation(torch.eye(64, dtype=torch.float64)[None])
    found.put("largest entry over √(d-1), minus 1", max(0.0, float(tallest.max()) / math.sqrt(63) - 1))

    image = torch.randn(1, 8, 64, 8, generator=g)  # (S, B, positions, channels)
    whole = F.layer_norm(image, (64, 8), eps=EPS)
    found.put("GroupNorm(1) minus LayerNorm(C,H,W)", float((alone("group", 8, 1)(image) - whole).abs().max()))
    each = alone("group", 8, 8)(image) - alone("instance", 8)(image)
    found.put("GroupNorm(C) minus InstanceNorm", float(each.abs().max()))
    yield "identities of GroupNorm"

    channel, place = (torch.randn(1, 1, *shape, generator=g) for shape in ((1, 8), (64, 8)))
    shifted = torch.roll(image.unflatten(2, (8, 8)), (2, 3), (2, 3)).flatten(2, 3)
    variants = {
        "LayerNorm(C)": (alone("layer", 8), channel),
        "LayerNorm(C,H,W), one γ a channel": (alone("group", 8, 1), channel),
        "LayerNorm(C,H,W), one γ a position": (alone("group", 8, 1), place),
        "BatchNorm": (alone("batch", 8), channel),
        "InstanceNorm": (alone("instance", 8), channel),
    }
    for name, (layer, gain) in variants.items():
        after = torch.roll((gain * layer(image)).unflatten(2, (8, 8)), (2, 3), (2, 3)).flatten(2, 3)
        found.put(f"{name} shift error", float((gain * layer(shifted) - after).abs().max()))
    yield "circular shifts"

    a = torch.zeros(1, 16, 8, 8)
    for channels in (16, 1, 32):
        try:
            fits = float((a + torch.zeros(1, channels, 8, 8)).shape == a.shape)
        except RuntimeError:
            fits = 0.0
        found.put(f"16 + {channels} channels add", fits)
    projected = F.conv2d(torch.zeros(1, 32, 8, 8), torch.zeros(16, 32, 1, 1))
    found.put("16 + projected 32 channels add", float((a + projected).shape == a.shape))

    e = plain(norm="layer", depth=4, seed=first, steps=300, lr=0.05, optimizer=SGD)
    trial = yield from train(e, "LayerNorm, trained")
    run = trial.run
    with torch.no_grad():
        h = run.model.enter(run.batches.view(run.batches.test_x))
        for block in run.model.blocks[:2]:
            h = block(h)
        norm, z = run.model.blocks[2].branch.inner, run.model.blocks[2].branch.first(h)
        before = norm.normalize(z)
        after = norm.rescale(before)
    for name, y in (("before", before), ("after", after)):
        found.put(f"{name} γ, β: mean", y.mean(-1).abs().mean(1))
        found.put(f"{name} γ, β: variance minus 1", (y.var(-1, correction=0) - 1).abs().mean(1))
    return found
