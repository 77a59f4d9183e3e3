"""What is measured in a step: a tape keeps the stream, and all blocks are measured as one stack."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lnres.layers import Weights
from lnres.record import GRAD_DECADES, HIST_BINS, HIST_REACH

HIST_VALUES = 1024
"""A block's histogram takes the first examples of the batch until all members together have this many
values: enough to see a shape, where counting all of them would cost more than the training step."""
CACHE = 2**20
"""Elements that are measured at a time: a few calls for the whole stream, and no more than a cache holds."""
TINY = 1.2e-38
"""Just above the smallest normal float: what is below counts as 0 where denormals are flushed."""


class Tape:
    """The stream h_0 .. h_L of one step, with the two aliases each block's input was read through."""

    def __init__(self):
        self.states: list[Tensor] = []
        self.skips: list[Tensor] = []
        self.branches: list[Tensor] = []
        self.preactivations: list[Tensor] = []
        self.blocks: list = []
        self.sums: list[Tensor] = []
        self.walk: list[Tensor] = []

    def split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Two aliases of a state: the gradients of these are exactly what arrives through skip and branch."""
        self.states.append(h)
        self.skips.append(h.view_as(h))
        self.branches.append(h.view_as(h))
        self.preactivations.append(None)
        return self.skips[-1], self.branches[-1]

    def units(self, z: Tensor) -> None:
        """What the activation of the current block is given."""
        self.preactivations[-1] = z

    def times(self, states: list[Tensor]) -> None:
        """The states of the current recurrent layer, time step by time step; the last layer's stay."""
        self.walk = states

    def sum(self, block, y: Tensor) -> None:
        """Stream and branch of the current block as one, before what stands behind."""
        self.blocks.append(block)
        self.sums.append(y)

    def end(self, h: Tensor) -> None:
        """The last state; its gradient is its own."""
        self.states.append(h)

    @property
    def roads(self) -> list[Tensor]:
        """Where ``gradients`` wants to know what arrives: at every branch, skip and time step, at the end."""
        return [*self.branches, *self.skips, *self.walk, self.states[-1]]


def row_norms(x: Tensor) -> Tensor:
    """Norm of each example's vector: (..., B, n) -> (..., B)."""
    return torch.linalg.vector_norm(x, dim=-1)


def counts(u: Tensor) -> Tensor:
    """Histogram of (L, S, values): bins [0, HIST_BINS), one below, one above; NaN is counted nowhere."""
    depth, members = u.shape[:2]
    width = HIST_BINS + 3  # below, the bins, above, NaN
    bins = (
        u.clamp(-1, HIST_BINS)
        .nan_to_num_(nan=HIST_BINS + 1)
        .floor_()
        .to(torch.int32)
        .view(depth * members, -1)
    )
    bins += torch.arange(1, depth * members * width, width, dtype=torch.int32, device=u.device)[:, None]
    # torch.bincount would make the host wait for the largest bin
    total = torch.zeros(depth * members * width, dtype=torch.int64, device=u.device)
    total.index_add_(0, bins.view(-1), total.new_ones(()).expand(bins.numel()))
    return total.view(depth, members, width)[..., :-1]


def first_values(x: Tensor) -> Tensor:
    """The first examples of (L, S, B, n), as many as make about HIST_VALUES a block: (L, S, values)."""
    _, members, _, n = x.shape
    return x[:, :, : max(1, HIST_VALUES // (members * n))].flatten(2)


def value_histogram(x: Tensor) -> Tensor:
    """Counts on the asinh scale; its logarithm is vectorized where torch.asinh is not (8 times faster)."""
    size = first_values(x).abs()
    u = torch.addcmul(torch.ones_like(size), size, size).sqrt_().add_(size).log_().copysign_(first_values(x))
    return counts(u.mul_(HIST_BINS / (2 * HIST_REACH)).add_(HIST_BINS / 2))


def magnitude_histogram(x: Tensor, scale: float) -> Tensor:
    """Counts of log10 |scale x|, four bins a decade."""
    low, high = GRAD_DECADES
    u = first_values(x).abs().mul_(scale).log10_()
    return counts(u.sub_(low).mul_(HIST_BINS / (high - low)))


class Scratch:
    """Memory that is used again and again: fresh memory is cold, and slow to write to."""

    def __init__(self):
        self._rooms: dict[int, Tensor] = {}

    def __call__(self, room: int, like: Tensor, *shape: int) -> Tensor:
        """An uninitialized tensor of this shape; what the same room held before is overwritten."""
        size = math.prod(shape)
        if room not in self._rooms or len(self._rooms[room]) < size:
            self._rooms[room] = like.new_empty(size)
        return self._rooms[room][:size].view(shape)

    def chunks(self, measure, *lists: list[Tensor]) -> dict[str, Tensor]:
        """Measure a few blocks at a time, what fits a cache; ``measure`` gets stacks and room."""
        parts, i = [], 0
        while i < len(lists[0]):
            like = lists[0][i]
            most = lists[0][i : i + max(1, CACHE // like.numel())]
            count = sum(1 for _ in itertools.takewhile(lambda h, like=like: h.shape == like.shape, most))
            shape = count, *like.shape
            stacks = [
                torch.stack(part[i : i + count], out=self(k, like, *shape)) for k, part in enumerate(lists)
            ]
            parts.append(measure(*stacks, self(len(lists), like, *shape)))
            i += count
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def activations(tape: Tape, flat, scratch: Scratch) -> dict[str, Tensor]:
    """Statistics of the stream, (L+1, S), and of the units behind the activation, (L, S)."""
    first = tape.states[0].detach().flatten(2)  # positions are features of the example here
    rows = first.shape[1]
    first = first / row_norms(first).clamp_min(TINY)[..., None]

    def stream(h: Tensor, room: Tensor) -> dict[str, Tensor]:
        h, room = h.flatten(3), room.flatten(3)
        norm = row_norms(h)
        unit = 1 / norm.clamp_min(TINY)
        mean = h.mean((2, 3))
        together = row_norms((unit.unsqueeze(-2) @ h).squeeze(-2))  # ‖Σ h/‖h‖‖ over the examples
        itself = (norm * unit).sum(-1)  # each example with itself: 1, or 0 where it is all zeros
        alike = (together.square() - itself) / (rows * (rows - 1)) if rows > 1 else together * torch.nan
        return {
            "act_mean": mean,
            "act_std": root_mean_square(torch.sub(h, mean[..., None, None], out=room).flatten(2)),
            "act_rms": root_mean_square(norm) / h.shape[-1] ** 0.5,
            "act_hist": value_histogram(h),
            "cosine": alike,
            "input_cosine": (torch.mul(h, first, out=room).sum(-1) * unit).mean(-1)
            if h.shape[-1] == first.shape[-1]
            else torch.full_like(mean, torch.nan),  # a later stage of a convnet has no place for h_0
        }

    def units(z: Tensor, room: Tensor) -> dict[str, Tensor]:
        share = flat(z, room).flatten(2, -2).mean(2)  # of the examples (and positions), (L, S, n)
        return {"saturated": share.mean(-1), "dead": (share == 1).float().mean(-1)}

    there = [z for z in tape.preactivations if z is not None]  # attention has no activation
    found = scratch.chunks(units, there) if there else {}
    for name, value in found.items():
        theirs, nothing = iter(value), torch.full_like(value[0], torch.nan)
        found[name] = torch.stack([nothing if z is None else next(theirs) for z in tape.preactivations])
    return scratch.chunks(stream, tape.states) | found


def gradients(tape: Tape, arrived: Sequence[Tensor], scale: float, scratch: Scratch) -> dict[str, Tensor]:
    """The ledger: per-example gradients of the loss with respect to the stream, and their two roads.

    ``arrived`` are the gradients with respect to the tape's ``roads``. A norm is the root mean square over
    examples, times ``scale``: the batch size where the loss is a mean, so that numbers do not depend on it.
    Of the last recurrent layer, ``time_grad_norm`` (T, S) is that of the whole derivative with respect to
    the state at each time step, through all later ones.
    """

    def total(g: Tensor) -> dict[str, Tensor]:
        return {
            "grad_norm": root_mean_square(row_norms(g)) * scale,
            "grad_hist": magnitude_histogram(g, scale),
        }

    def ledger(branch: Tensor, skip: Tensor, room: Tensor) -> dict[str, Tensor]:
        branch, skip, room = branch.flatten(3), skip.flatten(3), room.flatten(3)
        norm_branch, norm_skip = row_norms(branch), row_norms(skip)
        along = torch.mul(branch, skip, out=room).sum(-1)
        cosine = along / norm_branch.clamp_min(TINY) / norm_skip.clamp_min(TINY)
        return total(torch.add(branch, skip, out=room)) | {
            "branch_grad_norm": root_mean_square(norm_branch) * scale,
            "skip_grad_norm": root_mean_square(norm_skip) * scale,
            "skip_branch_cosine": cosine.mean(-1),
        }

    depth = len(tape.skips)
    branches, skips, walk = arrived[:depth], arrived[depth : 2 * depth], arrived[2 * depth : -1]
    found = scratch.chunks(ledger, branches, skips)
    times = [root_mean_square(row_norms(g)) * scale for g in walk]
    over_time = {"time_grad_norm": torch.stack(times)} if times else {}
    end = total(arrived[-1].flatten(2)[None])
    return found | over_time | {name: torch.cat([found[name], value]) for name, value in end.items()}


def root_mean_square(x: Tensor) -> Tensor:
    """Over the last axis; a norm neither under- nor overflows where squares would."""
    return torch.linalg.vector_norm(x, dim=-1) / x.shape[-1] ** 0.5


class Updates:
    """Norms of each block's weight matrices, of their gradients, and update : weight, all (L, S)."""

    def __init__(self, weights: Weights, depth: int):
        self.weights, self.depth, self.places = weights, depth, weights.matrices("blocks")
        self.before = torch.empty_like(weights.flat)

    def remember(self) -> None:
        """The weights as they stand before the step."""
        self.before.copy_(self.weights.flat)

    def measure(self) -> dict[str, Tensor]:
        """Call after the step."""
        size = self.norms(self.before)
        torch.sub(self.weights.flat, self.before, out=self.before)
        return {
            "weight_norm": size,
            "weight_grad_norm": self.norms(self.weights.grad),
            "update_ratio": self.norms(self.before) / size,
        }

    def norms(self, flat: Tensor) -> Tensor:
        """Norm of each block's matrices within a flat buffer, (L, S)."""
        squares = torch.zeros(self.depth, len(self.weights.seeds), device=flat.device)
        groups = self.weights.groups(flat)
        for group, rows, blocks in self.places:
            norms = torch.linalg.vector_norm(groups[group].flatten(2), dim=-1)
            squares.index_add_(0, blocks, norms.square()[rows])
        return squares.sqrt()
