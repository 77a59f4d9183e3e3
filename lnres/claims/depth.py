"""Depth and skips: accuracy against depth, paths, the identity, signals at init (E07 to E11)."""

import numpy as np
import torch

from lnres import theory
from lnres.claims.bench import (
    ADAM,
    EXPERIMENTS,
    FIRST,
    SEEDS,
    SGD,
    Found,
    Steps,
    Trial,
    plain,
    rates,
    residual,
    sweep,
    train,
    trainings,
)
from lnres.layers import generator
from lnres.probes import Tape
from lnres.train import Run, probe

DEPTHS = 2, 8, 16, 32, 64
PLAIN = "plain none", "plain LN", "plain BN"
RESIDUAL = "bare", "scaled", "ReZero", "pre-LN", "pre-BN", "post-LN"
COUNTED = slice(5, 36)
"""Of 40 layers, the states between which a rate is counted: five at each end are left out."""


def network(name: str, first: int, **settings):
    """A plain or residual network by the name of its arm."""
    if name in PLAIN:
        norm = dict(zip(PLAIN, ("none", "layer", "batch"), strict=True))[name]
        return plain(norm=norm, seed=first, **settings)
    return residual(name, seed=first, **settings)


@EXPERIMENTS.add("E07", "32 blocks")
def depth(first: int = FIRST) -> Steps:
    """Nine networks of width 32, 32 blocks, 400 steps: train accuracy; rates chosen on other seeds."""
    found = Found()
    arms = {f"{name} best": network(name, first, depth=32, width=32, steps=400) for name in PLAIN + RESIDUAL}
    grid = rates(SGD, 0.001, 0.01, 0.05, 0.1) + rates(ADAM, 3e-4, 1e-3, 3e-3)
    yield from sweep(found, arms, grid, trainings, choose=True)

    e = residual("pre-LN", depth=16, width=32, steps=400, lr=0.05, seed=first)
    shares(found, Run(e), "at init")
    trial = yield from train(e, "branch against skip")
    shares(found, trial.run, "trained")
    return found


@EXPERIMENTS.add("E07c", "Accuracy against depth")
def curve(first: int = FIRST) -> Steps:
    """The same nine networks with 2 to 64 blocks, SGD."""
    found = Found()
    for blocks in DEPTHS:
        arms = {
            f"{name} D={blocks}": network(name, first, depth=blocks, width=32, steps=400)
            for name in PLAIN + RESIDUAL
        }
        yield from sweep(found, arms, rates(SGD, 0.01, 0.05, 0.1), trainings, choose=True)
    return found


@torch.no_grad()
def shares(found: Found, run: Run, when: str) -> None:
    """The size of each block's branch against its skip; and that the sum is what the block gives out."""
    with run.mode(training=False):
        h, ratio, error = run.model.enter(run.batches.view(run.batches.test_x)), [], []
        for block in run.model.blocks:
            y = block(h)
            fx = block.branch(block.before(h))
            error.append(float((y - h - fx).abs().max() / y.abs().max()))
            ratio.append((fx.norm(dim=2) / h.norm(dim=2)).mean().item())
            h = y
    found.put(f"branch over skip, {when}", ratio)
    found.put(f"block minus skip minus branch, {when}", max(error))


@EXPERIMENTS.add("E08", "Hundreds of layers")
def hundreds(first: int = FIRST) -> Steps:
    """512 and 2000 layers of width 16, Adam, 200 steps: train accuracy; rates chosen on other seeds."""
    found = Found()
    grid = rates(ADAM, 3e-4, 1e-3, 3e-3)
    small = {"width": 16, "steps": 200}
    arms = {
        f"{name} 512": network(name, first, depth=256, **small)
        for name in ("pre-LN", "ReZero", "scaled", "post-LN")
    }
    arms["plain LN 256"] = network("plain LN", first, depth=256, **small)
    yield from sweep(found, arms, grid, trainings, choose=True)
    arms = {"pre-LN 2000": network("pre-LN", first, depth=1000, **small)}
    yield from sweep(found, arms, grid, trainings, choose=True)
    return found


PATHS = {
    "unit branch": ({"norm": "none"}, lambda n: [1 / 2] * n),
    "half the power": (
        {"norm": "none", "residual": "scaled", "alpha": 0.5**0.5}, lambda n: [(1 / 2) / (1 + 1 / 2)] * n,
    ),
    "1/√L": ({"norm": "none", "residual": "scaled"}, lambda n: [(1 / n) / (1 + 1 / n)] * n),
    "pre-LN": ({"norm": "layer", "final_norm": False}, lambda n: [1 / (k + 2) for k in range(n)]),
}  # fmt: skip
"""Settings of a residual network, and the theory's chance that a path passes through each block's branch."""
BLOCKS, WIDE = 16, 384


def path_energy(run: Run, x, cotangent) -> np.ndarray:
    """The share (L+1,) of the gradient's energy that passed through k branches, one member.

    The product of all (I + J) is expanded by the number of J's: going back through a block, what passed
    through k branches becomes what passed k by the skip, and k+1 by the branch.
    """
    tape = Tape()
    with torch.no_grad():
        run.model.stream(x, tape)
    passed = [cotangent]
    for block, h in zip(reversed(run.model.blocks), reversed(tape.states[:-1]), strict=True):
        many = len(passed)
        entered = h.detach().repeat(1, many, 1).requires_grad_()
        (back,) = torch.autograd.grad(block(entered), entered, torch.cat(passed, 1))
        through = [b - p for b, p in zip(back.chunk(many, 1), passed, strict=True)]  # minus the skip's part
        zero = torch.zeros_like(cotangent)
        passed = [p + t for p, t in zip([*passed, zero], [zero, *through], strict=True)]
    energy = np.array([float(p.double().square().sum()) for p in passed])
    return energy / energy.sum()


@EXPERIMENTS.add("E09", "Paths through a residual network")
def paths(first: int = FIRST) -> Steps:
    """16 blocks of width 384 at init: how many branches the gradient's energy has passed through."""
    found = Found()
    for name, (settings, taken) in PATHS.items():
        means, energies = [], []
        expected = theory.path_shares(taken(BLOCKS))
        for seed in range(first, first + SEEDS):
            e = plain(**{"layers": 2, "residual": "identity", "placement": "pre"} | settings,
                      depth=BLOCKS, width=WIDE, seed=seed, seeds=1)  # fmt: skip
            x, cotangent = (torch.randn(1, 16, WIDE, generator=generator(seed, what)) for what in ("x", "g"))
            energies.append(path_energy(Run(e), x, cotangent))
            means.append(float(energies[-1] @ np.arange(BLOCKS + 1)) / BLOCKS)
            yield f"{name}, seed {seed}"
        found.put(f"{name} mean length over L", means)
        found.put(f"{name} energy by length", np.mean(energies, 0))
        found.put(f"{name} theory by length", expected)
        found.put(f"{name} distance from theory", [np.abs(e - expected).sum() / 2 for e in energies])
    counts = theory.path_counts(54)
    found.put("54 blocks, share of paths of 5 to 17", sum(counts[5:18]) / sum(counts))
    return found


def reproduction(trial: Trial) -> dict[str, np.ndarray]:
    """Mean squared error on fresh inputs; 1, that of always answering 0, where outputs are not finite."""
    error = trial.run.test()[0].numpy()
    return {"error": np.where(np.isfinite(error), error, 1.0)}


@EXPERIMENTS.add("E10", "Learning the identity")
def identity(first: int = FIRST) -> Steps:
    """Regress y = x in 32 dimensions through 1, 4 and 16 blocks, Adam, 400 steps: error on fresh inputs."""
    found = Found()
    for blocks in (1, 4, 16):
        arms = {
            f"{name} D={blocks}": network(
                name, first, depth=blocks, data="identity", scaler="none", steps=400
            )
            for name in ("plain none", "bare", "ReZero", "pre-LN", "post-LN")
        }
        yield from sweep(found, arms, rates(ADAM, 3e-4, 1e-3, 3e-3), reproduction)
    return found


def squared_ratio(norms: np.ndarray, a: int, b: int) -> np.ndarray:
    """g_a / g_b of norms (L+1, S), squared as science counts gradients."""
    return (norms[a].astype(float) / norms[b]) ** 2


SEEN = "grad_norm", "act_rms", "input_cosine"


def probed(e, said: str) -> Steps:
    """What ``probe`` measures of all members, (L+1, S), one member after the other: none takes long."""
    members = []
    for seed in e.member_seeds:
        members.append(probe(e.replace(seed=seed, seeds=1)))
        yield f"{said}, seed {seed}"
    return {name: np.concatenate([arrays[name] for arrays in members], 1) for name in SEEN}


@EXPERIMENTS.add("E11", "Signals at init")
def signals(first: int = FIRST) -> Steps:
    """Untrained wide networks: gradients, powers and cosines per block against their closed forms."""
    found = Found()
    for norm in ("none", "layer"):
        for sigma in (0.5, 2.0, 8.0):
            e = plain(norm=norm, init="meanfield", sigma_w2=sigma, depth=40, width=1024, batch=32, seed=first)
            g = (yield from probed(e, f"rate of {norm}, σ_w² = {sigma:g}"))["grad_norm"][COUNTED]
            found.put(f"{norm} rate at σ_w²={sigma:g}", squared_ratio(g, 0, -1) ** (1 / (len(g) - 1)))

    for blocks in (16, 64):
        e = residual("bare", depth=blocks, width=512, batch=32, seed=first)
        p = yield from probed(e, f"bare, {blocks} blocks")
        ratio = squared_ratio(p["grad_norm"], 0, -1)
        found.put(f"bare D={blocks} g0/gL", ratio)
        found.put(f"bare D={blocks} gradient rate", ratio ** (1 / blocks))
        power = squared_ratio(p["act_rms"], -1, 0)
        found.put(f"bare D={blocks} variance rate", power ** (1 / blocks))

    for activation in ("relu", "tanh"):
        for scheme in ("bare", "pre-LN", "post-LN"):
            e = residual(scheme, depth=24, width=512, batch=32, activation=activation, seed=first)
            p = yield from probed(e, f"{scheme}, {activation}")
            found.put(f"{scheme} {activation} g0/gL", squared_ratio(p["grad_norm"], 0, -1))
            found.put(f"{scheme} {activation} cosine", p["input_cosine"][-1])
    for depth in (24, 48):
        for scheme in ("pre-LN", "post-LN"):
            e = residual(scheme, depth=depth, width=512, batch=32, seed=first)
            p = yield from probed(e, f"{scheme}, {depth} blocks")
            found.put(f"{scheme} D={depth} cosine", p["input_cosine"][-1])
    for scheme, row in CARRIED.items():
        e = residual(scheme, depth=24, width=512, batch=32, seed=first)
        p = yield from probed(e, f"{scheme}, cosine with the input")
        seen = p["input_cosine"].mean(1)
        expected = [theory.input_cosine(row, blocks) for blocks in (1, 24)]
        if scheme in ("scaled", "DeepNorm"):  # their constants follow the depth: only the end is one of 24
            seen, expected = seen[[24]], expected[1:]
        else:
            seen, expected = seen[1:], [theory.input_cosine(row, blocks) for blocks in range(1, 25)]
        found.put(f"{scheme} cosine minus C24", np.abs(seen - expected).max())
    yield from cosines(found, first)
    return found


CARRIED = {"bare": "bare", "scaled": "scaled", "pre-LN": "pre", "post-LN": "post", "DeepNorm": "deepnorm"}


def cosines(found: Found, first: int) -> Steps:
    """Pairwise cosines of 64 digits behind every ReLU, against κ1 iterated from every pair's own start."""
    for norm in ("none", "layer"):
        seen, expected = [], []
        for seed in range(first, first + SEEDS):
            run = Run(plain(norm=norm, depth=24, width=512, seed=seed, seeds=1))
            tape = Tape()
            with torch.no_grad():
                run.model(run.batches.view(run.batches.test_x[:, :64]), tape)
            unit = [torch.nn.functional.normalize(h[0].double(), dim=1) for h in tape.states]
            pairs = torch.triu_indices(64, 64, 1)
            cos = [(u @ u.T)[pairs[0], pairs[1]].numpy() for u in unit]
            own = [cos[0]]
            for _ in cos[1:]:
                own.append(theory.kappa1(own[-1]))
            seen.append([c.mean() for c in cos])
            expected.append([c.mean() for c in own])
            yield f"cosines of {norm}, seed {seed}"
        found.put(f"{norm} cosine by layer", np.mean(seen, 0))
        found.put(f"{norm} κ1 by layer", np.mean(expected, 0))
        found.put(f"{norm} cosine minus C04", np.abs(np.mean(seen, 0) - np.mean(expected, 0)).max())
