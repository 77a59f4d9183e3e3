"""A model is a stem into the stream, L blocks along it and a head out of it."""

import math

from torch import Tensor
from torch.nn.functional import unfold

from lnres import recurrent as cells
from lnres.blocks import Attend, Block
from lnres.layers import Conv, Drawn, HalvingConv, Linear, Weights
from lnres.norms import NORMS, equal_parts, standing
from lnres.registry import Registry

MODELS = Registry("model")

WIDEST = 1024
"""How many features a stream may have."""


class Model:
    """Base of all models: ``enter`` leads into the stream, ``blocks`` along it, the head reads h_L."""

    views = ("vector",)
    """How it can look at an example, rows of VIEWS; the first is its own choice."""
    recurrent = False
    """Whether positions are time steps that are walked along one after the other."""
    sublayers = 1
    """How many blocks of the stream one unit of ``depth`` is."""
    cost = 1
    """Multiplications per position, in units of a linear layer's."""
    units = True
    """Whether it shows what its activation is given; gates have two activations, and show nothing."""
    kept = 0
    """Tensors of the stream's size that a block keeps for the backward pass, beyond those of an MLP."""

    @classmethod
    def widths(cls, e) -> list[int]:
        """How many features the stream has behind each block."""
        return [e.width] * (e.depth * cls.sublayers)

    @staticmethod
    def check(e) -> None:
        """Raise ``ValueError`` where this model cannot do what the experiment asks for."""

    @classmethod
    def fixed(cls, e, block: int) -> frozenset[str]:
        """Slots of a block, counted from 1, whose norm sees other features than the stream has behind it.

        No norm can move there, or away.
        """
        return frozenset()

    def __init__(self, weights: Weights, e, features: int, outputs: int):
        width = self.widths(e)[-1]
        self.build(weights, e, features)
        # A mean over positions right behind a norm over positions would be its shift, whatever the input, and
        # a last time step alone has no positions.
        there = e.final_norm and NORMS[e.norm].make.over != "p"
        self.final = standing(weights, "final", width, e, there)
        self.head = Linear(weights, "head", width, outputs, (1 / width**0.5, 0.0, "normal"))

    def build(self, weights: Weights, e, features: int) -> None:
        """Declare the stem and ``self.blocks``."""
        raise NotImplementedError

    def enter(self, x: Tensor) -> Tensor:
        """(S, B, features), with positions (S, B, P, features), -> h_0."""
        raise NotImplementedError

    def __call__(self, x: Tensor, tape=None) -> Tensor:
        """(S, B, features), with positions (S, B, P, features), -> (S, B, outputs)."""
        h = self.final(self.seen(self.stream(self.enter(x), tape)))
        return self.head(h.mean(2) if h.ndim == 4 else h)

    def seen(self, h: Tensor) -> Tensor:
        """What the head sees of h_L."""
        return h

    def stream(self, h: Tensor, tape=None) -> Tensor:
        """From h_0 to h_L."""
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
    """3 x 3 convolutions of the image, every pixel (or patch) a position; the head reads their mean.

    Each of the ``stages`` after the first starts with a block that halves the image's sides and doubles its
    features; a 1 x 1 projection stands in its skip.
    """

    views, cost = ("image", "patches"), 9

    @classmethod
    def widths(cls, e) -> list[int]:
        """Twice as many in every stage."""
        return [e.width * 2 ** (i * e.stages // e.depth) for i in range(e.depth)]

    @classmethod
    def fixed(cls, e, block: int) -> frozenset[str]:
        """The entrance of a block that begins a stage."""
        return frozenset({"before"} if len({*cls.widths(e)[max(0, block - 2) : block]}) > 1 else ())

    @staticmethod
    def check(e) -> None:
        """``ValueError`` where there are too few blocks, or too many features, for the stages."""
        if e.stages > e.depth:
            raise ValueError(f"stages={e.stages}: depth={e.depth} has fewer blocks; choose at most {e.depth}")
        if (last := e.width * 2 ** (e.stages - 1)) > WIDEST:
            raise ValueError(
                f"stages={e.stages}: width={e.width} doubles to {last} features; the limit is {WIDEST}: "
                f"choose width={WIDEST * e.width // last} or less, or fewer stages"
            )

    def build(self, weights: Weights, e, features: int) -> None:
        """A convolution from the image's channels to ``width``."""
        near = 9 * features
        self.first = Linear(weights, "stem", near, e.width, (1 / near**0.5, 0.0, "normal"))
        self.blocks, entrance = [], e.width
        for i, width in enumerate(self.widths(e)):
            change = {"entrance": entrance, "first": HalvingConv} if width > entrance else {}
            wide = e.replace(width=width, stages=1)
            self.blocks.append(Block(weights, f"blocks.{i}", wide, layer=Conv, **change))
            entrance = width

    def enter(self, x: Tensor) -> Tensor:
        """The pixels around each one side by side: with few channels faster than a convolution."""
        channels, side = x.shape[3], math.isqrt(x.shape[2])
        around = unfold(x.flatten(0, 1).mT.unflatten(2, (side, side)), 3, padding=1)  # (S B, c 9, P)
        around = around.unflatten(1, (channels, 9)).permute(0, 3, 2, 1).flatten(2)
        return self.first(around.unflatten(0, x.shape[:2]))


@MODELS.add(
    "transformer", "transformer encoder", r"F=\mathrm{attention},\ \mathrm{MLP},\ \ldots",
    paper="Vaswani et al. 2017",
)  # fmt: skip
class Transformer(Model):
    """Every patch, row or pixel a token; a layer is two blocks, attention and an MLP of width 2n."""

    views, sublayers, cost = ("patches", "rows", "pixels"), 2, 2

    @staticmethod
    def check(e) -> None:
        """``ValueError`` where heads would not be equal."""
        equal_parts(e, "heads")

    @classmethod
    def fixed(cls, e, block: int) -> frozenset[str]:
        """Those inside: an MLP is twice as wide there, and an attention has no activation."""
        return frozenset({"inner", "activated"})

    def build(self, weights: Weights, e, features: int) -> None:
        """A linear map of each token plus a learned position."""
        self.token = Linear(weights, "stem", features, e.width, (1 / features**0.5, 0.0, "normal"))
        weights.add(self, "place", "position", (e.positions, e.width), Drawn(0.5, "normal"))
        self.blocks = []
        for i in range(e.depth):
            self.blocks.append(Block(weights, f"blocks.{2 * i}", e, Attend))
            self.blocks.append(Block(weights, f"blocks.{2 * i + 1}", e, hidden=2 * e.width))

    def enter(self, x: Tensor) -> Tensor:
        """Tokens that know their place."""
        return self.token(x) + self.place.unsqueeze(1)


class Recurrent(Model):
    """Recurrent layers along rows, patches or pixels; the head reads the last time step."""

    views, recurrent = ("rows", "patches", "pixels"), True
    cell: type
    """The branch of every block."""
    check = staticmethod(cells.check)

    @classmethod
    def fixed(cls, e, block: int) -> frozenset[str]:
        """Those inside: of gates, which are several."""
        return frozenset({"inner", "activated"})

    def build(self, weights: Weights, e, features: int) -> None:
        """A linear map of each time step's features."""
        self.enter = Linear(weights, "stem", features, e.width, (1 / features**0.5, 0.0, "normal"))
        self.blocks = [Block(weights, f"blocks.{i}", e, self.cell) for i in range(e.depth)]

    def seen(self, h: Tensor) -> Tensor:
        """The last time step, (S, B, n)."""
        return h[:, :, -1]


@MODELS.add("rnn", "RNN", r"h_t=f(N(Wx_t+Uh_{t-1}))", paper="Elman 1990")
class RNN(Recurrent):
    """Each layer reads the sequence step by step into a state; all it remembers passes through one matrix."""

    cell, cost, kept = cells.RNN, 1, 2


@MODELS.add("gru", "GRU", r"h_t=(1-z)\odot\tilde h+z\odot h_{t-1}", paper="Cho et al. 2014")
class GRU(Recurrent):
    """A recurrent layer whose gates choose how much of the state is kept and how much is written anew."""

    cell, cost, units, kept = cells.GRU, 3, False, 15


@MODELS.add(
    "lstm",
    "LSTM",
    r"c_t=f\odot c_{t-1}+i\odot g,\ h_t=o\odot\tanh N(c_t)",
    paper="Hochreiter & Schmidhuber 1997",
)
class LSTM(Recurrent):
    """Gates around a cell that is added to, not multiplied through: a skip connection along time."""

    cell, cost, units, kept = cells.LSTM, 4, False, 24
