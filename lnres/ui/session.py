"""What belongs to one visitor: their runs, freed when the browser goes."""

import streamlit as st

from lnres.engine import local


@st.cache_resource(scope="session", on_release=lambda lockstep: lockstep.close(), show_spinner=False)
def lockstep() -> local.Lockstep:
    """The visitor's runs."""
    return local.Lockstep(local.start())
