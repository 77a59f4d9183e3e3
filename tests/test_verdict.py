"""What the sentence says of nets whose truth is known."""

import re

import numpy as np
import pytest

from lnres.experiment import Experiment
from lnres.record import Record
from lnres.train import Run
from lnres.verdict import mean_log, sentence, times

PLAIN = {"residual": "none", "norm": "none", "width": 32, "batch": 32, "seeds": 3, "lr": 0}


def recorded(steps=3, **settings):
    run, record = Run(Experiment(**settings)), Record()
    for _ in range(steps):
        record.extend(*next(run))
    return record


def numbers(loss=2.3, accuracy=0.1, below=1.0, cosine=0.1, seeds=2, steps=30, start=2.3):
    """A made-up record of a net of three blocks, ``below`` times as much gradient below as at the top."""
    curve = np.linspace(start, loss, steps)[:, None].repeat(seeds, 1)
    gradient = np.array([below, 1, 1, 1])[None, :, None].repeat(seeds, 2)
    record = Record()
    record.extend(
        {
            "step": np.arange(steps),
            "loss_train": curve,
            "acc_train": np.full((steps, seeds), accuracy),
            "probe_step": np.array([steps - 1]),
            "grad_norm": gradient,
            "act_rms": np.ones((1, 4, seeds)),
            "cosine": np.full((1, 4, seeds), cosine),
        }
    )
    return record


@pytest.mark.parametrize("seed", [0, 100, 200])
@pytest.mark.parametrize(
    ("truth", "settings"),
    [
        ("Vanishing gradient", {"init": "lecun", "depth": 32}),
        ("Vanishing gradient", {"init": "torch", "depth": 16, "activation": "tanh"}),
        ("Exploding gradient", {"init": "he", "gain": 2.0, "depth": 16, "layers": 1}),
        ("Exploding gradient", {"norm": "batch", "placement": "inner", "depth": 60, "layers": 1}),
        ("Collapsed", {"norm": "layer", "placement": "inner", "init": "he", "depth": 100, "layers": 1}),
    ],
    ids=["Xavier", "torch tanh", "large weights", "BatchNorm", "LayerNorm"],
)
def test_nets_whose_truth_is_known_at_init(truth, settings, seed):
    assert sentence(recorded(seed=seed, **(PLAIN | settings))).startswith(truth)


def test_a_net_that_learns():
    good = {"depth": 4, "width": 32, "optimizer": "adam", "lr": 3e-3, "seeds": 2}
    assert sentence(recorded(100, **good)).startswith("Learns: ")
    assert sentence(recorded(25, **good)).startswith(("Learning: ", "Learns: "))


def test_a_net_that_diverges_says_when_and_where():
    said = sentence(recorded(60, **(PLAIN | {"lr": 100, "depth": 8, "residual": "identity"})))
    assert re.match(r"Diverged: all seeds by step \d+, first in (block \d|the stem)", said)


def test_a_record_without_anything_waits():
    assert sentence(Record()) == "Waiting for the first step."


def test_a_record_that_was_never_probed_waits():
    assert sentence(recorded(3, depth=2, width=8, seeds=1, record_every=0)) == "Waiting for the first step."


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (numbers(0.1, 0.97), "Learns: 97%"),
        (numbers(below=1e-5), "Vanishing gradient: block 1 receives 1·10⁻⁵"),
        (numbers(below=1e5), "Exploding gradient: 1·10⁵ times"),
        (numbers(below=0.0), "Vanishing gradient: block 1 receives less than 10⁻³⁷"),
        (numbers(1.0, 0.6), "Learning: loss from 2.3 to"),
        (numbers(cosine=0.995), "Collapsed: at the top all examples look alike (cosine 0.995)"),
        (numbers(), "Not learning yet: loss 2.30, 10% right"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_made_up_numbers_are_told(record, said):
    assert sentence(record).startswith(said)


@pytest.mark.parametrize("kind", [{"accuracy": 0.97}, {"below": 1e-5}, {"below": 1e5}, {"cosine": 0.995}, {}])
def test_seeds_that_diverged_are_counted(kind):
    record = numbers(seeds=3, **kind)
    record["loss_train"][15:, 1] = np.nan
    assert "1 of 3 seeds diverged." in sentence(record)


@pytest.mark.parametrize("seed", range(6))
def test_numbers_that_are_missing_break_nothing(seed):
    """NaN and infinity anywhere still give one sentence."""
    rng, record = np.random.default_rng(seed), numbers(seeds=3)
    for name in ("loss_train", "acc_train", "grad_norm", "act_rms", "cosine"):
        array = record[name]
        array[rng.random(array.shape) < [0.3, 1.0][seed % 2]] = [np.nan, np.inf, -np.inf][seed % 3]
    said = sentence(record)
    assert said.endswith(".")
    assert "nan" not in said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "less than 10⁻³⁷"),
        (1e-38, "less than 10⁻³⁷"),
        (3.2e-7, "3·10⁻⁷"),
        (0.031, "0.031"),
        (1, "1"),
        (24.4, "24"),
        (123.4, "123"),
        (1234, "1·10³"),
        (5e12, "5·10¹²"),
    ],
)
def test_factors_are_written_as_people_read_them(value, said):
    assert times(value) == said


@pytest.mark.parametrize("value", [96, 99.6, 250, 0.01, 0.5, 1, 3.14159])
def test_a_written_factor_is_the_factor(value):
    assert float(times(value)) == pytest.approx(value, rel=0.05)


def test_a_geometric_mean_skips_what_has_no_logarithm():
    assert mean_log(np.array([1.0, 100, 0, np.nan, np.inf])) == pytest.approx(10)
    assert mean_log(np.array([0.0, np.nan])) == 0
