"""Transformers, recurrent networks, convnets and a GAN (E13, E17, E18, E19)."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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
    tests,
)
from lnres.layers import Weights, generator
from lnres.models import MODELS
from lnres.optim import OPTIMIZERS, stepper
from lnres.train import Run

TRANSFORMERS = {
    "none": {"norm": "none"},
    "pre": {"norm": "layer", "placement": "pre"},
    "post": {"norm": "layer", "placement": "post", "final_norm": False},
    "DeepNorm": {"norm": "layer", "placement": "post", "residual": "deepnorm", "final_norm": False},
    "ReZero": {"norm": "none", "residual": "rezero"},
    "DynamicTanh": {"norm": "dyt", "placement": "pre"},
}
WITHOUT = "none", "ReZero", "DynamicTanh"
"""Transformers that compute no statistics."""


@EXPERIMENTS.add("E13", "Transformers")
def transformers(first: int = FIRST) -> Steps:
    """Rows of digits as 8 tokens, width 32, one head, 4 and 12 layers, Adam, 150 steps."""
    found = Found()
    for depth in (4, 12):
        arms = {
            f"{arm} D={depth}{' warm-up' if warmup else ''}": residual(
                "bare", model="transformer", view="rows", scaler="unit", heads=1, width=32, activation="gelu",
                init="lecun", batch=32, depth=depth, steps=150, warmup=warmup, seed=first,
            ).replace(**settings)
            for arm, settings in TRANSFORMERS.items() for warmup in (0, 75)
        }  # fmt: skip
        yield from sweep(found, arms, rates(ADAM, 3e-4, 1e-3, 3e-3))
    return found


SEQUENCES = {8: ("rows", 250, 64), 16: ("patches", 160, 48), 64: ("pixels", 120, 48)}
"""Time steps: how the digit is read, steps of training, batch size."""
CELLS = {"rnn": {"width": 48, "activation": "tanh"}, "lstm": {"width": 24}}
INSIDE = {
    "none": {"norm": "none"}, "LN": {"norm": "layer"}, "BN": {"norm": "batch"},
    "LN apart": {"norm": "layer", "joint": False}, "BN apart": {"norm": "batch", "joint": False},
    "BN each step": {"norm": "batch", "running": False},
}  # fmt: skip
"""Norms inside the recurrence. ``apart``: one on Wx and one on Uh. ``each step``: tested, as trained, with
the statistics of every time step, where BN keeps one running statistic for all."""


def remembered(trial: Trial) -> dict[str, np.ndarray]:
    """Test accuracy, and how much of the last state's gradient arrives at the first."""
    return {"accuracy": trial.test_accuracy(), "gradient over time": over_time(trial.run)}


def over_time(run: Run) -> np.ndarray:
    """‖dL/dh_1‖ over ‖dL/dh_T‖ of the next batch, (S,)."""
    kept, run.experiment = run.experiment, run.experiment.replace(record_every=1)
    checkpoint = run.checkpoint()
    arrays, _ = next(run)
    run.restore(*checkpoint)
    run.experiment = kept
    if "time_grad_norm" not in arrays:
        return np.full(run.experiment.seeds, np.nan)
    norms = arrays["time_grad_norm"][0].astype(float)
    return norms[0] / np.maximum(norms[-1], 1e-38)


@EXPERIMENTS.add("E17", "Recurrent networks")
def recurrent(first: int = FIRST) -> Steps:
    """Digits as 8 rows, 16 patches and 64 pixels through a tanh RNN and an LSTM with norms inside, Adam."""
    found = Found()
    for times, (view, steps, batch) in SEQUENCES.items():
        for cell, shape in CELLS.items():
            arms = {
                f"{cell} T={times} {arm}": plain(
                    model=cell, depth=1, scaler="unit", view=view, steps=steps, batch=batch, seed=first,
                    **shape | settings,
                )
                for arm, settings in INSIDE.items()
            }  # fmt: skip
            for arm, e in arms.items():
                found.put(f"{arm} gradient over time at init", over_time(Run(e)))
            yield from sweep(found, arms, rates(ADAM, 1e-3, 2e-3, 3e-3, 1e-2), remembered)
    return found


CONV_NORMS = {
    "none": {"norm": "none"}, "BN": {"norm": "batch"}, "LN(C,H,W)": {"norm": "group", "groups": 1},
    "LN(C)": {"norm": "layer"}, "GN(4)": {"norm": "group", "groups": 4}, "IN": {"norm": "instance"},
}  # fmt: skip


@EXPERIMENTS.add("E18", "Convolutions")
def convolutions(first: int = FIRST) -> Steps:
    """1000 training digits, 3 × 3 convolutions of 8 channels, norm before ReLU, global mean: 12 seeds."""
    found = Found()
    nets = {
        "3 layers B=64": ({"depth": 3, "steps": 200, "batch": 64}, rates(ADAM, 1e-3, 3e-3, 1e-2)),
        "3 layers B=4": ({"depth": 3, "steps": 500, "batch": 4}, rates(ADAM, 1e-3, 3e-3, 1e-2)),
        "6 layers B=64": (
            {"depth": 6, "steps": 250, "batch": 64, "momentum": 0.9}, rates(SGD, 0.01, 0.02, 0.05),
        ),
    }  # fmt: skip
    for net, (settings, grid) in nets.items():
        arms = {
            f"{norm} {net}": plain(
                model="conv",
                data="digits_1000",
                scaler="unit",
                width=8,
                seed=first,
                seeds=12,
                **settings,
                **kind,
            )
            for norm, kind in CONV_NORMS.items()
        }
        yield from sweep(found, arms, grid, tests)
    found.told["small batches"] = "At batch 4 BatchNorm still averages 4 × 64 positions."
    return found


GAN_STEPS, GAN_BATCH, NOISE, RING = 1200, 128, 16, 8
GAN_ARMS = {
    "none": ("none", "none"), "LN in G": ("layer", "none"), "LN in D": ("none", "layer"),
    "LN in both": ("layer", "layer"), "BN in G": ("batch", "none"), "BN in both": ("batch", "batch"),
}  # fmt: skip
OTHER = 10**6
"""Added to the seeds of the discriminator, whose weights are not to be the generator's."""


class Player:
    """A plain MLP with its own flat buffer and Adam: one of a GAN's two networks, S members."""

    def __init__(self, norm: str, features: int, outputs: int, seeds: list[int]):
        e = plain(norm=norm, depth=2, optimizer=ADAM, lr=1e-3)
        self.weights = Weights(seeds)
        self.model = MODELS["mlp"].make(self.weights, e, features, outputs)
        self.weights.pack()
        optimizer = OPTIMIZERS[ADAM].make(self.weights, e)
        optimizer.param_groups[0]["betas"] = (0.5, 0.999)
        self.step = stepper(optimizer)

    def __call__(self, x: Tensor) -> Tensor:
        """(S, B, features) -> (S, B, outputs)."""
        return self.model(x)

    def learn(self, losses: Tensor) -> None:
        """One update of every member by its own loss (S,)."""
        self.weights.backward(losses.sum())
        self.step()


def normals(seeds: list[int], shape: tuple[int, ...], *key) -> Tensor:
    """Standard normal numbers of each seed, (S, *shape)."""
    return torch.stack([torch.randn(shape, generator=generator(seed, *key)) for seed in seeds])


CENTRES = torch.tensor([
    [2 * math.cos(2 * math.pi * k / RING), 2 * math.sin(2 * math.pi * k / RING)] for k in range(RING)
])  # fmt: skip


def ring(seeds: list[int], step: int) -> Tensor:
    """A batch (S, B, 2) of eight narrow Gaussians on a ring of radius 2."""
    picked = torch.stack([
        torch.randint(RING, (GAN_BATCH,), generator=generator(seed, "mode", step)) for seed in seeds
    ])  # fmt: skip
    return CENTRES[picked] + 0.05 * normals(seeds, (GAN_BATCH, 2), "ring", step)


@torch.no_grad()
def covered(g: Player, seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Share of samples within 0.3 of a mode, and modes that get more than 1 % of the samples; both (S,)."""
    g.weights.training = False
    distance, nearest = torch.cdist(g(normals(seeds, (2000, NOISE), "judge")), CENTRES).min(-1)
    good = distance < 0.3
    share = torch.stack([((nearest == k) & good).float().mean(1) for k in range(RING)])
    return good.float().mean(1).numpy(), (share > 0.01).sum(0).double().numpy()


@EXPERIMENTS.add("E19", "A GAN")
def gan(first: int = FIRST) -> Steps:
    """Eight Gaussians on a ring, two networks of 2 blocks, Adam 1e-3 for all arms, 1200 steps."""
    found = Found()
    seeds = list(range(first, first + SEEDS))
    for arm, (in_g, in_d) in GAN_ARMS.items():
        g, d = Player(in_g, NOISE, 2, seeds), Player(in_d, 2, 1, [seed + OTHER for seed in seeds])
        for step in range(GAN_STEPS):
            with torch.no_grad():
                fake = g(normals(seeds, (GAN_BATCH, NOISE), "latent", step))
            # real and fake are separate batches, so that a BatchNorm never mixes them
            d.learn((F.softplus(-d(ring(seeds, step))) + F.softplus(d(fake))).mean((1, 2)))
            wanted = d(g(normals(seeds, (GAN_BATCH, NOISE), "latent again", step)))
            g.learn(F.softplus(-wanted).mean((1, 2)))
            yield arm
        quality, modes = covered(g, seeds)
        found.put(f"{arm} quality", quality)
        found.put(f"{arm} modes", modes)
    found.told["rate"] = "No train loss can choose a rate here: all arms have Adam's 1e-3."
    return found
