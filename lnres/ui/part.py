"""A part of a page that a script of ours draws: it is told what to show, and tells what was clicked."""

from collections.abc import Callable

import streamlit as st

from lnres.ui import server

# Streamlit resends a component's code with every message, so this only fetches the real one. It is called
# again when data or theme change, and what it returned is called when the component goes.
LOADER = """
export default async (component) => {
  const { mount } = await import(new URL(component.data.code, location.origin).href);
  return mount(component);
};
"""


def component(name: str) -> Callable:
    """What mounts the script of assets/ whose address is in its data as ``code``."""
    return st.components.v2.component(f"lnres.{name}", js=LOADER, isolate_styles=False)


_mount = component("part")


def part(script: str, key: str, data: dict, **events: Callable[[], None]) -> None:
    """Mount a script of assets/ with its style; what an event tells is ``st.session_state[key].event``."""
    files = {"code": server.address(f"{script}.js"), "style": server.address(f"{script}.css")}
    _mount(key=key, data=data | files, **{f"on_{event}_change": hear for event, hear in events.items()})
