"""A pool of warm processes that train and measure."""

import contextlib
import itertools
import multiprocessing
import os
import secrets
import sys
import threading
import time
from concurrent import futures
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from lnres.engine.store import Store
from lnres.engine.turns import why
from lnres.record import unpack

if TYPE_CHECKING:  # torch takes 1.5 s to import: the server answers, and workers start, before it is there
    from lnres.experiment import Experiment

MEASURE_PATIENCE = 30.0
"""Seconds after which whoever waits for a measure is told that there is none."""
LEFT: ContextVar[Future | None] = ContextVar("left", default=None)
"""Done when whoever waits for a measure has gone: nothing is measured for nobody."""
MOST_RECORDED = 4 * 2**30
"""Bytes of records that the server keeps of all viewers together."""
FORGOTTEN = 600.0
"""Seconds without a viewer after which records may go, if others need their room."""
COUNT = 1.0
"""Seconds between two looks at how much is recorded."""


def _serve(pipe, folder: str) -> None:
    from lnres.engine.worker import serve

    serve(pipe, folder)


@contextlib.contextmanager
def _no_main():
    """Within: what is spawned does not run the main module again, which Streamlit makes the page's script."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Process:
    """One worker process and the way to talk to it."""

    def __init__(self, store: Store):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, str(store.folder)), daemon=True)
        with _no_main():
            self.process.start()
        other.close()
        self._lock = threading.Lock()

    def send(self, *command) -> None:
        """Send a command; one to a worker that has died is lost, and its replacement is told anew."""
        with self._lock, contextlib.suppress(OSError):
            self.pipe.send(command)


@dataclass
class Asked:
    """A measure that somebody waits for."""

    what: tuple
    process: Process
    answer: Future = field(default_factory=Future)

    def on_frame(self, _: str, blob: bytes) -> None:
        """What was found."""
        if not self.answer.done():  # by a worker that died right behind its answer
            self.answer.set_result(unpack(blob)[0])

    def on_finished(self) -> None:
        """It is done."""

    def on_failed(self, why: str) -> None:
        """It could not be done."""
        if not self.answer.done():
            self.answer.set_exception(ValueError(why))


class Engine:
    """Workers, spawned once; a group of runs lives in one of them, the one with the fewest."""

    _keys = itertools.count()

    def __init__(self, workers: int | None = None):
        count = workers or max(1, (os.cpu_count() or 2) - 1)
        self.store = Store()
        self.processes = [Process(self.store) for _ in range(count)]
        self.groups: dict[str, Hosted] = {}
        self.asked: dict[str, Asked] = {}
        self.found: dict[tuple[str, int], dict] = {}  # what studies found, by experiment and first seed
        self.lock = threading.RLock()
        self._running, self._counted = True, 0.0
        self._reader = threading.Thread(target=self._read, name="lnres-engine", daemon=True)
        self._reader.start()

    def place(self) -> Process:
        """The worker with the fewest groups."""
        with self.lock:
            return min(self.processes, key=lambda p: sum(g.process is p for g in self.groups.values()))

    def measure(self, name: str, experiment: "Experiment", **options) -> dict[str, np.ndarray]:
        """A row of ``lnres.measures``, in a worker; ``ValueError`` says why it cannot be measured."""
        key, asked = f"measure-{next(self._keys)}", Asked((name, experiment, options), self.place())
        with self.lock:
            if not self._running:
                raise ValueError("the server is ending")
            self.asked[key] = asked
            asked.process.send("measure", key, *asked.what)
        try:
            futures.wait({asked.answer, LEFT.get() or Future()}, MEASURE_PATIENCE, futures.FIRST_COMPLETED)
            if not asked.answer.done():
                raise ValueError("the workers are busy; try again in a moment")
            return asked.answer.result()
        finally:
            self.asked.pop(key, None)
            asked.process.send("close", key)

    def _read(self) -> None:
        while self._running:
            pipes = {process.pipe: process for process in self.processes}
            for pipe in wait(list(pipes), timeout=0.5):
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    if self._running:
                        self._replace(pipes[pipe])
                else:
                    self._hear(*message)
            now = time.monotonic()
            for group in list(self.groups.values()):
                group.rest(now)
            if now - self._counted > COUNT:
                self._counted = now
                self._make_room(now)

    def _hear(self, kind: str, key: str, *args) -> None:
        with self.lock:
            group = self.asked.get(key) or next((g for g in self.groups.values() if g.key == key), None)
            if not key or not group:  # a group without runs has no key yet, as the message of a ready worker
                return
            try:
                getattr(group, f"on_{kind}")(*args)
            except Exception as error:  # of one viewer; all others are heard by this thread too
                group.on_failed(why(error))

    def _make_room(self, now: float) -> None:
        """Where records are too many, the largest that is forgotten goes, else the largest stands still."""
        with self.lock:
            groups = list(self.groups.values())
            if sum(group.nbytes for group in groups) <= MOST_RECORDED:
                return
            forgotten = [g for g in groups if now - g.watched > FORGOTTEN and g.nbytes]
            if forgotten:
                max(forgotten, key=lambda group: group.nbytes).release()
            elif playing := [group for group in groups if group.playing]:
                max(playing, key=lambda group: group.nbytes).halt()

    def _replace(self, dead: Process) -> None:
        """Start another worker in place of one that died and give it the same groups."""
        dead.process.join(1)
        with self.lock:
            fresh = Process(self.store)
            self.processes[self.processes.index(dead)] = fresh
            for group in self.groups.values():
                if group.process is dead:
                    group.revive(fresh)
            for key, asked in list(self.asked.items()):
                if asked.process is dead:
                    asked.process = fresh
                    fresh.send("measure", key, *asked.what)

    def forget(self, tables: set[str]) -> None:
        """Tables that somebody had brought go with the last who trained on them."""
        from lnres.tables import forget

        if gone := tables.difference(*(group.tables for group in self.groups.values())):
            forget(gone, self.store.folder)
            for process in self.processes:
                process.send("forget", "", gone)

    def stop(self) -> None:
        """End all workers."""
        self._running = False
        with self.lock:
            for asked in self.asked.values():
                asked.on_failed("the server is ending")
            self.asked.clear()
        for process in self.processes:
            process.send("stop", "")
        self._reader.join(2)
        for process in self.processes:
            process.process.join(2)
            if process.process.is_alive():
                process.process.terminate()
        self.store.clear()


class Hosted:
    """What one viewer has in a worker: found by its unguessable ``token``, at rest while nobody looks."""

    unwatched = 3.0
    """Seconds without a viewer after which it holds still; it goes on with the next one."""
    playing, nbytes = False, 0
    """Whether its record grows, and how large it is."""

    def __init__(self, engine: Engine):
        self.engine, self.lock, self.token = engine, engine.lock, secrets.token_urlsafe(18)
        self.key, self.watched, self.held = "", time.monotonic(), False
        self.tables: set[str] = set()  # brought or trained on, and needed for as long as the viewer stays
        with engine.lock:
            self.process = engine.place()
            engine.groups[self.token] = self

    def look(self) -> None:
        """A viewer is there."""
        self.watched = time.monotonic()
        self.hold(False)

    def rest(self, now: float) -> None:
        """Hold still if nobody has looked for a while."""
        self.hold(now - self.watched > self.unwatched)

    def hold(self, unwatched: bool) -> None:
        """Nobody looks: stand still without being paused; somebody looks again: go on."""
        raise NotImplementedError

    def stop(self) -> None:
        """Free the worker."""
        raise NotImplementedError

    def revive(self, process: Process) -> None:
        """Go on in another worker."""
        raise NotImplementedError

    def release(self) -> None:
        """Let go of what was recorded: others need the memory, and nobody looks."""

    def halt(self) -> None:
        """Record no more: the memory is full."""

    def close(self) -> None:
        """The viewer has gone."""
        with self.lock:
            self.stop()
            self.engine.groups.pop(self.token, None)
            self.engine.forget(self.tables)


_engine: Engine | None = None
_starting = threading.Lock()


def start(workers: int | None = None) -> Engine:
    """The engine of this process, started once."""
    global _engine
    with _starting:
        if _engine is None:
            _engine = Engine(workers)
        return _engine


def stop() -> None:
    """End the engine of this process."""
    global _engine
    with _starting:
        if _engine is not None:
            _engine.stop()
            _engine = None


def find(token: str) -> Hosted | None:
    """The group with this token."""
    return _engine.groups.get(token) if _engine else None
