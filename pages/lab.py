"""Which of these deep networks learns, and what stops the others?"""

import streamlit as st

from lnres.ui.controls import badge, controls, literal, opened
from lnres.ui.player import player
from lnres.ui.session import lockstep

complaints = opened()
runs = lockstep()
try:
    with st.sidebar:
        scene = controls()
    if scene.experiments != [run.experiment for run in runs.runs]:
        runs.set(scene.experiments)
    st.query_params.from_dict(scene.query())
    st.markdown(f"**Which of these networks learns?** &nbsp; {badge(scene)}")
except ValueError as error:
    st.warning(literal(str(error)))
if complaints:
    st.warning("  \n".join([*map(literal, complaints), "The default stands in for what could not be used."]))
player(runs)
