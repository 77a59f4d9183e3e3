"""The player: live charts that the browser draws by itself, mounted once and never again."""

from collections.abc import Sequence

from lnres.ui import server
from lnres.ui.part import component

_mount = component("player")


def player(lockstep, key: str = "player", panels: Sequence[str] = ()) -> None:
    """Show the runs of a lockstep; a rerun of the page with the same one leaves the charts alone.

    ``panels`` are figures to show unless the visitor chose others, instead of the usual ones.
    """
    data = {"panels": list(panels)} if panels else {}
    files = {"code": "player.js", "style": "player.css", "plotly": "plotly.min.js"}
    data |= {what: server.address(name) for what, name in files.items()}
    data |= {"live": f"{server.base()}/lnres/live/{lockstep.token}"}
    # A fork was made in the browser: the page is drawn again, with its controls.
    _mount(key=key, data=data, on_shown_change=lambda: None)
