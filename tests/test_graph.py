"""Between two frames a step asks the device for nothing, and what it notes there is told in time."""

import importlib

import numpy as np
import pytest
import torch
from rows import PAIRS, RATES, fitting

from lnres import train
from lnres.experiment import Experiment
from lnres.models import MODELS
from lnres.norms import NORMS
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
    library = torch.library.Library("aten", "IMPL")  # the one kernel that does not know this device
    library.impl("_fused_sgd_", lambda *_, **__: None, "Meta")
    yield
    library._destroy()


ROWS = [{"model": m, "norm": n} for m in MODELS for n in NORMS if (m, n) != ("mlp", "instance")]
ROWS += [{"optimizer": optimizer, "norm": norm} for optimizer, norm in PAIRS]
ROWS += [{"dropout": 0.3, "drop_path": 0.2}, {"noise": 0.3, "contrast_spread": 0.5}]
ROWS += [{"clip": 1.0, "stream": "drift", "norm": "batch"}, {"data": "identity", "schedule": "cosine"}]


@pytest.mark.parametrize("settings", ROWS, ids=str)
def test_a_step_reads_no_number_from_the_device(settings, numberless):
    run = Run(experiment(**settings))
    run.replay()
    assert run.weights.flat.device.type == "meta"
    with pytest.raises((RuntimeError, NotImplementedError)):
        next(run)


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
