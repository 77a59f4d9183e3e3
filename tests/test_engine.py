"""Workers are fair, lose nothing and survive being killed; and what they train is what a Run trains."""

import asyncio
import itertools
import math
import os
import signal
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import psutil
import pytest
import torch

from lnres import measures, train
from lnres.data import DATA
from lnres.engine import local, worker
from lnres.engine.local import LEFT, Engine
from lnres.engine.lockstep import MOST_TABLES, Lockstep
from lnres.engine.store import Store
from lnres.engine.worker import FLUSH, SLICE, Order, Worker
from lnres.experiment import Experiment
from lnres.meanfield import foreseen
from lnres.measures import MEASURES, complete
from lnres.record import Record, unpack
from lnres.scene import MOST
from lnres.tables import read_csv
from lnres.train import Run, probe
from lnres.verdict import WAITING, verdict

SMALL = Experiment(depth=2, width=8, batch=8, seeds=2, record_every=5, steps=40)
PATIENCE = 60
"""Seconds after which something that should have happened counts as missing."""


# A worker without a process, on a clock of its own


class Clock:
    """Time passes only when a run makes a step, and as much as its depth says: a millisecond a block."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()

    class Slow(Run):
        def _advance(self, measure):
            clock.now += self.first.depth / 1000
            return super()._advance(measure)

    monkeypatch.setattr(worker, "time", clock)
    for module in (worker, train):
        monkeypatch.setattr(module, "Run", Slow)
    return clock


class Desk:
    """A worker, what it said, and what it recorded."""

    def __init__(self, folder, clock):
        self.clock, self.said, self.store = clock, [], Store(str(folder))
        self.worker = Worker(self.store, self.hear)
        self.records: dict[str, Record] = {}
        self.times: dict[str, list[float]] = {}

    def hear(self, kind, key, *args):
        self.said.append((kind, key))
        if kind == "frame":
            run, blob = args
            self.records.setdefault(run, Record()).extend(*unpack(blob))
            self.times.setdefault(run, []).append(self.clock.now)
        elif args:
            self.said[-1] += args

    def open(self, key, *experiments, play=True, **known):
        ids = [f"{key}{i}" for i in range(len(experiments))]
        self.worker.do("open", key, Order(key, ids, list(experiments), **known))
        if play:
            self.worker.do("play", key)

    def run(self, turns):
        """Take turns; where all groups want to wait, so does the clock."""
        for _ in range(turns):
            pause = self.worker.turn()
            if pause == math.inf:
                return
            self.clock.now += pause

    def again(self, key):
        """What was told of steps that are made again."""
        return [said[2] for said in self.said if said[:2] == ("replayed", key)]

    def steps(self, key):
        return self.worker.groups[key].steps

    def whole(self, run):
        """The record of a run, which must have every step once."""
        record = self.records[run]
        assert np.array_equal(record["step"], np.arange(record.last_step + 1))
        return record


@pytest.fixture
def desk(tmp_path, clock):
    return Desk(tmp_path, clock)


def by_run(e, steps):
    """The record of an undisturbed run, with what theory says of its first step."""
    run, record = Run(e), Record()
    arrays, header = next(run)
    record.extend(arrays | foreseen(e, arrays), header)
    for _ in range(1, steps):
        record.extend(*next(run))
    return record


def same(a, b):
    return set(a) == set(b) and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def test_a_worker_trains_what_a_run_trains(desk):
    experiments = [SMALL, SMALL.replace(norm="batch")]
    desk.open("a", *experiments)
    desk.run(100)
    for i, e in enumerate(experiments):
        assert same(desk.whole(f"a{i}"), by_run(e, 40))
    assert desk.said[-1] == ("finished", "a")
    assert Counter(desk.said)[("finished", "a")] == 1


def test_two_groups_get_equal_time_however_heavy_their_steps(desk, monkeypatch):
    """After every round of turns their times differ by a slice and a step at most."""
    light, heavy = SMALL.replace(depth=1, steps=2000), SMALL.replace(depth=5, steps=2000)
    desk.open("light", light)
    desk.open("heavy", heavy)
    for _ in range(5):
        desk.run(1)
        spent = [desk.steps("light")[0] * 1e-3, desk.steps("heavy")[0] * 5e-3]
        assert min(spent) > 0
        assert abs(spent[0] - spent[1]) <= SLICE + 5e-3


def test_runs_go_on_while_something_is_measured(desk, monkeypatch):
    monkeypatch.setattr(measures, "Run", train.Run)  # on the same clock
    desk.open("a", SMALL.replace(steps=2000))
    desk.worker.do("measure", "m", "trained", SMALL, {"steps": 60})
    desk.run(2)
    assert desk.steps("a")[0] * 2e-3 == pytest.approx(2 * SLICE, abs=5e-3)
    assert "" not in desk.records  # it is still being measured
    desk.run(6)
    expected = complete(MEASURES["trained"].make(SMALL, {}, steps=60))
    np.testing.assert_array_equal(desk.records[""]["grad_norm"], expected["grad_norm"])
    desk.worker.do("close", "m")
    assert set(desk.worker.groups) == {"a"}


def test_a_turn_is_a_slice(desk):
    desk.open("a", SMALL.replace(steps=2000))
    before = desk.clock.now
    desk.run(1)
    assert SLICE <= desk.clock.now - before <= SLICE + 2e-3 + 1e-9


def test_runs_of_a_group_keep_step(desk):
    desk.open("a", SMALL, SMALL.replace(depth=6), SMALL.replace(depth=3))
    while any(step < 40 for step in desk.steps("a")):
        desk.run(1)
        assert max(desk.steps("a")) - min(desk.steps("a")) <= 1


def test_the_shorter_run_of_a_group_does_not_stop_the_longer_one(desk):
    desk.open("a", SMALL.replace(steps=10), SMALL)
    desk.worker.do("pace", "a", 100)
    desk.run(200)
    assert desk.steps("a") == [10, 40]
    assert desk.said[-1] == ("finished", "a")
    assert desk.times["a1"][-1] - desk.times["a1"][0] > 0.35


def test_nothing_moves_before_play(desk):
    desk.open("a", SMALL, play=False)
    desk.run(5)
    assert desk.steps("a") == [0]
    assert desk.said == []


def test_pause_stops_all_runs_at_the_same_step(desk):
    desk.open("a", SMALL.replace(depth=9), SMALL.replace(depth=8))
    desk.run(1)
    desk.worker.do("pause", "a")
    desk.run(5)
    stopped = desk.steps("a")
    desk.run(5)
    assert desk.steps("a") == stopped
    assert stopped[0] == stopped[1] < 40
    assert desk.whole("a0").last_step == desk.whole("a1").last_step == stopped[0] - 1


def test_a_step_is_one_minibatch_for_every_run(desk):
    desk.open("a", SMALL, SMALL, play=False)
    for made in (1, 2, 3):
        desk.worker.do("step", "a")
        desk.run(5)
        assert desk.steps("a") == [made, made]
        assert desk.whole("a1").last_step == made - 1


def test_play_goes_on_after_a_pause_without_a_gap(desk):
    desk.open("a", SMALL)
    desk.run(1)
    desk.worker.do("pause", "a")
    desk.run(3)
    desk.worker.do("play", "a")
    desk.run(50)
    assert same(desk.whole("a0"), by_run(SMALL, 40))


@pytest.mark.parametrize("pace", [2, 10, 30])
def test_pace_is_honoured(desk, pace):
    desk.open("a", SMALL.replace(steps=2000), SMALL.replace(steps=2000))
    desk.worker.do("pace", "a", pace)
    start = desk.clock.now
    while desk.clock.now < start + 3:
        desk.run(1)
    assert desk.steps("a")[0] == pytest.approx(3 * pace, abs=2)


def test_a_group_that_waits_for_its_pace_leaves_the_time_to_others(desk):
    desk.open("slow", SMALL.replace(steps=2000))
    desk.worker.do("pace", "slow", 1)
    desk.open("fast", SMALL.replace(steps=300))
    while desk.steps("fast") != [300]:
        desk.run(1)
    assert desk.steps("slow")[0] <= 2


def test_frames_are_few_and_complete(desk):
    desk.open("a", SMALL.replace(steps=500))
    desk.run(500)
    gaps = np.diff(desk.times["a0"])
    assert (gaps[:-1] >= FLUSH - 1e-9).all()
    assert len(gaps) > 10
    assert desk.whole("a0").last_step == 499


def test_a_change_is_made_at_the_next_step_and_told(desk):
    desk.open("a", SMALL)
    desk.run(1)
    at = desk.steps("a")[0]
    desk.worker.do("change", "a", 0, {"lr": 0.5})
    desk.run(50)
    assert [(event["step"], event["value"]) for event in desk.records["a0"].events] == [(at, 0.5)]
    assert same(desk.whole("a0"), by_run(SMALL.change(at, lr=0.5), 40))


def test_a_closed_group_is_gone_with_its_checkpoints(desk, monkeypatch):
    monkeypatch.setattr(worker, "CHECKPOINT", 0.0)
    desk.open("a", SMALL.replace(steps=2000))
    desk.run(10)
    assert desk.store.path("a0").exists()
    desk.worker.do("close", "a")
    assert desk.worker.groups == {}
    assert not desk.store.path("a0").exists()
    assert desk.worker.turn() == math.inf


@pytest.mark.parametrize("command", ["play", "pause", "step", "close"])
def test_commands_to_a_group_that_is_gone_do_nothing(desk, command):
    desk.worker.do(command, "nobody")
    assert desk.said == []


def test_a_group_that_cannot_be_opened_is_told(desk, monkeypatch):
    desk.open("a", Experiment(depth=1000, width=1024, seeds=64))
    desk.run(1)
    kind, key, why = desk.said[0]
    assert (kind, key) == ("failed", "a")
    assert "the limit is" in why


def test_a_group_that_breaks_is_told_and_leaves_the_others_alone(desk):
    desk.open("bad", SMALL)
    desk.open("good", SMALL)
    desk.worker.groups["bad"].run(0).batches = None
    desk.run(100)
    assert desk.said[0][:2] == ("failed", "bad")
    assert same(desk.whole("good0"), by_run(SMALL, 40))


def asleep(desk, key):
    return [seat.run is None for seat in desk.worker.groups[key].seats]


def test_runs_without_anything_to_do_wait_on_disk_and_go_on_as_if_they_had_stayed(desk):
    desk.open("a", LONG, SMALL)
    desk.run(4)
    desk.worker.do("change", "a", 0, {"lr": 0.01})
    desk.run(2)
    desk.worker.do("pause", "a")
    desk.run(500)
    stopped = desk.steps("a")
    assert asleep(desk, "a") == [True, True]
    desk.worker.do("hold", "a", True)
    desk.run(5)
    assert asleep(desk, "a") == [True, True]
    desk.worker.do("step", "a")
    desk.run(2)
    assert desk.steps("a") == [step + 1 for step in stopped]
    desk.worker.do("fork", "a", 0, "twin", 3, {"lr": 0.1})
    desk.worker.do("play", "a")
    desk.run(500)
    for name, e in (("a0", LONG), ("a1", SMALL)):
        for event in desk.records[name].events:
            e = e.change(event["step"], lr=event["value"])
        assert same(desk.whole(name), by_run(e, e.steps))
    expected = by_run(LONG.fork(3, lr=0.1), 200)["loss_train"][3:]
    assert np.array_equal(desk.records["twin"]["loss_train"], expected)


def test_what_does_not_move_is_saved_once(desk, monkeypatch):
    monkeypatch.setattr(worker, "CHECKPOINT", 0.0)
    desk.open("a", SMALL.replace(steps=4))
    desk.open("b", SMALL)
    saved = []
    desk.store.save = lambda key, checkpoint: saved.append(key)
    for _ in range(4):
        desk.worker.turn()
    assert asleep(desk, "a") == [False]
    assert saved.count("a0") == 1 < saved.count("b0")


def test_runs_of_a_worker_share_what_they_remember(desk, monkeypatch):
    e = LONG.replace(steps=700, record_every=0)
    next(run := Run(e))
    size = sum(array.nbytes for array in run.checkpoint()[0].values())
    monkeypatch.setattr(worker, "KEPT", 8 * size)
    desk.open("a", e)
    while desk.steps("a")[0] < 650:
        desk.run(1)
    (seat,) = desk.worker.groups["a"].seats
    assert sorted(seat.kept) == [100, 200, 300, 400, 500, 600]
    for key in "bcd":
        desk.open(key, SMALL)
    assert sorted(seat.kept) == [400, 600]


# After a death


def checkpointed(desk, monkeypatch, e, *changes):
    """A first worker that saved a checkpoint, went on for a while and died."""
    monkeypatch.setattr(worker, "CHECKPOINT", 0.0)
    desk.open("a", e)
    desk.run(3)
    for change in changes:
        desk.worker.do("change", "a", 0, change)
    while not desk.store.path("a0").exists() or desk.store.load("a0")[1]["step"] <= desk.steps("a")[0] - 30:
        desk.run(1)
    monkeypatch.setattr(worker, "CHECKPOINT", 1e9)
    desk.worker.groups["a"].interval = 1e9
    desk.run(8)
    record = desk.records["a0"]
    assert 0 < desk.store.load("a0")[1]["step"] <= record.last_step < e.steps - 1
    for event in record.events:
        e = e.change(event["step"], **{event["name"]: event["value"]})
    desk.worker = Worker(desk.store, desk.hear)
    return e, {"seen": [record.last_step]}


LONG = SMALL.replace(steps=200, optimizer="adam", lr=1e-3, norm="batch")


def test_a_revived_group_goes_on_without_gap_or_double(desk, monkeypatch):
    e, known = checkpointed(desk, monkeypatch, LONG)
    desk.open("a", e, **known)
    desk.run(500)
    assert same(desk.whole("a0"), by_run(LONG, 200))


def test_a_revived_group_makes_its_changes_again(desk, monkeypatch):
    e, known = checkpointed(desk, monkeypatch, LONG, {"lr": 0.01})
    assert e.changes.endswith(".lr.0.01")
    desk.open("a", e, **known)
    desk.run(500)
    assert same(desk.whole("a0"), by_run(e, 200))
    assert len(desk.records["a0"].events) == 1


def test_a_revived_group_without_checkpoint_starts_anew_and_repeats_nothing(desk):
    desk.open("a", LONG)
    desk.run(5)
    seen = desk.records["a0"].last_step
    desk.worker = Worker(desk.store, desk.hear)
    desk.open("a", LONG, seen=[seen])
    desk.run(500)
    assert same(desk.whole("a0"), by_run(LONG, 200))


def test_a_step_after_a_death_is_the_next_one(desk):
    desk.open("a", LONG)
    desk.run(5)
    seen = desk.records["a0"].last_step
    desk.worker = Worker(desk.store, desk.hear)
    desk.open("a", LONG, play=False, seen=[seen])
    desk.worker.do("pause", "a")
    desk.worker.do("step", "a")
    desk.run(100)
    assert desk.whole("a0").last_step == seen + 1


def test_a_paused_group_stays_where_it_is_after_a_death(desk, monkeypatch):
    monkeypatch.setattr(worker, "CHECKPOINT", 0.0)
    desk.open("a", LONG)
    desk.run(3)
    desk.worker.do("pause", "a")
    desk.run(3)
    (made,) = desk.steps("a")
    assert desk.store.load("a0")[1]["step"] == made
    desk.worker = Worker(desk.store, desk.hear)
    desk.open("a", LONG, play=False, seen=[made - 1])
    desk.run(3)
    assert desk.whole("a0").last_step == made - 1


def test_what_was_seen_before_a_death_is_replayed_at_full_speed(desk):
    desk.open("a", LONG)
    desk.run(5)
    seen, before = desk.records["a0"].last_step, desk.clock.now
    desk.worker = Worker(desk.store, desk.hear)
    desk.open("a", LONG, seen=[seen])
    desk.worker.do("pace", "a", 1)
    while desk.records["a0"].last_step == seen:
        desk.run(1)
    assert desk.clock.now - before < 2


def test_a_fork_is_replayed_in_slices_and_says_how_far_it_is(desk):
    desk.open("a", LONG)
    desk.run(500)
    desk.worker.do("fork", "a", 0, "twin", 99, {"lr": 0.01})
    assert desk.steps("a") == [200, 0]
    desk.open("b", SMALL.replace(steps=100_000))
    while desk.steps("a")[1] < 99:
        before = desk.clock.now, desk.steps("b")[0]
        desk.run(1)
        assert desk.clock.now - before[0] <= 2 * (SLICE + 2e-3) + 1e-9
        assert desk.steps("b")[0] > before[1]
    desk.worker.do("close", "b")
    told = [again["twin"] for again in desk.again("a")[:-1]]
    assert told == sorted(told)
    assert len(told) > 2
    assert desk.again("a")[-1] == {}
    desk.run(500)
    expected = by_run(LONG.replace(changes="99.lr.0.01"), 200)
    record = desk.records["twin"]
    assert np.array_equal(record["step"], np.arange(99, 200))
    assert np.array_equal(record["loss_train"], expected["loss_train"][99:])


def test_a_fork_starts_at_what_its_parent_remembers(desk):
    desk.open("a", LONG)
    desk.run(500)
    desk.worker.do("fork", "a", 0, "twin", 150, {"lr": 0.01})
    assert desk.steps("a") == [200, 100]
    desk.worker.do("fork", "a", 1, "twin of the twin", 140, {"lr": 0.1})
    assert desk.steps("a") == [200, 100, 100]


def test_a_record_from_elsewhere_is_made_again_in_slices_and_goes_on_once_it_is_played(desk):
    desk.open("a", LONG, play=False, seen=[149])
    desk.run(1)
    assert 0 < desk.again("a")[0]["a0"] < 20
    desk.run(500)
    assert desk.steps("a") == [150]
    assert not desk.records
    desk.worker.do("play", "a")
    desk.run(500)
    assert np.array_equal(desk.records["a0"]["step"], np.arange(150, 200))
    assert np.array_equal(desk.records["a0"]["loss_train"], by_run(LONG, 200)["loss_train"][150:])


def test_a_group_on_hold_stands_still_also_while_it_replays(desk):
    desk.open("a", LONG, seen=[149])
    desk.run(2)
    desk.worker.do("hold", "a", True)
    before = desk.steps("a")
    desk.run(20)
    assert desk.steps("a") == before
    assert ("finished", "a") not in desk.said
    desk.worker.do("hold", "a", False)
    desk.run(500)
    assert desk.steps("a") == [200]
    assert desk.said[-1] == ("finished", "a")


def test_one_more_catches_up_with_those_that_have_finished(desk):
    desk.open("a", SMALL)
    desk.run(500)
    desk.worker.do("add", "a", "more", SMALL.replace(norm="rms"))
    desk.run(500)
    assert desk.steps("a") == [40, 40]


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.save("a", ({"x": np.ones(3)}, {"step": 1}))

    def dies(self, data):
        raise OSError("disk full")

    monkeypatch.setattr(type(store.path("a")), "write_bytes", dies)
    with pytest.raises(OSError, match="disk full"):
        store.save("a", ({"x": np.zeros(3)}, {"step": 2}))
    assert store.load("a")[1] == {"step": 1}


# Real processes


@pytest.fixture(scope="module")
def engine():
    """One worker for all; when it is stopped, processes and files are gone."""
    engine = Engine(workers=1)
    yield engine
    engine.stop()
    assert not psutil.pid_exists(engine.processes[0].process.pid)
    assert not engine.store.folder.exists()


@pytest.fixture
def lockstep(engine):
    opened = []

    def start(*experiments, **how):
        opened.append(Lockstep(engine))
        opened[-1].set(experiments, **how)
        return opened[-1]

    yield start
    for group in opened:
        group.close()


def until(group, condition, watch=True):
    """Wait for news until something is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        if watch:
            asyncio.run(group.news(group.news_count, 0.2))
        else:
            time.sleep(0.05)


def done(group):
    return lambda: all(run.record.last_step == run.experiment.steps - 1 for run in group.runs)


def still(group, watch=True):
    """Wait until nothing has been recorded for half a second; returns how much there is."""
    seen = [-2, -1]

    def same_twice():
        time.sleep(0.5)
        seen[:] = seen[1], group.runs[0].record.last_step
        return seen[0] == seen[1]

    until(group, same_twice, watch)
    return seen[1]


FOREVER = SMALL.replace(steps=1_000_000, record_every=100)


def test_an_engine_that_nobody_has_given_runs_stays_well(engine):
    """Also while its worker says that it is ready."""
    idle = Lockstep(engine)
    group = Lockstep(engine)
    group.set([SMALL])
    until(group, done(group))
    assert engine._reader.is_alive()
    idle.close()
    group.close()


def test_a_process_trains_what_a_run_trains(lockstep):
    experiments = [SMALL, SMALL.replace(norm="batch", optimizer="adam", lr=0.001)]
    group = lockstep(*experiments)
    until(group, lambda: done(group)() and not group.playing)
    for run, e in zip(group.runs, experiments, strict=True):
        assert same(run.record, by_run(e, 40))
        assert run.record.header["experiment"] == e.link()
        assert run.said[0] != WAITING
    assert group.notice == ""


def test_two_sessions_do_not_disturb_each_other(lockstep):
    a, b = lockstep(SMALL, play=False), lockstep(SMALL.replace(seed=9))
    until(b, done(b))
    a.play()
    until(a, done(a))
    for group in (a, b):
        assert same(group.runs[0].record, by_run(group.runs[0].experiment, 40))
    assert a.token != b.token


def test_pause_really_stops_and_step_makes_one(lockstep):
    group = lockstep(FOREVER, FOREVER)
    until(group, lambda: group.runs[0].record.last_step > 20)
    group.pause()
    before = still(group)
    assert [run.record.last_step for run in group.runs] == [before, before]
    group.step()
    until(group, lambda: group.runs[1].record.last_step > before)
    assert still(group) == before + 1


def test_reset_shows_the_first_step_again(lockstep):
    group = lockstep(SMALL)
    until(group, done(group))
    first, version = group.runs[0].record["loss_train"][0], group.version
    group.reset()
    until(group, lambda: group.runs[0].record.last_step == 0)
    assert np.array_equal(group.runs[0].record["loss_train"], first[None])
    assert group.version == version + 1
    assert not group.playing


def test_a_group_that_nobody_watches_holds_still_and_goes_on(lockstep, monkeypatch):
    group = lockstep(FOREVER)
    until(group, lambda: group.runs[0].record.last_step > 20)
    monkeypatch.setattr(Lockstep, "unwatched", 0.2)
    until(group, lambda: group.held, watch=False)
    before = still(group, watch=False)
    assert group.playing
    monkeypatch.setattr(Lockstep, "unwatched", 3.0)
    until(group, lambda: group.runs[0].record.last_step > before)
    assert not group.held


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": -1}, "lr=-1: choose"),
        ({"lr": "0.1--5.lr.3"}, "lr='0.1--5"),
        ({"depth": 3}, "not depth"),
        ({"colour": 1}, "not colour"),
    ],
)
def test_a_wrong_change_is_refused_where_somebody_is_told(lockstep, change, said):
    group = lockstep(SMALL, play=False)
    with pytest.raises(ValueError, match=said):
        group.change(0, **change)
    until(group, lambda: group.runs[0].record.last_step == 0)
    assert group.notice == ""


def test_what_costs_too_much_is_refused_where_somebody_is_told(lockstep):
    group = lockstep(SMALL, play=False)
    with pytest.raises(ValueError, match="the limit is"):
        group.set([Experiment(depth=1000, width=1024, seeds=64)])
    until(group, lambda: group.runs[0].record.last_step == 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_a_worker_cannot_do_becomes_a_notice(lockstep):
    group = lockstep(SMALL.replace(device="cuda"))
    until(group, lambda: group.notice)
    assert group.notice.startswith("device='cuda': this machine has no GPU")
    assert not group.playing


def test_a_probe_in_a_worker_is_the_probe(engine):
    for settings in (
        {"norm": "batch", "init": "torch"},
        {"init": "orthogonal"},
        {"init": "orthogonal", "gain": 2.0},
    ):
        e = SMALL.replace(**settings)
        expected = probe(e)
        for _ in range(2):  # drawn anew, and as it was drawn before
            seen = engine.measure("probe", e)
            assert set(seen) == {name for name, array in expected.items() if array.ndim < 3}
            for name, array in seen.items():
                np.testing.assert_array_equal(array, expected[name])
    assert not engine.asked


def test_a_probe_that_is_too_large_is_refused_with_a_sentence(engine):
    with pytest.raises(ValueError, match="this probe would take"):
        engine.measure("probe", Experiment(depth=1000, width=1024, seeds=64, batch=64))


def test_a_probe_outlives_its_worker(engine):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(engine.measure, "probe", SMALL.replace(depth=300, width=128, batch=64))
        while not engine.asked:
            time.sleep(0.001)
        os.kill(next(iter(engine.asked.values())).process.process.pid, signal.SIGKILL)
        assert waiting.result(PATIENCE)["grad_norm"].shape == (301, 2)


def test_nothing_is_measured_for_who_has_left(engine):
    context, left = copy_context(), Future()
    context.run(LEFT.set, left)
    large = SMALL.replace(depth=300, width=128, batch=64)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(context.run, engine.measure, "probe", large)
        while not engine.asked:
            time.sleep(0.001)
        left.set_result(None)
        with pytest.raises(ValueError, match="try again"):
            waiting.result(PATIENCE)
    assert not engine.asked


def test_who_waits_for_a_measurement_is_told_that_the_server_ends():
    engine = Engine(1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(engine.measure, "probe", SMALL.replace(depth=300, width=128, batch=64))
        while not engine.asked:
            time.sleep(0.001)
        engine.stop()
        with pytest.raises(ValueError, match="the server is ending"):
            waiting.result(PATIENCE)
    with pytest.raises(ValueError, match="the server is ending"):
        engine.measure("probe", SMALL)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(engine, lockstep):
    """Killed behind its first checkpoint and behind a change, with a paused group beside it."""
    e = SMALL.replace(steps=1200, optimizer="adam", lr=1e-3, norm="batch")
    group, paused = lockstep(e), lockstep(SMALL, play=False)
    group.pace(100)
    until(group, lambda: group.runs[0].record.last_step > 5)
    group.change(0, lr=0.01)
    until(group, lambda: engine.store.path(group.runs[0].id).exists())
    seen = group.runs[0].record.last_step
    until(group, lambda: group.runs[0].record.last_step > seen + 5)
    dead = engine.processes[0].process
    os.kill(dead.pid, signal.SIGKILL)
    until(group, lambda: group.notice)
    assert "was replaced" in group.notice
    assert group.playing
    assert engine.processes[0].process.pid != dead.pid
    assert not dead.is_alive()
    group.pace(0)
    until(group, done(group))
    record = group.runs[0].record
    (event,) = record.events
    assert group.runs[0].experiment == e.change(event["step"], lr=0.01)
    assert same(record, by_run(group.runs[0].experiment, 1200))
    paused.step()
    until(paused, lambda: paused.runs[0].record.last_step == 1)
    assert same(paused.runs[0].record, by_run(SMALL, 2))


def test_a_change_that_the_dead_worker_did_not_make_is_made_by_its_replacement(engine, lockstep):
    group = lockstep(FOREVER)
    until(group, lambda: group.runs[0].record.last_step > 20)
    group.pause()
    still(group)
    group.change(0, lr=0.01)
    os.kill(engine.processes[0].process.pid, signal.SIGKILL)
    until(group, lambda: group.notice)
    assert group.runs[0].now == FOREVER.replace(lr=0.01)
    group.step()
    until(group, lambda: group.runs[0].record.events)
    assert group.runs[0].now == FOREVER.replace(lr=0.01)
    assert not group.runs[0].asked
    assert group.runs[0].experiment.changes == f"{group.runs[0].record.last_step}.lr.0.01"


# Becoming another scene


def test_a_fork_is_the_same_run_up_to_its_step_and_catches_up(lockstep):
    group = lockstep(LONG)
    until(group, lambda: group.runs[0].record.last_step > 120)
    version = group.version
    group.fork(0, 110, {"lr": 0.5})
    assert group.version == version + 1
    assert [run.name for run in group.runs] == ["unchanged", "learning rate 0.5 from step 110"]
    assert group.runs[1].record.last_step == 109
    until(group, done(group))
    assert same(group.runs[0].record, by_run(LONG, 200))
    twin = group.runs[1]
    assert twin.experiment == LONG.replace(changes="110.lr.0.5")
    assert same(twin.record, by_run(twin.experiment, 200))
    assert twin.record.header["experiment"] == twin.experiment.link()


def test_who_cannot_be_told_what_is_new_is_told_why_and_the_others_go_on(engine, lockstep, monkeypatch):
    bad, good = lockstep(FOREVER, play=False), lockstep(SMALL, play=False)
    until(bad, lambda: bad.runs[0].record.last_step == 0)
    monkeypatch.setattr(bad.runs[0].record, "extend", None)
    bad.play()
    until(bad, lambda: bad.notice)
    assert bad.notice.startswith("TypeError: ")
    good.play()
    until(good, done(good))


def test_where_the_memory_for_records_is_full_the_forgotten_go_first_and_then_the_largest_stands(
    engine, lockstep, monkeypatch
):
    small, large, forgotten = (lockstep(FOREVER.replace(steps=10**5, record_every=n)) for n in (100, 1, 1))
    for group in (forgotten, large, small):
        until(group, lambda group=group: group.runs[0].record.last_step > 50)
    forgotten.pause()
    forgotten.watched -= local.FORGOTTEN
    monkeypatch.setattr(local, "MOST_RECORDED", 0)
    engine._make_room(time.monotonic())
    assert "nobody watched" in forgotten.notice
    assert forgotten.nbytes == 0
    assert large.playing
    engine._make_room(time.monotonic())
    assert not large.playing
    assert "memory for recordings is full" in large.notice
    assert small.playing


def test_a_fork_from_where_nobody_was_is_refused(lockstep):
    group = lockstep(SMALL, play=False)
    with pytest.raises(ValueError, match=r"step: only dropout, .* can change in a fork"):
        group.fork(0, 0, {"step": 1})
    with pytest.raises(ValueError, match=r"step=40: .*; choose a step from 0 to"):
        group.fork(0, 40, {"lr": 0.5})
    assert len(group.runs) == 1


def test_a_fork_is_not_taken_for_another_run(lockstep, monkeypatch):
    monkeypatch.setattr(Lockstep, "_keys", itertools.count())
    group = lockstep(*[LONG] * 3)
    until(group, lambda: group.runs[2].record.last_step > 10)
    group.fork(0, 5, {"lr": 0.5})
    assert len({run.id for run in group.runs}) == 4


def test_where_there_is_no_room_a_fork_takes_the_place_of_its_run(lockstep):
    group = lockstep(*[LONG] * MOST)
    until(group, lambda: group.runs[-1].record.last_step > 10)
    others = [run.id for k, run in enumerate(group.runs) if k != 1]
    group.fork(1, 10, {"lr": 0.5})
    assert [run.id for k, run in enumerate(group.runs) if k != 1] == others
    until(group, done(group))
    assert same(group.runs[1].record, by_run(LONG.replace(changes="10.lr.0.5"), 200))


def test_one_more_catches_up_with_the_others(lockstep):
    group = lockstep(LONG)
    until(group, lambda: group.runs[0].record.last_step > 50)
    group.add(LONG.replace(norm="rms"))
    assert [run.name for run in group.runs] == ["BatchNorm", "RMSNorm"]
    until(group, done(group))
    assert same(group.runs[0].record, by_run(LONG, 200))
    assert same(group.runs[1].record, by_run(LONG.replace(norm="rms"), 200))


def test_what_a_verdict_suggests_is_tried_beside_its_run(lockstep):
    e = Experiment(depth=24, width=16, batch=16, seeds=2, norm="none", residual="none", activation="tanh",
                   init="xavier", gain=0.5, steps=60)  # fmt: skip
    group = lockstep(e)
    until(group, done(group))
    change = verdict(group.runs[0].record).change
    assert change
    group.attempt(0)
    assert group.runs[1].experiment.at(1e9) == e.replace(**change)


def test_what_has_diverged_is_tried_from_the_last_finite_step_on(lockstep):
    e = Experiment(depth=2, width=8, batch=16, seeds=2, norm="none", lr=100, steps=30)
    group = lockstep(e)
    until(group, done(group))
    said = verdict(group.runs[0].record)
    group.attempt(0)
    assert group.runs[0].judged()[2] == said.rewind < 29
    assert group.runs[1].experiment == e.fork(said.rewind, **said.change)


def test_nothing_is_tried_where_nothing_is_wrong(lockstep):
    group = lockstep(SMALL, play=False)
    with pytest.raises(ValueError, match="there is nothing to try"):
        group.attempt(0)


def test_where_only_live_knobs_differ_the_runs_go_on(lockstep):
    group = lockstep(FOREVER, FOREVER.replace(norm="rms"))
    until(group, lambda: group.runs[1].record.last_step > 20)
    first, version = [run.id for run in group.runs], group.version
    wanted = [FOREVER.replace(lr=0.01), FOREVER.replace(norm="rms", dropout=0.5)]
    group.become(wanted)
    assert [run.now for run in group.runs] == wanted
    until(group, lambda: all(run.record.events for run in group.runs))
    group.become([run.now for run in group.runs])
    group.become([run.experiment for run in group.runs])
    assert ([run.id for run in group.runs], group.version) == (first, version)
    assert [run.now for run in group.runs] == wanted
    assert [len(run.record.events) for run in group.runs] == [1, 1]


def test_where_one_has_gone_the_others_go_on_in_any_order(lockstep):
    group = lockstep(FOREVER, FOREVER.replace(norm="rms"), FOREVER.replace(norm="none"))
    until(group, lambda: group.runs[2].record.last_step > 20)
    a, _, c = group.runs
    group.become([FOREVER.replace(norm="none"), FOREVER])
    assert group.runs == [c, a]
    before = c.record.last_step
    until(group, lambda: c.record.last_step > before + 20)
    assert np.array_equal(c.record["step"], np.arange(c.record.last_step + 1))
    group.change(0, lr=0.01)
    until(group, lambda: c.record.events)
    assert not a.record.events


def test_one_more_of_the_same_has_the_same_past(lockstep):
    group = lockstep(FOREVER)
    until(group, lambda: group.runs[0].record.last_step > 20)
    group.become([FOREVER, FOREVER, FOREVER.replace(norm="rms")])
    assert group.runs[1].record.last_step > 20
    until(group, lambda: group.runs[2].record.last_step > 20)
    steps = min(run.record.last_step for run in group.runs[:2])
    first, second = (run.record["loss_train"][:steps] for run in group.runs[:2])
    assert np.array_equal(first, second)


def test_anything_else_begins_at_the_first_step(lockstep):
    group = lockstep(FOREVER)
    until(group, lambda: group.runs[0].record.last_step > 20)
    group.become([FOREVER.replace(depth=3)])
    assert group.runs[0].record.last_step <= 20
    assert group.runs[0].experiment == FOREVER.replace(depth=3)


def test_a_closed_group_leaves_the_worker_idle_and_nothing_on_disk(engine, lockstep):
    group = lockstep(FOREVER)
    until(group, lambda: group.runs[0].record.last_step > 20)
    process = psutil.Process(engine.processes[0].process.pid)
    group.close()

    def idle():
        before = sum(process.cpu_times()[:2])
        time.sleep(0.3)
        return sum(process.cpu_times()[:2]) - before < 0.02

    until(group, idle, watch=False)
    assert group.token not in engine.groups
    assert not engine.store.path(group.runs[0].id).exists()


def table(shift=0.0):
    return read_csv(("x,kind\n" + "".join(f"{i + shift},{'ab'[i % 2]}\n" for i in range(40))).encode())


def test_a_table_goes_with_the_last_who_trains_on_it(engine, lockstep):
    first, second = lockstep(SMALL, play=False), lockstep(SMALL, play=False)
    name = first.bring(table())
    file = engine.store.folder / f"{name}.safetensors"
    for group in (first, second):
        group.set([SMALL.replace(data=name)])
        until(group, lambda group=group: group.runs[0].record.last_step > 3)
    first.set([SMALL], play=False)
    first.close()
    assert name in DATA
    assert file.exists()
    second.close()
    assert name not in DATA
    assert not file.exists()
    with pytest.raises(ValueError, match=f"data='{name}': choose one of"):
        SMALL.replace(data=name)
    again = lockstep(SMALL, play=False)
    again.set([SMALL.replace(data=again.bring(table()))])
    until(again, lambda: again.runs[0].record.last_step > 3)


def test_a_viewer_brings_so_many_tables_and_no_more(lockstep):
    group = lockstep(SMALL, play=False)
    for shift in range(MOST_TABLES):
        group.bring(table(shift))
    group.bring(table())
    with pytest.raises(ValueError, match="8 tables already, which is the limit"):
        group.bring(table(0.5))


def test_a_viewer_has_so_many_runs_and_no_more(lockstep):
    group = lockstep(SMALL, play=False)
    with pytest.raises(ValueError, match="here are 5 configurations; up to 4 can be compared"):
        group.set([SMALL] * 5)
    assert len(group.runs) == 1


def test_the_engine_is_started_once_and_finds_groups_by_token(engine, lockstep, monkeypatch):
    monkeypatch.setattr(local, "_engine", engine)
    group = lockstep(SMALL, play=False)
    assert local.start() is engine
    assert local.find(group.token) is group
    assert local.find("guess") is None
