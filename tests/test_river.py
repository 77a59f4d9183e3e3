"""Who wrote the stream, computed a second time with plain loops, and against theory at init."""

from itertools import islice

import numpy as np
import pytest
import torch
from rows import fitting

from lnres.blocks import PLACEMENTS
from lnres.experiment import Experiment
from lnres.figures import FIGURES, Config, fill
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.probes import Tape
from lnres.record import MOST_BANDS, Record, written
from lnres.residuals import RESIDUALS
from lnres.river import VALUES
from lnres.theory import SCHEMES, WRITTEN, input_cosine, source_shares, stream_shares
from lnres.train import RIVER_EVERY, Run, probe

SMALL = {"depth": 4, "width": 8, "batch": 16, "seeds": 2, "record_every": 1}


def run_of(steps=RIVER_EVERY, **settings):
    """A run some steps on, so that γ, β and biases are no longer what they were."""
    run = Run(Experiment(**fitting(SMALL | settings)))
    for _ in range(steps):
        next(run)
    return run


# How much of the stream x a residual keeps in its sum, and what a norm on that sum makes of a part of it.
KEPT = {
    "none": lambda e, m, x: torch.zeros_like(x),
    "highway": lambda e, m, x: 1 - m.gate(x).sigmoid(),
    "deepnorm": lambda e, m, x: torch.full_like(x, (2 * e.depth) ** 0.25),
}
THROUGH = {
    frozenset(): lambda m, s, part: part,
    frozenset({"after"}): lambda m, s, part: (
        m.after.weight
        * (part - part.mean(-1, keepdim=True))
        / (s.var(-1, keepdim=True, correction=0) + 1e-5) ** 0.5
    ),
}  # fmt: skip


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_shares_equal_those_of_plain_loops(placement, residual, by_hand):
    """Every writer's part pushed through every later block, one at a time."""
    run = run_of(placement=placement, residual=residual)
    nets = [by_hand(run.weights, run.experiment, member) for member in range(2)]
    x, _ = run.batches(run.step, 16)
    seen = next(run)[0]["river"][0]
    through = THROUGH[PLACEMENTS[placement].make & {"after"}]
    for member, net in enumerate(nets):
        with torch.no_grad():
            h = net.enter(x[member])
            shifts, parts = torch.zeros_like(h), [h]
            for number, block in enumerate(net.blocks, 1):
                after, block.after = getattr(block, "after", None), torch.nn.Identity()
                total = block(h)  # before what stands on the sum
                block.after = after
                keep = KEPT.get(residual, lambda e, m, x: torch.ones_like(x))(run.experiment, block, h)
                parts = [through(block, total, keep * part) for part in parts]
                wrote = through(block, total, total - keep * h)
                shifts = through(block, total, keep * shifts) + (after.bias if after else 0)
                h = after(total) if after else total
                parts.append(wrote)
                bands = [shifts, *parts]
                torch.testing.assert_close(sum(bands), h, rtol=1e-4, atol=1e-4)
                expected = [float((part * h).sum() / h.square().sum()) for part in bands]
                ours = seen[number, : len(bands), member]
                np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=2e-4)
                assert not seen[number, len(bands) :, member].any()


@pytest.mark.parametrize(
    "dials",
    [{"norm": norm, "placement": "post"} for norm in NORMS]
    + [{"model": model, "placement": "post"} for model in MODELS]
    + [{"model": "conv", "depth": 5, "stages": 2, "placement": place} for place in ("pre", "post")]
    + [{"norm_gain": 2.0, "placement": "post"}, {"cut": 2}, {"drop_branch": 3}, {"placements": "2-post"}]
    + [{"dropout": 0.5, "drop_path": 0.3}],
    ids=str,
)  # fmt: skip
def test_shares_of_every_state_add_up_to_one(dials):
    run = run_of(**dials)
    seen = next(run)[0]["river"][0]
    e = run.experiment
    assert seen.shape == (e.blocks + 1, len(written(e.blocks)) + 2, 2)
    np.testing.assert_allclose(seen.sum(1), 1, atol=1e-4)
    np.testing.assert_allclose(seen[0, 1], 1, atol=1e-5)  # h_0 is the source


@pytest.mark.parametrize("norm", NORMS)
def test_parts_through_a_norm_add_up_with_its_shift(norm):
    run = run_of(norm=norm, placement="post")
    block, tape = run.model.blocks[1], Tape()
    x, _ = run.batches(9, 16)
    with torch.no_grad(), run.mode(training=True, keep=True):
        run.model(x, tape)
        total, out = tape.sums[1], tape.states[2]
        parts = torch.randn(3, *total.shape)
        parts[2] = total - parts[:2].sum(0)
        through = block.after.carry(total, out, parts)
    torch.testing.assert_close(through.sum(0) + block.after.origin(total), out, rtol=1e-3, atol=1e-3)


def test_what_is_cut_or_dropped_writes_nothing():
    shares = next(Run(Experiment(**SMALL, cut=3)))[0]["river"][0]
    np.testing.assert_allclose(shares[3, :4], 0, atol=1e-6)  # nothing from before block 3
    np.testing.assert_allclose(shares[3, 4], 1, atol=1e-5)
    shares = next(Run(Experiment(**SMALL, drop_branch=2)))[0]["river"][0]
    np.testing.assert_allclose(shares[:, 3], 0, atol=1e-6)


def test_a_gain_may_be_one_blocks_alone():
    both, alone, none = (
        next(Run(Experiment(**SMALL, **knobs)))[0]["act_rms"][0]
        for knobs in ({"skip_gain": 0.5}, {"skip_gain": 0.5, "gain_block": 3}, {})
    )
    assert np.array_equal(alone[:3], none[:3])
    assert (alone[3] < none[3]).all()
    assert not np.array_equal(both[1], none[1])


@pytest.mark.parametrize("blocks", [1, 2, MOST_BANDS, MOST_BANDS + 1, 32, 1000])
def test_every_block_has_one_band(blocks):
    bands = written(blocks)
    assert [number for band in bands for number in band] == list(range(1, blocks + 1))
    assert len(bands) == min(blocks, MOST_BANDS)
    assert max(map(len, bands)) - min(map(len, bands)) <= 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_theory_at_init(scheme):
    """What each block owns of the last state, and the source of every state."""
    e = Experiment(depth=8, width=256, batch=64, seeds=4, **SCHEMES[scheme])
    seen = probe(e)["river"].mean(-1)
    np.testing.assert_allclose(seen[-1, 1:], stream_shares(WRITTEN[scheme](8)), rtol=0.12, atol=0.004)
    np.testing.assert_allclose(seen[:, 1], source_shares(e), rtol=0.12, atol=0.004)
    assert source_shares(e)[-1] == pytest.approx(input_cosine(scheme, 8) ** 2)


@pytest.mark.parametrize(
    "dials",
    [{"residual": "highway"}, {"norm": "batch"}, {"layers": 1}, {"model": "conv"}, {"init": "he"}],
    ids=str,
)
def test_where_no_closed_form_is_known_none_is_drawn(dials):
    assert source_shares(Experiment(**dials)) is None


def test_few_examples_stand_for_all():
    """Shares are those of the first examples, unless a norm on the stream mixes the batch."""
    e = Experiment(depth=2, width=256, batch=64, seeds=1, placement="post")
    first = VALUES // 256
    whole, part = probe(e)["river"], probe(e.replace(batch=first))["river"]
    np.testing.assert_allclose(whole, part, atol=1e-5)


def test_bands_lie_on_each_other_and_below_zero_where_they_are_negative():
    record = Record()
    shares = np.zeros((1, 3, 4, 1), np.float32)
    shares[0, :, :, 0] = [[0, 1, 0, 0], [0.1, 0.7, 0.2, 0], [0, 0.9, -0.2, 0.3]]
    record.extend({"step": np.zeros(1, np.int32), "river_step": np.zeros(1, np.int32), "river": shares})
    figure = fill(FIGURES["river"].make([Config(0, "two blocks", 2, 1)]), [record])
    edges = {trace.name: np.reshape(trace.y, (2, 3)) for trace in figure.data}
    low, high = edges["A · block 1"]
    np.testing.assert_allclose([low, high[::-1]], [[1, 0.8, 0], [1, 1, -0.2]], atol=1e-5)
    low, high = edges["A · block 2"]
    np.testing.assert_allclose([low, high[::-1]], [[1, 1, 0.9], [1, 1, 1.2]], atol=1e-5)


def test_the_river_is_measured_at_some_probes_and_where_something_was_changed():
    run = Run(Experiment(**SMALL | {"record_every": 2}, changes="23.cut.1--42.cut.2--44.cut.0"))
    ticks = [int(arrays["river_step"][0]) for arrays, _ in islice(run, 60) if "river_step" in arrays]
    assert ticks == [0, 5, 10, 15, 20, 30, 40, 42, 44, 50]
