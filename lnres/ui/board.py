"""A board on a page: mounted once for its key, redrawn in place, asked as the hand moves."""

import json
from collections.abc import Sequence

import streamlit as st

from lnres.boards import BOARDS, Answer, Board, Panel
from lnres.figures import THEMES
from lnres.ui import server
from lnres.ui.part import component

_mount = component("board")


def board(what: str | Board, key: str) -> dict:
    """Show a board and return the values of its controls; see ``lnres.boards`` for how one is made.

    ``what`` is the name of a row of BOARDS, which the browser asks over a WebSocket (then the values
    returned are those of the address), or a Board, which is asked by reruns of a fragment: its function is
    called again as the hand moves, and the rest of the page is left alone. The values stay in the address of
    the page.
    """
    if isinstance(what, Board):
        return _asked(what, key)
    made = BOARDS[what].make
    values = made.parse(st.query_params)
    _show(made, key, values, 0, live=f"{server.base()}/lnres/board/{what}")
    return values


def pictures(panels: Sequence[Panel], key: str) -> None:
    """Show panels that nothing is asked about; with the same key others are drawn in their place."""
    _show(Board((), lambda values: Answer(panels)), key, {}, 0)


@st.fragment
def _asked(made: Board, key: str) -> dict:
    question = (st.session_state.get(key) or {}).get("question") or {"number": 0, "values": {}}
    try:
        values = made.check(question["values"] or made.parse(st.query_params))
    except ValueError:  # the controls are others than those of the question
        values = made.parse(st.query_params)
    _show(made, key, values, question["number"])
    return values


def _show(made: Board, key: str, values: dict, number: int, live: str = "") -> None:
    files = {"code": server.address("board.js"), "plotly": server.address("plotly.min.js")}
    styles = [server.address(name) for name in ("player.css", "board.css")]
    told = {"key": key, "fields": made.specs, "first": made.values, "values": values, "themes": THEMES}
    told |= {"number": number, "live": live}
    answer = "null" if live and made.measures else made.answer(values)
    text = json.dumps(told)[:-1] + f', "answer": {answer}}}'
    _mount(key=key, data=files | {"styles": styles, "told": text}, on_question_change=lambda: None)
