"""What is no run but takes turns with the runs of others: experiments of a claim, and measures."""

import itertools
import json
import math
from collections.abc import Generator, Iterable, Sequence

from lnres.engine.local import Engine, Hosted, Process
from lnres.engine.turns import Turns
from lnres.record import pack

FLUSH = 0.2
"""Seconds between two messages about how far it is."""


class Work(Turns):
    """In the worker: generators by name, one after the other, a slice at a time, and what they return.

    Those of experiments say what they do. A worker that dies begins again with the one that was on.
    """

    def __init__(self, todo: Iterable[tuple[str, Generator]]):
        super().__init__()
        self.todo, self.results = list(todo), {}
        self.ticks, self.said, self.flushed = 0, "", 0.0

    def behind(self) -> int | None:
        """0 while there is something to do, else None."""
        return 0 if self.todo and self.goal else None

    def wait(self, now: float) -> float:
        """Seconds until it wants a turn."""
        return 0.0 if self.behind() is not None or self.results else math.inf

    def advance(self) -> None:
        """The next slice."""
        name, slices = self.todo[0]
        try:
            self.said = next(slices)
            self.ticks += 1
        except StopIteration as end:
            self.results[name] = end.value
            del self.todo[0]

    def flush(self, now: float) -> list[tuple[str, bytes]]:
        """What is new: how far it is, and experiments that are finished."""
        if now - self.flushed < FLUSH and not self.results:
            return []
        self.flushed, results, self.results = now, self.results, {}
        told = {"ticks": self.ticks, "said": self.said, "results": results}
        return [("", json.dumps(told).encode())]


class Measuring(Work):
    """In the worker: a measure, of which only what it found is told."""

    def flush(self, now: float) -> list[tuple[str, bytes]]:
        """The arrays, once they are there."""
        found, self.results = self.results, {}
        return [(name, pack(arrays, {})) for name, arrays in found.items()]


MOST_FOUND = 200
"""Results of studies that the server remembers."""


class Study(Hosted):
    """In the server: a visitor's study, where it stands and what it found in ``results``."""

    unwatched = 20.0
    _keys = itertools.count()

    def __init__(self, engine: Engine):
        super().__init__(engine)
        self.names: list[str] = []
        self.first, self.total = 0, 0
        self.ticks, self.before, self.said, self.notice = 0, 0, "", ""
        self.results: dict[str, dict] = {}

    def begin(self, names: Sequence[str], first: int) -> None:
        """Run these experiments with seeds from ``first`` on, but for those that somebody ran already."""
        from lnres.claims.results import usual_ticks

        with self.lock:
            self.stop()
            self.key = f"study-{next(self._keys)}"  # what is still on its way is of the one before
            self.names, self.first = list(names), first
            self.total = sum(usual_ticks(name) or 0 for name in names)
            self.ticks, self.before, self.said, self.notice = 0, 0, "", ""
            found = self.engine.found
            self.results = {name: found[name, first] for name in names if (name, first) in found}
            self.look()
            self._send()

    @property
    def running(self) -> bool:
        """Whether something is still to come."""
        return bool(self.names) and not self.notice and len(self.results) < len(self.names)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1, by what it took when it was last committed."""
        return min(0.99, (self.before + self.ticks) / self.total) if self.total else 0.0

    def stop(self) -> None:
        """Leave it."""
        if self.names:
            self.process.send("close", self.key)
        self.names, self.held = [], False

    def hold(self, unwatched: bool) -> None:
        """Nobody looks: stand still; somebody looks again: go on."""
        if self.running and unwatched != self.held:
            self.held = unwatched
            self.process.send("pause" if unwatched else "play", self.key)

    def revive(self, process: Process) -> None:
        """Go on in another worker with the experiments that are not finished."""
        self.process, self.held = process, False
        self.before += self.ticks
        self._send()

    def _send(self) -> None:
        if self.running:
            missing = [name for name in self.names if name not in self.results]
            self.process.send("study", self.key, missing, self.first)

    def on_frame(self, _: str, blob: bytes) -> None:
        """News from the worker."""
        told = json.loads(blob)
        self.ticks, self.said = told["ticks"], told["said"]
        self.results |= told["results"]
        found = self.engine.found
        found |= {(name, self.first): result for name, result in told["results"].items()}
        while len(found) > MOST_FOUND:
            del found[next(iter(found))]

    def on_finished(self) -> None:
        """All experiments are there."""

    def on_failed(self, why: str) -> None:
        """The worker could not go on."""
        self.notice = why
