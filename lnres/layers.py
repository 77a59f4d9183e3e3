"""Layers with a leading member axis: S networks of the same shape train as one."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from threading import Lock

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lnres.graph import Feed
from lnres.registry import Registry

ACTIVATIONS = Registry("activation")
INITS = Registry("init")


MOST_DRAWN = 2**29
"""Bytes of draws that probes keep: the latest, whichever thread drew them."""
_keeping = Lock()


def in_whole_vectors(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The elementwise f on a flat tensor padded to a multiple of 64, so that every entry rounds alike.

    On a CPU some functions of torch round what is left behind the last whole vector otherwise, and which
    entries these are depends on the number of members.
    """

    def even(z: Tensor) -> Tensor:
        flat, rest = z.flatten(), -z.numel() % 64
        y = f(torch.nn.functional.pad(flat, (0, rest)))[:-rest] if rest else f(flat)
        return y.view_as(z)

    return even


sigmoid = in_whole_vectors(torch.sigmoid)

# An activation's ``flat(z, out)`` is 1 where |f'(z)| < 1 - 0.97² (for tanh: beyond an output of 0.97), else
# 0; a comparison into floats is four times faster on a CPU than one into bool.


def generator(*key) -> torch.Generator:
    """A generator of its own for every key, so that nothing drawn elsewhere can disturb it."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@lru_cache
def second_moment(f: Callable[[Tensor], Tensor]) -> float:
    """E f(z)² for a standard normal z, by quadrature: what a layer behind f has to make up for."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(199)
    values = f(torch.from_numpy(nodes)).numpy()
    return float((weights * values**2).sum() / weights.sum())


@ACTIVATIONS.add("relu", "ReLU", r"f(z)=\max(0,z)", paper="Nair & Hinton 2010")
class Relu:
    """Passes what is positive and stops the rest; half of a centred signal's power is lost."""

    __call__ = staticmethod(torch.relu)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero."""
        return torch.le(z, 0, out=out)


@ACTIVATIONS.add("tanh", "tanh", r"f(z)=\tanh z", paper="LeCun et al. 1998")
class Tanh:
    """Squashes to (-1, 1); far from zero its slope, and so the gradient, dies."""

    __call__ = staticmethod(torch.tanh)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero."""
        return torch.gt(torch.abs(z, out=out), math.atanh(0.97), out=out)


@ACTIVATIONS.add("gelu", "GELU", r"f(z)=z\,\Phi(z)", paper="Hendrycks & Gimpel 2016")
class Gelu:
    """A smooth ReLU: the input times the chance that a normal variable lies below it."""

    __call__ = staticmethod(torch.nn.functional.gelu)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero: left of z = -2.25 it stays between -0.059 and 0."""
        return torch.lt(z, -2.25, out=out)


@ACTIVATIONS.add("leaky", "leaky ReLU", r"f(z)=\max(0.01z,z)", paper="Maas et al. 2013")
class LeakyRelu:
    """A ReLU that lets a hundredth of the negative side through, so that no unit is ever quite dead."""

    __call__ = staticmethod(torch.nn.functional.leaky_relu)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero."""
        return torch.le(z, 0, out=out)


@ACTIVATIONS.add("silu", "SiLU", r"f(z)=z\,\sigma(z)", paper="Elfwing et al. 2018")
class Silu:
    """The input times its own sigmoid; smooth, and slightly negative left of zero."""

    __call__ = staticmethod(in_whole_vectors(torch.nn.functional.silu))

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero: left of z = -3.81 it stays between -0.059 and 0."""
        return torch.lt(z, -3.81, out=out)


@ACTIVATIONS.add("sigmoid", "sigmoid", r"f(z)=1/(1+e^{-z})", paper="Rumelhart et al. 1986")
class Sigmoid:
    """Squashes to (0, 1): never centred, and its slope is a quarter at best."""

    __call__ = staticmethod(sigmoid)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero: beyond |z| = 2.70."""
        return torch.gt(torch.abs(z, out=out), 2.70, out=out)


@ACTIVATIONS.add(
    "selu", "SELU", r"f(z)=\lambda z,\ z>0;\ \lambda\alpha(e^z-1)", paper="Klambauer et al. 2017"
)
class Selu:
    """Scaled so that mean 0 and variance 1 are a fixed point: a norm made of an activation."""

    __call__ = staticmethod(in_whole_vectors(torch.nn.functional.selu))

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero: left of z = -3.39."""
        return torch.lt(z, -3.39, out=out)


@ACTIVATIONS.add("erf", "erf", r"f(z)=\mathrm{erf}(z)", paper="Williams 1997")
class Erf:
    """A sigmoid whose averages over Gaussian inputs have closed forms."""

    __call__ = staticmethod(torch.erf)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """1 where the slope is (nearly) zero: beyond |z| = 1.72."""
        return torch.gt(torch.abs(z, out=out), 1.72, out=out)


@ACTIVATIONS.add("identity", "identity", r"f(z)=z", paper="Saxe et al. 2014")
class Identity:
    """No nonlinearity: the deep network stays linear, which makes theory exact."""

    __call__ = staticmethod(lambda z: z)

    @staticmethod
    def flat(z: Tensor, out: Tensor) -> Tensor:
        """Nowhere."""
        return out.zero_()


# An init maps (experiment, fan_in, fan_out, power) to the std of the weights and of the biases and the law
# they are drawn from; power is the second moment of the activation that touches the layer, 1 where there is
# none.
@INITS.add("unit", "unit branch", r"\sigma^2=1/(n_{in}\,\mathrm{E}f^2)", paper="De & Smith 2020")
def unit(e, fan_in, fan_out, power):
    """Every branch keeps the second moment of its input: variance 1/n, or 2/n next to a ReLU."""
    return 1 / math.sqrt(fan_in * power), 0.0, "normal"


@INITS.add("he", "He", r"\sigma^2=2/n_{in}", paper="He et al. 2015")
def he(e, fan_in, fan_out, power):
    """Variance 2/n keeps the power of a ReLU layer."""
    return math.sqrt(2 / fan_in), 0.0, "normal"


@INITS.add("xavier", "Xavier", r"\sigma^2=2/(n_{in}+n_{out})", paper="Glorot & Bengio 2010")
def xavier(e, fan_in, fan_out, power):
    """A compromise between the forward and the backward pass of a linear layer."""
    return math.sqrt(2 / (fan_in + fan_out)), 0.0, "uniform"


@INITS.add("lecun", "LeCun", r"\sigma^2=1/n_{in}", paper="LeCun et al. 1998")
def lecun(e, fan_in, fan_out, power):
    """Variance 1/n keeps the power of a linear layer; behind a ReLU it halves."""
    return 1 / math.sqrt(fan_in), 0.0, "normal"


@INITS.add("torch", "torch default", r"w,b\sim U(\pm 1/\sqrt{n_{in}})", paper="torch.nn.Linear")
def torch_default(e, fan_in, fan_out, power):
    """What ``torch.nn.Linear`` does if nobody chooses: a variance of 1/(3n), biases too."""
    return 1 / math.sqrt(3 * fan_in), 1 / math.sqrt(3 * fan_in), "uniform"


@INITS.add("meanfield", "mean field", r"\sigma^2=\sigma_w^2/n_{in},\ \sigma_b^2", paper="Poole et al. 2016")
def meanfield(e, fan_in, fan_out, power):
    """Variances of weights and biases are free: the plane on which order and chaos meet."""
    return math.sqrt(e.sigma_w2 / fan_in), math.sqrt(e.sigma_b2), "normal"


@INITS.add("orthogonal", "orthogonal", r"W^\top W=I\,/\,\mathrm{E}f^2", paper="Saxe et al. 2014")
def orthogonal(e, fan_in, fan_out, power):
    """A random rotation, scaled like the unit branch: no direction is stretched more than another."""
    return 1 / math.sqrt(max(fan_in, fan_out) * power), 0.0, "orthogonal"


class Weights:
    """All parameters of S members, contiguous in ONE flat buffer, their gradients in a second.

    Parameters of equal shape lie side by side, as one ``group`` (count, S, ...): to autograd a group is one
    leaf, and every layer holds parts of it as its parameters. The buffers are padded to a multiple of 64
    elements, so that fused optimizers treat every element alike and a member's bits do not depend on how
    many others there are.
    """

    def __init__(self, seeds: Sequence[int], device: str = "cpu"):
        self.seeds, self.device, self.feed = tuple(seeds), device, Feed(device)
        self.training, self.step = True, 0
        self.live: dict[str, float] = {}  # knobs that layers look up at every step, since they may change
        self.buffers: dict[str, Tensor] = {}
        self._declared: dict[tuple[int, ...], list[tuple]] = {}

    def add(self, owner, attribute: str, name: str, shape: tuple[int, ...], draw: Callable) -> Tensor:
        """Declare a parameter (S, *shape) and return its start: ``draw(shape, generator)`` of each member."""
        start = torch.stack([draw(shape, generator(seed, name)) for seed in self.seeds])
        return self.put(owner, attribute, name, start)

    def put(self, owner, attribute: str, name: str, start: Tensor) -> Tensor:
        """Declare a parameter by where it starts, (S, ...)."""
        self._declared.setdefault(tuple(start.shape[1:]), []).append((owner, attribute, name, start))
        return start

    def buffer(self, name: str, value: Tensor) -> Tensor:
        """State that is not trained, such as running statistics."""
        self.buffers[name] = value.to(self.device)
        return self.buffers[name]

    def pack(self) -> None:
        """Lay out what was declared and hand every layer its parameters; call it once."""
        declared = self._declared.values()
        total = sum(start.numel() for group in declared for *_, start in group)
        self.flat = torch.zeros(-(-total // 64) * 64, device=self.device)
        self.grad = torch.zeros_like(self.flat)
        self.shapes = [(len(group), len(self.seeds), *shape) for shape, group in self._declared.items()]
        self.names = [[name for _, _, name, _ in group] for group in declared]
        for group, values in zip(declared, self.groups(self.flat), strict=True):
            values.copy_(torch.stack([start for *_, start in group]))
        self.leaf = self.flat.detach().requires_grad_()  # the same memory, as optimizers want it
        self.leaf.grad = self.grad
        unseen = self.flat.data  # autograd need not follow what optimizers do to it between two steps
        self._leaves = [values.requires_grad_() for values in self.groups(unseen)]
        for group, leaf, grad in zip(declared, self._leaves, self.groups(self.grad), strict=True):
            for (owner, attribute, *_), parameter in zip(group, Parts.apply(leaf, grad), strict=True):
                setattr(owner, attribute, parameter)
        self._declared = {}

    def backward(self, loss: Tensor, *roads: Tensor) -> tuple[Tensor, ...]:
        """Fill ``grad`` with the gradient of a scalar; returns its gradients with respect to ``roads``.

        A gradient for each of some hundred parameters, and ``retain_grad`` on every road, would cost a tenth
        of the step. What the loss does not depend on has a gradient of zeros.
        """
        found = torch.autograd.grad(loss, [*self._leaves, *roads], allow_unused=True, materialize_grads=True)
        for group, value in zip(self.groups(self.grad), found, strict=False):
            if value.data_ptr() != group.data_ptr():
                group.copy_(value)
        return found[len(self._leaves) :]

    def groups(self, flat: Tensor) -> list[Tensor]:
        """A buffer laid out like the flat one, as one tensor (count, S, ...) per shape."""
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = flat[: sum(sizes)].split(sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def clip(self, limit: float) -> Tensor:
        """Scale each member's gradient down to this norm where it is longer; returns its norms (S,)."""
        groups = [group.transpose(0, 1).flatten(1) for group in self.groups(self.grad)]
        norms = torch.stack([torch.linalg.vector_norm(group, dim=1) for group in groups], dim=1)
        total = torch.linalg.vector_norm(norms, dim=1)  # along rows: the order must not depend on S
        factor = (limit / (total + 1e-6)).clamp_max(1.0)
        for group in self.groups(self.grad):
            group.mul_(factor.view(-1, *[1] * (group.ndim - 2)))
        return total

    def named(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Value and gradient (S, ...) of every parameter, by name."""
        pairs = zip(self.names, self.groups(self.flat), self.groups(self.grad), strict=True)
        return {
            name: (value, grad)
            for names, values, grads in pairs
            for name, value, grad in zip(names, values, grads, strict=True)
        }

    def matrices(self, prefix: str) -> list[tuple[int, Tensor, Tensor]]:
        """Where the weight matrices named ``prefix.<i>...`` lie: (group, rows of the group, their i)."""
        found = []
        for k, names in enumerate(self.names):
            rows = [
                j
                for j, name in enumerate(names)
                if name.startswith(prefix + ".") and name.endswith(".weight")
            ]
            if rows:
                blocks = [int(names[j].split(".")[1]) for j in rows]
                found.append((k, *(torch.tensor(index, device=self.device) for index in (rows, blocks))))
        return found


class Parts(torch.autograd.Function):
    """The rows of a group; backward, their gradients are gathered right where ``grad`` lies."""

    @staticmethod
    def forward(ctx, group: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        """As ``unbind``."""
        ctx.grad = grad
        return group.detach().unbind()

    @staticmethod
    @once_differentiable
    def backward(ctx, *slopes: Tensor) -> tuple[Tensor, None]:
        """All slopes as one tensor, in the memory of ``grad``."""
        return torch.stack(slopes, out=ctx.grad), None


class Still(Weights):
    """Parameters that nobody trains, where they start: without buffers, so that a probe is quick.

    ``draws`` keeps what was drawn, up to ``MOST_DRAWN`` bytes: drawing is half of a probe, and what a slider
    changes is mostly its scale.
    """

    def __init__(self, seeds: Sequence[int], device: str, draws: dict[tuple, Tensor]):
        super().__init__(seeds, device)
        self.draws = draws

    def add(self, owner, attribute: str, name: str, shape: tuple[int, ...], draw: Callable) -> Tensor:
        """As for parameters that are trained, bit for bit."""
        if not isinstance(draw, Drawn):
            return super().add(owner, attribute, name, shape, draw)
        start = torch.empty(len(self.seeds), *shape)
        for seed, row in zip(self.seeds, start, strict=True):
            torch.mul(self._unit(seed, name, shape, draw), draw.scale, out=row)
        return self.put(owner, attribute, name, start)

    def _unit(self, seed: int, name: str, shape: tuple[int, ...], draw: "Drawn") -> Tensor:
        key = seed, name, shape, draw.law
        made = self.draws.get(key)
        if made is None:
            made = draw.unit(shape, generator(seed, name))
            with _keeping:
                room = MOST_DRAWN - made.nbytes - sum(kept.nbytes for kept in self.draws.values())
                while room < 0 and self.draws:
                    room += self.draws.pop(next(iter(self.draws))).nbytes
                self.draws[key] = made
        return made

    def put(self, owner, attribute: str, name: str, start: Tensor) -> Tensor:
        """The start itself is the parameter."""
        setattr(owner, attribute, start.to(self.device))
        return start

    def pack(self) -> None:
        """Every layer has its parameters already."""


def constant(value: float) -> Callable:
    """Every entry starts at ``value``."""
    return lambda shape, g: torch.full(shape, float(value))


class Drawn:
    """Entries of mean 0 and this std (or one a column): ``normal``, ``uniform`` or ``orthogonal``."""

    def __init__(self, std: float | Tensor, law: str):
        self.law, self.scale = law, std * math.sqrt(3) if law == "uniform" else std

    def unit(self, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
        """The draw before it is scaled, which does not depend on the std."""
        if self.law == "uniform":
            return torch.rand(shape, generator=g) * 2 - 1
        if self.law == "orthogonal":
            return torch.nn.init.orthogonal_(torch.empty(shape), math.sqrt(max(shape)), generator=g)
        return torch.randn(shape, generator=g)

    def __call__(self, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
        return self.unit(shape, g).mul_(self.scale)


def along(x: Tensor, parameter: Tensor) -> Tensor:
    """A parameter (S, 1, n) shaped to go with (S, B, n) or (S, B, P, n)."""
    return parameter if x.ndim == 3 else parameter.unsqueeze(2)


class Linear:
    """y = x W + b for each member: (S, B, ..., n_in) -> (S, B, ..., n_out); W is (S, n_in, n_out).

    ``start`` is an init's (weight std, bias std, law). ``norm(name, start)``, where there is one, makes the
    norm that the weights pass through, from where they start: then ``weight`` is what it is given, V.
    """

    reach = 1
    """How many positions an output looks at: its fan-in is that many times the features."""

    def __init__(
        self, weights: Weights, name: str, fan_in: int, fan_out: int, start: tuple, bias: float = 0.0,
        norm: Callable | None = None,
    ):  # fmt: skip
        std, bias_std, law = start
        shape = self.reach * fan_in, fan_out
        spread = torch.as_tensor(std, dtype=torch.float32).expand(fan_out)
        if norm:  # V has to point somewhere even where W starts at zero
            spread = torch.where(spread == 0, 1 / math.sqrt(shape[0]), spread)
        first = weights.add(self, "weight", f"{name}.weight", shape, Drawn(spread, law))
        self.norm = norm and norm(name, first * torch.as_tensor(std != 0))
        offset = Drawn(bias_std, law) if bias_std else constant(bias)
        weights.add(self, "bias", f"{name}.bias", (1, fan_out), offset)

    def matrix(self) -> Tensor:
        """W, (S, n_in, n_out): V through its norm where it has one."""
        return self.norm(self.weight) if self.norm else self.weight

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return torch.baddbmm(self.bias, x, self.matrix())
        return torch.baddbmm(self.bias, x.flatten(1, -2), self.matrix()).unflatten(1, x.shape[1:-1])


class Conv(Linear):
    """A 3 x 3 convolution of square images, zero padded: (S, B, P, n_in) -> (S, B, P, n_out), P = side².

    W is (S, 9 n_in, n_out), the positions of the kernel row by row, its input features within each. Members
    are the groups of one convolution. Each is two groups, half of the batch each: a convolution of a single
    group may take another kernel and round otherwise, and a member has to equal the run of its seed alone.
    """

    reach, stride = 9, 1

    def __call__(self, x: Tensor) -> Tensor:
        (members, batch, _, n), side = x.shape, math.isqrt(x.shape[2])
        halves = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1)) if batch % 2 else x
        images = halves.unflatten(1, (2, -1)).permute(2, 3, 0, 1, 4).reshape(-1, side, side, members * 2 * n)
        kernels = self.matrix().view(members, 1, 3, 3, n, -1).expand(-1, 2, -1, -1, -1, -1)
        y = torch.nn.functional.conv2d(
            images.permute(0, 3, 1, 2),
            kernels.permute(0, 1, 5, 4, 2, 3).reshape(-1, n, 3, 3),
            self.bias.expand(-1, 2, -1).flatten(),
            stride=self.stride,
            padding=1,
            groups=2 * members,
        )  # (B / 2, S 2 n_out, side, side), features last in memory
        y = y.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (members, 2, -1))
        y = y.permute(2, 3, 0, 1, 4).flatten(1, 2)
        return y[:, :batch].contiguous() if batch % 2 else y


class HalvingConv(Conv):
    """A convolution that looks at every second pixel of every second row: (S, B, P / 4, n_out)."""

    stride = 2


class Attention:
    """Multi-head self-attention, (S, B, P, n) -> (S, B, P, n): every position asks all others.

    ``start`` is the init of queries, keys and values side by side, ``last`` of the map behind them.
    """

    def __init__(
        self, weights: Weights, name: str, features: int, heads: int, start: tuple, last: tuple,
        norm: Callable | None = None,
    ):  # fmt: skip
        self.heads = heads
        self.ask = Linear(weights, f"{name}.first", features, 3 * features, start, norm=norm)
        self.tell = Linear(weights, f"{name}.last", features, features, last, norm=norm)

    def __call__(self, x: Tensor, inside: Callable = lambda mixed: mixed) -> Tensor:
        return self.tell(inside(Mixed.apply(self.ask(x), self.heads)))


class Mixed(torch.autograd.Function):
    """softmax(q kᵀ / √d) v of every head, (S, B, P, 3n) -> (S, B, P, n), and its derivative, both by hand.

    Every head's queries, keys and values lie as columns (d, P): on a CPU a product of a few columns, as a
    head has, takes twice as long as one of as many columns as there are positions.
    """

    @staticmethod
    def forward(ctx, asked: Tensor, heads: int) -> Tensor:
        """Each position's mean of all values, weighted by how well their keys answer its query."""
        columns = asked.unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 5, 2).contiguous()
        q, k, v = columns.flatten(1, 3)  # each (S B heads, d, P)
        ctx.shape, ctx.root = columns.shape, math.sqrt(q.shape[1])
        q = q / ctx.root
        share = torch.softmax(q.mT @ k, dim=-1)
        ctx.save_for_backward(q, k, v, share)
        mixed = (v @ share.mT).view(ctx.shape[1:]).permute(0, 1, 4, 2, 3)
        return mixed.contiguous().flatten(-2)  # a view of one example would round otherwise

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        """The derivative of the loss with respect to what was asked, from that to the mean values."""
        q, k, v, share = ctx.saved_tensors
        slope = slope.unflatten(-1, ctx.shape[3:5]).permute(0, 1, 3, 4, 2).contiguous().flatten(0, 2)
        scores = torch._softmax_backward_data(slope.mT @ v, share, -1, share.dtype)
        found = q.new_empty(ctx.shape)
        to_q, to_k, to_v = found.flatten(1, 3)
        torch.bmm(k, scores.mT, out=to_q).div_(ctx.root)
        torch.bmm(q, scores, out=to_k)
        torch.bmm(slope, share, out=to_v)
        return found.permute(1, 2, 5, 0, 3, 4).contiguous().flatten(-3), None


class Dropout:
    """Zeroes entries in training and scales the others up; masks depend on (seed, name, step) alone.

    ``shape`` maps the input's shape to the mask's: one draw for every entry, or one for a whole example.
    """

    def __init__(self, weights: Weights, name: str, knob: str, shape: Callable = tuple):
        self.weights, self.name, self.knob, self.shape = weights, name, knob, shape

    def __call__(self, x: Tensor) -> Tensor:
        share = self.weights.live.get(self.knob, 0.0)
        if not share or not self.weights.training:
            return x
        shape, seeds = self.shape(x.shape[1:]), self.weights.seeds

        def mask(t: int) -> Tensor:  # that is kept with a captured step, so it must not hold x
            chance = torch.stack([torch.rand(shape, generator=generator(s, self.name, t)) for s in seeds])
            return (chance >= share).float() / (1 - share)

        return x * self.weights.feed(self.weights.step, mask)
