"""What papers printed, and what is measured here."""

import streamlit as st

from lnres.ui.papers import chart, rows

st.markdown(
    "**Printed and measured.** Numbers from papers beside the same numbers taken from networks here. "
    "A row that was not run says so."
)
picture, words = st.columns([5, 7], gap="medium")
with picture:
    chart()
with words:
    rows()
