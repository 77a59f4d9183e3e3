"""What is measured of an experiment, away from any run: at init, in a few steps, of a few digits.

A measure is a generator: it pauses after each slice of its work, so that a worker can do that of others, and
returns arrays by name.
"""

import math
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial, wraps
from itertools import pairwise

import numpy as np
import torch

from lnres.data import Batches
from lnres.experiment import MAX_PROBE, Experiment
from lnres.layers import Still, generator
from lnres.models import MODELS
from lnres.probes import TINY, Tape, Updates
from lnres.registry import Registry
from lnres.train import Run, probe

MEASURES = Registry("measure")

Slices = Generator[None, None, dict[str, np.ndarray]]

LARGE, PART = 5e9, 4e10
"""Floating point operations of a step that cores share its networks from, and of a part of it at most."""


def complete(slices: Slices) -> dict[str, np.ndarray]:
    """What a measure finds, without a pause."""
    while (found := _advance(slices)) is None:
        pass
    return found


def _advance(slices: Slices) -> dict[str, np.ndarray] | None:
    """Do the next slice of a measure: None until it is the last."""
    try:
        next(slices)
    except StopIteration as end:
        return end.value


def whole(measure: Callable[..., dict[str, np.ndarray]]) -> Callable[..., Slices]:
    """A measure whose work is a single slice."""

    @wraps(measure)
    def slices(*what, **options) -> Slices:
        yield from ()
        return measure(*what, **options)

    return slices


def shared(e: Experiment, measure: Callable[[Experiment], Slices]) -> Slices:
    """A measure, (n, S) or (S,), with its S networks shared among the cores: each as alone, bit for bit.

    By threads of our own: those of torch wait in a loop for each other at every product, and stand still
    when anything else wants a core.
    """
    (operations, size), cores = e.cost(), os.cpu_count() or 1
    cut = operations > LARGE and size <= MAX_PROBE
    many = min(e.seeds, max(cores, math.ceil(operations / PART))) if cut else 1
    ends = [e.seeds * k // many for k in range(many + 1)]
    parts = [e.replace(seed=e.seed + low, seeds=high - low) for low, high in pairwise(ends)]
    found = []
    with ExitStack() as stack:
        # One for each part to its end: torch orders a backward pass by counters that every thread has of its
        # own, and a run that goes on in another thread adds its gradients in another order.
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(min(many, cores))]
        for first in range(0, many, cores):
            under_way = [measure(part) for part in parts[first : first + cores]]
            told = [None]
            while None in told:
                yield
                doing = [one.submit(_advance, part) for one, part in zip(threads, under_way, strict=False)]
                told = [part.result() for part in doing]
            found += told
    names = [name for name, array in found[0].items() if array.ndim < 3]  # histograms count over all
    return {name: np.concatenate([one[name] for one in found], axis=-1) for name in names}


@MEASURES.add("probe", "at init", about="Forward and backward through the stream, from noise.")
def _probe(e: Experiment, draws: dict) -> Slices:
    return shared(e, partial(whole(probe), draws=draws))


MOST_TRAINED = 4e11
"""Floating point operations that some steps of training may take: a few seconds."""


@MEASURES.add("trained", "after training")
def trained(e: Experiment, draws: dict, steps: int) -> Slices:
    """What a run records in its step of this number, (L+1, S) or (L, S), with the loss of its own data."""
    if e.cost()[0] * steps > MOST_TRAINED:
        raise ValueError(
            f"{steps} steps of networks this large take too long here; "
            "choose fewer steps, a smaller width or depth, or train them in the lab"
        )
    return shared(e, partial(_trained, steps=steps))


def _trained(e: Experiment, steps: int) -> Slices:
    run = Run(e.replace(record_every=max(1, steps), steps=steps + 1))
    arrays, _ = next(run)
    diverged = {name: np.full(array.shape, np.nan) for name, array in arrays.items()}  # has nothing to record
    for _ in range(steps):
        yield
        arrays, _ = next(run)
    return {name: array[0] for name, array in (diverged | arrays).items() if array.ndim > 1}


@MEASURES.add("likeness", "cosines of digits")
@whole
def likeness(e: Experiment, draws: dict, examples: int) -> dict[str, np.ndarray]:
    """``cosines`` (L+1, n, n) of test digits sorted by class, in the first network at init; ``pixels``."""
    one, batches = e.replace(seeds=1), Batches(e.replace(seeds=1))
    weights = Still(one.member_seeds, "cpu", draws)
    model = MODELS[e.model].make(weights, one, batches.features, batches.outputs)
    weights.pack()
    weights.live = e.knobs
    order = torch.argsort(batches.test_y[0], stable=True)
    picked = order[torch.linspace(0, len(order) - 1, examples).long()]
    x, tape = batches.view(batches.test_x[:, picked]), Tape()
    with torch.no_grad():
        model.stream(model.enter(x), tape)
        states = torch.stack(tape.states)[:, 0].flatten(2).double()
        states = states / states.norm(dim=-1, keepdim=True)
    raw = Batches(one.replace(scaler="none")).test_x[0, picked]
    return {"cosines": (states @ states.mT).float().numpy(), "pixels": (raw / raw.max()).numpy()}


@MEASURES.add("last", "the last block's gradient")
@whole
def last(e: Experiment, draws: dict) -> dict[str, np.ndarray]:
    """``weight_grad_norm`` (S,) of the last block's matrices in the first step."""
    run = Run(e.replace(record_every=0))
    x, y = run.batches(0, e.batch)
    run.weights.backward(run.batches.loss(run.model(x), y).sum())
    return {"weight_grad_norm": Updates(run.weights, e.blocks).norms(run.weights.grad)[-1].numpy(force=True)}


LATELY = 20
"""Batches over which an accuracy in training is averaged."""


@MEASURES.add("trainable", "accuracy of networks that start elsewhere")
def trainable(e: Experiment, draws: dict, sigma_w2: tuple[float, ...], sigma_b2: tuple[float, ...]) -> Slices:
    """``accuracy`` (S,) of a training's last batches, where member k's blocks start at the k-th variances.

    Networks of one shape train together wherever they start.
    """
    run = Run(e.replace(init="meanfield", sigma_w2=1.0, sigma_b2=1.0, record_every=0))
    factors = {"weight": torch.tensor(sigma_w2).sqrt(), "bias": torch.tensor(sigma_b2).sqrt()}
    with torch.no_grad():
        for names, starts in zip(run.weights.names, run.weights.groups(run.weights.flat), strict=True):
            for name, start in zip(names, starts, strict=True):
                first, *_, kind = name.split(".")
                if first == "blocks" and kind in factors:
                    start *= factors[kind][:, None, None]
    seen = []
    for _ in range(e.steps):
        seen.append(next(run)[0]["acc_train"][0])
        yield
    return {"accuracy": np.stack(seen[-LATELY:]).mean(0)}


# ---------------------------------------------------------------------------------------- roads of gradients


def cotangent(e: Experiment, like: torch.Tensor) -> torch.Tensor:
    """What is sent back from the last state: a random direction of each member's own."""
    drawn = [torch.randn(like.shape[1:], generator=generator(s, "cotangent")) for s in e.member_seeds]
    return torch.stack(drawn).to(like.device)


@MEASURES.add("paths", "energy of the gradient's paths")
def paths(e: Experiment, draws: dict, steps: int = 0) -> Slices:
    """``energy`` (L+1, S): the share of the gradient at h_0 that came through k branches, after some steps.

    Each block hands back what arrives through its skip and through its branch; p_k collects what has passed k
    branches, p_k <- skip' p_k + branch' p_(k-1), and its share is ‖p_k‖² / Σ‖p‖². The cotangent is random.
    """
    if e.cost()[0] * (steps + e.blocks / 2) > MOST_TRAINED:
        raise ValueError(
            "the paths of networks this large take too long here; choose a smaller depth or batch"
        )
    run = Run(e.replace(record_every=0))
    for _ in range(steps):
        next(run)
        yield
    (x, _), seen = run.batches(run.step, e.batch), Tape()
    with torch.no_grad():
        run.model(x, seen)
    parts = cotangent(e, seen.states[-1])[None]
    for block, h in zip(reversed(run.model.blocks), reversed(seen.states[:-1]), strict=True):
        tape = Tape()
        y = block(h.requires_grad_(), tape)
        roads = tape.skips[0], tape.branches[0]
        keep = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        found = [torch.autograd.grad(y, roads, part, **keep) for part in parts]
        skip, branch = (torch.stack(road) for road in zip(*found, strict=True))
        none = torch.zeros_like(branch[:1])
        parts = torch.cat([skip, none]) + torch.cat([none, branch])
        yield
    energy = parts.flatten(2).double().square().sum(-1)
    return {"energy": (energy / energy.sum(0)).float().numpy(force=True)}


LINE = 97
"""Points between two digits at which input gradients are compared."""


@MEASURES.add("shattering", "input gradients along a line")
@whole
def shattering(e: Experiment, draws: dict) -> dict[str, np.ndarray]:
    """Gradients with respect to h_0 at init, between two digits; the cotangent is random, the same for all.

    ``likeness`` (LINE, S) is the cosine of h_0 with that of the first digit, ``cosine`` (LINE, S) that of its
    gradient with the first one's; ``signal`` (LINE,) is one entry of the first network's gradient, in units
    of its root mean square.
    """
    run = Run(e.replace(record_every=0))
    x, y = run.batches(0, e.batch)
    other = int((y[0] != y[0, 0]).nonzero()[0, 0])
    along = torch.linspace(0, 1, LINE, device=x.device)[:, None]
    with torch.no_grad():
        h = run.model.enter(((1 - along) * x[0, 0] + along * x[0, other]).expand(e.seeds, -1, -1))
    out = run.model.stream(h.requires_grad_())
    (gradient,) = torch.autograd.grad(out, h, cotangent(e, out[:, :1]).expand_as(out))
    alike, entry = torch.nn.functional.cosine_similarity, gradient[0, :, 0]
    found = {
        "likeness": alike(h, h[:, :1], dim=-1).mT,
        "cosine": alike(gradient, gradient[:, :1], dim=-1).mT,
        "signal": entry / entry.square().mean().sqrt().clamp_min(TINY),
    }
    return {name: value.numpy(force=True).copy() for name, value in found.items()}
