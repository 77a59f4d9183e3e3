"""What four articles say about normalization, and what experiments say."""

import streamlit as st

from lnres.ui.claims import browser

st.markdown(
    "**What four articles say, tried.** Sixty-nine sentences, each with a rule that was fixed before its "
    "experiment. Open one to see every seed, and run it again."
)
browser()
