"""What the server adds to Streamlit: a WebSocket that feeds the player, and the files it is made of."""

import asyncio
import gc
import gzip
import importlib
import json
import re
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import streamlit as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from streamlit.runtime.pages_manager import PagesManager

from lnres.engine import local
from lnres.figures import FIGURES, HISTOGRAMS, THEMES, Config, shade, spans
from lnres.record import CLOCK_OF, DENSE, pack

PANELS = "loss", "activations", "gradients", "boundary", "gradient_map"
"""What is shown unless the visitor chose otherwise: the first four of these that apply."""
ASSETS = Path(__file__).parents[2] / "assets"
TYPES = {".js": "text/javascript", ".css": "text/css"}
SERVED = sorted(path for path in ASSETS.iterdir() if path.suffix in TYPES)
MADE = {
    "clocks.js": f"export const CLOCK_OF = {json.dumps(CLOCK_OF)};\nexport const DENSE = {DENSE};\n".encode()
}
"""Scripts that tell the browser what Python knows already."""
FILES = {path.name: TYPES[path.suffix] for path in [*SERVED, *map(Path, MADE), Path("plotly.min.js")]}
PACE = 0.095  # seconds between two answers on one connection: the player paints ten times a second
ROOM, LAG = 6800, 20  # bytes of an answer's arrays, unless the player would fall behind by that many probes
REHEARSAL = 4.0  # seconds before what nobody has asked for yet is prepared, and between two boards of it
PATIENCE = 1.0  # seconds after which a pull is answered even when nothing is new
BREATH, BURST = 0.01, 10  # seconds between messages of one connection that are more than so many at once


# ------------------------------------------------------------------------------------------------ files


@cache
def asset(name: str) -> bytes:
    """The bytes of a file that the browser may ask for."""
    if name in MADE:
        return MADE[name]
    home = files("plotly") / "package_data" if name.startswith("plotly") else ASSETS
    return (home / name).read_bytes()


@cache
def version() -> str:
    """A short hash of all files: addresses under it can be cached for ever, and files import each other."""
    return sha256(b"".join(sha256(asset(name)).digest() for name in FILES)).hexdigest()[:12]


def address(name: str) -> str:
    """Where the browser finds a file."""
    return f"{base()}/lnres/assets/{version()}/{name}"


PACKED: dict[str, bytes] = {}
"""Files as they travel to a browser far away, once there was time to pack them."""


def _pack_files() -> None:
    PACKED.update({name: gzip.compress(asset(name), 6) for name in FILES})


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        return Response("no such file", 404)
    lasting = request.path_params["version"] == version()
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if lasting else "no-cache",
        "Vary": "Accept-Encoding",
    }
    if name in PACKED and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(PACKED[name], headers=headers | {"Content-Encoding": "gzip"}, media_type=FILES[name])
    return Response(asset(name), headers=headers, media_type=FILES[name])


# ------------------------------------------------------------------------------------------------ frames


def figures(configs: Sequence[Config]) -> dict[str, dict]:
    """Specs of all figures that apply to these runs, by name; numbers are references into their records."""
    specs = {name: FIGURES[name].make(configs) for name in FIGURES}
    return {name: spec for name, spec in specs.items() if spec.get("applies", True)}


def scene(runs, configs: Sequence[Config], specs, panels=(), at=None) -> dict:
    """What the player shows beside charts: configurations, knobs, which figures there are, themes.

    ``panels`` are the figures to show at first, the usual ones if there are none; ``at`` is the step to look
    at first.
    """
    from lnres.blocks import PLACEMENTS  # torch: the server answers before it is there
    from lnres.experiment import FIELDS, Experiment
    from lnres.scene import Scene

    compared = Scene([run.experiment for run in runs])
    now = [run.now for run in runs]
    return {
        "configs": [
            {
                "letter": c.letter,
                "label": c.label,
                "depth": c.depth,
                "steps": run.experiment.steps,
                "colour": c.colour,
                "dash": c.dash,
                "parent": compared.parent(c.index),
                "placement": run.experiment.placement,
                "places": {name: PLACEMENTS[name].label for name in run.experiment.places(1)},
                "now": {name: getattr(now[c.index], name) for name in Experiment.live()},
            }
            for c, run in zip(configs, runs, strict=True)
        ],
        "knobs": [
            {"name": name, "label": FIELDS[name].metadata["label"]}
            | {key: value for key, value in FIELDS[name].metadata.items() if key in ("low", "high", "about")}
            for name in Experiment.live()
        ],
        "figures": {
            name: {"label": FIGURES[name].label, "about": FIGURES[name].about, "group": spec["group"]}
            for name, spec in specs.items()
        },
        "known": list(FIGURES),
        "panels": [name for name in panels or PANELS if name in specs][:4],
        "themes": THEMES,
        "at": at,
    }


def answer(lockstep, pull: dict) -> tuple[bytes, bool]:
    """The rows, events and states that a pull does not have yet, as one safetensors blob; and if that is all.

    The first steps are probed so densely that their rows take several answers.
    """
    with lockstep.lock:  # frames arrive in another thread, and a row must be whole when it is read
        return _answer(lockstep, pull)


def _answer(lockstep, pull: dict) -> tuple[bytes, bool]:
    names = set(pull["names"])
    names |= {CLOCK_OF[name] for name in names}
    arrays, shapes, runs, whole = {}, {}, [], True
    for i, run in enumerate(lockstep.runs):
        record, known = run.record, pull["have"].get(run.id, {})
        have = {name: min(known.get(name, 0), record.rows(name)) for name in names if name in record}
        rows = {name: array for name, array in record.since(have, names).items() if len(array)}
        for name in rows.keys() & set(HISTOGRAMS):
            rows[name] = shade(rows[name])
        front = have.get("probe_step", 0)  # an array that was not asked for before starts further back
        level = {name: array for name, array in rows.items() if have[name] == have[CLOCK_OF[name]]}
        kept = _fitting(level, ROOM / len(lockstep.runs))
        whole &= len(rows.get("probe_step", ())) <= kept
        for name, array in rows.items():
            if CLOCK_OF[name] == "probe_step":
                array = array[: max(0, front + kept - have[name])]
            if name in HISTOGRAMS:
                shapes[f"{i}/{name}"] = array.shape
                array = spans(array)
            arrays[f"{i}/{name}"] = array
        have["events"] = min(known.get("events", 0), len(record.events))
        runs.append({
            "id": run.id, "name": run.name, "said": run.said, "replayed": run.replayed,
            "have": have, "events": record.events[have["events"] :],
        })  # fmt: skip
    state = {key: getattr(lockstep, key) for key in ("version", "playing", "speed", "notice")}
    if not _knows(pull, lockstep):
        configs = [Config.of(i, run.name, run.experiment) for i, run in enumerate(lockstep.runs)]
        specs = figures(configs)
        wanted = {name for name, version in pull["figures"].items() if version != lockstep.version}
        if pull["version"] != lockstep.version:
            state["scene"] = scene(lockstep.runs, configs, specs, lockstep.panels, lockstep.at)
            wanted |= {*state["scene"]["panels"]}
        state["specs"] = {
            name: specs[name] | {"data": [*specs[name]["data"], *lockstep.drawn.get(name, [])]}
            for name in wanted & specs.keys()
        }
    return pack(arrays, state | {"runs": runs, "spans": shapes}), whole


def _knows(pull: dict, lockstep) -> bool:
    """Whether the player has what does not move: the scene of these runs, and all figures that it shows."""
    return {pull["version"], *pull["figures"].values()} == {lockstep.version}


def _fitting(rows: dict, room: float) -> int:
    """How many probes of one run fit the room, at least one; more where the player is far behind."""
    clocks = {name: CLOCK_OF[name] for name in rows}
    probes = [array for name, array in rows.items() if clocks[name] == "probe_step"]
    if not probes or len(probes[0]) == 1:
        return 1
    room -= sum(array.nbytes for name, array in rows.items() if clocks[name] != "probe_step")
    size = sum(len(spans(array)) if array.dtype == np.uint8 else array.nbytes for array in probes)
    pending = len(probes[0])
    return max(1, pending - LAG, int(pending * room / size))


def _json(message: dict) -> object:
    """What a WebSocket message says; ``ValueError`` where it is not JSON."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or 1005)
    try:
        return json.loads(message.get("text") or "")
    except (ValueError, RecursionError):
        raise ValueError("a message must be JSON text") from None


def _read(message: dict) -> dict:
    """The JSON object in a message to a player; ``ValueError`` says what is there instead."""
    value = _json(message)
    if not isinstance(value, dict) or not value.keys() & {"have", "do"}:
        raise ValueError("a message is a pull with 'have' or a command with 'do'")
    return value


def _pull(message: dict) -> dict:
    """A pull whose every part has the right type; ``ValueError`` says which has not."""
    names, have, seen = message.get("names", []), message["have"], message.get("version")
    if not isinstance(names, list) or not all(isinstance(name, str) and name in CLOCK_OF for name in names):
        raise ValueError(f"names must be a list of record arrays: {', '.join(CLOCK_OF)}")
    rows = have.values() if isinstance(have, dict) else [None]
    counts = [n for row in rows for n in (row.values() if isinstance(row, dict) else [None])]
    if not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("have must map run ids to counts of rows, such as {'ab12': {'step': 40}}")
    shown = message.get("figures", {})
    if not isinstance(shown, dict) or not all(type(n) in (int, type(None)) for n in shown.values()):
        raise ValueError("figures must map what is shown to the version it was made for, such as {'loss': 3}")
    figures = {name: version for name, version in shown.items() if name in FIGURES}  # a link may say others
    return {"names": names, "have": have, "version": seen if type(seen) is int else None, "figures": figures}


def _speed(lockstep, value) -> None:
    if type(value) not in (int, float) or not 0 <= value <= 1e6:
        raise ValueError("speed must be a number of steps per second, or 0 for as fast as possible")
    lockstep.pace(float(value))


def _run(lockstep, value, *more: str) -> tuple:
    """(run, ...) of a message about a run."""
    keys = ("run", *more)
    if not isinstance(value, dict) or value.keys() != set(keys):
        raise ValueError(f"value must have {', '.join(keys)}, such as run 0, step 120, knob 'lr', to 0.01")
    if type(value["run"]) is not int or type(value.get("step", 0)) is not int:
        raise ValueError("run and step must be whole numbers")
    if not 0 <= value["run"] < len(lockstep.runs):
        raise ValueError(f"run={value['run']}: choose one from 0 to {len(lockstep.runs) - 1}")
    return tuple(value[key] for key in keys)


def _spot(lockstep, value, *more: str) -> tuple:
    """(run, step, ...) of a message about a step of a run."""
    return _run(lockstep, value, "step", *more)


def _fork(lockstep, value) -> None:
    run, step, knob, to = _spot(lockstep, value, "knob", "to")
    lockstep.fork(run, step, {str(knob): to})


def _change(lockstep, value) -> None:
    from lnres.experiment import Experiment  # torch: the server answers before it is there

    (run, values), live = _run(lockstep, value, "values"), Experiment.live()
    if not isinstance(values, dict) or not values or set(values) - set(live):
        raise ValueError(f"values must map some of {', '.join(live)} to values")
    lockstep.change(run, **values)


def _attempt(lockstep, value) -> None:
    lockstep.attempt(*_spot(lockstep, value))


_SHOWN = "|".join(FIGURES)
VIEW = {"panels": rf"({_SHOWN})(-({_SHOWN}))*", "big": _SHOWN, "at": r"\d{1,9}"}
"""What an address says of what is shown: that is the player's own."""


def _view(lockstep, value) -> None:
    words = value.items() if isinstance(value, dict) else [("", "")]
    if not all(name in VIEW and isinstance(w, str) and re.fullmatch(VIEW[name], w) for name, w in words):
        raise ValueError("value must have panels, big or at as an address does, such as {'at': '120'}")
    lockstep.view = value


def _judge(lockstep, value) -> dict:
    """What is to be said of a step of the past."""
    if type(value) is not int:
        raise ValueError("value must be a step, a whole number")
    return {"step": value, "said": {run.id: run.judged(value) for run in lockstep.runs}}


COMMANDS = {
    "play": lambda lockstep, _: lockstep.play(),
    "pause": lambda lockstep, _: lockstep.pause(),
    "step": lambda lockstep, _: lockstep.step(),
    "reset": lambda lockstep, _: lockstep.reset(),
    "speed": _speed,
    "fork": _fork,
    "change": _change,
    "attempt": _attempt,
    "judge": _judge,
    "view": _view,
    "wake": lambda lockstep, _: lockstep.wake(),
}


def _command(lockstep, message: dict) -> dict | None:
    """Carry out what a button asks for, and what is to be answered; ``ValueError`` if it cannot be done."""
    if not isinstance(message["do"], str) or message["do"] not in COMMANDS:
        raise ValueError(f"do must be one of {', '.join(COMMANDS)}")
    return COMMANDS[message["do"]](lockstep, message.get("value"))


def _ours(socket: WebSocket) -> bool:
    """Whether a page of this host asks, or no page at all."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")


async def _until_left(*talks: Coroutine) -> None:
    """What is said and heard on a connection, side by side, until the browser leaves."""
    tasks = [asyncio.create_task(talk) for talk in talks]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with suppress(WebSocketDisconnect):  # the browser left; anything else is a fault of ours
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        # The other may just have found out by itself that the browser left; unheard, asyncio would log it.
        await asyncio.gather(*tasks, return_exceptions=True)


def _breaths() -> Callable[[], Coroutine]:
    """What follows each message of a connection: hands never wait, a flood leaves all others their turn."""
    due = 0.0

    async def breath() -> None:
        nonlocal due
        now = time.monotonic()
        due = max(due, now - BURST * BREATH) + BREATH
        if due > now:
            await asyncio.sleep(due - now)

    return breath


async def live(socket: WebSocket) -> None:
    """Answer pulls and commands of one player until it leaves; nothing is kept between two pulls."""
    lockstep = local.find(socket.path_params["token"])
    await socket.accept()
    if not _ours(socket):
        return await socket.close(4403, "this page belongs to another host")
    if lockstep is None:
        return await socket.close(4404, "this session has ended")
    pulls: asyncio.Queue[dict] = asyncio.Queue(1)

    async def feed() -> None:
        seen, sent, names = 0, 0.0, []
        while True:
            pull = await pulls.get()
            asked_before, names = names, pull["names"]
            if _knows(pull, lockstep) and names == asked_before:
                seen = await lockstep.news(seen, PATIENCE)
            # What answers a hand need not wait for the pace: new runs, their first frame, another figure.
            while _knows(pull, lockstep) and (rest := sent + PACE - time.monotonic()) > 0:
                seen = await lockstep.news(lockstep.news_count, rest)
            seen, sent = lockstep.news_count, time.monotonic() if _knows(pull, lockstep) else 0.0
            blob, whole = answer(lockstep, pull)
            if not whole:
                seen = -1
            await socket.send_bytes(blob)

    async def listen() -> None:
        breath = _breaths()
        while True:
            try:
                message = _read(await socket.receive())
                if "do" in message:
                    if told := _command(lockstep, message):
                        await socket.send_json(told)
                else:
                    pulls.put_nowait(_pull(message))
            except asyncio.QueueFull:
                await socket.send_json({"error": "one pull at a time"})
            except ValueError as error:
                await socket.send_json({"error": str(error)})
            await breath()

    await _until_left(feed(), listen())


# ------------------------------------------------------------------------------------------------ boards


def _question(message: dict) -> tuple[int, dict]:
    """The number of a question and the values it asks about; ``ValueError`` says what is there instead."""
    value = _json(message)
    if (
        not isinstance(value, dict)
        or value.keys() != {"number", "values"}
        or type(value["number"]) is not int
    ):
        raise ValueError("a message is a question with a whole 'number' and 'values'")
    return value["number"], value["values"]


async def board(socket: WebSocket) -> None:
    """Answer the values of one board's controls with its panels, question by question; nothing is kept."""
    await socket.accept()
    if not _ours(socket):
        return await socket.close(4403, "this page belongs to another host")
    rows = await asyncio.to_thread(importlib.import_module, "lnres.boards")
    if (name := socket.path_params["name"]) not in rows.BOARDS:
        return await socket.close(4404, "there is no such board")
    questions: asyncio.Queue[tuple[int, dict]] = asyncio.Queue(1)
    local.LEFT.set(left := Future())

    async def answers() -> None:
        while True:
            number, values = await questions.get()
            try:
                answer = await asyncio.to_thread(rows.BOARDS[name].make.answer, values)
                await socket.send_text(f'{{"number": {number}, "answer": {answer}}}')
            except ValueError as error:
                await socket.send_json({"error": str(error)})

    async def listen() -> None:
        breath = _breaths()
        while True:
            try:
                await questions.put(_question(await socket.receive()))
            except ValueError as error:
                await socket.send_json({"error": str(error)})
            await breath()

    try:
        await _until_left(answers(), listen())
    finally:
        left.set_result(None)


# ------------------------------------------------------------------------------------------------ the app


def base() -> str:
    """The path under which Streamlit serves the app, without a slash at its end."""
    path = st.get_option("server.baseUrlPath").strip("/")
    return f"/{path}" if path else ""


def routes() -> list[BaseRoute]:
    """The routes beside Streamlit's own."""
    return [
        WebSocketRoute(f"{base()}/lnres/live/{{token}}", live),
        WebSocketRoute(f"{base()}/lnres/board/{{name}}", board),
        Route(f"{base()}/lnres/assets/{{version}}/{{name}}", _file),
    ]


def _rehearse(leaving: threading.Event) -> None:
    """Measure what boards show at first, now and then one, so that no visitor waits for it."""
    rows = importlib.import_module("lnres.boards").BOARDS
    for made in [row for row in (rows[name].make for name in rows) if row.measures]:
        with suppress(ValueError):  # the workers are busy: whoever opens it will wait
            while made.function(made.values).more:
                pass
        if leaving.wait(REHEARSAL):
            return


def _warm(leaving: threading.Event) -> None:
    """Import, prepare and measure what the first visitors will need, while the server answers already."""
    gc.disable()  # a module makes no garbage: looking for some is a fifth of what importing torch takes
    importlib.import_module("lnres.experiment")
    importlib.import_module("torch").set_num_threads(1)  # boards are small: a second thread would only wait
    local.start()  # behind what the page waits for: a worker takes a second of a core to be ready
    importlib.import_module("scipy.special")
    gc.freeze()  # Streamlit collects after every rerun: 117 ms with everything loaded, 0 once frozen
    gc.enable()
    if leaving.wait(REHEARSAL):  # the first visitor's page has the cores to itself
        return
    _pack_files()
    for page in ("flow", "lessons", "claims", "papers"):
        importlib.import_module(f"lnres.ui.{page}")
    gc.freeze()
    _rehearse(leaving)


@asynccontextmanager
async def lifespan(app):
    """Warm workers while the server lives."""
    # Or Streamlit would take the first visitor, if a link leads past the first page, around app.py.
    PagesManager.uses_pages_directory = False
    leaving = threading.Event()
    warmed = asyncio.get_running_loop().run_in_executor(None, _warm, leaving)
    yield
    leaving.set()
    local.stop()  # whoever waits for a measurement is told, or the server would wait with them
    await warmed
    local.stop()  # what was only just being started
