"""The oracle of the suite: the same network written a second time, in plain ``torch.nn``, for one member."""

import os
import sys
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lnres.train import one_thread

one_thread()
# Warnings are errors also in the processes that tests start; of what is closed late Streamlit has one itself.
os.environ["PYTHONWARNINGS"] = "error,ignore::ResourceWarning"


class Channels:
    """What torch keeps at axis 1 stands last here: (B, n) as it is, (B, P, n) as torch's (B, n, P)."""

    def forward(self, x):
        return super().forward(x) if x.ndim == 2 else super().forward(x.mT).mT


class Batch(Channels, nn.BatchNorm1d):
    pass


class Group(Channels, nn.GroupNorm):
    pass


class Instance(Channels, nn.InstanceNorm1d):
    pass


class Scale(nn.Module):
    """Nguyen & Salazar: a learned length, √n at the start; the fixed length √n without it."""

    def __init__(self, e, n):
        super().__init__()
        self.eps, self.size = e.eps, n**0.5
        if e.affine:
            self.weight = nn.Parameter(torch.full((1,), e.gamma * n**0.5))

    def forward(self, x):
        length = x.pow(2).sum(-1, keepdim=True).clamp(min=self.eps**2).sqrt()  # a root's slope at 0 is none
        return getattr(self, "weight", self.size) * x / length


class DynamicTanh(nn.Module):
    """Zhu et al., as their listing has it."""

    def __init__(self, e, n):
        super().__init__()
        self.slope, self.affine = nn.Parameter(torch.full((1,), 0.5)), e.affine
        if e.affine:
            self.weight, self.bias = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))

    def forward(self, x):
        y = torch.tanh(self.slope * x)
        return self.weight * y + self.bias if self.affine else y


class DynamicErf(DynamicTanh):
    """Chen et al., as their listing has it."""

    def __init__(self, e, n):
        super().__init__(e, n)
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        y = torch.erf(self.slope * x + self.offset)
        return self.weight * y + self.bias if self.affine else y


class Standardized(nn.Module):
    """Qiao et al.: mean 0 and variance 1 over all that leads into a unit, and a gain for each."""

    def __init__(self, eps, like):
        super().__init__()
        self.eps, self.gain = eps, nn.Parameter(torch.ones(len(like), *[1] * (like.ndim - 1)))

    def forward(self, v):
        rows = v.flatten(1)
        std, mean = torch.std_mean(rows, dim=1, correction=0, keepdim=True)
        return self.gain * ((rows - mean) / (std + self.eps)).view_as(v)


class Convolution(nn.Conv2d):
    """nn.Conv2d on a stream of pixels, (B, side², n)."""

    def __init__(self, a, b):
        super().__init__(a, b, 3, padding=1)

    def forward(self, x):
        side = int(x.shape[1] ** 0.5)
        return super().forward(x.mT.unflatten(2, (side, side))).flatten(2).mT


TORCH_NORMS = {
    "none": lambda e, n: nn.Identity(),
    "layer": lambda e, n: nn.LayerNorm(n, eps=e.eps, elementwise_affine=e.affine),
    "rms": lambda e, n: nn.RMSNorm(n, eps=e.eps, elementwise_affine=e.affine),
    "batch": lambda e, n: Batch(n, eps=e.eps, momentum=0.1, affine=e.affine),
    "group": lambda e, n: Group(e.groups, n, eps=e.eps, affine=e.affine),
    "instance": lambda e, n: Instance(n, eps=e.eps, affine=e.affine),
    "scale": Scale,
    "dyt": DynamicTanh,
    "derf": DynamicErf,
    "weight": lambda e, n: nn.Identity(),
    "standardized": lambda e, n: nn.Identity(),
}
OF_WEIGHTS = {
    "weight": lambda e, layer: nn.utils.parametrizations.weight_norm(layer),
    "standardized": lambda e, layer: nn.utils.parametrize.register_parametrization(
        layer, "weight", Standardized(e.eps, layer.weight)
    ),
}
TORCH_ACTIVATIONS = {
    "relu": nn.ReLU(),
    "tanh": nn.Tanh(),
    "gelu": nn.GELU(),
    "leaky": nn.LeakyReLU(0.01),
    "silu": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "selu": nn.SELU(),
    "erf": torch.erf,
    "identity": nn.Identity(),
}


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, line by line."""

    def __init__(self, parameters, lr, weight_decay):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].get("m", torch.zeros_like(p))
                c = 0.9 * m + 0.1 * p.grad
                p -= group["lr"] * (torch.sign(c) + group["weight_decay"] * p)
                self.state[p]["m"] = 0.99 * m + 0.01 * p.grad


class Muon:
    """torch's for the matrices of the blocks, but in full precision, and its AdamW for all others."""

    def __init__(self, net, e):
        matrices = [p for p in net.blocks.parameters() if p.ndim == 2]
        rest = [p for p in net.parameters() if not any(p is matrix for matrix in matrices)]
        self.both = [
            torch.optim.Muon(matrices, e.lr, e.weight_decay, e.momentum, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, e.lr, weight_decay=e.weight_decay),
        ]

    def zero_grad(self):
        for optimizer in self.both:
            optimizer.zero_grad()

    def step(self):
        with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
            for optimizer in self.both:
                optimizer.step()


TORCH_OPTIMIZERS = {
    "sgd": lambda net, e: torch.optim.SGD(
        net.parameters(), e.lr, momentum=e.momentum, weight_decay=e.weight_decay
    ),
    "adam": lambda net, e: torch.optim.Adam(net.parameters(), e.lr, weight_decay=e.weight_decay),
    "adamw": lambda net, e: torch.optim.AdamW(net.parameters(), e.lr, weight_decay=e.weight_decay),
    "nesterov": lambda net, e: torch.optim.SGD(
        net.parameters(), e.lr, momentum=e.momentum, weight_decay=e.weight_decay, nesterov=True
    ),
    "rmsprop": lambda net, e: torch.optim.RMSprop(
        net.parameters(), e.lr, momentum=e.momentum, weight_decay=e.weight_decay
    ),
    "lion": lambda net, e: Lion(net.parameters(), e.lr, e.weight_decay),
    "muon": Muon,
}


def number(value, n=1):
    return nn.Parameter(torch.full((n,), float(value)))


# What a residual learns, by our names, and how it joins the stream s and the branch's output.
LEARNED = {
    "rezero": lambda e: {"alpha": number(0)},
    "skipinit": lambda e: {"alpha": number(e.alpha)},
    "layerscale": lambda e: {"scale": number(0.1, e.width)},
    "highway": lambda e: {"gate": nn.Linear(e.width, e.width)},
    "fixup": lambda e: {"factor": number(1), "offset": number(0)},
}
SKIPS = {
    "none": lambda e, m, s, fx: fx,
    "identity": lambda e, m, s, fx: s + fx,
    "scaled": lambda e, m, s, fx: s + (e.alpha if e.alpha else e.blocks**-0.5) * fx,
    "rezero": lambda e, m, s, fx: s + m.alpha * fx,
    "skipinit": lambda e, m, s, fx: s + m.alpha * fx,
    "layerscale": lambda e, m, s, fx: s + m.scale * fx,
    "highway": lambda e, m, s, fx: (t := m.gate(s).sigmoid()) * fx + (1 - t) * s,
    "deepnorm": lambda e, m, s, fx: (e.alpha if e.alpha else (2 * e.depth) ** 0.25) * s + fx,
    "fixup": lambda e, m, s, fx: s + m.factor * fx + m.offset,
}
# Where a placement's norms stand, and the block it makes: s enters the skip, x the branch.
COMPOSED = {
    "pre": (["before"], lambda m, s, x: m.skip(s, m.second(m.f(m.enter(m.before(x)))))),
    "post": (["after"], lambda m, s, x: m.after(m.skip(s, m.second(m.f(m.enter(x)))))),
    "sandwich": (
        ["before", "branch"],
        lambda m, s, x: m.skip(s, m.branch(m.second(m.f(m.enter(m.before(x)))))),
    ),
    "branch": (["branch"], lambda m, s, x: m.skip(s, m.branch(m.second(m.f(m.enter(x)))))),
    "inner": (["inner"], lambda m, s, x: m.skip(s, m.second(m.f(m.inner(m.enter(x)))))),
    "activated": (["activated"], lambda m, s, x: m.skip(s, m.second(m.activated(m.f(m.enter(x)))))),
    "every": (
        ["before", "inner", "activated", "branch", "after"],
        lambda m, s, x: m.after(
            m.skip(s, m.branch(m.second(m.activated(m.f(m.inner(m.enter(m.before(x))))))))
        ),
    ),
}


class HandBlock(nn.Module):
    """One block from ``nn.Linear`` or ``nn.Conv2d`` and torch's own norms; ``hidden`` features inside."""

    def __init__(self, e, layer=nn.Linear, hidden=None):
        super().__init__()
        self.e, self.f = e, TORCH_ACTIVATIONS[e.activation]
        inside = (hidden or e.width) if e.layers == 2 else e.width
        self.first = layer(e.width, inside)
        self.last = layer(inside, e.width) if e.layers == 2 else None
        self.complete(inside)

    def complete(self, inside):
        for layer in (self.first, self.last):
            if layer and self.e.norm in OF_WEIGHTS:
                OF_WEIGHTS[self.e.norm](self.e, layer)
        slots, self.composed = COMPOSED[self.e.placement]
        for slot in slots:
            n = inside if slot in ("inner", "activated") else self.e.width
            self.add_module(slot, TORCH_NORMS[self.e.norm](self.e, n))
        for name, learned in LEARNED.get(self.e.residual, lambda e: {})(self.e).items():
            setattr(self, name, learned)

    def stand(self, placement):
        """Its one norm, with all that it has learnt, in the slot of another placement."""
        (own,), ((slot,), self.composed) = COMPOSED[self.e.placement][0], COMPOSED[placement]
        setattr(self, slot, getattr(self, own))

    def enter(self, x):
        return self.first(x)

    def second(self, y):
        return self.last(y) if self.last else y

    def skip(self, s, fx):
        return SKIPS[self.e.residual](self.e, self, s, fx)

    def forward(self, x, s=None):
        return self.composed(self, x if s is None else s, x)


class HandAttention(HandBlock):
    """One attention block around torch's own scaled dot product."""

    def __init__(self, e):
        nn.Module.__init__(self)
        self.e, self.f = e, nn.Identity()
        self.first, self.last = nn.Linear(e.width, 3 * e.width), nn.Linear(e.width, e.width)
        self.complete(e.width)

    def enter(self, x):
        heads = (part.unflatten(2, (self.e.heads, -1)).transpose(1, 2) for part in self.first(x).chunk(3, 2))
        return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class HandRecurrence(HandBlock):
    """One recurrent block, time step by time step, from ``nn.Linear`` and torch's own norms.

    ``walk`` keeps the states of the last call.
    """

    def __init__(self, e):
        nn.Module.__init__(self)
        self.e, n, self.f = e, e.width, TORCH_ACTIVATIONS[e.activation]
        self.cell_of = getattr(self, e.model)
        k = {"rnn": 1, "gru": 3, "lstm": 4}[e.model] * n
        self.input, self.recurrent = nn.Linear(n, k), nn.Linear(n, k, bias=False)
        sums = {"inner": k}
        if e.model == "gru":
            self.recurrent.bias = number(0, n)
            sums = {"inner": 2 * n, "candidate": n}
        inside = sums if e.joint else {"of_input": k, "of_state": k}
        wide = {slot: {slot: n} for slot in ("before", "activated", "branch", "after")}
        wide["inner"] = inside | ({"cell": n} if e.model == "lstm" else {})
        for layer in (self.input, self.recurrent):
            if e.norm in OF_WEIGHTS:
                OF_WEIGHTS[e.norm](e, layer)
        self.norms = [name for slot in COMPOSED[e.placement][0] for name in wide[slot]]
        for slot in COMPOSED[e.placement][0]:
            for name, width in wide[slot].items():
                self.add_module(name, TORCH_NORMS[e.norm](e, width))
        for name, learned in LEARNED.get(e.residual, lambda e: {})(e).items():
            setattr(self, name, learned)

    def at(self, name, x):
        return getattr(self, name)(x) if name in self.norms else x

    def rnn(self, wx, uh, h, c):
        return self.f(self.at("inner", wx + uh)), c

    def gru(self, wx, uh, h, c):
        (a, b, new), (d, e, old) = wx.chunk(3, -1), uh.chunk(3, -1)
        r, z = torch.sigmoid(self.at("inner", torch.cat([a + d, b + e], -1))).chunk(2, -1)
        return (1 - z) * torch.tanh(self.at("candidate", new + r * (old + self.recurrent.bias))) + z * h, c

    def lstm(self, wx, uh, h, c):
        i, f, g, o = self.at("inner", wx + uh).chunk(4, -1)
        c = torch.sigmoid(f + self.e.forget) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.at("cell", c)), c

    def along_time(self, x):
        h = c = torch.zeros(len(x), self.e.width)
        wx, self.walk = self.at("of_input", self.input(x)), []
        for t in range(x.shape[1]):
            uh = self.at("of_state", F.linear(h, self.recurrent.weight))
            h, c = self.cell_of(wx[:, t], uh, h, c)
            h = self.at("activated", h)
            self.walk.append(h)
        return torch.stack(self.walk, 1)

    def forward(self, x, s=None):
        fx = self.at("branch", self.along_time(self.at("before", x)))
        return self.at("after", self.skip(x if s is None else s, fx))


RECURRENT = ("rnn", "gru", "lstm")


class HandNet(nn.Module):
    """Stem, blocks, norm, head, by the names that the project's parameters have."""

    def __init__(self, e, features=64, classes=10):
        super().__init__()
        self.e, self.head = e, nn.Linear(e.width, classes)
        blocks = []
        for _ in range(e.depth):
            if e.model == "transformer":
                blocks += [HandAttention(e), HandBlock(e, hidden=2 * e.width)]
            elif e.model in RECURRENT:
                blocks += [HandRecurrence(e)]
            else:
                blocks += [HandBlock(e, {"mlp": nn.Linear, "conv": Convolution}[e.model])]
        self.blocks = nn.ModuleList(blocks)
        if e.model == "mlp":
            self.stem = nn.Linear(features, e.width)
        elif e.model == "conv":
            self.stem = Convolution(1, e.width)
        elif e.model in RECURRENT:
            self.stem = nn.Linear(e.seen_as.features, e.width)
        else:
            self.stem, self.position = nn.Linear(4, e.width), nn.Parameter(torch.empty(16, e.width))
        plain = not e.final_norm or e.norm == "instance"  # the mean over positions would undo it
        self.final = nn.Identity() if plain else TORCH_NORMS[e.norm](e, e.width)

    def enter(self, x):
        return self.stem(x) + (self.position if self.e.model == "transformer" else 0)

    def leave(self, h):
        if self.e.model in RECURRENT:
            return self.head(self.final(h[:, -1]))
        h = self.final(h)
        return self.head(h if self.e.model == "mlp" else h.mean(1))

    def forward(self, x):
        h = self.enter(x)
        for block in self.blocks:
            h = block(h)
        return self.leave(h)


def parameter(module: nn.Module, name: str) -> nn.Parameter:
    """The torch parameter that corresponds to a name of ours."""
    path, _, kind = name.rpartition(".")
    owner = module.get_submodule(path)
    if hasattr(owner, "parametrizations") and kind != "bias":
        normed = owner.parametrizations.weight
        of_torch = {"gain": "original0", "weight": "original1"}
        ours = {"gain": "0.gain", "weight": "original"}
        names = of_torch if hasattr(normed, "original0") else ours
        return dict(normed.named_parameters())[names[kind]]
    return getattr(owner, {"gain": "weight", "shift": "bias"}.get(kind, kind))


def as_torch(name: str, value: torch.Tensor, member: int, like: torch.Tensor) -> torch.Tensor:
    """A member's share of one of our parameters, laid out as torch has it."""
    value = value[member]
    if not name.endswith("weight"):
        return value.view_as(like)
    return value.T if like.ndim == 2 else value.unflatten(0, (3, 3, -1)).permute(3, 2, 0, 1)


@pytest.fixture(scope="session")
def by_hand():
    """``by_hand(weights, e, member)``: the net with that member's weights; with a ``prefix``, one block."""

    def build(weights, e, member=0, prefix=""):
        block = HandRecurrence if e.model in RECURRENT else HandBlock
        module = block(e) if prefix else HandNet(e)
        named = {name.removeprefix(prefix): value for name, (value, _) in weights.named().items()}
        assert len(named) == len(list(module.parameters()))
        with torch.no_grad():
            for name, value in named.items():
                target = parameter(module, name)
                target.copy_(as_torch(name, value, member, target))
        return module

    return build


@pytest.fixture(scope="session")
def torch_names():
    """``(parameter, as_torch)``: how names and layouts of ours map to torch's."""
    return parameter, as_torch


@pytest.fixture(scope="session")
def torch_optimizers():
    return TORCH_OPTIMIZERS


@pytest.fixture
def run_main(monkeypatch, capfd):
    """Runs a command in this process: (exit status, stdout, stderr), with what its workers say."""
    from lnres.__main__ import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lnres", *words])
        try:
            status = main()
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def measured_here(monkeypatch):
    """Boards of theory measure in this process, not in a worker."""
    from lnres.boards import networks, profiles
    from lnres.measures import MEASURES, complete

    class Engine:
        def measure(self, name, e, **options):
            return complete(MEASURES[name].make(e, {}, **options))

    monkeypatch.setattr(networks.local, "start", Engine)
    monkeypatch.setattr(networks, "PATIENCE", 1e9)  # nothing is left for a later answer
    monkeypatch.setattr(profiles, "AT_ONCE", 1e9)
    networks.measured.cache_clear()
    yield
    networks.measured.cache_clear()
