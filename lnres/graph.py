"""What goes between host and device in a step: numbers are handed over and noted, and nobody waits."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Feed:
    """What a step takes from the host, drawn there so that it is the same on every device."""

    def __init__(self, device: str):
        self.device = device

    def __call__(self, key: int | str, draw: Callable[[int | str], Tensor]) -> Tensor:
        """What ``draw(key)`` gives, on the device; ``key`` is the step it is for, or a name."""
        return draw(key).to(self.device, non_blocking=True)


class First:
    """When something first came true of each of S members, and what was there then: kept on the device."""

    def __init__(self, seeds: int, device: str):
        self.step = torch.full((seeds,), -1, device=device)
        self.kept: list[Tensor] = []

    def note(self, true: Tensor, step: Tensor, values: Sequence[Tensor]) -> None:
        """Where it is ``true`` (S,) for the first time, keep the step () and the values (count, S, ...)."""
        self.kept = self.kept or [torch.zeros_like(value) for value in values]
        new = true & (self.step < 0)
        self.step.copy_(torch.where(new, step, self.step))
        for kept, value in zip(self.kept, values, strict=True):
            kept.copy_(torch.where(new.view(-1, *[1] * (value.ndim - 2)), value, kept))

    def members(self) -> dict[int, int]:
        """The step of each member of whom it was true; reading it makes the host wait."""
        return {k: step for k, step in enumerate(self.step.tolist()) if step >= 0}
