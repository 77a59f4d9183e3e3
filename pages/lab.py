"""Which of these deep networks learns, and what stops the others?"""

import streamlit as st

from lnres.ui.controls import badge, complain, contrast, controls, follow, literal, opened, question, settle
from lnres.ui.files import bring, take
from lnres.ui.player import player
from lnres.ui.session import lockstep

opened()
runs = lockstep("lab")
with st.sidebar:
    files = st.container(horizontal=True)  # at the top, so that what opens has room below
    question()
    contrasts = st.container()
try:
    follow(now := [run.now for run in runs.runs])
    with st.sidebar:
        scene = controls()
    runs.become(scene.experiments, now)
    settle(runs)
    st.markdown(f"**Which of these networks learns?** &nbsp; {badge(scene)}")
except ValueError as error:
    st.warning(literal(str(error)))
with contrasts:  # at the end: what could be chosen next is worked out once the new runs are on their way
    contrast()
with files:
    take(runs)
    bring(runs)
complain(st.session_state.wrong)
player(runs)
