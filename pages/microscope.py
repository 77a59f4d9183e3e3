"""What does a norm do to every single number, there and back?"""

import streamlit as st

from lnres.ui.board import board

st.markdown("**Which numbers does a norm average, and what becomes of each?**")
board("microscope", "microscope")
st.markdown("**The shape of it: what does a norm leave of a cloud of vectors?**")
board("shape", "shape")
