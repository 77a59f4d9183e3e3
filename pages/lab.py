"""Which of these deep networks learns, and what stops the others?"""

import streamlit as st

from lnres.ui.controls import badge, controls, follow, literal, opened, settle
from lnres.ui.files import bring, take
from lnres.ui.player import player
from lnres.ui.session import lockstep

complaints = opened()
runs = lockstep("lab")
try:
    follow(now := [run.now for run in runs.runs])
    with st.sidebar:
        files = st.container(horizontal=True)  # at the top, so that what opens has room below
        scene = controls()
        with files:
            take(runs)
            bring(runs)
    runs.become(scene.experiments, now)
    settle(runs.runs)
    st.markdown(f"**Which of these networks learns?** &nbsp; {badge(scene)}")
except ValueError as error:
    st.warning(literal(str(error)))
if complaints:
    st.warning("  \n".join([*map(literal, complaints), "The default stands in for what could not be used."]))
player(runs)
