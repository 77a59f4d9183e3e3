"""The one equation: a block of the stream, for every norm, placement and residual."""

from collections.abc import Callable

import torch
from torch import Tensor

from lnres.layers import ACTIVATIONS, INITS, Attention, Dropout, Linear, Weights, second_moment
from lnres.norms import of_weights, standing
from lnres.registry import Registry
from lnres.residuals import RESIDUALS, Projected

PLACEMENTS = Registry("placement")
for _name, _label, _formula, _slots, _paper, _about in [
    ("pre", "pre", "y=x+F(N(x))", {"before"}, "He et al. 2016",
     "At the entrance of the branch; the skip stays clean."),
    ("post", "post", "y=N(x+F(x))", {"after"}, "Vaswani et al. 2017",
     "On the sum: every skip passes through the norm."),
    ("sandwich", "sandwich", "y=x+N(F(N(x)))", {"before", "branch"}, "Kim et al. 2025",
     "At both ends of the branch."),
    ("branch", "branch output", "y=x+N(F(x))", {"branch"}, "Liu et al. 2022", "At the branch's exit only."),
    ("inner", "before the activation", "y=x+W_2f(N(W_1x))", {"inner"}, "Ioffe & Szegedy 2015",
     "Inside the branch, between the linear map and the activation."),
    ("activated", "after the activation", "y=x+W_2N(f(W_1x))", {"activated"}, "Mishkin & Matas 2016",
     "Inside the branch, behind the activation."),
    ("every", "on every slot", "y=N(x+N(W_2N(f(N(W_1N(x))))))",
     {"before", "inner", "activated", "branch", "after"}, "", "Everywhere at once: the cost of too much."),
]:  # fmt: skip
    PLACEMENTS.put(_name, _label, _formula, make=frozenset(_slots), about=_about, paper=_paper)

ROAD = "before", "inner", "activated", "branch", "after"
"""The slots, in the order in which x comes by."""


class Branch:
    """F: linear, activation and, with ``layers=2``, a second linear; norms may stand inside.

    ``layer`` is the linear map, ``Linear`` or ``Conv``, ``first`` the first one where it is another;
    ``hidden`` how many features it has inside, ``entrance`` how many x has where that is not the width.
    """

    def __init__(
        self, weights: Weights, name: str, e, norm, layer=Linear, first=None,
        hidden: int | None = None, entrance: int | None = None,
    ):  # fmt: skip
        start, (inner, last) = INITS[e.init].make, branch_factors(e)
        of_weight = of_weights(weights, e)
        self.activation = ACTIVATIONS[e.activation].make()
        power, n = second_moment(self.activation.__call__), e.width
        m = hidden or n

        def linear(kind, place: str, a: int, b: int, power: float, factor: float) -> Linear:
            law = e.scaled(start(e, kind.reach * a, kind.reach * b, power), factor)
            return kind(weights, f"{name}.{place}", a, b, law, norm=of_weight)

        two = e.layers == 2
        self.first = linear(
            first or layer, "first", entrance or n, m if two else n,
            1 if two else power, inner if two else last,
        )  # fmt: skip
        self.last = two and linear(layer, "last", m, n, power, last)
        self.inner, self.activated = norm("inner", m if two else n), norm("activated", m if two else n)
        self.dropout = Dropout(weights, f"{name}.dropout", "dropout")

    def __call__(self, x: Tensor, tape=None) -> Tensor:
        z = self.inner(self.first(x))
        if tape:
            tape.units(z)
        y = self.dropout(self.activated(self.activation(z)))
        return self.last(y) if self.last else y


class Attend:
    """F: multi-head self-attention; it has no activation, so inner norms stand on the mixed values."""

    def __init__(self, weights: Weights, name: str, e, norm):
        start, (inner, last) = INITS[e.init].make, branch_factors(e)
        n = e.width
        factors = torch.tensor([1.0, 1.0, inner]).repeat_interleave(n)  # the residual's is the values' alone
        laws = (e.scaled(start(e, n, n, 1), factor) for factor in (factors, last))
        self.attention = Attention(weights, name, n, e.heads, *laws, of_weights(weights, e))
        self.inner, self.activated = norm("inner"), norm("activated")

    def __call__(self, x: Tensor, tape=None) -> Tensor:
        return self.attention(x, lambda mixed: self.activated(self.inner(mixed)))


def branch_factors(e) -> tuple[float, float]:
    """What the residual asks the branch's inner and last weights to be multiplied by at the start."""
    inner, last = RESIDUALS[e.residual].make.shrink(e)
    return inner, 0.0 if e.zero_last else last


class Valve:
    """What reaches the sum of the stream: all of it, until somebody weakens or cuts a road.

    ``open`` maps the live knobs and the number of the block, from 1 on, to the share that comes through.
    """

    def __init__(self, weights: Weights, name: str, open: Callable[[dict, int], float]):
        self.weights, self.number, self.open = weights, int(name.split(".")[1]) + 1, open

    def __call__(self, x: Tensor) -> Tensor:
        share = self.open(self.weights.live, self.number)
        return x if share == 1 else share * x


def skip_open(live: dict, number: int) -> float:
    """How much of the skip of a block comes through."""
    gain = live.get("skip_gain", 1.0) if live.get("gain_block", 0) in (0, number) else 1.0
    return gain * live.get("skip_gains", {}).get(number, 1.0) * (number not in live.get("cut", ()))


def branch_open(live: dict, number: int) -> float:
    """Whether the branch of a block comes through."""
    return float(number not in live.get("drop_branch", ()))


def moves(own: str, placement: str) -> dict[str, str]:
    """Which slots change places, one with a norm and one without, when norms move to a placement."""
    had, wanted = PLACEMENTS[own].make, PLACEMENTS[placement].make
    leave, come = ([slot for slot in ROAD if slot in slots] for slots in (had - wanted, wanted - had))
    return dict(zip(leave + come, come + leave, strict=True))


class Block:
    """One residual unit of the stream, which keeps its shape: (S, B, n), or with positions (S, B, P, n).

    With an ``entrance``, how many features x has, the branch leads to another shape, and the skip with it.
    """

    def __init__(self, weights: Weights, name: str, e, branch=Branch, **options):
        self.own = self.placement = e.placement
        slots = PLACEMENTS[e.placement].make

        def norm(slot: str | None, features: int = e.width, called: str | None = None):
            return standing(weights, f"{name}.{called or slot}", features, e, slot in slots)

        entrance = options.get("entrance")
        self.before = norm("before", entrance or e.width)
        self.between, self.after = norm("branch"), norm("after")
        self.branch = branch(weights, name, e, norm, **options)
        skip = RESIDUALS[e.residual].make(weights, name, e)
        self.skip = Projected(weights, name, entrance, e.width, skip) if entrance else skip
        self.valve, self.tap = Valve(weights, name, skip_open), Valve(weights, name, branch_open)
        self.weights, self.number = weights, self.valve.number
        self.drop = Dropout(weights, f"{name}.drop_path", "drop_path", lambda s: (s[0], *[1] * (len(s) - 1)))

    def stand(self, placement: str) -> None:
        """Let the norms stand where a placement has them, with all that they have learnt."""
        seats = {"before": (self, "before"), "branch": (self, "between"), "after": (self, "after")}
        seats |= {slot: (self.branch, slot) for slot in ("inner", "activated")}
        for swaps in (moves(self.own, self.placement), moves(self.own, placement)):  # back, and there
            norms = {slot: getattr(*seats[slot]) for slot in swaps}
            for slot, other in swaps.items():
                setattr(*seats[slot], norms[other])
        self.placement = placement

    def __call__(self, x: Tensor, tape=None) -> Tensor:
        placement = self.weights.live.get("placements", {}).get(self.number, self.own)
        if placement != self.placement:
            self.stand(placement)
        to_skip, to_branch = tape.split(x) if tape else (x, x.view_as(x))  # gradients add up in one order
        fx = self.tap(self.drop(self.between(self.branch(self.before(to_branch), tape))))
        y = self.skip(self.valve(to_skip), fx)
        if tape:
            tape.sum(self, y)
        return self.after(y)

    def carry(self, x: Tensor, y: Tensor, h: Tensor, parts: Tensor) -> Tensor:
        """What its output h, behind the sum y, has kept of each of the parts (K, S, B, ...) of its x."""
        return self.after.carry(y, h, self.skip.carry(self.valve(x), self.valve(parts)))
