"""A recurrent layer is a branch along time: what it remembers of earlier positions meets the next one."""

import math

import torch
from torch import Tensor

from lnres.blocks import PLACEMENTS, branch_factors
from lnres.layers import ACTIVATIONS, INITS, Drawn, Dropout, Linear, Weights, second_moment
from lnres.norms import NORMS, of_weights


class Recurrence:
    """F: one recurrent layer, (S, B, T, n) -> (S, B, T, n); its state starts at zero and walks along T.

    Gates lie side by side in torch's order, W and U as (S, n, gates n): ``input.weight`` is the transpose of
    torch's ``weight_ih``, ``recurrent.weight`` of ``weight_hh``, ``input.bias`` the sum of its two biases.

    Norms inside see one time step: ``inner`` the sum Wx + Uh, or with ``joint`` off Wx and Uh apart (as in
    Ba et al. 2016); ``activated`` the state that is given out and fed back. BatchNorm trains with the
    statistics of each time step, but keeps ONE running mean and variance for all of them, the last counting
    most, so in testing they may fit none (Cooijmans et al. 2017 keep one for each step). Norms outside
    (before, branch, after) see the whole sequence: there, time is a position.

    A residual's factor at the start is on W alone: W scales what a linear layer gives out, U is its memory.
    """

    # A sigmoid is taken of each gate's columns, never of a contiguous tensor: torch rounds the odd end of one
    # otherwise, and where the end is depends on the number of members.
    gates = 1
    """How many vectors of n features are computed from input and state."""
    states = 1
    """How many vectors of n features are carried on; the first is given out."""

    def __init__(self, weights: Weights, name: str, e, norm):
        n, k = e.width, self.gates * e.width
        start, (_, last) = INITS[e.init].make(e, n, n, self.power(e)), branch_factors(e)
        of_weight = of_weights(weights, e)
        self.input = Linear(weights, f"{name}.input", n, k, e.scaled(start, last), norm=of_weight)
        std, _, law = e.scaled(start, 1.0)
        square = Drawn(1 / math.sqrt(n) if of_weight and std == 0 else std, law)  # as in Linear

        def gate_by_gate(shape: tuple[int, int], g: torch.Generator) -> Tensor:
            return torch.cat([square((n, n), g) for _ in range(self.gates)], dim=1)

        first = weights.add(self, "recurrent", f"{name}.recurrent.weight", (n, k), gate_by_gate)
        self.norm = of_weight and of_weight(f"{name}.recurrent", first * (std != 0))
        self.joint, apart = ("inner", None) if e.joint else (None, "inner")
        self.of_input, self.of_state = norm(apart, k, "of_input"), norm(apart, k, "of_state")
        self.activated = norm("activated")
        self.dropout = Dropout(weights, f"{name}.dropout", "dropout")

    @staticmethod
    def power(e) -> float:
        """The second moment of the activation, which the init makes up for."""
        return 1.0

    def step(self, wx: Tensor, uh: Tensor, h: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """From W x_t, U h_{t-1} (both S, B, gates n) and the state before to that at t, (S, B, n) each."""
        raise NotImplementedError

    def __call__(self, x: Tensor, tape=None) -> Tensor:
        """One time step after the other."""
        walk = [(torch.zeros_like(x[:, :, 0]),) * self.states]
        recurrent = self.norm(self.recurrent) if self.norm else self.recurrent
        for wx in self.of_input(self.input(x)).unbind(2):
            uh = self.of_state(torch.bmm(walk[-1][0], recurrent))
            walk.append(self.step(wx, uh, *walk[-1]))
        states = [state[0] for state in walk[1:]]
        if tape:
            tape.times(states)
            self.look(tape, walk[1:])
        return self.dropout(torch.stack(states, 2))

    def look(self, tape, walk: list[tuple[Tensor, ...]]) -> None:
        """Show the tape what the activation was given; gates have two activations, and show nothing."""


def check(e) -> None:
    """``ValueError`` where a norm cannot stand inside a recurrence."""
    over, inside = NORMS[e.norm].make.over, PLACEMENTS[e.placement].make & {"inner", "activated"}
    if inside and over == "p":
        raise ValueError(
            f"norm={e.norm!r}: inside a recurrence (placement={e.placement}) later time steps are not known "
            "yet; choose placement=pre, post, sandwich or branch, or norm=layer"
        )
    if inside and over not in ("", "w") and branch_factors(e)[1] == 0:
        named = "zero_last=true" if e.zero_last else f"residual={e.residual!r}"
        raise ValueError(
            f"{named}: the branch starts at zero, where a norm inside a recurrence (placement={e.placement}) "
            "multiplies the gradient by 1/√ε at every time step; choose placement=pre, or residual=rezero"
        )


class RNN(Recurrence):
    """h = f(Wx + Uh + b), with any activation f (Elman 1990; torch.nn.RNN for tanh and ReLU)."""

    states = 2  # the second is what f was given; it is carried only to be looked at

    def __init__(self, weights: Weights, name: str, e, norm):
        super().__init__(weights, name, e, norm)
        self.activation = ACTIVATIONS[e.activation].make()
        self.inner = norm(self.joint)

    @staticmethod
    def power(e) -> float:
        """E f(z)²."""
        return second_moment(ACTIVATIONS[e.activation].make.__call__)

    def step(self, wx: Tensor, uh: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        """One activation."""
        z = self.inner(wx + uh)
        return self.activated(self.activation(z)), z

    def look(self, tape, walk: list[tuple[Tensor, ...]]) -> None:
        """All time steps."""
        tape.units(torch.stack([z for _, z in walk], 2))


class GRU(Recurrence):
    """r, z, n = σ(·), σ(·), tanh(Wx + b + r (Uh + b')); h = (1 - z) n + z h (Cho et al. 2014; torch.nn.GRU).

    With ``joint`` on, one norm stands on the two gates and one on the candidate n.
    """

    gates = 3

    def __init__(self, weights: Weights, name: str, e, norm):
        super().__init__(weights, name, e, norm)
        start = INITS[e.init].make(e, e.width, e.width, 1.0)
        weights.add(self, "bias", f"{name}.recurrent.bias", (1, e.width), Drawn(*start[1:]))
        self.inner = norm(self.joint, 2 * e.width)
        self.candidate = norm(self.joint, e.width, "candidate")

    def step(self, wx: Tensor, uh: Tensor, h: Tensor) -> tuple[Tensor]:
        """Reset and update gate, then the candidate."""
        (w_gates, w_new), (u_gates, u_new) = (z.tensor_split((2 * h.shape[-1],), -1) for z in (wx, uh))
        reset, update = self.inner(w_gates + u_gates).chunk(2, -1)
        old = torch.sigmoid(reset) * (u_new + self.bias)
        new = torch.tanh(self.candidate(w_new + old))
        return (self.activated(torch.lerp(new, h, torch.sigmoid(update))),)


class LSTM(Recurrence):
    """i, f, g, o = σ, σ, tanh, σ of Wx + Uh + b; c = f c + i g; h = o tanh c (Hochreiter & Schmidhuber 1997).

    Equals torch.nn.LSTM whose forget bias is larger by ``forget`` (Gers et al. 2000), which is added behind
    the norm, so that no norm can remove it. The norm inside stands on the cell c before its tanh as well.
    """

    gates, states = 4, 2

    def __init__(self, weights: Weights, name: str, e, norm):
        super().__init__(weights, name, e, norm)
        self.offset = torch.zeros(4 * e.width, device=weights.device)
        self.offset[e.width : 2 * e.width] = e.forget
        self.inner, self.cell = norm(self.joint, 4 * e.width), norm("inner", e.width, "cell")

    def step(self, wx: Tensor, uh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Forget some of the cell, write to it, show some of it."""
        i, f, g, o = (self.inner(wx + uh) + self.offset).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return self.activated(torch.sigmoid(o) * torch.tanh(self.cell(c))), c
