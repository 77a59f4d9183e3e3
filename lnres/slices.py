"""Normalization by hand: which numbers share a mean and a variance, and every step there and back."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lnres.layers import Weights
from lnres.norms import NORMS, Norm

SLICED = [name for name in NORMS if set(NORMS[name].make.over) & set("bpc")]
"""Norms by statistics of activations: the others share none, or share those of weights."""


@dataclass(frozen=True)
class Settings:
    """The fields of an experiment that a norm reads."""

    eps: float = 1e-5
    gamma: float = 1.0
    beta: float = 0.0
    groups: int = 2
    affine: bool = True
    norm_momentum: float = 0.1
    running: bool = True


def alone(name: str, features: int, **settings) -> Norm:
    """A norm outside of any network, for one member and in float64: (1, B, n) or (1, B, P, n) -> the same."""
    weights = Weights([0])
    norm = NORMS[name].make(weights, "norm", features, Settings(**settings))
    weights.pack()
    for part, value in vars(norm).items():
        if isinstance(value, Tensor):
            setattr(norm, part, value.detach().double())
    return norm


def slices(over: str, shape: tuple[int, ...], groups: int = 1) -> np.ndarray:
    """Which slice each number of a batch (B, n) or (B, P, n) belongs to, counted from 0.

    ``over`` is a norm's: the axes along which numbers share a mean and a variance, ``/g`` for groups of
    features.
    """
    axes = "bpc" if len(shape) == 3 else "bc"
    parts = np.indices(shape)
    apart = [part for axis, part in zip(axes, parts, strict=True) if axis not in over]
    if over.endswith("/g"):
        apart.append(parts[-1] * groups // shape[-1])
    names = np.stack([np.zeros(shape, int), *apart], -1).reshape(-1, 1 + len(apart))
    return np.unique(names, axis=0, return_inverse=True)[1].reshape(shape)


@dataclass(frozen=True)
class Walk:
    """All steps of a norm over a batch and back: arrays like the batch, in the order they are computed.

    Forward: ``centred`` = x − ``mean``; ``normal`` = centred / ``size``, where the size of LayerNorm is
    √(``variance`` + ε); ``y`` = ``gain`` · normal + ``shift``. Backward, from dL/dy: ``asked`` = gain ·
    dL/dy, what ``normal`` should do to lower the loss; ``common`` is its mean over the slice, which
    moving all by the same could answer, and ``along`` its part along ``normal``, which stretching could:
    both are taken off, since the norm undoes them; ``kept`` is what remains and ``back`` = kept / size
    is dL/dx.
    """

    slices: np.ndarray
    x: np.ndarray
    mean: np.ndarray
    centred: np.ndarray
    variance: np.ndarray
    size: np.ndarray
    normal: np.ndarray
    gain: np.ndarray
    shift: np.ndarray
    y: np.ndarray
    incoming: np.ndarray
    asked: np.ndarray
    common: np.ndarray
    along: np.ndarray
    kept: np.ndarray
    back: np.ndarray
    forward_error: float
    """Largest distance of ``y`` from what the norm itself puts out."""
    backward_error: float
    """Largest distance of ``back`` from what autograd finds."""


def walk(norm: Norm, x: np.ndarray, incoming: np.ndarray) -> Walk:
    """Every step of a norm made by ``alone`` over x (B, n) or (B, P, n) in float64, and of dL/dy back.

    The steps are written out here for all norms of SLICED, slice by slice; the last two fields say how far
    they are from the norm's own forward pass and from autograd.
    """
    index = torch.from_numpy(slices(norm.over, x.shape, getattr(norm, "groups", 1)))
    counts = torch.bincount(index.flatten())

    def average(values: Tensor) -> Tensor:
        sums = values.new_zeros(len(counts)).index_add(0, index.flatten(), values.flatten())
        return (sums / counts)[index]

    value = torch.from_numpy(x).clone().requires_grad_()
    output = norm(value[None])[0]
    pull = torch.from_numpy(incoming)
    # Of a scalar: a gradient given to autograd would make it import a compiler, for seconds.
    (found,) = torch.autograd.grad((output * pull).sum(), value)

    inner = value.detach()
    if fixed := norm.remembered:
        mean, variance = (part.view(-1).expand(inner.shape) for part in fixed)
    else:
        mean = average(inner) if norm.centres else torch.zeros_like(inner)
        variance = average((inner - mean).square())
    centred = inner - mean
    spread = variance.clone().requires_grad_()
    size = norm.divisor(spread)
    # How the square of the size follows the variance: one to one, but not where ε alone is the size.
    (slope,) = torch.autograd.grad(size.square().sum(), spread)
    size = size.detach()
    normal = centred / size
    gain = norm.gain.view(-1).expand(inner.shape)
    shift = norm.shift.view(-1).expand(inner.shape) if norm.shifts else torch.zeros_like(inner)
    y = gain * normal + shift

    asked = gain * pull
    moved = not norm.remembered  # statistics of the past do not follow the input
    common = average(asked) * (norm.centres and moved)
    along = normal * average(asked * normal) * slope * moved
    kept = asked - common - along
    back = kept / size
    arrays = (
        index, inner, mean, centred, variance, size, normal, gain, shift, y,
        pull, asked, common, along, kept, back,
    )  # fmt: skip
    errors = float((y - output.detach()).abs().max()), float((back - found).abs().max())
    return Walk(*(array.numpy() for array in arrays), *errors)


def moved(norm: Norm, x: np.ndarray, example: int, by: float) -> np.ndarray:
    """How far the output of each example goes when one is moved: the root mean square of its change, (B,)."""
    other = x.copy()
    # Not all alike along any axis: a norm could undo that.
    other[example] += by * np.sin(1 + np.arange(x[example].size)).reshape(x[example].shape)
    with torch.no_grad():
        before, after = (norm(torch.from_numpy(batch)[None])[0] for batch in (x, other))
    return (after - before).square().flatten(1).mean(1).sqrt().numpy()
