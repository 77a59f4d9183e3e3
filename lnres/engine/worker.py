"""A worker hosts runs and takes turns among them in short slices, so that many share a core fairly."""

import gc
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lnres.engine.store import Store
from lnres.engine.study import Measuring, Work
from lnres.experiment import Experiment
from lnres.meanfield import foreseen
from lnres.measures import MEASURES
from lnres.record import Frame, pack
from lnres.tables import forget, recall
from lnres.train import Run, one_thread

SLICE = 0.02
"""Seconds a group of runs may train before the next one's turn."""
FLUSH = 0.05
"""Seconds between two messages of a group: at most twenty a second, however fast its steps are."""
CHECKPOINT = 2.0
"""Seconds between two checkpoints of a group; more where writing one takes over a hundredth of that."""


@dataclass
class Order:
    """What a worker is to train: runs on one clock, with the steps known already."""

    key: str
    ids: list[str]
    experiments: list[Experiment]
    # The last step that each record holds: frames of a replay are not sent again.
    seen: list[int] = field(default_factory=list)


class Group:
    """Runs that advance together, step by step: always the one furthest behind is next.

    A run is built when it is to make its first step: one shows something before the others are there. Steps
    that its record has already are made again in the same slices as any others, but not measured.
    """

    def __init__(self, order: Order, store: Store):
        self.ids, self.experiments, self.store = order.ids, order.experiments, store
        self.runs: list[Run | None] = [None] * len(order.ids)
        self.seen = order.seen or [-1] * len(self.runs)
        self.frames: list[list[dict]] = [[] for _ in self.runs]  # of steps made ahead, not yet read
        self.again, self.told = {}, 0.0
        self.goal = float(self.reached)  # steps that every run may make; infinite while playing
        self.held = False
        self.pace, self.due = 0.0, 0.0
        self.flushed, self.saved, self.interval = 0.0, time.monotonic(), CHECKPOINT

    def run(self, k: int) -> Run:
        """The k-th run, built if it is not there yet, at its last checkpoint if it has one."""
        if self.runs[k] is None:
            self.runs[k] = Run(self.experiments[k])
            if saved := self.store.load(self.ids[k]):
                self.runs[k].restore(*saved)
        return self.runs[k]

    @property
    def steps(self) -> list[int]:
        """Steps that each run has made."""
        return [run.step if run else 0 for run in self.runs]

    def change(self, index: int, values: dict) -> None:
        """Change live knobs of a run from its next step on, or from the first one that nobody has seen."""
        run = self.run(index)
        run.change(max(run.step, self.seen[index] + 1), **values)

    def fork(self, index: int, key: str, step: int, values: dict) -> None:
        """One more run, which equals another up to a step and then goes on with other live knobs."""
        twin = self.run(index).twin(step, **values)
        self.add(key, twin.first, step - 1)
        self.runs[-1] = twin

    def add(self, key: str, experiment: Experiment, seen: int = -1) -> None:
        """One more run; the others wait until it has caught up with them."""
        self.runs.append(None)
        self.experiments.append(experiment)
        self.ids.append(key)
        self.seen.append(seen)
        self.frames.append([])

    def arrange(self, order: list[int]) -> None:
        """Go on with these of the runs, in this order."""
        for gone in set(range(len(self.ids))) - set(order):
            self.store.drop(self.ids[gone])
        for of_runs in (self.runs, self.experiments, self.ids, self.seen, self.frames):
            of_runs[:] = [of_runs[i] for i in order]

    def behind(self) -> int | None:
        """Which run is to step next, None if all have reached the goal or nobody looks."""
        todo = [
            (step, k)
            for k, (step, e) in enumerate(zip(self.steps, self.experiments, strict=True))
            if step < min(self.goal, e.steps) and not self.held
        ]
        return min(todo)[1] if todo else None

    @property
    def reached(self) -> int:
        """Steps that the run furthest ahead has made, in this worker or in one that died."""
        return max(*self.steps, *(last + 1 for last in self.seen))

    def tick(self, k: int) -> bool:
        """Whether a step of run k begins a tick of the group's clock, for which it may have to wait."""
        steps = self.steps
        return self.pace > 0 and steps[k] > self.seen[k] and max(steps) <= steps[k]

    def wait(self, now: float) -> float:
        """Seconds until this group wants a turn."""
        k = self.behind()
        if k is None:
            return 0.0 if any(self.frames) else math.inf
        return max(0.0, self.due - now) if self.tick(k) else 0.0

    def advance(self) -> None:
        """One step of the run that is furthest behind."""
        k = self.behind()
        if k is None:
            return
        if self.tick(k):
            self.due = max(self.due, time.monotonic() - 1 / self.pace) + 1 / self.pace
        run = self.run(k)
        if run.step > self.seen[k]:
            self.frames[k].append(run.ahead())
        else:
            run.replay()

    def flush(self, now: float) -> list[tuple[str, bytes]]:
        """(id, frame) of every run that has something new, at most every FLUSH seconds."""
        if not any(self.frames) or (now - self.flushed < FLUSH and self.behind() is not None):
            return []
        self.flushed = now
        out = [(key, pack(*self.read(k))) for k, key in enumerate(self.ids) if self.frames[k]]
        self.frames = [[] for _ in self.runs]
        return out

    def read(self, k: int) -> Frame:
        """Of run k all that is new; to its first step belongs what theory says of it."""
        arrays, header = self.runs[k].read(self.frames[k])
        if arrays["step"][0] == 0:
            arrays |= foreseen(self.runs[k].first.at(0), {name: rows[:1] for name, rows in arrays.items()})
        return arrays, header

    def replayed(self) -> dict[str, int] | None:
        """The steps made so far of every run that makes them again; None where a flush has told it all."""
        again = {
            key: run.step
            for key, run, seen in zip(self.ids, self.runs, self.seen, strict=True)
            if run and run.step <= seen
        }
        now = time.monotonic()
        if again == self.again or (again.keys() == self.again.keys() and now - self.told < FLUSH):
            return None
        self.again, self.told = again, now
        return again

    def checkpoint(self, now: float) -> None:
        """Save every run from time to time; only what has been sent may count as seen, so flush first."""
        if now - self.saved < self.interval or any(self.frames):
            return
        for key, run in zip(self.ids, self.runs, strict=True):
            if run:
                self.store.save(key, run.checkpoint())
        self.saved = time.monotonic()
        self.interval = max(CHECKPOINT, 100 * (self.saved - now))


class Worker:
    """Hosts groups; ``emit(kind, key, ...)`` is how it talks back. It knows no process, pipe or network."""

    def __init__(self, store: Store, emit: Callable):
        self.store, self.emit = store, emit
        self.groups: dict[str, Group] = {}
        self.draws: dict = {}

    def do(self, command: str, key: str, *args) -> None:
        """Carry out a command, from ``open`` to ``measure``; what fails is told."""
        try:
            if command == "forget":
                forget(*args)
            elif command == "open":
                for experiment in args[0].experiments:
                    recall(experiment.data, self.store.folder)
                self.groups[key] = Group(args[0], self.store)
            elif command == "study":
                self.groups[key] = Work(*args)
            elif command == "close":
                for run in getattr(self.groups.pop(key, None), "ids", []):
                    self.store.drop(run)
            elif command == "measure":
                name, experiment, options = args
                here = experiment.replace(device="cpu")  # by threads, that one GPU would have to share
                self.groups[key] = Measuring(MEASURES[name].make(here, self.draws, **options))
            elif group := self.groups.get(key):
                group.held = command == "hold" and args[0]
                if command == "play":
                    group.goal = math.inf
                elif command == "pause":
                    group.goal = min(group.goal, group.reached)
                elif command == "step":
                    group.goal = group.reached + 1
                elif command == "pace":
                    group.pace, group.due = args[0], 0.0
                elif command == "change":
                    group.change(*args)
                elif command == "fork":
                    group.fork(*args)
                elif command == "add":
                    recall(args[1].data, self.store.folder)
                    group.add(*args)
                elif command == "arrange":
                    group.arrange(*args)
        except Exception as error:
            self.emit("failed", key, f"{error}")

    def turn(self) -> float:
        """Give every group its slice; returns the seconds until one wants the next."""
        for key, group in list(self.groups.items()):
            try:
                end = time.monotonic() + SLICE
                while group.wait(now := time.monotonic()) == 0 and group.behind() is not None and now < end:
                    group.advance()
                now = time.monotonic()
                for run, blob in group.flush(now):
                    self.emit("frame", key, run, blob)
                if (again := group.replayed()) is not None:
                    self.emit("replayed", key, again)
                if group.goal == math.inf and not group.held and group.behind() is None:
                    group.goal = float(group.reached)
                    self.emit("finished", key)
                group.checkpoint(now)
            except Exception as error:
                del self.groups[key]
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                self.emit("failed", key, f"{kind}{error}")
        now = time.monotonic()
        return min((group.wait(now) for group in self.groups.values()), default=math.inf)


def serve(pipe, folder: str) -> None:
    """The process around a worker: commands in and messages out over one pipe, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    one_thread()
    worker = Worker(Store(folder), lambda *message: pipe.send(message))
    for _ in Run(
        Experiment(depth=1, width=8, seeds=1, steps=2)
    ):  # kernels, data and code are warm from here on
        break
    gc.collect()
    gc.freeze()
    pipe.send(("ready", "", os.getpid()))
    wait = math.inf
    try:
        while True:
            while pipe.poll(None if wait == math.inf else wait):
                command = pipe.recv()
                if command[0] == "stop":
                    return
                worker.do(*command)
                wait = 0.0
            wait = worker.turn()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
