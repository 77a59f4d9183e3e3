"""Every legal norm x placement x residual x model builds, trains, and keeps its members apart."""

import itertools

import numpy as np
import pytest
import torch
from rows import WITHIN

from lnres.blocks import PLACEMENTS
from lnres.experiment import Experiment
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.residuals import RESIDUALS
from lnres.train import Run


def refused(model, norm, placement, residual):
    """Why a combination cannot be, if it cannot."""
    inside = MODELS[model].make.recurrent and placement in WITHIN
    if norm == "instance" and model == "mlp":
        return "norm='instance': model=mlp has no positions"
    if inside and norm == "instance":
        return "norm='instance': inside a recurrence"
    if inside and residual == "fixup" and NORMS[norm].make.over not in ("", "w"):
        return "residual='fixup': the branch starts at zero"
    return ""


def moved(run):
    """Whether the last step has moved every parameter: where a branch starts at zero, the first does not."""
    return all(slope.any() for _, slope in run.weights.named().values())


def check(both, members, steps, enough=lambda run: False):
    """These members of a run equal the runs of their seeds alone, for so many steps or until it is enough."""
    alone = {k: Run(both.experiment.replace(seed=k, seeds=1)) for k in members}
    for _ in range(steps):
        together = next(both)[0]["loss_train"][0]
        assert np.isfinite(together).all(), both.experiment.link()
        for k, run in alone.items():
            assert together[k] == next(run)[0]["loss_train"][0, 0], both.experiment.link()
        if enough(both):
            break
    named = {k: run.weights.named() for k, run in alone.items()}
    for name, (value, _) in both.weights.named().items():
        for k in members:
            assert torch.equal(value[k], named[k][name][0][0]), (both.experiment.link(), name)


def legal(model, norm):
    """The experiments of all placements and residuals that go with a model and a norm; others are refused."""
    for residual, placement in itertools.product(RESIDUALS, PLACEMENTS):
        dials = {"model": model, "norm": norm, "placement": placement, "residual": residual}
        if why := refused(**dials):
            with pytest.raises(ValueError, match=why):
                Experiment(**dials)
        else:
            yield Experiment(**dials, depth=2, width=8, batch=4, seeds=2, lr=0.01, record_every=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_every_legal_combination_trains_and_member_1_equals_its_single_run(model, norm):
    """Where no norm stands in the stream, all placements are one network, which is checked once."""
    placeless, checked = norm == "none" or NORMS[norm].make.over == "w", {}
    for e in legal(model, norm):
        # a recurrence is eight layers deep by itself
        both = Run(e.replace(depth=1) if e.times else e)
        if known := checked.get(e.residual):
            while both.step < known.step:
                both.replay()
            assert torch.equal(both.weights.flat, known.weights.flat), e.link()
            continue
        check(both, [1], 2, enough=moved)
        if placeless:
            checked[e.residual] = both


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("model", MODELS)
def test_every_member_of_every_legal_combination_equals_its_single_run(model, norm):
    for e in legal(model, norm):
        check(Run(e), range(e.seeds), 3)


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_convnet_of_stages_keeps_its_members_apart_and_recording_does_not_change_it(residual):
    e = Experiment(model="conv", depth=2, width=8, stages=2, norm="batch", placement="inner",
                   residual=residual, batch=4, seeds=2, lr=0.01, record_every=1)  # fmt: skip
    both, alone = Run(e), Run(e.replace(seed=1, seeds=1, record_every=0))
    for _ in range(3):
        together, single = next(both)[0], next(alone)[0]
        assert together["loss_train"][0, 1] == single["loss_train"][0, 0]
        assert together["act_rms"].shape == (1, 3, 2)
        assert np.isfinite(together["grad_norm"]).all()
        assert np.isnan(together["input_cosine"][0]).all(1).tolist() == [False, False, True]
    named = alone.weights.named()
    for name, (value, _) in both.weights.named().items():
        assert torch.equal(value[1], named[name][0][0]), name
