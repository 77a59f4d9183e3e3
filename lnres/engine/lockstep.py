"""A lockstep: runs on one clock, as the server knows them and the pages watch them."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lnres.engine.local import Engine, Hosted, Process
from lnres.record import Record, unpack
from lnres.verdict import WAITING, verdict

if TYPE_CHECKING:  # torch takes 1.5 s to import: the server answers, and workers start, before it is there
    from lnres.engine.worker import Order
    from lnres.experiment import Experiment
    from lnres.tables import Own

READING = 1.0
"""Seconds for which a sentence stands; the page has another read aloud every other second."""
MOST_TABLES = 8
"""Tables of one's own that a viewer may bring."""

Said = tuple[str, str, int | None]
"""What is said of a step, what would be tried against it if anything, and the last step that was still good
where no later one can be again."""


@dataclass
class Seen:
    """A run as the server knows it: what it is, what was recorded, what is happening.

    ``experiment`` has all changes that were made on the way; ``asked`` are those that no step has had yet.
    """

    id: str
    name: str
    experiment: "Experiment"
    record: Record = field(default_factory=Record)
    asked: dict[str, float] = field(default_factory=dict)
    replayed: int | None = None  # steps that its worker has made again, until that is where the record ends
    _told: tuple[int, float, Said] = -1, 0.0, (WAITING, "", None)  # step, time, what was said

    @property
    def said(self) -> Said:
        """What is to be said of the latest step; told anew once it can have been read."""
        step, now, (before, then, _) = self.record.last_step, time.monotonic(), self._told
        if step != before and now - then > READING:
            self._told = step, now, self.judged()
        return self._told[2]

    def judged(self, step: int | None = None) -> Said:
        """What is to be said of a step (the latest)."""
        found = verdict(self.record, step)
        if found is None:
            return WAITING, "", None
        change = _suggested(self.now, tuple(found.change.items())) if found.change else ""
        return found.sentence, change, found.rewind

    @property
    def now(self) -> "Experiment":
        """What the next step will be made with."""
        return self.experiment.at(self.record.last_step + 1).replace(**self.asked)

    @property
    def told(self) -> "Experiment":
        """What would give the same record again."""
        return self.experiment.change(self.record.last_step + 1, **self.asked)


@lru_cache
def _suggested(e: "Experiment", change: tuple[tuple[str, Any], ...]) -> str:
    """What an experiment would be called beside itself, once it is changed."""
    return e.replace(**dict(change)).label([e])


class Lockstep(Hosted):
    """One to four runs on one clock, owned by one viewer; thread-safe.

    ``version`` grows when the runs are replaced.
    """

    _keys = itertools.count()

    def __init__(self, engine: Engine):
        super().__init__(engine)
        self.version, self.news_count = 0, 0
        self.runs: list[Seen] = []
        self.playing, self.speed, self.notice = False, 0.0, ""
        self.panels: Sequence[str] = ()  # figures to show at first, instead of the usual ones
        self.drawn: dict[str, list[dict]] = {}  # traces to lay over figures
        self.at: int | None = None  # the step to look at first, None for the latest
        self.view: dict[str, str] | None = None  # what a hand chose to see, in words of an address
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def set(self, experiments: "Sequence[Experiment]", play: bool = True) -> None:
        """Train these from their first step; ``ValueError`` if one costs too much."""
        self._open([Record({"experiment": e.link()}) for e in experiments], experiments, play)

    def bring(self, table: "Own") -> str:
        """Make a table a row of DATA for as long as somebody trains on it; returns its name there."""
        with self.lock:
            if len(self.tables | {table.name}) > MOST_TABLES:
                raise ValueError(
                    f"here are {MOST_TABLES} tables already, which is the limit; reload the page first"
                )
            self.tables.add(name := table.enrol(self.engine.store.folder))
        return name

    def load(self, records: Sequence[Record]) -> None:
        """Show what was recorded elsewhere, paused at its end; played, it goes on from there."""
        from lnres.export.tables import experiment_of

        self._open(records, [experiment_of(record) for record in records], play=False)

    def _open(self, records: Sequence[Record], experiments: "Sequence[Experiment]", play: bool) -> None:
        from lnres.scene import MOST

        if len(experiments) > MOST:
            raise ValueError(f"here are {len(experiments)} configurations; up to {MOST} can be compared")
        experiments = [experiment.affordable() for experiment in experiments]
        with self.lock:
            self.stop()
            self._keep(experiments)
            self.key = f"g{next(self._keys)}"
            self.runs = [
                Seen(f"{self.key}-{i}", "", experiment, record)
                for i, (experiment, record) in enumerate(zip(experiments, records, strict=True))
            ]
            self._name()
            self.version, self.notice, self.playing, self.held = self.version + 1, "", play, False
            self.watched = time.monotonic()
            self.process.send("open", self.key, self._order())
            self.process.send("pace", self.key, self.speed)
            seen = any(run.record.last_step >= 0 for run in self.runs)
            self.process.send("play" if play else "pause" if seen else "step", self.key)
            self.wake()

    def _keep(self, experiments: "Iterable[Experiment]") -> None:
        """The tables of these experiments may be needed for as long as this viewer stays."""
        from lnres.tables import NAME

        self.tables |= set(filter(NAME.fullmatch, (experiment.data for experiment in experiments)))

    def become(self, experiments: "Sequence[Experiment]", seen: "Sequence[Experiment]" = ()) -> None:
        """Show these: go on where only live knobs, order or number differ, else train from the first step.

        ``seen`` is what whoever chose them believed to be trained. ``ValueError`` if one costs too much.
        """
        wanted, seen = list(experiments), list(seen) or [run.now for run in self.runs]
        if len(wanted) == len(seen) == len(self.runs):
            changes = [self._live(*both) for both in zip(self.runs, seen, wanted, strict=True)]
            if None not in changes:
                for index, values in enumerate(changes):
                    if values:
                        self.change(index, **values)
                return
        if self.runs and len(wanted) > len(seen) == len(self.runs) and wanted[: len(seen)] == seen:
            for new in wanted[len(seen) :]:
                twin = seen.index(new) if new in seen else None
                self.add(new) if twin is None else self.fork(twin, self.runs[twin].record.last_step + 1, {})
            return
        order = []
        for new in wanted:
            same = (
                i for i, run in enumerate(self.runs) if i not in order and new in (seen[i], run.experiment)
            )
            order += [*same][:1]
        if 0 < len(order) == len(wanted):
            return self.arrange(order)
        self.set(wanted)

    def _live(self, run: Seen, seen: "Experiment", wanted: "Experiment") -> dict | None:
        """The live knobs in which a run is to change, None if it would have to be another run."""
        names = [] if wanted == run.experiment else seen.differing(wanted)
        return {n: getattr(wanted, n) for n in names} if set(names) <= set(wanted.live()) else None

    def _name(self) -> None:
        for run in self.runs:
            run.name = run.experiment.label([other.experiment for other in self.runs])
            run.record.header["label"] = run.experiment.label()

    def _order(self) -> "Order":
        from lnres.engine.worker import Order

        return Order(
            self.key,
            [run.id for run in self.runs],
            [run.experiment for run in self.runs],
            [run.record.last_step for run in self.runs],
        )

    def show(
        self, panels: Sequence[str] = (), drawn: dict[str, list[dict]] | None = None, at: int | None = None
    ) -> None:
        """Which figures are shown at first, Plotly traces to lay over them by name, the step looked at."""
        view = panels, drawn or {}, at
        if view != (self.panels, self.drawn, self.at):
            self.panels, self.drawn, self.at = view
            self.version += 1
            self.wake()

    def play(self) -> None:
        """Train on until paused or finished."""
        self.playing = True
        self._send("play")

    def pause(self) -> None:
        """Stop after the step that is under way."""
        self.playing = False
        self._send("pause")

    def step(self) -> None:
        """One minibatch for every run."""
        self.playing = False
        self._send("step")

    def reset(self) -> None:
        """Back to the same weights and batches, measured once and paused there."""
        self.set([run.experiment for run in self.runs], play=False)

    def pace(self, speed: float) -> None:
        """Steps per second to aim at, 0 for as many as there can be."""
        self.speed = max(0.0, min(float(speed), 1000.0))
        self._send("pace", self.speed)

    def change(self, index: int, **values) -> None:
        """Change live knobs of one run from its next step on."""
        run = self.runs[index]
        run.experiment.change(run.record.last_step + 1, **values)  # refused here, where somebody is told
        run.asked |= values
        self._send("change", index, values)

    def fork(self, index: int, step: int, values: dict) -> None:
        """Beside a run, one that equals it up to a step and goes on from there with other live knobs.

        Where there is no room for one more, it takes the place of the run.
        """
        with self.lock:
            run = self.runs[index]
            if wrong := values.keys() - set(live := run.experiment.live()):
                raise ValueError(f"{min(wrong)}: only {', '.join(live)} can change in a fork")
            if not 0 <= step <= (last := run.record.last_step + 1):
                so_far = f"the network has made {last:,} steps so far"
                raise ValueError(f"step={step}: {so_far}; choose a step from 0 to {last} to fork from")
            twin = self._more(run.experiment.fork(step, **values), run.record.until(step))
            self._send("fork", index, twin.id, step, values)
            self._make_room(index)

    def add(self, experiment: "Experiment", instead: int = 0) -> None:
        """One more run, which catches up with the others; where there is no room, instead of that one."""
        with self.lock:
            twin = self._more(experiment.affordable(), Record())
            self._send("add", twin.id, experiment)
            self._make_room(instead)

    def attempt(self, index: int, step: int | None = None) -> None:
        """Try what the verdict of a run at a step (its latest) suggests, in a fork where that can be done.

        What has diverged is forked before it did.
        """
        run = self.runs[index]
        found = verdict(run.record, step)
        if not found or not found.change:
            raise ValueError("there is nothing to try: nothing is wrong here, or nothing is known to help")
        if found.change.keys() <= set(run.experiment.live()):
            here = run.record.last_step + 1 if step is None else step
            self.fork(index, here if found.rewind is None else found.rewind, found.change)
        else:
            self.add(run.experiment.replace(**found.change), instead=index)

    def _more(self, experiment: "Experiment", record: Record) -> Seen:
        record.header["experiment"] = experiment.link()
        self._keep([experiment])
        self.runs.append(Seen(f"{self.key}-more{next(self._keys)}", "", experiment, record))
        self._name()
        self.version += 1
        return self.runs[-1]

    def _make_room(self, index: int) -> None:
        """The last run takes the place of another, if they are too many."""
        from lnres.scene import MOST

        if len(self.runs) > MOST:
            order = list(range(MOST))
            order[index] = MOST
            self.arrange(order)

    def arrange(self, order: list[int]) -> None:
        """Go on with these of the runs, in this order."""
        with self.lock:
            self.runs = [self.runs[i] for i in order]
            self._name()
            self.version += 1
            self._send("arrange", order)

    def hold(self, unwatched: bool) -> None:
        """Nobody looks: stand still without being paused; somebody looks again: go on."""
        if unwatched != self.held:
            self.held = unwatched
            self.process.send("hold", self.key, unwatched)

    def stop(self) -> None:
        """Free the worker."""
        if self.key:
            self.process.send("close", self.key)

    def _send(self, command: str, *args) -> None:
        self.watched, self.held = time.monotonic(), False
        self.process.send(command, self.key, *args)
        self.wake()

    @property
    def nbytes(self) -> int:
        """Bytes of what is recorded."""
        return sum(run.record.nbytes for run in self.runs)

    def release(self) -> None:
        """Back to the start, as nobody has looked for long and others need the memory."""
        self.reset()
        self.notice = "The server needed the memory of this recording, which nobody watched: it starts again."

    def halt(self) -> None:
        """Pause, as the memory for records is full."""
        self.pause()
        self.notice = (
            "The server's memory for recordings is full: take this one along, then start it again "
            "with a larger 'record every' or fewer steps."
        )

    def revive(self, process: Process) -> None:
        """Go on in another worker from the last checkpoints; the record keeps all it has."""
        self.process, self.held = process, False
        self.notice = "A worker died and was replaced; training goes on from its last checkpoint."
        process.send("open", self.key, self._order())
        process.send("pace", self.key, self.speed)
        for index, run in enumerate(self.runs):
            run.replayed = None
            if run.asked:
                process.send("change", self.key, index, run.asked)
        if self.playing:
            process.send("play", self.key)
        self.wake()

    def on_frame(self, run_id: str, blob: bytes) -> None:
        """A run has made steps."""
        for run in self.runs:
            if run.id == run_id:
                arrays, header = unpack(blob)
                run.record.extend(arrays, header)
                for event in header["events"]:
                    if event["kind"] == "change":
                        self._changed(run, event["step"], event["name"], event["value"])
        self.wake()

    def _changed(self, run: Seen, step: int, name: str, value) -> None:
        run.experiment = run.experiment.change(step, **{name: value})
        run.record.header["experiment"] = run.experiment.link()
        if run.asked.get(name) == value:
            del run.asked[name]

    def on_replayed(self, again: dict[str, int]) -> None:
        """These runs make steps again that their records have, so many so far; the others do not."""
        for run in self.runs:
            run.replayed = again.get(run.id)
        self.wake()

    def on_finished(self) -> None:
        """All runs have made the steps they were to make."""
        self.playing = False
        self.wake()

    def on_failed(self, why: str) -> None:
        """The worker could not go on with these runs."""
        self.playing, self.notice = False, why
        self.wake()

    def wake(self) -> None:
        """Something is new: whoever waits for news has it at once."""
        self.news_count += 1
        for loop, event in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # a loop that has closed meanwhile
                loop.call_soon_threadsafe(event.set)

    async def news(self, seen: int, timeout: float) -> int:
        """Wait until something is newer than ``seen``, at most ``timeout`` seconds; returns the counter."""
        self.look()
        if self.news_count <= seen:
            event = asyncio.Event()
            entry = asyncio.get_running_loop(), event
            self._waiting.add(entry)
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), timeout)
            finally:
                self._waiting.discard(entry)
        return self.news_count
