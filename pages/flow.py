"""Which road does the gradient take, and who wrote what the network carries?"""

import streamlit as st

from lnres.ui.controls import complain, literal
from lnres.ui.flow import PANELS, altered, anatomy, dials, follow, look_closer
from lnres.ui.player import player
from lnres.ui.session import lockstep

runs = lockstep("flow")
told = st.empty()
try:
    with st.sidebar:
        chosen, wrong = dials()
    follow(runs, chosen)
    complain(wrong)
except ValueError as error:
    st.warning(literal(str(error)))
told.markdown(
    "**Click a block** to cut or weaken its skip, move its norm or drop its branch: "
    f"the next step shows what becomes of all before it.{altered(runs.runs)}"
)
player(runs, "flow", PANELS)
if runs.runs:
    with st.sidebar:  # behind the player: formulas and code keep the browser busy
        anatomy(runs.runs[0].experiment)
    look_closer(runs.runs[0].experiment)
