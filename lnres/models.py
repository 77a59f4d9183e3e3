"""A model is a stem into the stream, L blocks along it and a head out of it."""

import math

from torch import Tensor

from lnres.blocks import Attend, Block
from lnres.layers import Conv, Linear, Weights, drawn
from lnres.norms import NORMS, standing
from lnres.registry import Registry

MODELS = Registry("model")


class Model:
    """Base of all models: ``view`` shapes the data, ``stem`` leads into the stream, the head reads h_L."""

    positions = 0
    """How many positions the stream has; 0 without a position axis."""
    sublayers = 1
    """How many blocks of the stream one unit of ``depth`` is."""
    cost = 1
    """Multiplications per position, in units of a linear layer's."""

    def __init__(self, weights: Weights, e, features: int, classes: int):
        self.build(weights, e, features)
        # A mean over positions right behind a norm over positions would be its shift, whatever the input.
        there = e.final_norm and NORMS[e.norm].make.over != "p"
        self.final = standing(weights, "final", e.width, e, there)
        self.head = Linear(weights, "head", e.width, classes, (1 / e.width**0.5, 0.0, "normal"))

    def build(self, weights: Weights, e, features: int) -> None:
        """Declare the stem and ``self.blocks``."""
        raise NotImplementedError

    def enter(self, x: Tensor) -> Tensor:
        """(S, B, features) -> h_0."""
        raise NotImplementedError

    def __call__(self, x: Tensor, tape=None) -> Tensor:
        """(S, B, features) -> logits (S, B, classes)."""
        h = self.final(self.stream(self.enter(x), tape))
        return self.head(h.mean(2) if self.positions else h)

    def stream(self, h: Tensor, tape=None) -> Tensor:
        """From h_0 to h_L, both of the same shape."""
        for block in self.blocks:
            h = block(h, tape)
        if tape:
            tape.end(h)
        return h


@MODELS.add("mlp", "residual MLP", r"h_0=W_{in}x,\ h_l=\mathrm{block}_l(h_{l-1}),\ \hat y=W_{out}N(h_L)")
class MLP(Model):
    """Fully connected layers of one width: the simplest network that is deep."""

    def build(self, weights: Weights, e, features: int) -> None:
        """A linear stem."""
        self.enter = Linear(weights, "stem", features, e.width, (1 / features**0.5, 0.0, "normal"))
        self.blocks = [Block(weights, f"blocks.{i}", e) for i in range(e.depth)]


@MODELS.add(
    "conv",
    "residual convnet",
    r"h_l=\mathrm{block}_l(h_{l-1}),\ F=\mathrm{conv}\,f\,\mathrm{conv}",
    paper="He et al. 2015",
)
class ConvNet(Model):
    """3 x 3 convolutions on the 8 x 8 image, every pixel a position; the head reads their mean."""

    positions, cost = 64, 9

    def build(self, weights: Weights, e, features: int) -> None:
        """A convolution from one channel to ``width``."""
        side = math.isqrt(features)
        if side * side != features:
            raise ValueError(
                f"model='conv': {e.data} has {features} features, not a square image; choose data=digits"
            )
        self.first = Conv(weights, "stem", 1, e.width, (1 / 3, 0.0, "normal"))
        self.blocks = [Block(weights, f"blocks.{i}", e, layer=Conv) for i in range(e.depth)]

    def enter(self, x: Tensor) -> Tensor:
        """One channel per pixel."""
        return self.first(x.unsqueeze(-1))


@MODELS.add(
    "transformer", "transformer encoder", r"F=\mathrm{attention},\ \mathrm{MLP},\ \ldots",
    paper="Vaswani et al. 2017",
)  # fmt: skip
class Transformer(Model):
    """The image as 16 patches of 2 x 2 pixels; a layer is two blocks, attention and an MLP of width 2n."""

    positions, sublayers, cost = 16, 2, 2

    def build(self, weights: Weights, e, features: int) -> None:
        """A linear map of each patch plus a learned position."""
        if features != 64:
            raise ValueError(
                f"model='transformer': {e.data} has {features} features; choose data=digits (8 x 8 pixels)"
            )
        if e.width % e.heads:
            fitting = ", ".join(str(h) for h in range(1, e.width + 1) if e.width % h == 0)
            raise ValueError(f"heads={e.heads}: they do not divide width={e.width}; choose one of {fitting}")
        self.patch = Linear(weights, "stem", 4, e.width, (1 / 2, 0.0, "normal"))
        weights.add(self, "place", "position", (16, e.width), drawn(0.5, "normal"))
        self.blocks = []
        for i in range(e.depth):
            self.blocks.append(Block(weights, f"blocks.{2 * i}", e, Attend))
            self.blocks.append(Block(weights, f"blocks.{2 * i + 1}", e, hidden=2 * e.width))

    def enter(self, x: Tensor) -> Tensor:
        """Cut into patches, row by row."""
        cut = x.unflatten(2, (4, 2, 4, 2)).transpose(3, 4).flatten(4, 5).flatten(2, 3)  # (S, B, 16, 4)
        return self.patch(cut) + self.place.unsqueeze(1)
