"""The paths that gradients take, against every path walked by itself, and against theory."""

from itertools import combinations

import numpy as np
import pytest
import torch

from lnres.blocks import PLACEMENTS
from lnres.boards.flow import CLOSER, SCHEMES
from lnres.experiment import Experiment
from lnres.measures import LINE, MEASURES, complete, cotangent, paths, shattering
from lnres.probes import Tape
from lnres.residuals import RESIDUALS
from lnres.theory import gradient_cosine, path_shares
from lnres.train import Run

SMALL = {"depth": 3, "width": 8, "batch": 8, "seeds": 2}


def walked(e):
    """‖p‖² by length, each path by itself: through the branches of some blocks, the skips of others."""
    run = Run(e)
    x, _ = run.batches(0, e.batch)
    tape = Tape()
    run.model(x, tape)
    energy = torch.zeros(e.blocks + 1, e.seeds)
    for many in range(e.blocks + 1):
        whole = 0
        for taken in combinations(range(e.blocks), many):
            g = cotangent(e, tape.states[-1])
            for block in reversed(range(e.blocks)):
                road = (tape.branches if block in taken else tape.skips)[block]
                (g,) = torch.autograd.grad(
                    tape.states[block + 1],
                    road,
                    g,
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
            whole = whole + g
        energy[many] = whole.square().sum((1, 2))
    return (energy / energy.sum(0)).numpy()


@pytest.mark.parametrize(
    "dials",
    [{"placement": placement} for placement in PLACEMENTS]
    + [{"residual": residual} for residual in RESIDUALS]
    + [{"norm": "batch"}, {"norm": "none"}, {"cut": 2}],
    ids=str,
)
def test_energies_equal_those_of_every_path_by_itself(dials):
    e = Experiment(**SMALL, **dials)
    np.testing.assert_allclose(complete(paths(e, {}))["energy"], walked(e), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("residual", "taken"), [("identity", 1 / 2), ("scaled", 1 / 9)])
def test_path_lengths_are_binomial_at_init(residual, taken):
    e = Experiment(depth=8, width=256, batch=16, seeds=4, norm="none", residual=residual)
    np.testing.assert_allclose(complete(paths(e, {}))["energy"].mean(1), path_shares([taken] * 8), atol=0.03)


def test_paths_after_some_steps_are_those_of_the_trained_network():
    e = Experiment(**SMALL, lr=0.1)
    before, after = (complete(paths(e, {}, steps))["energy"] for steps in (0, 3))
    np.testing.assert_allclose(after.sum(0), 1, rtol=1e-5)
    assert not np.allclose(before, after)


def test_what_takes_too_long_is_refused_in_words():
    with pytest.raises(ValueError, match="choose a smaller depth"):
        complete(paths(Experiment(depth=256, width=256), {}))


@pytest.mark.usefixtures("measured_here")
@pytest.mark.parametrize(
    ("e", "said"),
    [
        (Experiment(depth=256, width=256, record_every=0), "choose a smaller depth or batch."),
        (Experiment(**SMALL, norm="none", residual="identity", lr=100.0), "there is none to follow."),
    ],
)
def test_where_there_are_no_paths_a_sentence_says_why(e, said):
    answer = CLOSER["paths"].make(e).function({"trained": "20"})
    assert answer.said.endswith(said)
    assert not answer.panels


@pytest.mark.parametrize("scheme", SCHEMES)
def test_input_gradients_turn_as_theory_says(scheme):
    settings, skips = SCHEMES[scheme]
    e = Experiment(depth=4, width=256, seeds=8, **settings)
    seen = complete(shattering(e, {}))
    assert seen["cosine"].shape == seen["likeness"].shape == (LINE, 8)
    np.testing.assert_allclose(seen["cosine"][0], 1, rtol=1e-5)
    known = np.mean([gradient_cosine(c, skips(4)) for c in seen["likeness"].T], axis=0)
    np.testing.assert_allclose(seen["cosine"].mean(1), known, atol=0.12)


@pytest.mark.parametrize("name", CLOSER)
def test_a_closer_look_shows_what_was_measured(name, monkeypatch):
    from lnres.boards import flow

    found = []

    def measured(e, name, options=()):
        found.append(complete(MEASURES[name].make(e.replace(width=16), {}, **dict(options))))
        return found[-1]

    monkeypatch.setattr(flow, "measured", measured)
    board = CLOSER[name].make(Experiment(**SMALL))
    answer = board.function(board.values)
    assert answer.said.endswith(".")
    y = answer.panels[0].figure["data"][0]["y"]
    np.testing.assert_array_equal(y, found[0]["energy" if name == "paths" else "cosine"].mean(1))
