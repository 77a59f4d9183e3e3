"""A norm gives numbers a common scale; which numbers share one is all the difference."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from lnres.layers import Weights, along, constant
from lnres.registry import Registry

NORMS = Registry("norm")


class Norm:
    """Base of all norms: normalize over some axes of (S, B, n) or (S, B, P, n), then gain γ and shift β.

    ``over`` names the axes that share a mean and a variance: ``b`` examples, ``p`` positions, ``c`` features.
    ``normalize`` may run a fused kernel, ``equation`` is the same written out; a test holds them equal.
    """

    over = ""
    shifts = True

    def __init__(self, weights: Weights, name: str, features: int, e):
        self.weights, self.eps, self.features, self.affine = weights, e.eps, features, e.affine
        if e.affine:
            weights.add(self, "gain", f"{name}.gain", (1, features), constant(e.gamma))
            if self.shifts:
                weights.add(self, "shift", f"{name}.shift", (1, features), constant(e.beta))

    def __call__(self, x: Tensor) -> Tensor:
        return self.rescale(self.normalize(x))

    def rescale(self, x: Tensor) -> Tensor:
        """γ x + β, or x where the affine is off."""
        if not self.affine:
            return x
        gain = along(x, self.gain)
        return x * gain + along(x, self.shift) if self.shifts else x * gain

    def normalize(self, x: Tensor) -> Tensor:
        """The normalized tensor, before the affine."""
        return self.equation(x)

    def equation(self, x: Tensor) -> Tensor:
        """What the norm computes, written out."""
        raise NotImplementedError


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


@NORMS.add(
    "layer",
    "LayerNorm",
    r"y=\gamma\frac{x-\mu}{\sqrt{\sigma^2+\epsilon}}+\beta",
    paper="Ba, Kiros & Hinton 2016",
)
class LayerNorm(Norm):
    """Mean 0 and variance 1 over the features of each example alone."""

    over = "c"

    def normalize(self, x: Tensor) -> Tensor:
        """torch's kernel."""
        return F.layer_norm(x, (self.features,), eps=self.eps)

    def equation(self, x: Tensor) -> Tensor:
        """Two passes: E[x²]-E[x]² would lose every digit at large offsets."""
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)


@NORMS.add(
    "rms", "RMSNorm", r"y=\gamma\frac{x}{\sqrt{\overline{x^2}+\epsilon}}", paper="Zhang & Sennrich 2019"
)
class RMSNorm(Norm):
    """Root mean square 1 over the features of each example; the mean stays."""

    over, shifts = "c", False

    def normalize(self, x: Tensor) -> Tensor:
        """torch's kernel."""
        return F.rms_norm(x, (self.features,), eps=self.eps)

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

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        self.momentum, self.running = e.norm_momentum, e.running
        shape = (len(weights.seeds), 1, features)
        self.running_mean = weights.buffer(f"{name}.running_mean", torch.zeros(shape))
        self.running_var = weights.buffer(f"{name}.running_var", torch.ones(shape))

    def equation(self, x: Tensor) -> Tensor:
        """Batch statistics in training (biased variance), running ones (unbiased) in evaluation."""
        if not self.weights.training and self.running:
            return (x - along(x, self.running_mean)) * torch.rsqrt(along(x, self.running_var) + self.eps)
        axes = tuple(range(1, x.ndim - 1))
        mean = x.mean(axes, keepdim=True)
        centred = x - mean
        variance = centred.square().mean(axes, keepdim=True)
        if self.weights.training:
            self._remember(mean.detach(), variance.detach(), x[0, ..., 0].numel())
        return centred * torch.rsqrt(variance + self.eps)

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

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        if features % e.groups:
            fitting = ", ".join(str(g) for g in range(1, features + 1) if features % g == 0)
            raise ValueError(
                f"groups={e.groups}: a width of {features} has no such groups; choose one of {fitting}"
            )
        self.groups = e.groups

    def normalize(self, x: Tensor) -> Tensor:
        """torch's kernel."""
        rows = x.flatten(0, 1)  # (S B, n), or (S B, P, n), where torch wants features before positions
        if x.ndim == 3:
            return F.group_norm(rows, self.groups, eps=self.eps).view(x.shape)
        return F.group_norm(rows.mT, self.groups, eps=self.eps).mT.view(x.shape)

    def equation(self, x: Tensor) -> Tensor:
        """Mean 0 and variance 1 over positions and the features of a group."""
        grouped = x.unflatten(-1, (self.groups, -1))
        axes = (-1,) if x.ndim == 3 else (2, -1)
        centred = grouped - grouped.mean(axes, keepdim=True)
        return (centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + self.eps)).flatten(-2)


@NORMS.add(
    "instance",
    "InstanceNorm",
    r"y=\gamma\frac{x-\mu_p}{\sqrt{\sigma_p^2+\epsilon}}+\beta",
    paper="Ulyanov et al. 2016",
)
class InstanceNorm(Norm):
    """Mean 0 and variance 1 of each feature over the positions of each example."""

    over = "p"

    def equation(self, x: Tensor) -> Tensor:
        """Over the position axis alone."""
        centred = x - x.mean(2, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(2, keepdim=True) + self.eps)


@NORMS.add("scale", "ScaleNorm", r"y=g\,x/\max(\lVert x\rVert,\epsilon)", paper="Nguyen & Salazar 2019")
class ScaleNorm(Norm):
    """Every example to the same length, one learned number for all features; it starts at √n."""

    over, shifts = "c", False

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, dataclasses.replace(e, affine=False))
        self.affine, start = e.affine, e.gamma * features**0.5
        if e.affine:
            weights.add(self, "gain", f"{name}.gain", (1, 1), constant(start))

    def equation(self, x: Tensor) -> Tensor:
        """Length 1, or √n where there is no learned gain."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(self.eps)
        return x / size if self.affine else x * (self.features**0.5 / size)


@NORMS.add("dyt", "DynamicTanh", r"y=\gamma\tanh(\alpha x)+\beta", paper="Zhu et al. 2025")
class DynamicTanh(Norm):
    """No statistics at all: a tanh with one learned slope (it starts at 0.5) holds the extremes back."""

    over = ""

    def __init__(self, weights: Weights, name: str, features: int, e):
        super().__init__(weights, name, features, e)
        weights.add(self, "slope", f"{name}.slope", (1, 1), constant(0.5))

    def equation(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.tanh(along(x, self.slope) * x)
