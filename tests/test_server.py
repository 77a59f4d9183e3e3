"""What the app's WebSocket and files answer to good, bad and returning clients, over real connections."""

import asyncio
import gzip
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from browser_app import serving
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.runtime.pages_manager import PagesManager  # noqa: TID251  the screen is what is tested here
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from lnres.engine import local
from lnres.engine.lockstep import Lockstep
from lnres.experiment import Experiment
from lnres.figures import FIGURES, Config
from lnres.models import MODELS
from lnres.record import CLOCK_OF, pack, unpack
from lnres.train import Run
from lnres.ui import server

EXPERIMENTS = [Experiment(norm=norm, width=16, steps=500, record_every=4) for norm in ("layer", "rms")]
PULL = {"have": {}, "version": None, "names": ["loss_train", "loss_test", "grad_norm", "act_hist"]}


def names_in(node) -> set[str]:
    """The arrays that a spec refers to, as the player finds them."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = {node["ref"]} if isinstance(node, dict) and "ref" in node else set()
    return own.union(*map(names_in, children))


@pytest.fixture(scope="module")
def address():
    with serving() as address:
        yield address


@pytest.fixture
def orders(monkeypatch):
    """What an engine without workers was told."""
    told = []
    process = SimpleNamespace(send=lambda *command: told.append(command))
    engine = SimpleNamespace(lock=threading.RLock(), groups={}, place=lambda: process)
    monkeypatch.setattr(local, "_engine", engine)
    return told


@pytest.fixture
def lockstep(orders):
    group = Lockstep(local._engine)
    group.set(EXPERIMENTS)
    group.trained = [Run(experiment) for experiment in EXPERIMENTS]
    return group


def train(lockstep, steps: int) -> None:
    for seen, run in zip(lockstep.runs, lockstep.trained, strict=True):
        for _ in range(steps):
            lockstep.on_frame(seen.id, pack(*next(run)))


@pytest.fixture
def talk(address, lockstep):
    """A connection as the page opens it."""
    with connect(f"ws://{address}/lnres/live/{lockstep.token}", origin=f"http://{address}") as socket:
        yield socket


def asked(socket, **pull):
    """(arrays, header) that a pull is answered with."""
    socket.send(json.dumps(PULL | pull))
    return spread(*unpack(socket.recv()))


def spread(arrays, header):
    """Histograms whole again, as the player reads them."""
    for name, shape in header["spans"].items():
        whole, told = np.zeros((np.prod(shape[:-1]), shape[-1]), np.uint8), list(arrays[name])
        for row in whole:
            first, count = told[:2]
            row[first : first + count], told = told[2 : 2 + count], told[2 + count :]
        assert not told
        arrays[name] = whole.reshape(shape)
    return arrays, header


def caught_up(socket, lockstep, have=None, version=None, **pull):
    """Everything that is there, in as many answers as it takes, and the last of their headers."""
    pieces, have, sizes = (
        {},
        {run.id: dict(rows) for run in lockstep.runs if (rows := (have or {}).get(run.id))},
        [],
    )
    while True:
        socket.send(json.dumps(PULL | {"have": have, "version": version} | pull))
        blob = socket.recv()
        arrays, header = spread(*unpack(blob))
        sizes.append(len(blob))
        for name, array in arrays.items():
            pieces.setdefault(name, []).append(array)
        for i, run in enumerate(header["runs"]):
            mine = have.setdefault(run["id"], {})
            mine["events"] = len(lockstep.runs[i].record.events)
            for name in lockstep.runs[i].record:
                mine[name] = mine.get(name, 0) + len(arrays.get(f"{i}/{name}", ()))
        version = header["version"]
        if all(mine["probe_step"] == run.record.rows("probe_step")
               for run in lockstep.runs for mine in [have[run.id]]):  # fmt: skip
            return {name: np.concatenate(parts) for name, parts in pieces.items()}, header, have, sizes


def held(header) -> dict:
    """The row counts that each run's deltas start at."""
    return {run["id"]: run["have"] for run in header["runs"]}


# --------------------------------------------------------------------------------------------- who may enter


@pytest.mark.parametrize(
    "origin", ["http://example.org", "http://127.0.0.1:1", "null", "http://127.0.0.1.example.org"]
)
def test_another_page_is_refused(address, lockstep, origin):
    with connect(f"ws://{address}/lnres/live/{lockstep.token}", origin=origin) as socket:
        with pytest.raises(ConnectionClosedError):
            socket.recv()
        assert socket.close_code == 4403


def test_an_unknown_token_is_told_that_its_session_has_ended(address, lockstep):
    with connect(f"ws://{address}/lnres/live/{lockstep.token[:-1]}", origin=f"http://{address}") as socket:
        with pytest.raises(ConnectionClosedError):
            socket.recv()
        assert socket.close_code == 4404


def test_tokens_cannot_be_guessed(orders):
    tokens = {Lockstep(local._engine).token for _ in range(100)}
    assert len(tokens) == 100
    assert min(map(len, tokens)) >= 24  # of 64 letters: 144 bits


# --------------------------------------------------------------------------------------------- bad messages

DAMAGED = {
    "": "JSON",
    "{": "JSON",
    "[" * 100_000: "JSON",
    "NaN": "pull",
    "[]": "pull",
    "{}": "pull",
    '{"have": 1}': "have",
    '{"have": {"a": 1}}': "have",
    '{"have": {"a": {"step": -1}}}': "have",
    '{"have": {"a": {"step": true}}}': "have",
    '{"have": {"a": {"step": 1e999}}}': "have",
    '{"have": {}, "names": "loss_train"}': "names",
    '{"have": {}, "names": ["../../etc/passwd"]}': "names",
    '{"have": {}, "names": [[]]}': "names",
    '{"have": {}, "figures": ["loss"]}': "figures",
    '{"have": {}, "figures": {"loss": "new"}}': "figures",
    '{"do": "rm"}': "do",
    '{"do": ["play"]}': "do",
    '{"do": {"play": 1}}': "do",
    '{"do": "__class__"}': "do",
    '{"do": "close"}': "do",
    '{"do": "speed"}': "speed",
    '{"do": "speed", "value": "fast"}': "speed",
    '{"do": "speed", "value": NaN}': "speed",
    '{"do": "speed", "value": -1}': "speed",
    '{"do": "fork"}': "value must have",
    '{"do": "fork", "value": [0, 1]}': "value must have",
    '{"do": "fork", "value": {"run": 0, "step": 0, "knob": "lr"}}': "value must have",
    '{"do": "fork", "value": {"run": 9, "step": 0, "knob": "lr", "to": 1}}': "run=9",
    '{"do": "fork", "value": {"run": -1, "step": 0, "knob": "lr", "to": 1}}': "run=-1",
    '{"do": "fork", "value": {"run": 0, "step": 0.5, "knob": "lr", "to": 1}}': "whole numbers",
    '{"do": "fork", "value": {"run": 0, "step": 99, "knob": "lr", "to": 1}}': "step=99",
    '{"do": "fork", "value": {"run": 0, "step": 0, "knob": "depth", "to": 1}}': "depth: only",
    '{"do": "fork", "value": {"run": 0, "step": 0, "knob": "step", "to": 1}}': "step: only",
    '{"do": "fork", "value": {"run": 0, "step": 0, "knob": "lr", "to": "fast"}}': "lr='fast'",
    '{"do": "fork", "value": {"run": 0, "step": 0, "knob": "lr", "to": {}}}': "lr={}",
    '{"do": "change", "value": {"run": 0}}': "value must have run, values",
    '{"do": "change", "value": {"run": 7, "values": {"cut": 1}}}': "run=7",
    '{"do": "change", "value": {"run": 0, "values": []}}': "values must map",
    '{"do": "change", "value": {"run": 0, "values": {"depth": 3}}}': "values must map",
    '{"do": "change", "value": {"run": 0, "values": {"cut": "all"}}}': "cut='all'",
    '{"do": "attempt", "value": {"run": 0}}': "value must have run, step",
    '{"do": "attempt", "value": {"run": 0, "step": 0}}': "there is nothing to try",
    '{"do": "judge", "value": "now"}': "a step",
    '{"do": "view", "value": ["loss"]}': "panels, big or at",
    '{"do": "view", "value": {"at": 1}}': "panels, big or at",
    '{"do": "view", "value": {"panels": "loss-nrom"}}': "panels, big or at",
    '{"do": "view", "value": {"norm": "none"}}': "panels, big or at",
    b"\x00\xff": "JSON",
}


@pytest.mark.parametrize("message", DAMAGED, ids=lambda m: repr(m[:40]))
def test_a_damaged_message_gets_one_sentence_and_the_connection_lives(talk, message):
    talk.send(message)
    error = json.loads(talk.recv())["error"]
    assert DAMAGED[message] in error
    assert "\n" not in error
    assert asked(talk)[1]["version"] == 1


LETTERS = st.text('ab9_{}"\\\n\0é', max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_subnormal=False) | st.integers() | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
)
MESSAGES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("have", "names", "figures", "version", "do", "value", "more"), JSON)
)


@given(MESSAGES)
@settings(deadline=None)
def test_whatever_a_message_says_nothing_but_value_errors_are_raised(message):
    told = {"type": "websocket.receive", "text": json.dumps(message)}
    with suppress(ValueError):
        message = server._read(told)
        if "do" in message:
            server._command(SimpleNamespace(pace=float), message)
        else:
            pull = server._pull(message)
            assert set(pull["names"]) <= set(CLOCK_OF)
            assert set(pull["figures"]) <= set(FIGURES)


def test_a_flood_on_one_connection_leaves_the_others_their_turn(address, lockstep):
    train(lockstep, 2)
    url, done = f"ws://{address}/lnres/live/{lockstep.token}", threading.Event()

    def pour():
        while not done.is_set():
            flood.send("?")

    with connect(url) as flood, ThreadPoolExecutor() as pool:
        pool.submit(lambda: [None for _ in flood])
        poured = pool.submit(pour)
        with connect(url) as talk:
            assert asked(talk)[1]["runs"][0]["id"] == lockstep.runs[0].id
        done.set()
        poured.result()
        flood.close()


def test_two_pulls_at_once_get_a_sentence(talk, lockstep):
    asked(talk)
    waiting = json.dumps(PULL | {"version": lockstep.version})
    for _ in range(4):
        talk.send(waiting)
    assert any("one pull at a time" in str(talk.recv()) for _ in range(4))


# --------------------------------------------------------------------------------------------- pulls


def test_the_first_answer_carries_the_scene_and_the_next_does_not(talk, lockstep):
    _, first = asked(talk)
    assert [config["letter"] for config in first["scene"]["configs"]] == ["A", "B"]
    assert first["scene"]["known"] == list(FIGURES)
    assert set(first["scene"]["panels"]) < set(first["scene"]["figures"]) < set(FIGURES)
    assert set(first["specs"]) == set(first["scene"]["panels"])
    assert not {"scene", "specs"} & asked(talk, version=first["version"])[1].keys()


def test_only_figures_that_are_shown_are_sent_and_each_once(talk, lockstep):
    _, first = asked(talk, figures={"cosine": None, "time_gradients": None, "no such figure": None})
    assert set(first["specs"]) == {"cosine", *first["scene"]["panels"]}  # no network here has time steps
    known = dict.fromkeys(first["specs"], first["version"])
    assert "specs" not in asked(talk, version=first["version"], figures=known)[1]
    _, other = asked(talk, version=first["version"], figures={"loss": known["loss"], "river": None})
    assert set(other["specs"]) == {"river"}
    lockstep.reset()
    _, again = asked(talk, version=first["version"], figures=known)
    assert set(again["specs"]) == set(known)


@pytest.mark.parametrize(
    ("figure", "settings"),
    [
        ("time_gradients", {"model": "lstm"}),
        ("boundary", {"data": "spirals"}),
        ("effective_lr", {"layers": 1, "placement": "inner"}),
    ],
)
def test_a_figure_can_be_chosen_where_it_applies(talk, lockstep, figure, settings):
    _, first = asked(talk)
    assert figure not in first["scene"]["figures"]
    lockstep.set([Experiment(depth=1, width=4, **settings), Experiment(depth=1, width=4)])
    _, second = asked(talk)
    assert figure in second["scene"]["figures"]
    assert len(second["scene"]["panels"]) == 4


@pytest.mark.parametrize("model", MODELS)
def test_units_are_counted_where_they_are_shown(talk, lockstep, model):
    lockstep.set([e := Experiment(depth=1, width=4, model=model)])
    assert ("dead" in asked(talk)[1]["scene"]["figures"]) == ("dead" in next(Run(e))[0])


def test_an_array_asked_for_later_comes_whole(talk, lockstep):
    train(lockstep, 30)
    _, _, have, _ = caught_up(talk, lockstep)
    train(lockstep, 5)
    names = [*PULL["names"], "cosine"]
    arrays, _, _, _ = caught_up(talk, lockstep, have, lockstep.version, names=names)
    for i, run in enumerate(lockstep.runs):
        np.testing.assert_array_equal(arrays[f"{i}/cosine"], run.record["cosine"])
        new = run.record.rows("probe_step") - have[run.id]["grad_norm"]
        assert len(arrays[f"{i}/grad_norm"]) == len(arrays[f"{i}/act_hist"]) == new


def test_new_settings_bring_a_new_scene(talk, lockstep):
    _, first = asked(talk)
    lockstep.set([Experiment(depth=3)])
    _, second = asked(talk, version=first["version"])
    assert second["version"] > first["version"]
    assert [config["depth"] for config in second["scene"]["configs"]] == [3]


def test_only_what_was_asked_for_is_sent(talk, lockstep):
    train(lockstep, 3)
    arrays, _ = asked(talk, names=["grad_norm"])
    assert arrays.keys() == {f"{i}/{name}" for i in (0, 1) for name in ("grad_norm", "probe_step")}


def test_the_answers_of_dropped_connections_add_up_to_the_record(address, lockstep):
    pieces, have, version = {}, {}, None
    for steps in (3, 0, 12, 1, 6):
        train(lockstep, steps)
        with connect(f"ws://{address}/lnres/live/{lockstep.token}", origin=f"http://{address}") as socket:
            _, header = asked(socket, have=have, version=None)  # an answer that is lost changes nothing
            for run in lockstep.runs:
                start = held(header)[run.id]
                assert start == {name: (have or {}).get(run.id, {}).get(name, 0) for name in start}
            arrays, header, have, _ = caught_up(socket, lockstep, have, version)
        version = header["version"]
        for name, array in arrays.items():
            pieces.setdefault(name, []).append(array)
    for i, run in enumerate(lockstep.runs):
        names = "loss_train", "loss_test", "grad_norm"
        for name in (*names, *map(CLOCK_OF.get, names)):
            np.testing.assert_array_equal(np.concatenate(pieces[f"{i}/{name}"]), run.record[name])
        shades = np.concatenate(pieces[f"{i}/act_hist"])
        np.testing.assert_array_equal(shades, server.shade(run.record["act_hist"]))


def test_twenty_dense_steps_of_two_runs_of_32_blocks_come_in_8_kilobytes_each(talk, lockstep):
    figures = [FIGURES[name].make([Config(i, "", 32, 4) for i in (0, 1)]) for name in server.PANELS]
    train(lockstep, 20)
    arrays, _, _, sizes = caught_up(talk, lockstep, version=lockstep.version, names=sorted(names_in(figures)))
    assert arrays["1/grad_norm"].shape == (20, 33, 4)
    assert arrays["1/act_hist"].shape == (20, 33, 66)
    assert max(sizes) <= 8 * 1024
    assert len(sizes) <= 12


def test_a_player_that_is_far_behind_catches_up_in_one_answer(talk, lockstep):
    train(lockstep, 1)
    more = server.LAG + 50
    for run in lockstep.runs:
        rows = {name: np.repeat(run.record[name], more, axis=0) for name in run.record}
        clocks = {CLOCK_OF[name] for name in rows}
        run.record.extend(rows | {clock: np.arange(1, more + 1, dtype=np.int32) for clock in clocks})
    arrays, _ = asked(talk, version=lockstep.version)
    assert len(arrays["0/probe_step"]) == more + 1 - server.LAG


def test_a_client_that_claims_more_than_there_is_gets_nothing_and_no_harm(talk, lockstep):
    train(lockstep, 2)
    have = {run.id: dict.fromkeys(CLOCK_OF, 10**9) | {"events": 10**9} for run in lockstep.runs}
    arrays, header = asked(talk, have=have)
    assert not arrays
    assert all(start["step"] == 2 for start in held(header).values())


def test_an_event_is_told_once(talk, lockstep):
    event = {"step": 5, "kind": "change", "text": "learning rate 0.1"}
    lockstep.runs[1].record.events.append(event)
    _, first = asked(talk)
    assert [run["events"] for run in first["runs"]] == [[], [event]]
    have = {run["id"]: run["have"] | {"events": len(run["events"])} for run in first["runs"]}
    assert [run["events"] for run in asked(talk, have=have)[1]["runs"]] == [[], []]


# --------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("command", ["play", "pause", "step", "reset"])
def test_buttons_reach_the_worker(talk, lockstep, orders, command):
    orders.clear()
    talk.send(json.dumps({"do": command}))
    asked(talk)
    told = [order[0] for order in orders]
    assert told == (["close", "open", "pace", "step"] if command == "reset" else [command])


def test_a_pull_that_waits_is_answered_when_the_player_wants_more(talk, lockstep):
    asked(talk)
    before = lockstep.news_count
    talk.send('{"do": "wake"}')
    asked(talk, version=lockstep.version)
    assert lockstep.news_count == before + 1


def test_the_player_is_told_how_far_a_run_is_that_makes_its_past_again(talk, lockstep):
    _, second = lockstep.runs
    for again in ({second.id: 40}, {}):
        lockstep.on_replayed(again)
        assert [run["replayed"] for run in asked(talk)[1]["runs"]] == [None, again.get(second.id)]


def test_a_fork_is_asked_for_at_a_step(talk, lockstep, orders):
    talk.send('{"do": "fork", "value": {"run": 1, "step": 0, "knob": "lr", "to": 0.01}}')
    _, told = asked(talk)
    assert (told["version"], len(told["runs"])) == (2, 3)
    assert orders[-1] == ("fork", lockstep.key, 1, lockstep.runs[2].id, 0, {"lr": 0.01})


def test_what_is_shown_is_remembered_for_the_link(talk, lockstep):
    talk.send(
        json.dumps({"do": "view", "value": (view := {"panels": "loss-dead", "big": "dead", "at": "7"})})
    )
    asked(talk)
    assert lockstep.view == view


def test_the_past_is_judged_when_asked(talk, lockstep):
    talk.send('{"do": "judge", "value": 0}')
    told = json.loads(talk.recv())
    assert told["step"] == 0
    assert told["said"] == {run.id: list(run.judged(0)) for run in lockstep.runs}


def test_the_speed_is_told_to_the_worker_and_the_page(talk, lockstep, orders):
    talk.send('{"do": "speed", "value": 5}')
    assert asked(talk)[1]["speed"] == 5
    assert orders[-1] == ("pace", lockstep.key, 5.0)


# --------------------------------------------------------------------------------------------- the app


def test_the_first_visitor_may_come_by_any_link(monkeypatch):
    """Before any navigation was drawn, Streamlit would run a file of pages/ without app.py."""
    monkeypatch.setattr(PagesManager, "uses_pages_directory", None)
    monkeypatch.setattr(server, "_warm", lambda leaving: None)

    async def met():
        async with server.lifespan(None):
            return PagesManager.uses_pages_directory

    assert asyncio.run(met()) is False


# --------------------------------------------------------------------------------------------- files


def fetched(address, path, **headers):
    request = urllib.request.Request(f"http://{address}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return reply.read(), reply.headers


@pytest.fixture(scope="module")
def packed_files(address):
    told = fetched(address, "/lnres/assets/0/player.js", **{"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in told[1]  # the first visitor need not wait until they are packed
    server._pack_files()


@pytest.mark.parametrize("name", server.FILES)
def test_files_are_served_whole_plain_and_packed(address, name, packed_files):
    plain, headers = fetched(address, f"/lnres/assets/0/{name}")
    packed, packed_headers = fetched(address, f"/lnres/assets/0/{name}", **{"Accept-Encoding": "gzip"})
    assert plain == gzip.decompress(packed) == server.asset(name)
    assert headers["Content-Type"].startswith(server.FILES[name])
    assert packed_headers["Content-Encoding"] == "gzip"
    assert packed_headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(("version", "lasting"), [("0", False), (server.version(), True)])
def test_only_the_right_version_is_kept_for_ever(address, version, lasting):
    _, headers = fetched(address, f"/lnres/assets/{version}/player.css")
    assert ("immutable" in headers["Cache-Control"]) == lasting


@pytest.mark.parametrize("name", ["nothing.js", "icon.svg", "..%2Fapp.py", "%2e%2e%2fapp.py", "../app.py"])
def test_no_other_file_is_given_away(address, name):
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetched(address, f"/lnres/assets/0/{name}")
    assert refused.value.code == 404
    refused.value.close()
