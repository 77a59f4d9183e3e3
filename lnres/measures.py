"""What is measured of an experiment at once, away from any run: at init, in a few steps, of a few digits."""

import numpy as np
import torch

from lnres.data import Batches
from lnres.experiment import Experiment
from lnres.layers import Still
from lnres.models import MODELS
from lnres.probes import Tape
from lnres.registry import Registry
from lnres.train import INSIDE, Run, probe

MEASURES = Registry("measure")
MEASURES.put("probe", "at init", make=probe, about="Forward and backward through the stream, from noise.")

MOST_TRAINED = 2e11
"""Floating point operations that a measure after some steps of training may take: a few seconds."""


@MEASURES.add("trained", "after training")
def trained(e: Experiment, draws: dict, steps: int) -> dict[str, np.ndarray]:
    """What a run records in its step of this number, (L+1, S) or (L, S), with the loss of its own data."""
    if e.cost()[0] * steps > MOST_TRAINED:
        raise ValueError(
            f"{steps} steps of networks this large take too long here; "
            "choose fewer steps, a smaller width or depth, or train them in the lab"
        )
    run = Run(e.replace(record_every=max(1, steps), steps=steps + 1))
    for _ in range(steps):
        next(run)
    arrays, _ = next(run)
    return {name: array[0] for name, array in arrays.items() if array.ndim > 1}


@MEASURES.add("likeness", "cosines of digits")
def likeness(e: Experiment, draws: dict, examples: int) -> dict[str, np.ndarray]:
    """``cosines`` (L+1, n, n) of test digits sorted by class, in the first network at init."""
    one, batches = e.replace(seeds=1), Batches(e.replace(seeds=1))
    weights = Still(one.member_seeds, "cpu", draws)
    model = MODELS[e.model].make(weights, one, batches.features, batches.outputs)
    weights.pack()
    weights.live = {name: getattr(e, name) for name in INSIDE}
    order = torch.argsort(batches.test_y[0], stable=True)
    picked = order[torch.linspace(0, len(order) - 1, examples).long()]
    x, tape = batches.view(batches.test_x[:, picked]), Tape()
    with torch.no_grad():
        model.stream(model.enter(x), tape)
        states = torch.stack(tape.states)[:, 0].flatten(2).double()
        states = states / states.norm(dim=-1, keepdim=True)
        return {"cosines": (states @ states.mT).float().numpy(), "classes": batches.test_y[0, picked].numpy()}


@MEASURES.add("last", "the last block's gradient")
def last(e: Experiment, draws: dict) -> dict[str, np.ndarray]:
    """``weight_grad_norm`` (S,) of the last block's matrices in the first step."""
    return {"weight_grad_norm": next(Run(e.replace(record_every=1)))[0]["weight_grad_norm"][0, -1]}
