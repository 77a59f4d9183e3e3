"""Does theory hold? Closed forms, drawn over networks that are measured as the hand moves."""

import streamlit as st

from lnres.boards import BOARDS, PICTURES
from lnres.theory import THEORIES
from lnres.ui.board import board
from lnres.ui.explain import row

asked = st.query_params.get("picture")
picture = st.segmented_control(
    "Picture", PICTURES, default=asked if asked in PICTURES else PICTURES[0],
    format_func=lambda name: BOARDS[name].label, key="picture",
    label_visibility="collapsed", required=True,
)  # fmt: skip
if picture == PICTURES[0]:
    st.query_params.pop("picture", None)
else:
    st.query_params["picture"] = picture
st.caption(BOARDS[picture].about)
board(picture, picture)

formulas = st.popover("All closed forms", key="formulas", on_change="rerun")
if formulas.open:
    with formulas:
        for name in sorted(THEORIES):
            st.caption(name)
            row(THEORIES[name])
