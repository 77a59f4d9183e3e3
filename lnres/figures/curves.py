"""Figures over time: losses, accuracies and their differences, with every event marked."""

from collections.abc import Sequence

from lnres.figures.base import (
    FIGURES,
    MARKED,
    STEPS,
    VANISHED,
    Config,
    band,
    counted,
    cursor,
    decades,
    linear,
    marks,
    names,
    shares,
    straight,
)  # fmt: skip

GROUP = "over time"
RECENT = 10
"""A minibatch may be two examples: the mean of so many says more."""
LATELY = 40
"""Batches in which a stream that is sorted by class shows all ten."""


def _seeds(run: Config, clock: str, y: dict, of: Config | None = None) -> list[dict]:
    """One thin line a member, all in one trace, ``of`` whose record; nothing for a single member."""
    if run.seeds < 2:
        return []
    past = {"run": (of or run).index, "at": "past", "thin": 60}
    return [{
        "type": "scatter", "mode": "lines", "line": {"color": run.colour, "width": 0.6}, "opacity": 0.45,
        "hoverinfo": "skip", "visible": {"shown": run.index},
        "x": {"ref": clock, "each": run.seeds} | past, "y": y | past | {"over": "each"},
    }]  # fmt: skip


def _figure(runs: Sequence[Config], data: list[dict], axis: dict, *shapes: dict) -> dict:
    """Curves and the marks of all events against the step."""
    layout = {
        "margin": {"l": 46, "r": 12, "t": 8, "b": 34},
        "showlegend": False,
        "xaxis": {"title": {"text": "step"}, "range": STEPS},
        "yaxis": axis,
        "shapes": [cursor("x"), *shapes],
    }
    return {"data": data + marks(runs), "layout": layout | MARKED, "group": GROUP}


def _curves(runs: Sequence[Config], what: str, axis: dict, over: str, **how) -> dict:
    """Train (line, band and thin lines) and test (thin line and markers) against the step."""
    data = []
    for run in runs:
        common = {"type": "scatter", "visible": {"shown": run.index}, "hovertemplate": "step %{x}: %{y:.3~g}"}
        past = {"run": run.index, "at": "past", "thin": 300}
        train, test = ({"ref": f"{what}_{kind}"} | how for kind in ("train", "test"))
        data += band(run, {"ref": "step", "loop": True} | past, train | past | {"over": "band"})
        data += _seeds(run, "step", train)
        data.append(common | {
            "mode": "lines", "name": f"{run.letter} train",
            "line": {"color": run.colour, "dash": run.dash, "width": 2},
            "x": {"ref": "step"} | past, "y": train | past | {"over": over},
        })  # fmt: skip
        past["thin"] = 40
        data.append(common | {
            "mode": "lines+markers", "name": f"{run.letter} test", "opacity": 0.8,
            "line": {"color": run.colour, "width": 1}, "marker": {"color": run.colour, "size": 5},
            "x": {"ref": "test_step"} | past, "y": test | past | {"over": over},
        })  # fmt: skip
    key = f"line train · dots test · band and thin lines seeds, {counted(runs)}"
    return _figure(runs, data, axis) | {"key": key}


@FIGURES.add("loss", "Loss")
def loss(runs: Sequence[Config]) -> dict:
    """Training and test loss against the step: geometric mean over the seeds, with their range."""
    axis = decades(snap=0.5, least=1, quantiles=(0.0, 0.98))
    said = f"Training (line) and test (dots) loss against the step, on a log scale, for {names(runs)}."
    return _curves(runs, "loss", axis, "gmean", floor=VANISHED) | {"summary": said}


@FIGURES.add("accuracy", "Accuracy")
def accuracy(runs: Sequence[Config]) -> dict:
    """Share of examples classified correctly against the step: mean over the seeds, with their range."""
    said = f"Training (line) and test (dots) accuracy against the step for {names(runs)}."
    return _curves(runs, "acc", shares(), "mean") | {"summary": said}


@FIGURES.add("online", "Accuracy before learning")
def online(runs: Sequence[Config]) -> dict:
    """Share of a stream's examples that are answered right before they are learnt from, lately."""
    data, streams = [], [run for run in runs if run.online]
    for run in streams:
        past = {"run": run.index, "at": "past", "thin": 300}
        y = {"ref": "acc_online", "recent": LATELY} | past
        data += band(run, {"ref": "step", "loop": True} | past, y | {"over": "band"})
        data.append({
            "type": "scatter", "mode": "lines", "name": run.letter, "visible": {"shown": run.index},
            "line": {"color": run.colour, "dash": run.dash, "width": 2},
            "x": {"ref": "step"} | past, "y": y | {"over": "mean"}, "hovertemplate": "step %{x}: %{y:.1%}",
        })  # fmt: skip
    said = f"Accuracy before learning, mean of {LATELY} batches, against the step for {names(runs)}."
    key = f"mean of the last {LATELY} batches · band all seeds, {counted(streams)}"
    return _figure(runs, data, shares()) | {"key": key, "summary": said, "applies": bool(streams)}


@FIGURES.add("gap", "Generalization gap")
def gap(runs: Sequence[Config]) -> dict:
    """Test loss minus the loss of the last ten minibatches: what was learned but does not carry over."""
    data = []
    for run in runs:
        past = {"run": run.index, "at": "past", "thin": 100}
        y = {"ref": "loss_test", "with": {"ref": "loss_train", "op": "less", "recent": RECENT}} | past
        data += band(run, {"ref": "test_step", "loop": True} | past, y | {"over": "band"})
        data += _seeds(run, "test_step", y)
        data.append({
            "type": "scatter", "mode": "lines+markers", "name": run.letter, "visible": {"shown": run.index},
            "line": {"color": run.colour, "dash": run.dash, "width": 2}, "marker": {"size": 4},
            "x": {"ref": "test_step"} | past, "y": y | {"over": "mean"},
            "hovertemplate": "step %{x}: %{y:.3~g}",
        })  # fmt: skip
    key = f"line mean · band and thin lines seeds, {counted(runs)}"
    said = f"Test loss minus training loss against the step for {names(runs)}."
    return _figure(runs, data, linear(), straight(0)) | {"key": key, "summary": said}


def _differences(runs: Sequence[Config], what: str, clock: str, *, thin: int, scale: float, **how) -> dict:
    """The first configuration minus each other, seed by seed: mean, 95 % interval, and whether it is real."""
    from scipy.special import stdtrit  # a fifth of what the server would import before it answers

    data, words, apart, others = [], [], [], runs[1:]
    for run in others:
        first = runs[0]
        if run.pairing != first.pairing:
            apart.append(run)
            continue
        past = {"run": first.index, "at": "past", "thin": thin}
        other = {"ref": what, "run": run.index, "op": "less"} | how
        y = {"ref": what, "run": first.index, "with": other, "scale": scale} | how
        t = [round(float(stdtrit(n - 1, 0.975)), 4) for n in range(2, run.seeds + 1)]
        interval = {"over": "interval", "t": t}
        data += band(run, {"ref": clock, "loop": True} | past, y | past | interval)
        data += _seeds(run, clock, y, of=first)
        name = f"{first.letter}−{run.letter}"
        common = {"type": "scatter", "visible": {"shown": run.index}, "hovertemplate": "step %{x}: %{y:.3~g}"}
        data.append(common | {
            "mode": "lines", "name": name, "line": {"color": run.colour, "dash": run.dash, "width": 2},
            "x": {"ref": clock} | past, "y": y | past | {"over": "mean"},
        })  # fmt: skip
        words.append({
            "text": {"real": y | interval, "of": name}, "font": {"color": run.colour, "size": 13},
            "x": len(words) / len(others), "xref": "paper", "xanchor": "left",
            "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 4,
            "name": f"{name} now", "visible": {"shown": run.index},
        })  # fmt: skip
    spec = _figure(runs, data, linear(), straight(0))
    spec["layout"]["margin"] |= {"t": 28}  # the words stand above the curves, one beside the other
    notes = [f"{run.letter} and A differ in data or seeds: no pairs to compare" for run in apart]
    notes += ["nothing to subtract: add a configuration"] * (not others)
    spec["layout"]["annotations"] = words + [
        {"text": note, "x": 0.5, "xref": "paper", "y": 0.95 - 0.1 * i, "yref": "paper"}
        for i, note in enumerate(notes)
    ]
    pairs = "A minus each other" if others else "no pairs"
    return spec | {"key": f"{pairs} · band 95 % interval · thin lines seeds, {counted(runs)}"}


@FIGURES.add("loss_difference", "Difference of losses")
def loss_difference(runs: Sequence[Config]) -> dict:
    """The first network's training loss minus another's in powers of ten, paired over the seeds."""
    said = f"Differences of log10 training loss, paired over seeds, with 95% intervals, for {names(runs)}."
    how = {"recent": RECENT, "floor": VANISHED, "log": True}
    return _differences(runs, "loss_train", "step", thin=150, scale=1, **how) | {"summary": said}


@FIGURES.add("accuracy_difference", "Difference of accuracies")
def accuracy_difference(runs: Sequence[Config]) -> dict:
    """The first network's test accuracy minus another's in percentage points, paired over the seeds."""
    said = f"Differences of test accuracy, paired over seeds, with 95% intervals for {names(runs)}."
    return _differences(runs, "acc_test", "test_step", thin=100, scale=100) | {"summary": said}
