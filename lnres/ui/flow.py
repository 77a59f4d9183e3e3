"""What the page of the flow is made of: its dials, its run, and the block in drawing, formula and code."""

from collections.abc import Sequence
from html import escape

import streamlit as st

from lnres.anatomy import code, drawing, formula
from lnres.boards.flow import CLOSER
from lnres.engine.lockstep import Lockstep, Seen
from lnres.experiment import DIALS, FIELDS, Experiment
from lnres.fields import spoken, text
from lnres.ui.board import board
from lnres.ui.controls import widget

# st.html lets no SVG through, and one in an image would not take the colour of the text.
_draw = st.components.v2.component(
    "lnres.drawing",
    js="export default ({ parentElement, data }) => { parentElement.innerHTML = data; };",
    isolate_styles=False,
)
# Not st.code: its highlighter keeps a browser busy for half a second when the page opens.
LISTING = (
    "margin: 0; padding: 12px; border-radius: 8px; font: 12.5px/1.6 var(--st-code-font, monospace);"
    "white-space: pre-wrap; overflow-wrap: anywhere; background: var(--st-code-background-color)"
)
START = {"depth": "16", "record_every": "1"}
"""What the page's network is, where its address does not say otherwise."""
DIALLED = *DIALS, "depth"
PANELS = "river", "roads"
PACE = 5.0
"""Steps per second at first: slow enough to see what a cut does."""


def dials() -> tuple[Experiment, list[str]]:
    """The network that the dials choose, at first that of the address; and what is wrong with that."""
    if "flow" not in st.session_state:
        asked = {name: value for name, value in st.query_params.items() if name in FIELDS}
        st.session_state.flow = Experiment.read(START | asked)
    kept: Experiment = st.session_state.flow[0]
    chosen = {name: widget(name, f"flow/{name}", getattr(kept, name)) for name in DIALLED}
    if any(chosen[name] != getattr(kept, name) for name in DIALLED):
        st.session_state.flow = kept.at(-1).replace(**chosen), []
    return st.session_state.flow


def follow(runs: Lockstep, chosen: Experiment) -> None:
    """Train what the dials choose, unless it is what is trained; the address says what is."""
    there = runs.runs and runs.runs[0].experiment
    if not there or any(getattr(there, name) != getattr(chosen, name) for name in DIALLED):
        runs.set([chosen])
        runs.pace(PACE)
    told, usual = runs.runs[0].told, Experiment.read(START)[0]
    said = {n: text(getattr(told, n)) for n in FIELDS if getattr(told, n) != getattr(usual, n)}
    st.query_params.from_dict(said | {n: value for n, value in st.query_params.items() if n not in FIELDS})


def altered(runs: Sequence[Seen]) -> str:
    """Which blocks of the network are not as the others, in Markdown."""
    changed = runs[0].now.changed() if runs else {}
    said = [spoken(name, changed[name]) for name in changed if "single" in FIELDS[name].metadata]
    return f" &nbsp; :orange-badge[now] {', '.join(said)}" if said else ""


def anatomy(e: Experiment) -> None:
    """The block as a drawing, a formula and PyTorch; they change with the dials."""
    _draw(key="drawing", data=drawing(e))
    st.latex(formula(e))
    lines = escape(code(e)).replace("(", "(<wbr>")
    _draw(key="code", data=f"<pre style='{LISTING}'>{lines}</pre>")


def look_closer(e: Experiment) -> None:
    """What takes workers a second to measure, once somebody asks."""
    chosen = st.segmented_control(
        "A closer look", list(CLOSER), format_func=lambda name: CLOSER[name].label, key="closer"
    )
    if chosen:
        st.caption(f"{CLOSER[chosen].about} {CLOSER[chosen].paper}.")
        with st.spinner("Measuring networks ..."):
            board(CLOSER[chosen].make(e), f"closer/{chosen}")
