"""Between two frames a step asks the device for nothing, what it notes there is told in time, and a step
that is replayed on the same memory is the step."""

import importlib
import inspect

import numpy as np
import pytest
import torch
from rows import RATES, fitting
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lnres import graph, train
from lnres.experiment import Experiment
from lnres.graph import WARM, Graph
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS
from lnres.train import KEEP_EVERY, Run

SMALL = {"depth": 2, "width": 8, "batch": 8, "seeds": 2, "record_every": 0}


def experiment(**settings):
    rate = RATES.get(settings.get("optimizer", "sgd"), 1e-3)
    return Experiment(**fitting(SMALL | {"lr": rate} | settings))


def waiting(e: Experiment) -> Run:
    """A run that treats the CPU as a device that one has to wait for."""
    run = Run(e)
    run.waits = True
    return run


# Nothing is read


@pytest.fixture
def numberless(monkeypatch):
    """Runs live on a device whose tensors have no numbers: to read one is an error."""
    monkeypatch.setattr(train, "where", lambda device: "meta")
    optimizers = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it by a function
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    library = torch.library.Library("aten", "IMPL")  # kernels that do not know this device
    for name in ("sgd", "adam", "adamw"):
        library.impl(f"_fused_{name}_.tensor_lr", lambda *_, **__: None, "Meta")
    yield
    library._destroy()


class Border(TorchDispatchMode):
    """Between host and device nothing passes but by copies that nobody waits for.

    An index or a factor that the host has would be sent by a hidden copy, for which it waits; in a captured
    step it would be frozen.
    """

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            names = [argument.name for argument in operation._schema.arguments]
            assert (dict(zip(names, args, strict=False)) | (kwargs or {})).get("non_blocking"), operation
        return out


ROWS = [{"model": model, "norm": norm} for model in MODELS if model != "mlp" for norm in ("layer", "batch")]
ROWS += [{"norm": norm} for norm in NORMS]
ROWS += [{"optimizer": optimizer} for optimizer in OPTIMIZERS if optimizer != "sgd"]
ROWS += [{"dropout": 0.3, "drop_path": 0.2}, {"noise": 0.3, "contrast_spread": 0.5}]
ROWS += [{"clip": 1.0, "stream": "drift", "norm": "batch"}, {"data": "identity", "schedule": "cosine"}]


@pytest.mark.parametrize("settings", ROWS, ids=str)
def test_a_step_reads_no_number_from_the_device(settings, numberless):
    """Neither where it is recorded and tested, nor where it is not."""
    run = Run(experiment(**settings | {"record_every": 1, "depth": 1}))
    with Border():
        arrays = run.ahead()
        run.replay()
    assert arrays["loss_test"].device.type == arrays["act_hist"].device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        run.read([arrays])


# What is noted is told


TOLD = {
    "healthy": {"norm": "batch", "optimizer": "adam", "stream": "iid"},
    "diverges": {"norm": "none", "lr": 2, "seeds": 3, "activation": "identity"},
    "clipped": {"clip": 0.5, "changes": "5.clip.0.25--9.dropout.0.2--13.batch.4"},
    "both": {"norm": "none", "lr": 3.0, "init": "he", "clip": 1e3, "changes": "7.lr.50--9.lr.0.01"},
    "recorded": {"norm": "layer", "record_every": 3},
}  # fmt: skip


@pytest.mark.parametrize("settings", TOLD.values(), ids=TOLD)
def test_what_is_read_late_is_what_is_read_at_once(settings):
    e = experiment(**settings)
    usual, late = Run(e), waiting(e)
    frames = [next(usual) for _ in range(KEEP_EVERY + 20)]
    arrays, header = late.read([late.ahead() for _ in frames])
    events = [event for _, told in frames for event in told["events"]]
    assert header["events"] == events
    assert usual.diverged == late.diverged
    # once all have diverged, nothing is computed any more: late, that is not known before it is read
    last = max(event["step"] for event in events) + 1 if all(late.diverged) else len(frames)
    for name, rows in arrays.items():
        expected = np.concatenate([seen[name] for seen, _ in frames[:last] if name in seen])
        np.testing.assert_array_equal(rows[: len(expected)], expected)
    assert np.isnan(arrays["loss_train"][last:]).all()
    assert torch.equal(usual.weights.flat.nan_to_num(), late.weights.flat.nan_to_num()) or all(late.diverged)


def test_what_was_told_before_a_fork_is_not_told_again():
    e = experiment(norm="none", lr=2, seeds=3, activation="identity")
    run = Run(e)
    events = [event for _ in range(30) for event in next(run)[1]["events"]]
    when = {event["member"]: event["step"] for event in events if "member" in event}
    first = min(when.values())
    assert first < max(when.values())
    twin = waiting(e)
    while twin.step <= first:
        twin.replay()
    assert twin.checkpoint()[1]["diverged"] == [when[k] == first for k in range(3)]
    late = twin.read([twin.ahead() for _ in range(30 - twin.step)])[1]["events"]
    assert late == [event for event in events if event["step"] > first]


# Replayed


class Tape(TorchDispatchMode):
    """What a CUDA graph is to a GPU: every operation, to be done again on the memory where it was done first.

    A capture computes nothing and this does, so the first replay is left out.
    """

    def __init__(self):
        super().__init__()
        self.done, self.replays = [], 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, tree_leaves(out)))
        return out

    def replay(self):
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():
            for operation, args, kwargs, before in self.done if self.replays > 1 else []:
                for old, new in zip(before, tree_leaves(operation(*args, **kwargs)), strict=True):
                    if isinstance(old, torch.Tensor) and not torch._C._is_alias_of(old, new):
                        old.copy_(new)


@pytest.fixture
def tapes(monkeypatch):
    made = []

    def captured(work):
        made.append(Tape())
        with made[-1]:
            return work(), made[-1].replay

    monkeypatch.setattr(graph, "captured", captured)
    return made


def replaying(e: Experiment) -> Run:
    """A run that treats the CPU as a GPU."""
    run = waiting(e)
    run.graph = Graph(run.batches.feed, run._learn)
    return run


EXACT = {"lr": 2.0**-8, "warmup": 8}
"""Learning rates that single precision holds."""


def check_replay(e: Experiment, tapes: list[Tape], captures: int = 1, steps: int = 9) -> None:
    usual, again = Run(e), replaying(e)
    frames = [next(usual) for _ in range(steps)]
    arrays, header = again.read([again.ahead() for _ in frames])
    assert header["events"] == [event for _, told in frames for event in told["events"]]
    for name, rows in arrays.items():
        expected = np.concatenate([seen[name] for seen, _ in frames if name in seen])
        np.testing.assert_array_equal(rows, expected, err_msg=name)
    assert torch.equal(usual.weights.flat, again.weights.flat)
    assert len(tapes) == captures
    assert all(tape.replays > 1 for tape in tapes)


@pytest.mark.parametrize("settings", ROWS, ids=str)
def test_a_replayed_step_is_the_step(settings, tapes):
    # a number times RMSprop's direction is not rounded before it is added, a tensor is: powers of 2 are alike
    alike = {"warmup": 0} if settings.get("optimizer") == "rmsprop" else {}
    check_replay(experiment(**settings | EXACT | alike), tapes)


@pytest.mark.parametrize("changes", ["7.lr.0.015625", "7.batch.4", "7.dropout.0.5--8.cut.1"])
def test_what_changes_is_captured_anew(changes, tapes):
    check_replay(experiment(changes=changes, **EXACT), tapes, captures=2, steps=13)


def test_recorded_steps_stand_between_replayed_ones(tapes):
    check_replay(experiment(norm="batch", record_every=4, **EXACT), tapes, steps=40)


def test_a_restored_run_is_captured_anew(tapes):
    e = experiment(optimizer="adam", **EXACT)
    run = replaying(e)
    for _ in range(8):
        next(run)
    twin = replaying(e)
    for _ in range(6):
        next(twin)
    twin.restore(*run.checkpoint())
    for _ in range(6):
        assert np.array_equal(next(run)[0]["loss_train"], next(twin)[0]["loss_train"])
    assert len(tapes) == 3


def test_a_step_that_cannot_be_captured_is_made_as_usual_and_says_so(monkeypatch):
    def captured(work):
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        finally:  # to end such a capture is an error as well
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(graph, "captured", captured)
    usual, run = Run(experiment()), replaying(experiment())
    told = []
    for _ in range(8):
        arrays, header = next(run)
        told += header["events"]
        assert np.array_equal(arrays["loss_train"], next(usual)[0]["loss_train"])
    assert [(event["kind"], event["step"]) for event in told] == [("uncaptured", WARM)]
    assert told[0]["text"].endswith("by itself: operation not permitted when stream is capturing")


def test_what_is_kept_to_be_drawn_anew_holds_no_tensor_of_the_step(tapes):
    run = replaying(experiment(dropout=0.3, drop_path=0.2, noise=0.1, contrast_spread=0.1, stream="drift"))
    for _ in range(WARM + 1):
        run.ahead()
    draws = [draw for _, draw in run.graph.slots if draw is not torch.tensor]
    held = [value for draw in draws for value in inspect.getclosurevars(draw).nonlocals.values()]
    assert len(draws) > 6
    assert not any(isinstance(value, torch.Tensor) for value in held)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("settings", ROWS, ids=str)
def test_a_captured_step_is_the_step(settings):
    e = experiment(device="cuda", **settings)
    usual, run = Run(e), Run(e)
    usual.graph = None
    for _ in range(12):
        np.testing.assert_allclose(next(run)[0]["loss_train"], next(usual)[0]["loss_train"], rtol=1e-3)
    assert not run.graph.refused
    assert run.graph.replay
