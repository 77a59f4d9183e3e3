"""Figures per block, at the step looked at: the numbers that experts diagnose a network with."""

from collections.abc import Sequence

import numpy as np

from lnres.figures.base import (
    FIGURES,
    VANISHED,
    Config,
    band,
    counted,
    decades,
    linear,
    names,
    shares,
    straight,
    whole,
)  # fmt: skip

GROUP = "per block"
EXPONENT = "%{y:.2~e}"


def _lines(run: Config, array: str, x: list[int], over: str, thin: bool, hover: str, **how) -> list[dict]:
    """A quantity of one configuration along its blocks, with the range over the seeds."""
    y = {"ref": array, "run": run.index, "at": "frame"} | how
    line = {"color": run.colour, "dash": run.dash, "width": 2.5}
    return [*band(run, x + x[::-1], y | {"over": "band"}), {
        "type": "scatter", "mode": "lines+markers" if thin else "lines", "name": run.letter,
        "visible": {"shown": run.index}, "line": line | ({"width": 1, "dash": "solid"} if thin else {}),
        "marker": {"size": 4, "color": run.colour},
        "x": x, "y": y | {"over": over}, "hovertemplate": hover,
    }]  # fmt: skip


def _theory(run: Config, array: str, over: str, shape: str, **how) -> dict:
    """The closed form of a quantity at step 0, thin and dotted over what is measured."""
    return {
        "type": "scatter", "mode": "lines", "name": f"{run.letter} theory", "visible": {"shown": run.index},
        "line": {"color": run.colour, "width": 1.5, "dash": "2px,3px"}, "x": list(range(run.depth + 1)),
        "y": {"ref": f"{array}_theory", "run": run.index, "at": "frame", "over": over} | how,
        "hovertemplate": f"theory of step 0, block %{{x}}: {shape}<br>{run.theory.get(array, '')}",
    }  # fmt: skip


def _profile(
    runs: Sequence[Config], *arrays: str, said: str, axis: dict, over: str = "mean", start: int = 1,
    shape: str = "%{y:.3~g}", target: float | None = None, along: str = "block", ends=lambda run: run.depth,
    **how,
) -> dict:  # fmt: skip
    """Quantities along the blocks, the first as a thick line and a second as a thin one with dots."""
    data = []
    for run in runs:
        x, hover = list(range(start, ends(run) + 1)), f"{along} %{{x}}: {shape}"
        for i, array in enumerate(arrays):
            data += _lines(run, array, x, over, i > 0, hover, **how)
    foreseen = [run for run in runs if arrays[0] in run.theory]
    data += [_theory(run, arrays[0], over, shape, **how) for run in foreseen]
    untold = [(run.letter, run.untold[arrays[0]]) for run in runs if arrays[0] in run.untold]
    theory = " · dots theory of step 0" * bool(foreseen)
    theory += "".join(f" · {letter}: {why[0].lower()}{why[1:].rstrip('.')}" for letter, why in untold)
    layout = {
        "margin": {"l": 46, "r": 12, "t": 6, "b": 34},
        "showlegend": False,
        "xaxis": {"title": {"text": along}} | whole(start, max(start + 1, *map(ends, runs), 0)),
        "yaxis": axis,
        "shapes": [] if target is None else [straight(target)],
    }  # fmt: skip
    return {
        "data": data, "layout": layout, "group": GROUP, "summary": f"{said} for {names(runs)}.",
        "key": f"line mean · band all seeds, {counted(runs)}{theory}",
    }  # fmt: skip


def _sizes(runs: Sequence[Config], *arrays: str, said: str, **how) -> dict:
    """The same for what spans decades: geometric means on a log scale."""
    how = {"axis": decades(), "over": "gmean", "shape": EXPONENT, "floor": VANISHED} | how
    return _profile(runs, *arrays, said=f"{said}, on a log scale,", **how)


@FIGURES.add("act_std", "Activation std")
def act_std(runs: Sequence[Config]) -> dict:
    """Standard deviation of the stream after each block, which deep networks keep near 1 (dashed)."""
    said = "Standard deviation of the activations after each block"
    axis = decades(around=0)
    return _sizes(runs, "act_std", said=said, start=0, target=1, axis=axis)


@FIGURES.add("act_mean", "Activation mean")
def act_mean(runs: Sequence[Config]) -> dict:
    """Mean of the stream's values after each block; far from 0 (dashed), all examples look alike."""
    said = "Mean of the activations after each block"
    return _profile(runs, "act_mean", said=said, axis=linear(), start=0, target=0)


@FIGURES.add("saturated", "Saturated units")
def saturated(runs: Sequence[Config]) -> dict:
    """Share of each block's units where the activation is flat, so that no gradient passes."""
    said = "Share of saturated units in each block"
    spec = _profile(runs, "saturated", said=said, axis=shares(), shape="%{y:.1%}")
    return spec | {"applies": any(run.units for run in runs)}


@FIGURES.add("dead", "Dead units")
def dead(runs: Sequence[Config]) -> dict:
    """Share of each block's units that are flat for every example of the batch; none is the aim (dashed)."""
    said = "Share of dead units in each block"
    spec = _profile(runs, "dead", said=said, axis=shares(), target=0, shape="%{y:.1%}")
    return spec | {"applies": any(run.units for run in runs)}


@FIGURES.add("cosine", "Likeness of examples")
def cosine(runs: Sequence[Config]) -> dict:
    """Mean cosine between pairs of examples after each block: at 1 (dashed) all of them look alike."""
    said = "Mean cosine between pairs of examples after each block"
    return _profile(runs, "cosine", said=said, axis={"range": [-0.25, 1.05]}, start=0, target=1)


@FIGURES.add("gradients", "Gradient norm per block")
def gradients(runs: Sequence[Config]) -> dict:
    """Norm of the loss gradient at each block, at the step looked at: geometric mean and range."""
    spec = _sizes(runs, "grad_norm", said="Norm of the loss gradient at each block", start=0)
    spec["layout"]["annotations"] = [{
        "text": "below 10<sup>−38</sup>", "x": 1, "xref": "paper", "xanchor": "right", "xshift": -4,
        "y": float(np.log10(VANISHED)), "yanchor": "bottom",
    }]  # fmt: skip
    return spec


@FIGURES.add("ledger", "Gradient by skip and branch")
def ledger(runs: Sequence[Config]) -> dict:
    """Norm of the gradient that reaches each block's input through its skip (line) and its branch (dots)."""
    said = "Norm of the gradient through the skip (line) and through the branch (dots) of each block"
    axis = decades(above=VANISHED)  # without a skip nothing arrives through it, which is no news
    spec = _sizes(runs, "skip_grad_norm", "branch_grad_norm", said=said, axis=axis)
    return spec | {"key": f"line skip · dots branch · band all seeds, {counted(runs)}"}


@FIGURES.add("skip_branch_cosine", "Skip against branch")
def skip_branch_cosine(runs: Sequence[Config]) -> dict:
    """Cosine between the gradients through skip and branch of each block: 0 (dashed) where independent."""
    said = "Cosine between the gradients through the skip and through the branch of each block"
    return _profile(runs, "skip_branch_cosine", said=said, axis={"range": [-1.05, 1.05]}, target=0)


@FIGURES.add("grad_data", "Gradient : weight")
def grad_data(runs: Sequence[Config]) -> dict:
    """Norm of each block's weight gradient over the norm of its weights."""
    operand = {"ref": "weight_norm", "op": "per"}
    return _sizes(
        runs, "weight_grad_norm", said="Weight gradient over weight norm in each block", **{"with": operand}
    )


@FIGURES.add("update_ratio", "Update : weight")
def update_ratio(runs: Sequence[Config]) -> dict:
    """Norm of each block's last update over the norm of its weights; about 10^−3 (dashed) is healthy."""
    said = "Update over weight norm in each block"
    return _sizes(runs, "update_ratio", said=said, target=1e-3, axis=decades(around=-3))


@FIGURES.add("weight_norm", "Weight norm")
def weight_norm(runs: Sequence[Config]) -> dict:
    """Norm of each block's weight matrices."""
    return _sizes(runs, "weight_norm", said="Norm of the weights of each block", axis=decades(least=1))


@FIGURES.add("effective_lr", "Effective learning rate")
def effective_lr(runs: Sequence[Config]) -> dict:
    """Learning rate over the squared weight norm: the true step of weights behind which a norm stands."""
    operand = {"ref": "weight_norm", "op": "per", "power": 2}
    fitting = [run for run in runs if run.invariant]
    said = "Learning rate over squared weight norm in each block where a norm stands behind the weights"
    spec = _sizes(fitting, "lr", said=said, **{"with": operand})
    return spec | {"applies": bool(fitting), "summary": f"{said}, on a log scale, for {names(runs)}."}


@FIGURES.add("time_gradients", "Gradient norm through time")
def time_gradients(runs: Sequence[Config]) -> dict:
    """Norm of the loss gradient at each time step of the last recurrent layer, at the step looked at."""
    said = "Norm of the loss gradient at each time step"
    spec = _sizes(runs, "time_grad_norm", said=said, along="time step", ends=lambda run: run.times)
    return spec | {"applies": any(run.times for run in runs)}
