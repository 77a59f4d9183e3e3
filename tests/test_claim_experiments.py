"""The experiments behind the claims: all begin, and what they measure is what they say."""

import numpy as np
import pytest
import torch
from test_claims import finished

from lnres import theory
from lnres.claims import EXPERIMENTS
from lnres.claims.batches import steps_to
from lnres.claims.bench import plain, residual, train
from lnres.claims.depth import PATHS, path_energy
from lnres.claims.nets import covered, over_time, ring
from lnres.claims.robust import drift, when_shifted
from lnres.claims.scaling import Outlier, network
from lnres.claims.shift import Shift, Uphill
from lnres.data import minmax
from lnres.layers import generator
from lnres.train import Run

SMALL = {"width": 8, "seeds": 2, "batch": 8}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_begins(name):
    work = EXPERIMENTS[name].make(900)
    assert next(work)
    work.close()


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("watch", [Shift, Uphill])
def test_watching_does_not_change_a_run(norm, watch):
    e = plain(norm=norm, depth=7, steps=22, lr=0.1, **SMALL)
    alone, watched = finished(train(e)), finished(train(e, watch=watch()))
    assert np.array_equal(alone.told["loss_train"], watched.told["loss_train"])
    assert np.array_equal(alone.test_accuracy(), watched.test_accuracy())


def test_shift_is_nothing_where_nothing_is_learnt():
    shift = Shift()
    finished(train(plain(norm="layer", depth=7, steps=22, lr=0.0, **SMALL), watch=shift))
    assert len(shift.read["gradient shift"]) == 3
    assert shift.means["gradient shift"].tolist() == [0, 0]
    assert shift.means["drift, input"].tolist() == [0, 0]
    assert shift.means["gradient cosine"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", PATHS)
def test_paths_have_the_energy_of_their_closed_form(name):
    settings, taken = PATHS[name]
    e = plain(
        **{"layers": 2, "residual": "identity", "placement": "pre"} | settings, depth=4, width=512, seeds=1
    )
    x, cotangent = (torch.randn(1, 16, 512, generator=generator(name, what)) for what in "xg")
    energy = path_energy(Run(e), x, cotangent)
    assert energy.sum() == pytest.approx(1)
    assert energy == pytest.approx(theory.path_shares(taken(4)), abs=0.06)


def test_steps_to_a_loss_are_counted_on_its_running_mean():
    losses = np.stack([np.full(50, 1.0), np.full(50, 0.1), np.r_[1.0, np.zeros(49)]], 1)
    assert steps_to(losses, 0.3).tolist() == [50, 1, 1 + 12]  # 0.9^12 = 0.282


def test_inputs_are_shifted_for_the_test_alone():
    trial = finished(train(plain(norm="layer", depth=2, steps=60, lr=0.1, scaler="unit", seeds=2, batch=32)))
    found = when_shifted(trial)
    assert found["clean"] == pytest.approx(trial.test_accuracy())
    assert found["noise 0.6"].mean() < found["clean"].mean()
    assert trial.run.experiment.noise == 0


def test_a_drifting_stream_keeps_its_labels():
    run = Run(plain(norm="layer", depth=2, scaler="unit", **SMALL))
    x, y = run.batches(37, 8)
    drift(run)
    moved, same = run.batches(37, 8)
    assert torch.equal(y, same)
    assert not torch.equal(x, moved)


def test_one_outlier_squeezes_all_other_rows():
    run = Run(network(100, "none", "wine", "minmax"))
    before = run.batches.x.clone()
    Outlier(minmax)(run)
    assert run.batches.x[:, 0].max() == 1
    assert (run.batches.x[:, 1:].amax(1) < before[:, 1:].amax(1)).all()


def test_a_ring_covers_all_modes_and_a_point_one():
    class Fixed:
        def __init__(self, answer):
            self.answer, self.weights = answer, type("W", (), {"training": True})()

        def __call__(self, x):
            return self.answer

    quality, modes = covered(Fixed(torch.cat([ring([0], step) for step in range(8)], 1)), [0])
    assert quality > 0.99
    assert modes == 8
    quality, modes = covered(Fixed(torch.tensor([[[2.0, 0.0]]]).expand(1, 100, 2)), [0])
    assert (quality, modes) == (1, 1)


def test_a_residual_network_of_every_scheme_trains():
    for scheme in ("bare", "scaled", "ReZero", "pre-LN", "pre-BN", "post-LN", "DeepNorm"):
        trial = finished(train(residual(scheme, depth=3, steps=5, **SMALL)))
        assert np.isfinite(trial.loss).all()


def test_epsilon_is_why_layernorm_lets_gradients_explode_over_blank_pixels():
    e = plain(model="lstm", depth=1, scaler="unit", view="pixels", width=8, batch=8, seeds=2, norm="layer")
    small, large = (over_time(Run(e.replace(eps=eps))) for eps in (1e-5, 0.1))
    assert min(small) > 1e3
    assert max(large) < 10
