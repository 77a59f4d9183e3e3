"""What belongs to one visitor: their runs, freed when the browser goes."""

from functools import partial

import streamlit as st

from lnres.engine import local
from lnres.engine.lockstep import Lockstep
from lnres.engine.study import Study

_visitors = partial(
    st.cache_resource,
    scope="session",
    validate=lambda hosted: local.find(hosted.token) is hosted,  # not of an engine that was stopped
    on_release=lambda hosted: hosted.close(),
    show_spinner=False,
)


@_visitors()
def lockstep(page: str) -> Lockstep:
    """The visitor's runs on one page; while it is not open they stand still, and then go on."""
    return Lockstep(local.start())


@_visitors()
def study(page: str) -> Study:
    """The visitor's experiments on one page; while nobody looks they stand still, and then go on."""
    return Study(local.start())
