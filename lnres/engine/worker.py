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
from lnres.engine.turns import Turns, why
from lnres.experiment import Experiment
from lnres.meanfield import foreseen
from lnres.measures import MEASURES
from lnres.record import Frame, pack
from lnres.tables import forget, recall
from lnres.train import Run, give_back, one_thread, thin

SLICE = 0.02
"""Seconds a group of runs may train before the next one's turn."""
FLUSH = 0.05
"""Seconds between two messages of a group: at most twenty a second, however fast its steps are."""
CHECKPOINT = 2.0
"""Seconds between two checkpoints of a group; more where writing one takes over a hundredth of that."""
AWAKE = 60.0
"""Seconds without anything to do after which the runs of a group, 34 MB each in the lab, wait on disk."""
KEPT = 2**29
"""Bytes of checkpoints that all runs of a worker remember together, for forks to start from."""


@dataclass
class Order:
    """What a worker is to train: runs on one clock, with the steps known already."""

    key: str
    ids: list[str]
    experiments: list[Experiment]
    # The last step that each record holds: frames of a replay are not sent again.
    seen: list[int] = field(default_factory=list)


@dataclass
class Seat:
    """The place of one run in a group, and what is known of the run while it is not there."""

    key: str
    experiment: Experiment
    seen: int = -1  # the last step that its record held when the run was last built
    run: Run | None = None
    left: int = 0  # steps that the run had made when it left
    kept: dict[int, Frame] = field(default_factory=dict)  # its checkpoints, for forks
    room: int = KEPT  # bytes that they may take
    frames: list[dict] = field(default_factory=list)  # of steps made ahead, not yet read

    @property
    def step(self) -> int:
        """Steps that the run has made."""
        return self.run.step if self.run else self.left


class Group(Turns):
    """Runs that advance together, step by step: always the one furthest behind is next.

    A run is built when it is to make its next step: one shows something before the others are there, and one
    that has nothing to do for long leaves. Steps that its record has already are made again in the same
    slices as any others, but not measured.
    """

    def __init__(self, order: Order, store: Store):
        super().__init__()
        self.store, self.seats = store, []
        seen = order.seen or [-1] * len(order.ids)
        for key, experiment, last in zip(order.ids, order.experiments, seen, strict=True):
            self.add(key, experiment, last)
        self.again, self.told = {}, 0.0
        self.goal = float(self.reached)  # steps that every run may make; infinite while playing
        self.speed, self.due = 0.0, 0.0
        self.flushed, self.saved, self.busy = 0.0, time.monotonic(), time.monotonic()
        self.interval, self.stored = CHECKPOINT, self.steps

    def run(self, k: int) -> Run:
        """The k-th run, built if it is not there, at its last checkpoint if it has one."""
        seat = self.seats[k]
        if seat.run is None:
            self.busy = time.monotonic()
            seat.run = Run(seat.experiment)
            seat.run.kept, seat.run.room = seat.kept, seat.room
            if saved := self.store.load(seat.key):
                seat.run.restore(*saved)
        return seat.run

    def leave(self) -> None:
        """Save a run that is still there and let it go: one at a time, as others wait for their turn."""
        if seat := next((seat for seat in self.seats if seat.run), None):
            self.store.save(seat.key, seat.run.checkpoint())
            seat.experiment, seat.left, seat.run = seat.run.first, seat.run.step, None
            seat.seen = max(seat.seen, seat.left - 1)
            if not any(other.run for other in self.seats):
                give_back()

    @property
    def ids(self) -> list[str]:
        """The keys of the runs."""
        return [seat.key for seat in self.seats]

    @property
    def steps(self) -> list[int]:
        """Steps that each run has made."""
        return [seat.step for seat in self.seats]

    @property
    def reached(self) -> int:
        """Steps that the run furthest ahead has made, in this worker or in one that died."""
        return max(max(seat.step, seat.seen + 1) for seat in self.seats)

    def step(self) -> None:
        """One step for every run."""
        self.goal = self.reached + 1

    def pace(self, speed: float) -> None:
        """Steps per second to aim at, 0 for as many as there can be."""
        self.speed, self.due = speed, 0.0

    def change(self, index: int, values: dict) -> None:
        """Change live knobs of a run from its next step on, or from the first one that nobody has seen."""
        run = self.run(index)
        run.change(max(run.step, self.seats[index].seen + 1), **values)

    def fork(self, index: int, key: str, step: int, values: dict) -> None:
        """One more run, which equals another up to a step and then goes on with other live knobs."""
        twin = self.run(index).twin(step, **values)
        self.seats.append(Seat(key, twin.first, step - 1, twin, kept=twin.kept))

    def add(self, key: str, experiment: Experiment, seen: int = -1) -> None:
        """One more run; the others wait until it has caught up with them."""
        recall(experiment.data, self.store.folder)
        self.seats.append(Seat(key, experiment, seen))

    def arrange(self, order: list[int]) -> None:
        """Go on with these of the runs, in this order."""
        for gone in set(range(len(self.seats))) - set(order):
            self.store.drop(self.seats[gone].key)
        self.seats = [self.seats[i] for i in order]

    def share(self, room: int) -> None:
        """Remember at most so many bytes a run."""
        for seat in self.seats:
            seat.room = room
            thin(seat.kept, room)
            if seat.run:
                seat.run.room = room

    def behind(self) -> int | None:
        """Which run is to step next, None if all have reached the goal or nobody looks."""
        todo = [
            (seat.step, k)
            for k, seat in enumerate(self.seats)
            if seat.step < min(self.goal, seat.experiment.steps) and not self.held
        ]
        return min(todo)[1] if todo else None

    def tick(self, k: int) -> bool:
        """Whether a step of run k begins a tick of the group's clock, for which it may have to wait."""
        step = self.seats[k].step
        return self.speed > 0 and step > self.seats[k].seen and max(self.steps) <= step

    def wait(self, now: float) -> float:
        """Seconds until this group wants a turn."""
        k = self.behind()
        if k is None:
            if any(seat.frames for seat in self.seats):
                return 0.0
            return max(0.0, self.busy + AWAKE - now) if any(seat.run for seat in self.seats) else math.inf
        return max(0.0, self.due - now) if self.tick(k) else 0.0

    def advance(self) -> None:
        """One step of the run that is furthest behind."""
        k = self.behind()
        if k is None:
            return
        if self.tick(k):
            self.due = max(self.due, time.monotonic() - 1 / self.speed) + 1 / self.speed
        seat, run = self.seats[k], self.run(k)
        if run.step >= min(self.goal, run.first.steps):
            return  # so far was its checkpoint already
        if run.step > seat.seen:
            seat.frames.append(run.ahead())
        else:
            run.replay()

    def flush(self, now: float) -> list[tuple[str, bytes]]:
        """(id, frame) of every run that has something new, at most every FLUSH seconds."""
        new = [seat for seat in self.seats if seat.frames]
        if not new or (now - self.flushed < FLUSH and self.behind() is not None):
            return []
        self.flushed = now
        return [(seat.key, pack(*self.read(seat))) for seat in new]

    def read(self, seat: Seat) -> Frame:
        """Of one run all that is new; to its first step belongs what theory says of it."""
        arrays, header = seat.run.read(seat.frames)
        seat.frames = []
        if arrays["step"][0] == 0:
            arrays |= foreseen(seat.run.first.at(0), {name: rows[:1] for name, rows in arrays.items()})
        return arrays, header

    def replayed(self) -> dict[str, int] | None:
        """The steps made so far of every run that makes them again; None where a flush has told it all."""
        again = {seat.key: seat.step for seat in self.seats if seat.run and seat.step <= seat.seen}
        now = time.monotonic()
        if again == self.again or (again.keys() == self.again.keys() and now - self.told < FLUSH):
            return None
        self.again, self.told = again, now
        return again

    def checkpoint(self, now: float) -> None:
        """Save every run from time to time, or let them go where there was nothing to do for long.

        Only what has been sent may count as seen, so flush first.
        """
        if any(seat.frames for seat in self.seats):
            return
        if self.behind() is not None:
            self.busy = now
        elif now >= self.busy + AWAKE:
            return self.leave()
        if now - self.saved < self.interval or self.steps == self.stored:
            return
        for seat in self.seats:
            if seat.run:
                self.store.save(seat.key, seat.run.checkpoint())
        self.saved, self.stored = time.monotonic(), self.steps
        self.interval = max(CHECKPOINT, 100 * (self.saved - now))


class Worker:
    """Hosts groups; ``emit(kind, key, ...)`` is how it talks back. It knows no process, pipe or network."""

    def __init__(self, store: Store, emit: Callable):
        self.store, self.emit = store, emit
        self.groups: dict[str, Turns] = {}
        self.draws: dict = {}
        self.own = {
            "open": self.open, "study": self.study, "measure": self.measure, "close": self.close,
            "forget": self.forget,
        }  # fmt: skip

    def do(self, command: str, key: str, *args) -> None:
        """Carry out a command, one of its ``own`` or of the group's; what fails is told."""
        try:
            if command in self.own:
                self.own[command](key, *args)
            elif group := self.groups.get(key):
                group.held = False
                getattr(group, command)(*args)
        except Exception as error:
            self.emit("failed", key, why(error))
        runs = sum(len(group.ids) for group in self.groups.values())
        for group in self.groups.values():
            group.share(KEPT // max(1, runs))

    def open(self, key: str, order: Order) -> None:
        """Host runs."""
        self.groups[key] = Group(order, self.store)

    def study(self, key: str, names: list[str], first: int) -> None:
        """Make experiments of the claims."""
        from lnres.claims.results import begin  # with all claims, which no run needs

        self.groups[key] = Work((name, begin(name, first)) for name in names)

    def measure(self, key: str, name: str, experiment: Experiment, options: dict) -> None:
        """Make a measure: by threads, that one GPU would have to share."""
        here = experiment.replace(device="cpu")
        self.groups[key] = Measuring([("", MEASURES[name].make(here, self.draws, **options))])

    def close(self, key: str) -> None:
        """Forget a group and what is stored of it."""
        for run in self.groups.pop(key, Turns()).ids:
            self.store.drop(run)

    def forget(self, key: str, tables: set[str]) -> None:
        """Tables that nobody needs any longer."""
        forget(tables)

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
                self.emit("failed", key, why(error))
        now = time.monotonic()
        return min((group.wait(now) for group in self.groups.values()), default=math.inf)


def serve(pipe, folder: str) -> None:
    """The process around a worker: commands in and messages out over one pipe, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    one_thread()
    worker = Worker(Store(folder), lambda *message: pipe.send(message))
    next(Run(Experiment(depth=1, width=8, seeds=1)))  # kernels, data and code are warm from here on
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
    except (EOFError, OSError):
        return
