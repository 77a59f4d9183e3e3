"""A residual says how the stream x and a block's branch F(x) become one."""

import math

import torch
from torch import Tensor

from lnres.layers import Linear, Weights, along, constant, sigmoid
from lnres.registry import Registry

RESIDUALS = Registry("residual")


class Skip:
    """Base of all residuals: made once a block, called with the stream and the branch's output."""

    def __init__(self, weights: Weights, name: str, e):
        pass

    @staticmethod
    def shrink(e) -> tuple[float, float]:
        """What the weights of the branch's inner and of its last layer are multiplied by at the start.

        Inner are an attention's values; its queries and keys say where to look, not how much comes through.
        """
        return 1.0, 1.0

    def carry(self, x: Tensor, parts: Tensor) -> Tensor:
        """What each of the parts (K, S, B, ...) of the stream x is in the sum; the rest is the branch's."""
        return parts


class Projected:
    """Where a block halves the image and changes its features, so does its skip: y = skip(Px, F(x)).

    P is a linear map of every second pixel of every second row, a 1 x 1 convolution (He et al. 2015, B).
    """

    def __init__(self, weights: Weights, name: str, entrance: int, features: int, skip: Skip):
        law = 1 / math.sqrt(entrance), 0.0, "normal"
        self.projection = Linear(weights, f"{name}.projection", entrance, features, law)
        self.skip = skip

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return self.skip(self.projection(self.quarter(x)), fx)

    @staticmethod
    def quarter(x: Tensor) -> Tensor:
        """Every second pixel of every second row."""
        side = math.isqrt(x.shape[-2])
        return x.unflatten(-2, (side, side))[..., ::2, ::2, :].flatten(-3, -2)

    def carry(self, x: Tensor, parts: Tensor) -> Tensor:
        """Each part through P, whose bias is none of theirs."""
        projected = self.quarter(parts) @ self.projection.matrix().unsqueeze(1)
        return self.skip.carry(self.projection(self.quarter(x)), projected)


@RESIDUALS.add("none", "no skip", "y=F(x)")
class NoSkip(Skip):
    """The branch replaces the stream: a plain deep network."""

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return fx

    def carry(self, x: Tensor, parts: Tensor) -> Tensor:
        """Nothing is kept."""
        return torch.zeros_like(parts)


@RESIDUALS.add("identity", "identity skip", "y=x+F(x)", paper="He et al. 2015")
class IdentitySkip(Skip):
    """The branch is added to the stream; stochastic depth (the knob drop path) leaves it out at random."""

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return x + fx


@RESIDUALS.add("scaled", "scaled skip", r"y=x+\alpha F(x)", paper="De & Smith 2020")
class ScaledSkip(Skip):
    """The branch is damped before it is added; α = 1/√L keeps the variance bounded after L blocks."""

    def __init__(self, weights: Weights, name: str, e):
        self.alpha = e.alpha or 1 / math.sqrt(e.blocks)

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return torch.add(x, fx, alpha=self.alpha)


@RESIDUALS.add("rezero", "ReZero", r"y=x+\alpha F(x),\ \alpha_0=0", paper="Bachlechner et al. 2020")
class ReZero(Skip):
    """One learned number per block, starting at zero: at first every block is the identity."""

    def __init__(self, weights: Weights, name: str, e, start: float = 0.0):
        weights.add(self, "alpha", f"{name}.alpha", (1, 1), constant(start))

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return x + along(x, self.alpha) * fx


@RESIDUALS.add(
    "skipinit", "SkipInit", r"y=x+\alpha F(x),\ \alpha_0=0\ \mathrm{or}\ 1/\sqrt{L}", paper="De & Smith 2020"
)
class SkipInit(ReZero):
    """ReZero's equation in place of BatchNorm, which shrinks branches too; its α may also start small."""

    def __init__(self, weights: Weights, name: str, e):
        super().__init__(weights, name, e, start=e.alpha)


@RESIDUALS.add(
    "layerscale", "LayerScale", r"y=x+\lambda\odot F(x),\ \lambda_0=0.1", paper="Touvron et al. 2021"
)
class LayerScale(Skip):
    """One learned number per feature, starting small: 0.1 up to 18 blocks, 1e-5 up to 24, 1e-6 beyond."""

    def __init__(self, weights: Weights, name: str, e):
        start = 0.1 if e.depth <= 18 else 1e-5 if e.depth <= 24 else 1e-6
        weights.add(self, "scale", f"{name}.scale", (1, e.width), constant(e.alpha or start))

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return x + along(x, self.scale) * fx


@RESIDUALS.add(
    "highway",
    "highway gate",
    r"y=T\odot F(x)+(1-T)\odot x,\ T=\sigma(xW_T+b_T)",
    paper="Srivastava et al. 2015",
)
class Highway(Skip):
    """A learned gate per feature chooses between branch and skip; its bias of -2 starts close to the skip."""

    def __init__(self, weights: Weights, name: str, e):
        self.gate = Linear(
            weights, f"{name}.gate", e.width, e.width, (1 / math.sqrt(e.width), 0.0, "normal"), bias=-2.0
        )

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return torch.lerp(x, fx, sigmoid(self.gate(x)))

    def carry(self, x: Tensor, parts: Tensor) -> Tensor:
        """What the gate, as x sets it, leaves of each part."""
        return (1 - sigmoid(self.gate(x))) * parts


@RESIDUALS.add(
    "deepnorm",
    "DeepNorm",
    r"y=\alpha x+F(x),\ \alpha=(2N)^{1/4},\ \beta=(8N)^{-1/4}",
    about="The skip is strengthened, and the branch's weights start smaller by β (of attention, values and "
    "output only); made for post-LN. N counts encoder layers of attention and MLP, or else blocks.",
    paper="Wang et al. 2022",
)
class DeepNorm(Skip):
    """Updates stay bounded at any depth: the encoder-only constants of the paper."""

    def __init__(self, weights: Weights, name: str, e):
        self.alpha = e.alpha or (2 * e.depth) ** 0.25

    @staticmethod
    def shrink(e) -> tuple[float, float]:
        """β for both."""
        return ((8 * e.depth) ** -0.25,) * 2

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return torch.add(fx, x, alpha=self.alpha)

    def carry(self, x: Tensor, parts: Tensor) -> Tensor:
        """α times each."""
        return self.alpha * parts


@RESIDUALS.add("fixup", "Fixup", r"y=x+aF(x)+b,\ W_1\sim L^{-1/2},\ W_2=0", paper="Zhang et al. 2019")
class Fixup(Skip):
    """Inner weights shrunk by depth, last ones zero, a learned factor and offset: depth without a norm."""

    def __init__(self, weights: Weights, name: str, e):
        weights.add(self, "factor", f"{name}.factor", (1, 1), constant(1))
        weights.add(self, "offset", f"{name}.offset", (1, 1), constant(0))

    @staticmethod
    def shrink(e) -> tuple[float, float]:
        """L^(-1/(2m-2)) with m = 2 layers a branch and L branches, and zero for the last."""
        return e.blocks**-0.5, 0.0

    def __call__(self, x: Tensor, fx: Tensor) -> Tensor:
        return x + along(x, self.factor) * fx + along(x, self.offset)
