"""A board answers any values its controls can have, and refuses others with a sentence."""

import asyncio
import json
import threading

import numpy as np
import pytest
from browser_app import serving
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from lnres.boards import BOARDS, Answer, Board, Cells, Index, Panel, Pick, Point, Slider, Toggle
from lnres.ui.server import board

FIELDS = (
    Slider("length", "Length", 3.0, 0.5, 9.0),
    Slider("waves", "Waves", 2, 1, 8, 1),
    Toggle("filled", "Filled", False),
    Pick("kind", "Kind", "sine", {"sine": "a sine", "cosine": "a cosine"}),
    Point("dot", "The dot", (1.0, 0.0), (0.0, -1.0), (9.0, 1.0)),
    Index("cell", "Cell", (0, 0), (2, 3)),
    Cells("edits", "Numbers", (), (2, 3)),
)
GOOD = {
    "length": [0.5, 9, 2.5],
    "waves": [1, 8],
    "filled": [True, False],
    "kind": ["sine", "cosine"],
    "dot": [(0.0, 1.0), (4.5, -1.0)],
    "cell": [(1, 2)],
    "edits": [(), ((0, 2, -3.5), (1, 0, 0.0))],
}
BAD = {
    "length": [0, 9.1, "3", True, None, float("nan"), float("inf"), [3]],
    "waves": [0, 9, "2"],
    "filled": [1, "true", None],
    "kind": ["tangent", 0, None, ["sine"]],
    "dot": [(10, 0), (0,), "00", None, (0, "1")],
    "cell": [(2, 0), (0, -1), (0,), (0.0, 1), (True, 0), None],
    "edits": [
        5,
        [(0, 0)],
        [(2, 0, 1)],
        [(0, 0, 101)],
        [(0, 0, 1), (0, 0, 2)],
        [(0, 0, "1")],
        [(0, 0, 1)] * 7,
    ],
}


def waves(values):
    x = np.linspace(0, values["length"], 5)
    x[0] = np.nan
    spec = {"data": [{"type": "scatter", "x": x, "y": np.sin(x)}], "layout": {}}
    return Answer([Panel("wave", "A wave", "A sine.", spec)], idle=["kind"], said=values["kind"])


WAVES = Board(FIELDS, waves)


@pytest.fixture(scope="module")
def address():
    with serving() as address:
        yield address


@pytest.fixture
def row():
    BOARDS.put("waves", "Waves", make=WAVES, about="A wave.")
    yield "waves"
    del BOARDS._choices["waves"]


@pytest.fixture
def talk(address, row):
    with connect(f"ws://{address}/lnres/board/{row}", origin=f"http://{address}") as socket:
        yield lambda message: (socket.send(message), json.loads(socket.recv()))[1]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in GOOD for value in GOOD[name]])
def test_a_value_is_taken_as_it_is_and_from_an_address(name, value):
    assert WAVES.check({name: value})[name] == value
    spelled = value if isinstance(value, str) else json.dumps(value)
    assert WAVES.parse({name: spelled}) == WAVES.check({name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_another_value_is_refused_with_a_sentence_and_ignored_in_an_address(name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*: choose "):
        WAVES.check({name: value})
    assert WAVES.parse({name: json.dumps(value)}) == WAVES.values


@pytest.mark.parametrize("text", ["", "[", "[" * 100_000, "1e999"])
def test_an_address_that_is_not_json_is_ignored(text):
    assert WAVES.parse(dict.fromkeys(WAVES.values, text)) == WAVES.values


def test_a_name_that_is_no_control_is_refused():
    with pytest.raises(ValueError, match="widht: choose controls of length, "):
        WAVES.check({"widht": 3})
    with pytest.raises(ValueError, match="must map"):
        WAVES.check([3])


def test_the_answer_is_json_without_what_a_panel_has_not():
    told = json.loads(WAVES.answer({"length": 2.0}))
    assert told["idle"] == ["kind"]
    assert told["said"] == "sine"
    (panel,) = told["panels"]
    assert panel.keys() == {"name", "title", "alt", "figure", "wide", "tall", "height"}
    assert panel["figure"]["data"][0]["x"] == [None, 0.5, 1.0, 1.5, 2.0]


def test_the_browser_is_answered_question_by_question(talk):
    asked = {"number": 7, "values": {"kind": "cosine"}}
    assert talk(json.dumps(asked)) == {"number": 7, "answer": json.loads(WAVES.answer(asked["values"]))}
    for wrong in ("x", "[]", "[" * 9000, "{}", '{"number": "1", "values": {}}', '{"number": 1, "values": 3}'):
        assert talk(wrong)["error"]
    assert "waves=9" in talk('{"number": 8, "values": {"waves": 9}}')["error"]
    assert talk(json.dumps(asked))["number"] == 7


def test_nobody_waits_for_an_answer_to_a_visitor_who_has_left():
    asked, finished = threading.Event(), threading.Event()

    def slow(values):
        asked.set()
        finished.wait(60)
        return waves(values)

    class Visitor:
        headers, path_params = {}, {"name": "slow"}

        def __init__(self):
            self.says = iter(['{"number": 1, "values": {}}'])

        async def accept(self):
            pass

        async def receive(self):
            for text in self.says:
                return {"type": "websocket.receive", "text": text}
            await asyncio.to_thread(asked.wait)
            return {"type": "websocket.disconnect", "code": 1001}

    async def visit():
        try:
            await asyncio.wait_for(board(Visitor()), 20)
        finally:
            finished.set()

    BOARDS.put("slow", "Slow", make=Board(FIELDS, slow), about="A wave.")
    try:
        asyncio.run(visit())
    finally:
        del BOARDS._choices["slow"]


@pytest.mark.parametrize(("name", "host", "code"), [("waves", "elsewhere.org", 4403), ("nothing", "", 4404)])
def test_no_other_page_and_no_other_board_is_answered(address, row, name, host, code):
    with (
        connect(f"ws://{address}/lnres/board/{name}", origin=f"http://{host or address}") as socket,
        pytest.raises(ConnectionClosedError, match=str(code)),
    ):
        socket.recv()


@pytest.mark.usefixtures("measured_here")
@pytest.mark.parametrize("name", BOARDS)
def test_every_board_opens_and_says_what_it_shows(name):
    made = BOARDS[name].make
    told = json.loads(made.answer({}))
    assert {panel["name"] for panel in told["panels"]}
    for panel in told["panels"]:
        assert panel["alt"].endswith(".")
        assert {panel[key] for key in ("clicks", "drags", "edits") if key in panel} <= made.values.keys()
    assert made.parse({}) == made.check(made.values) == made.values
