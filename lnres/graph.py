"""What goes between host and device in a step, and the step as one CUDA graph: nobody waits for anybody."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM = 3
"""Steps that are made as usual before one is captured: kernels get chosen, the optimizer makes its state."""


def prepare() -> None:
    """Let this thread work on a CUDA stream of its own from here on: on the default one nothing is captured.

    A backward pass runs on the stream on which its parameters were made, so it has to be there before them.
    Convolutions, too, keep the 24 bits of a float: by default a GPU rounds what they multiply to 11.
    """
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    if torch.cuda.current_stream() == torch.cuda.default_stream():
        torch.cuda.set_stream(torch.cuda.Stream())


class Feed:
    """What a step takes from the host, drawn there so that it is the same on every device.

    ``take(key, draw)``, where there is one, says instead where it lies on the device.
    """

    def __init__(self, device: str):
        self.device = device
        self.take: Callable | None = None

    def __call__(self, key: int | str, draw: Callable[[int | str], Tensor]) -> Tensor:
        """What ``draw(key)`` gives, on the device; ``key`` is the step it is for, or a name."""
        return self.take(key, draw) if self.take else self.drawn(key, draw).to(self.device, non_blocking=True)

    def number(self, step: int, f: Callable[[int], float]) -> float | Tensor:
        """What ``f(step)`` gives: on a GPU, where all steps have to round it alike, as a tensor ()."""
        return self(step, lambda t: torch.tensor(f(t))) if self.take or self.device != "cpu" else f(step)

    def drawn(self, key: int | str, draw: Callable[[int | str], Tensor]) -> Tensor:
        """What ``draw(key)`` gives, where a GPU can fetch it while the host goes on."""
        return draw(key).pin_memory() if self.device == "cuda" else draw(key)


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


def captured(work: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """What ``work`` returns, and what does it again on the same memory; capturing alone computes nothing."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        found = work()
    return found, graph.replay


class Graph:
    """A step that is captured once as a CUDA graph and then replayed: one launch in place of hundreds.

    ``learn()`` makes a step on the device and returns tensors. What it takes through the ``feed`` gets a slot
    of its own there, filled anew before each replay; all else that comes from the host is frozen, so
    ``forget`` the graph when it changes. Where a step cannot be captured, ``refused`` says why, and it is
    made as usual. Tests replay steps on a CPU; no capture has been run on a GPU yet.
    """

    def __init__(self, feed: Feed, learn: Callable[[], dict[str, Tensor]]):
        self.feed, self.learn, self.refused = feed, learn, ""
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.made, self.slots, self.found, self.replay = 0, [], {}, None

    def step(self, t: int) -> dict[str, Tensor]:
        """Make step t."""
        if self.refused:
            return self.learn()
        if self.made < WARM:
            self.made, self.slots = self.made + 1, []
            return self._fed(self._keep)
        for slot, draw in self.slots:
            slot.copy_(self.feed.drawn(t, draw), non_blocking=True)
        if not self.replay:
            slots = iter(self.slots)
            try:
                self.found, self.replay = captured(lambda: self._fed(lambda *_: next(slots)[0]))
            except RuntimeError as error:  # where a capture is ended after an error, that was its context
                self.refused = str(error.__context__ or error).partition("\n")[0]
                return self.learn()
        self.replay()
        return {name: value.clone() for name, value in self.found.items()}

    def _fed(self, take: Callable) -> dict[str, Tensor]:
        self.feed.take = take
        try:
            return self.learn()
        finally:
            self.feed.take = None

    def _keep(self, key: int, draw: Callable) -> Tensor:
        slot = self.feed.drawn(key, draw).to(self.feed.device, non_blocking=True)
        self.slots.append((slot, draw))
        return slot
