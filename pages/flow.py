"""Which road does the gradient take, and who wrote what the network carries?"""

import streamlit as st

from lnres.ui.controls import literal
from lnres.ui.flow import PANELS, anatomy, dials, follow, look_closer
from lnres.ui.player import player
from lnres.ui.session import lockstep

runs = lockstep("flow")
st.markdown(
    "**Click a block** to cut its skip or drop its branch: the next step shows what becomes of all before it."
)
try:
    with st.sidebar:
        chosen, complaints = dials()
        anatomy(chosen)
    follow(runs, chosen)
    if complaints:
        st.warning("  \n".join(map(literal, complaints)))
except ValueError as error:
    st.warning(literal(str(error)))
player(runs, "flow", PANELS)
if runs.runs:
    look_closer(runs.runs[0].experiment)
