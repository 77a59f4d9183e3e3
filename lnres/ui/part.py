"""A part of a page that a script of ours draws: it is told what to show, and tells what was clicked."""

from collections.abc import Callable

import streamlit as st

from lnres.ui import server

LOADER = """
export default async ({ parentElement, data, setTriggerValue }) => {
  const { mount } = await import(new URL(data.code, location.origin).href);
  return mount(parentElement, data, setTriggerValue);
};
"""
_mount = st.components.v2.component("lnres.part", js=LOADER, isolate_styles=False)


def part(script: str, key: str, data: dict, **events: Callable[[], None]) -> None:
    """Mount a script of assets/ with its style; what an event tells is ``st.session_state[key].event``."""
    files = {"code": server.address(f"{script}.js"), "style": server.address(f"{script}.css")}
    _mount(key=key, data=data | files, **{f"on_{event}_change": hear for event, hear in events.items()})
