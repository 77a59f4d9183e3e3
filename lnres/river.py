"""Who wrote the stream: the share of each state's power that the source and every block put there."""

import math

import torch
from torch import Tensor

from lnres.probes import TINY, Tape
from lnres.record import written

VALUES = 2048
"""Numbers of each member that are looked at, as whole examples from the first on; where a norm on the stream
mixes the batch, all of it."""


@torch.no_grad()
def river(tape: Tape) -> Tensor:
    """Shares (L+1, bands, S) of the power of h_0 .. h_L; those of a state add up to 1, and may be negative.

    The state is the sum of what the source h_0 and each block wrote, c_k, carried through the skips and norms
    behind; the share of c_k is <c_k, h_l> / ‖h_l‖², over all examples. The first band are the norms' shifts,
    the second is the source, the others are the blocks as ``written`` joins them.
    """
    first, mixed = tape.states[0], any("b" in block.after.over for block in tape.blocks)
    few = slice(None if mixed else max(1, VALUES // math.prod(first.shape[2:])))
    x, bands = first[:, few], written(len(tape.blocks))
    parts = torch.stack([torch.zeros_like(x), x])
    found = [shares(parts, x)]
    for number, (block, y, h) in enumerate(zip(tape.blocks, tape.sums, tape.states[1:], strict=True), 1):
        y, h = y[:, few], h[:, few]
        parts = block.carry(x, y, h, parts)
        parts[0] += block.after.origin(y)
        news = (h - parts.sum(0))[None]
        if any(number == band[0] for band in bands):
            parts = torch.cat([parts, news])
        else:
            parts[-1:] += news
        found.append(shares(parts, h))
        x = h
    whole = len(bands) + 2
    return torch.stack([torch.nn.functional.pad(share, (0, 0, 0, whole - len(share))) for share in found])


def shares(parts: Tensor, h: Tensor) -> Tensor:
    """<part, h> / ‖h‖² of parts (K, S, B, ...) of h, by member (K, S); of nothing there is no share."""
    h = h.flatten(1)
    size = torch.linalg.vector_norm(h, dim=1, keepdim=True).clamp_min(TINY)
    return (parts.flatten(2) * (h / size)).sum(-1) / size[:, 0]
