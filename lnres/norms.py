"""A norm gives numbers a common scale; which numbers share one is all the difference."""

import dataclasses
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lnres.layers import Weights, along, constant
from lnres.registry import Registry

NORMS = Registry("norm")


def equal_parts(e, name: str) -> None:
    """``ValueError`` where the width has not so many equal parts as the field of this name says."""
    if e.width % (parts := getattr(e, name)):
        fitting = ", ".join(str(n) for n in range(1, min(e.width, 64) + 1) if e.width % n == 0)
        raise ValueError(
            f"{name}={parts}: width={e.width} has no {parts} equal parts; choose one of {fitting}"
        )


class Norm:
    """Base of all norms: normalize over some axes of (S, B, n) or (S, B, P, n), then gain γ and shift β.

    ``over`` names the axes that share a mean and a variance: ``b`` examples, ``p`` positions, ``c`` features;
    ``w`` stands for the weights that lead into a unit. ``normalize`` may run a fused kernel, ``equation`` is
    the same written out; a test holds them equal. Those with ``over`` take off the mean of the numbers that
    share one, if ``centres``, and divide by a ``divisor``.
    """

    over = ""
    centres = shifts = True

    @staticmethod
    def check(e) -> None:
        """Raise ``ValueError`` where this norm cannot do what the experiment asks for."""

    def __init__(self, weights: Weights, name: str, features: int, e):
        self.weights, self.eps, self.features, self.affine = weights, e.eps, features, e.affine
        if e.affine:
            weights.add(self, "gain", f"{name}.gain", (1, features), constant(e.gamma))
            if self.shifts:
                weights.add(self, "shift", f"{name}.shift", (1, features), constant(e.beta))

    def __call__(self, x: Tensor) -> Tensor:
        y, gain = self.rescale(self.normalize(x)), self.weights.live.get("norm_gain", 1.0)
        return y if gain == 1 else gain * y

    def divisor(self, variance: Tensor) -> Tensor:
        """What numbers of this variance (mean square, where the mean stays) are divided by."""
        return (variance + self.eps).sqrt()

    @property
    def remembered(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance (S, 1, n) that stand for those of the input, if any do."""
        return None

    def rescale(self, x: Tensor) -> Tensor:
        """γ x + β, or x where the affine is off."""
        if not self.affine:
            return x
        y = x * along(x, self.gain)
        return y + along(x, self.shift) if self.shifts else y

    def normalize(self, x: Tensor) -> Tensor:
        """The normalized tensor, before the affine."""
        return self.equation(x)

    def equation(self, x: Tensor) -> Tensor:
        """What the norm computes, written out."""
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """What is subtracted first, shaped to go with x; nothing where the mean stays."""
        return x.new_zeros(len(x), *[1] * (x.ndim - 1))

    def origin(self, x: Tensor) -> Tensor:
        """What comes out where every input is zero: the shift."""
        return self.weights.live.get("norm_gain", 1.0) * self.rescale(torch.zeros_like(x))

    def carry(self, x: Tensor, y: Tensor, parts: Tensor) -> Tensor:
        """What each of the parts (K, S, B, ...) of x becomes in y = N(x), with the statistics of the whole.

        If the parts add up to x, then these and ``origin`` add up to y.
        """
        centred, out = x - self.mean(x), y - self.origin(x)
        seen = centred.abs() > 1e-6 * centred.abs().amax(
            -1, keepdim=True
        )  # what is left of rounding has no direction
        slope = torch.where(seen, out / torch.where(seen, centred, 1), 0)
        return (parts - self.mean(parts.flatten(0, 1)).unflatten(0, (-1, len(x)))) * slope


class Unit(torch.autograd.Function):
    """y = (x - μ) / √(σ²+ε) over some axes of x, with μ = 0 unless it ``centres``; also μ and σ².

    Its derivative by hand, (y' - mean y' - y mean(y y')) / √(σ²+ε), takes half the calls that autograd makes.
    """

    @staticmethod
    def forward(ctx, x: Tensor, axes: tuple[int, ...], eps: float, centres: bool) -> tuple[Tensor, ...]:
        """Two passes, as written out in the norms' equations."""
        mean = x.mean(axes, keepdim=True) if centres else None
        centred = x - mean if centres else x
        variance = centred.square().mean(axes, keepdim=True)
        rate = torch.rsqrt(variance + eps)
        y = centred * rate
        ctx.axes, ctx.centres = axes, centres
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y, rate)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor, *_) -> tuple:
        """From the derivative with respect to y, y', that with respect to x."""
        y, rate = ctx.saved_tensors
        found = torch.addcmul(slope, y, (slope * y).mean(ctx.axes, keepdim=True), value=-1)
        if ctx.centres:
            found -= slope.mean(ctx.axes, keepdim=True)
        return found.mul_(rate), None, None, None


@NORMS.add("none", "no norm", "y=x")
class NoNorm(Norm):
    """Nothing is normalized."""

    def __init__(self, weights: Weights, name: str, features: int, e):
        pass

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def equation(self, x: Tensor) -> Tensor:
        """The input itself."""
        return x

    def origin(self, x: Tensor) -> Tensor:
        """Nothing is shifted."""
        return torch.zeros_like(x)

    def carry(self, x: Tensor, y: Tensor, parts: Tensor) -> Tensor:
        """The parts themselves."""
        return parts


@NORMS.add(
    "layer",
    "LayerNorm",
    r"y=\gamma\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}}+\beta",
    paper="Ba, Kiros & Hinton 2016",
)
class LayerNorm(Norm):
    """Mean 0 and variance 1 over the features of each example alone."""

    over = "c"

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        self.ones, self.zeros = (f(features, device=weights.device) for f in (torch.ones, torch.zeros))

    def normalize(self, x: Tensor) -> Tensor:
        """torch's kernel, given a gain and a shift: without them it takes half as long again on a CPU."""
        return F.layer_norm(x, (self.features,), self.ones.to(x), self.zeros.to(x), self.eps)

    def equation(self, x: Tensor) -> Tensor:
        """Two passes: E[x²]-E[x]² would lose every digit at large offsets."""
        centred = x - self.mean(x)
        return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)

    def mean(self, x: Tensor) -> Tensor:
        """μ, of the features."""
        return x.mean(-1, keepdim=True)


@NORMS.add(
    "rms", "RMSNorm", r"y=\gamma\frac{x}{\sqrt{\overline{x^2}+\epsilon}}", paper="Zhang & Sennrich 2019"
)
class RMSNorm(Norm):
    """Root mean square 1 over the features of each example; the mean stays."""

    over, centres, shifts = "c", False, False

    def normalize(self, x: Tensor) -> Tensor:
        """At once."""
        return Unit.apply(x, (-1,), self.eps, False)[0]

    def equation(self, x: Tensor) -> Tensor:
        """One division by the root mean square."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


@NORMS.add(
    "batch",
    "BatchNorm",
    r"y=\gamma\frac{x-\mu_B}{\sqrt{\sigma_B^2+\epsilon}}+\beta",
    paper="Ioffe & Szegedy 2015",
)
class BatchNorm(Norm):
    """Mean 0 and variance 1 of each feature over the batch; at test time, as remembered from training."""

    over = "bp"

    @staticmethod
    def check(e) -> None:
        """``ValueError`` for a batch without a variance."""
        if e.batch == 1:
            raise ValueError(
                "batch=1: BatchNorm needs more than one example for a variance; "
                "choose batch=2 or more, or norm=layer"
            )

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        self.momentum, self.running = e.norm_momentum, e.running
        shape = (len(weights.seeds), 1, features)
        self.running_mean = weights.buffer(f"{name}.running_mean", torch.zeros(shape))
        self.running_var = weights.buffer(f"{name}.running_var", torch.ones(shape))

    @property
    def remembered(self) -> tuple[Tensor, Tensor] | None:
        """The running ones in evaluation."""
        used = self.running and not self.weights.training
        return (self.running_mean, self.running_var) if used else None

    def normalize(self, x: Tensor) -> Tensor:
        """Batch statistics are taken and followed at once."""
        if self.remembered:
            return self.equation(x)
        y, mean, variance = Unit.apply(x, tuple(range(1, x.ndim - 1)), self.eps, True)
        if self.weights.training:
            self._remember(mean, variance, x[0, ..., 0].numel())
        return y

    def equation(self, x: Tensor) -> Tensor:
        """Batch statistics in training (biased variance), running ones (unbiased) in evaluation."""
        if there := self.remembered:
            mean, variance = (along(x, value) for value in there)
            return (x - mean) * torch.rsqrt(variance + self.eps)
        mean = self.mean(x)
        centred = x - mean
        variance = centred.square().mean(tuple(range(1, x.ndim - 1)), keepdim=True)
        return centred * torch.rsqrt(variance + self.eps)

    def mean(self, x: Tensor) -> Tensor:
        """μ, of the batch."""
        return x.mean(tuple(range(1, x.ndim - 1)), keepdim=True)

    def _remember(self, mean: Tensor, variance: Tensor, rows: int) -> None:
        with torch.no_grad():
            self.running_mean.lerp_(mean.view_as(self.running_mean), self.momentum)
            unbiased = variance.view_as(self.running_var) * (rows / max(rows - 1, 1))
            self.running_var.lerp_(unbiased, self.momentum)


@NORMS.add(
    "group", "GroupNorm", r"y=\gamma\frac{x-\mu_g}{\sqrt{\sigma_g^2+\epsilon}}+\beta", paper="Wu & He 2018"
)
class GroupNorm(Norm):
    """Mean 0 and variance 1 over each group of features of each example."""

    over = "pc/g"

    @staticmethod
    def check(e) -> None:
        """``ValueError`` where groups would not be equal."""
        equal_parts(e, "groups")

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        self.groups = e.groups

    def normalize(self, x: Tensor) -> Tensor:
        """torch's kernel."""
        rows = x.flatten(0, 1)  # (S B, n), or (S B, P, n), where torch wants features before positions
        if x.ndim == 3:
            return F.group_norm(rows, self.groups, eps=self.eps).view(x.shape)
        return F.group_norm(rows.mT, self.groups, eps=self.eps).mT.view(x.shape)

    def equation(self, x: Tensor) -> Tensor:
        """Mean 0 and variance 1 over positions and the features of a group."""
        centred = (x - self.mean(x)).unflatten(-1, (self.groups, -1))
        variance = centred.square().mean(self.axes(x), keepdim=True)
        return (centred * torch.rsqrt(variance + self.eps)).flatten(-2)

    def mean(self, x: Tensor) -> Tensor:
        """μ, of each group."""
        grouped = x.unflatten(-1, (self.groups, -1))
        return grouped.mean(self.axes(x), keepdim=True).expand_as(grouped).flatten(-2)

    @staticmethod
    def axes(x: Tensor) -> tuple[int, ...]:
        """Those of x's positions, if any, and of the features within a group."""
        return (-1,) if x.ndim == 3 else (2, -1)


@NORMS.add(
    "instance",
    "InstanceNorm",
    r"y=\gamma\frac{x-\mu_p}{\sqrt{\sigma_p^2+\epsilon}}+\beta",
    paper="Ulyanov et al. 2016",
)
class InstanceNorm(Norm):
    """Mean 0 and variance 1 of each feature over the positions of each example."""

    over = "p"

    @staticmethod
    def check(e) -> None:
        """``ValueError`` where there are no positions."""
        if not e.positions:
            raise ValueError(
                f"norm='instance': model={e.model} has no positions to normalize over; "
                "choose model=conv or model=transformer, or norm=layer"
            )

    def equation(self, x: Tensor) -> Tensor:
        """Over the position axis alone."""
        centred = x - self.mean(x)
        return centred * torch.rsqrt(centred.square().mean(2, keepdim=True) + self.eps)

    def mean(self, x: Tensor) -> Tensor:
        """μ, of the positions."""
        return x.mean(2, keepdim=True)


@NORMS.add("scale", "ScaleNorm", r"y=g\,x/\max(\lVert x\rVert,\epsilon)", paper="Nguyen & Salazar 2019")
class ScaleNorm(Norm):
    """Every example to the same length, one learned number for all features; it starts at √n."""

    over, centres, shifts = "c", False, False

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, dataclasses.replace(e, affine=False))
        self.affine, start = e.affine, e.gamma * features**0.5
        if e.affine:
            weights.add(self, "gain", f"{name}.gain", (1, 1), constant(start))

    def divisor(self, variance: Tensor) -> Tensor:
        """The length √(n x̄²), at least ε; the root mean square where there is no learned gain."""
        length = (variance * self.features).clamp_min(self.eps**2).sqrt()
        return length if self.affine else length / self.features**0.5

    def equation(self, x: Tensor) -> Tensor:
        """Length 1, or √n where there is no learned gain."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(self.eps)
        return x / size if self.affine else x * (self.features**0.5 / size)


@NORMS.add("dyt", "DynamicTanh", r"y=\gamma\tanh(\alpha x)+\beta", paper="Zhu et al. 2025")
class DynamicTanh(Norm):
    """No statistics at all: a tanh with one learned slope (it starts at 0.5) holds the extremes back."""

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        weights.add(self, "slope", f"{name}.slope", (1, 1), constant(0.5))

    def equation(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.tanh(along(x, self.slope) * x)


@NORMS.add("derf", "Derf", r"y=\gamma\,\mathrm{erf}(\alpha x+s)+\beta", paper="Chen et al. 2025")
class DynamicErf(DynamicTanh):
    """No statistics either: the error function, with a learned slope (from 0.5) and offset (from 0)."""

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        weights.add(self, "offset", f"{name}.offset", (1, 1), constant(0))

    def equation(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.erf(along(x, self.slope) * x + along(x, self.offset))

    def origin(self, x: Tensor) -> Tensor:
        """The offset acts on zeros too."""
        zero = torch.erf(along(x, self.offset)).expand_as(x)
        return self.weights.live.get("norm_gain", 1.0) * self.rescale(zero)


@NORMS.add(
    "weight",
    "WeightNorm",
    r"W=g\,V/\lVert V\rVert",
    about="Of the branches' weights, not of activations, so its place plays no role: the length of what "
    "leads into a unit is learned apart from its direction.",
    paper="Salimans & Kingma 2016",
)
class WeightNorm(Norm):
    """A unit's weights W have a direction, V's, and a length g, which starts at V's own (times γ)."""

    over, shifts = "w", False

    def __init__(self, weights: Weights, e, name: str, start: Tensor):
        self.weights, self.eps, self.affine = weights, e.eps, e.affine
        gain = self.size(start) * e.gamma
        if e.affine:
            weights.put(self, "gain", f"{name}.gain", gain)
        else:
            self.gain = weights.buffer(f"{name}.gain", gain)

    def __call__(self, v: Tensor) -> Tensor:
        return self.gain * self.equation(v)

    def size(self, v: Tensor) -> Tensor:
        """The length of what leads into each unit: (S, n_in, n_out) -> (S, 1, n_out)."""
        return torch.linalg.vector_norm(v, dim=1, keepdim=True)

    def equation(self, v: Tensor) -> Tensor:
        """Length 1; ε has no part."""
        return v / self.size(v)


@NORMS.add(
    "standardized",
    "weight standardization",
    r"W=g\,\frac{V-\mu_V}{\sigma_V+\epsilon}",
    about="Of the branches' weights, not of activations, so its place plays no role: mean 0 and variance 1 "
    "over what leads into a unit. The paper leaves the scale to another norm; here a learned g sets it.",
    paper="Qiao et al. 2019",
)
class WeightStandardization(WeightNorm):
    """A unit's weights without their mean, over their standard deviation; g starts at it (times γ)."""

    def size(self, v: Tensor) -> Tensor:
        """The standard deviation of what leads into each unit."""
        return super().size(v - v.mean(1, keepdim=True)) / v.shape[1] ** 0.5

    def equation(self, v: Tensor) -> Tensor:
        """Mean 0 and variance 1, but for ε."""
        return (v - v.mean(1, keepdim=True)) / (self.size(v) + self.eps)


def standing(weights: Weights, name: str, features: int, e, there: bool) -> Norm:
    """The norm of a place in the stream: the experiment's if one of activations stands ``there``, or none."""
    kind = e.norm if there and NORMS[e.norm].make.over != "w" else "none"
    return NORMS[kind].make(weights, name, features, e)


def of_weights(weights: Weights, e) -> Callable[[str, Tensor], Norm] | None:
    """What makes the norm of a layer's weights from its name and where they start, if there is one."""
    kind = NORMS[e.norm].make
    return partial(kind, weights, e) if kind.over == "w" else None
