"""The flow of gradients, looked at closer: which paths they take, and how soon they turn with the input."""

import numpy as np

from lnres import theory
from lnres.boards.base import Answer, Board, Panel, Pick, Slider
from lnres.boards.networks import measured
from lnres.experiment import Experiment
from lnres.figures import COLOURS, GREY
from lnres.meanfield import predict
from lnres.registry import Registry

CLOSER = Registry("closer look")
"""Functions from an experiment to a board."""
TRAINED = {"0": "at init", "20": "after 20 steps", "100": "after 100 steps"}


def _taken(e) -> np.ndarray | None:
    """How likely a path takes each branch, by what theory says of the gradient on both roads."""
    skip, branch = (predict(e, f"{road}_grad_norm").values for road in ("skip", "branch"))
    if skip is None or branch is None:
        return None
    with np.errstate(all="ignore"):
        return np.nan_to_num(branch**2 / (skip**2 + branch**2))


@CLOSER.add("paths", "Which paths does it take?", paper="Veit et al. 2016")
def paths(e) -> Board:
    """A residual network is a sum of paths, each through some of its branches: who carries the gradient?"""

    def answer(v: dict) -> Answer:
        try:
            steps = ("steps", int(v["trained"]))
            energy = measured(e.at(-1).replace(record_every=0), "paths", (steps,))["energy"]
        except ValueError as error:
            return Answer([], said=f"{error}.")
        if not np.isfinite(energy).all():
            return Answer(
                [], said="This network has diverged, or no gradient arrives: there is none to follow."
            )
        blocks, share = len(energy) - 1, energy.mean(1)
        k = np.arange(blocks + 1)
        taken = _taken(e.at(-1))
        number = theory.path_shares([0.5] * blocks)
        length = float(k @ share)
        said = f"On average the gradient's energy has passed {length:.1f} of {blocks} branches"
        data = [{
            "type": "bar", "x": k, "y": share, "name": "measured", "marker": {"color": COLOURS[0]},
            "error_y": {"type": "data", "array": energy.max(1) - share, "arrayminus": share - energy.min(1),
                        "thickness": 1, "width": 0},
            "hovertemplate": "%{x} branches: %{y:.1%}",
        }, {
            "type": "scatter", "mode": "lines", "x": k, "y": number, "name": "by number of paths",
            "line": {"color": GREY, "dash": "dot", "width": 2}, "hovertemplate": "%{y:.1%} of all paths",
        }]  # fmt: skip
        if taken is None:
            said += "; no closed form is known here."
        else:
            expected = theory.path_shares(taken)
            said += (
                f"; theory at init says {float(k @ expected):.1f}, and most paths are {blocks / 2:.0f} long."
            )
            data.append({
                "type": "scatter", "mode": "lines", "x": k, "y": expected, "name": "theory at init",
                "line": {"color": COLOURS[1], "dash": "dash", "width": 2.5},
                "hovertemplate": "theory %{y:.1%}",
            })  # fmt: skip
        seen = k[np.maximum(share, number) > 1e-3]
        layout = {
            "xaxis": {"title": {"text": "branches on the way"}, "range": [seen[0] - 0.6, seen[-1] + 0.6]},
            "yaxis": {"tickformat": ".0%", "rangemode": "tozero"}, "bargap": 0.25,
            "legend": {"x": 1, "xanchor": "right", "y": 1}, "margin": {"l": 46, "r": 12, "t": 6, "b": 34},
        }  # fmt: skip
        alt = f"Share of gradient energy over the number of branches on its path. {said}"
        panel = Panel(
            "paths", "Energy of paths by their length", alt, {"data": data, "layout": layout}, height=330
        )
        return Answer([panel], said=said)

    return Board((Pick("trained", "The network", "0", TRAINED),), answer)


SCHEMES = {
    "plain": ({"norm": "none", "residual": "none", "layers": 1, "init": "he", "placement": "inner"},
              lambda blocks: [0.0] * blocks),
    "with skips": ({"norm": "none", "residual": "identity"}, lambda blocks: [1.0] * blocks),
    "with skips and LayerNorm": ({"norm": "layer", "placement": "pre", "residual": "identity"},
                                 lambda blocks: [block + 1.0 for block in range(blocks)]),
}  # fmt: skip
"""Networks that are compared: settings, and the ratio of stream to branch power in each block."""


@CLOSER.add("shattering", "How soon does it turn?", paper="Balduzzi et al. 2017")
def shattering(e) -> Board:
    """Between two digits the input changes slowly; in a deep plain network its gradient is soon another."""

    def answer(v: dict) -> Answer:
        lines, signals, said, at = [], [], [], np.linspace(0, 1, 97)
        for i, (name, (settings, skips)) in enumerate(SCHEMES.items()):
            net = Experiment(depth=v["blocks"], width=v["wide"], seeds=4, record_every=0, **settings)
            seen = measured(net, "shattering")
            cosine, hue = seen["cosine"].mean(1), {"color": COLOURS[i]}
            known = np.mean(
                [theory.gradient_cosine(c, skips(v["blocks"])) for c in seen["likeness"].T], axis=0
            )
            lines += [
                {"type": "scatter", "mode": "lines", "x": at, "y": cosine, "name": name,
                 "line": hue | {"width": 2.5}, "hovertemplate": f"{name}: %{{y:.2f}}"},
                {"type": "scatter", "mode": "lines", "x": at, "y": known, "name": f"{name}, theory",
                 "line": hue | {"width": 1.5, "dash": "dash"}, "showlegend": False, "hoverinfo": "skip"},
            ]  # fmt: skip
            signals.append({
                "type": "scatter", "mode": "lines", "x": at, "y": seen["signal"] - 6 * i, "name": name,
                "line": hue | {"width": 1.5}, "hoverinfo": "skip",
            })  # fmt: skip
            half = np.flatnonzero(cosine < 0.5)
            said.append(f"{name}: {at[half[0]]:.0%} of the way" if len(half) else f"{name}: not on this way")
        x = {"title": {"text": "from one digit (0) to another (1)"}, "range": [0, 1]}
        margin = {"l": 46, "r": 12, "t": 6, "b": 34}
        legend = {"x": 1, "xanchor": "right", "y": 1}
        first = {"xaxis": x, "yaxis": {"range": [-0.1, 1.05]}, "margin": margin, "legend": legend}
        second = {"xaxis": x, "yaxis": {"visible": False}, "margin": margin, "showlegend": False}
        turned = f"The input's gradient has half turned away at: {'; '.join(said)}."
        return Answer([
            Panel("likeness", "Likeness to the first gradient", f"{turned} Theory is dashed.",
                  {"data": lines, "layout": first}, height=330),
            Panel("signal", "One entry of the input's gradient", "The plain network has the roughest curve.",
                  {"data": signals, "layout": second}, height=330),
        ], said=turned)  # fmt: skip

    fields = (Slider("blocks", "Blocks", 16, 2, 48, 1), Slider("wide", "Width", 128, 32, 256, 32))
    return Board(fields, answer)
