"""The player: live charts that the browser draws by itself, mounted once and never again."""

from collections.abc import Sequence

import streamlit as st

from lnres.ui import server

# Streamlit resends a component's code with every message, so this only fetches the real one. It is called
# again when data or theme change, and what it returned is called when the component goes.
LOADER = """
export default async ({ parentElement, data, setTriggerValue }) => {
  const player = await import(new URL(data.player, location.origin).href);
  return player.mount(parentElement, data, setTriggerValue);
};
"""
_mount = st.components.v2.component("lnres.player", js=LOADER, isolate_styles=False)


def player(lockstep, key: str = "player", panels: Sequence[str] = ()) -> None:
    """Show the runs of a lockstep; a rerun of the page with the same one leaves the charts alone.

    ``panels`` are figures to show unless the visitor chose others, instead of the usual ones.
    """
    data = {"panels": list(panels)} if panels else {}
    data |= {"live": f"{server.base()}/lnres/live/{lockstep.token}"}
    data |= {name.split(".")[0]: server.address(name) for name in ("player.js", "plotly.min.js")}
    # A fork was made in the browser: the page is drawn again, with its controls.
    _mount(key=key, data=data | {"style": server.address("player.css")}, on_shown_change=lambda: None)
