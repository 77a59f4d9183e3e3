"""Guess first, then see: short lessons, each with a live run that answers."""

import streamlit as st

from lnres.ui.lessons import HANDOUTS, answer, ask, chosen, ready, teach
from lnres.ui.player import player
from lnres.ui.session import lockstep

name = chosen()
if name in HANDOUTS:
    teach(name)
else:
    runs = lockstep("lessons")
    attempt = ready(runs, name)
    if attempt is None:
        ask(name)
    else:
        words, charts = st.columns([4, 7], gap="medium")
        with words:
            answer(runs, name, attempt)
        with charts, st.container(key="lesson-live"):
            player(runs, key="lessons")
