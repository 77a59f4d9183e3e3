"""What belongs to one visitor: their runs, freed when the browser goes."""

import streamlit as st

from lnres.engine import local
from lnres.engine.study import Study


@st.cache_resource(
    scope="session",
    validate=lambda lockstep: local.find(lockstep.token) is lockstep,  # not of an engine that was stopped
    on_release=lambda lockstep: lockstep.close(),
    show_spinner=False,
)
def lockstep(page: str) -> local.Lockstep:
    """The visitor's runs on one page; while it is not open they stand still, and then go on."""
    return local.Lockstep(local.start())


@st.cache_resource(
    scope="session",
    validate=lambda study: local.find(study.token) is study,
    on_release=lambda study: study.close(),
    show_spinner=False,
)
def study(page: str) -> Study:
    """The visitor's experiments on one page; while nobody looks they stand still, and then go on."""
    return Study(local.start())
