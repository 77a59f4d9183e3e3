"""Every number that is recorded, computed a second time in plain torch and autograd."""

import math

import numpy as np
import pytest
import torch
from rows import SOMETIMES, fitting
from torch.nn import functional as F

from lnres.blocks import PLACEMENTS
from lnres.data import Batches
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS, generator
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.probes import HIST_VALUES
from lnres.record import CLOCK_OF, CLOCKS, GRAD_DECADES, HIST_BINS, HIST_REACH
from lnres.residuals import RESIDUALS
from lnres.train import Run, probe

SMALL = {"depth": 3, "width": 8, "batch": 16, "seeds": 2, "record_every": 1}


def run_of(steps=3, **settings):
    """A run some steps on, so that γ, β and biases are no longer what they were."""
    run = Run(Experiment(**fitting(SMALL | settings)))
    for _ in range(steps):
        next(run)
    return run


def measured(run):
    """The next frame, without its leading axis."""
    return {name: array[0] for name, array in next(run)[0].items()}


def rms(x, axis=None):
    return x.square().mean() ** 0.5 if axis is None else x.square().mean(axis) ** 0.5


class Ledger:
    """A member's next step by hand: states, gradients of the summed loss, and what each road brings."""

    def __init__(self, run, member, by_hand):
        net = by_hand(run.weights, run.experiment, member)
        x, y = run.batches(run.step, run.experiment.batch)
        h = net.enter(x[member])
        states, skips, branches = [h], [], []
        for block in net.blocks:
            skips.append(h.clone())
            branches.append(h.clone())
            h = block(branches[-1], skips[-1])
            states.append(h)
        loss = F.cross_entropy(net.leave(h), y[member], reduction="sum")
        found = torch.autograd.grad(
            loss, [*states, *skips, *branches], allow_unused=True, materialize_grads=True
        )
        found, depth = [g.flatten(1) for g in found], len(net.blocks)  # positions count as features
        self.states = [h.flatten(1) for h in states]
        self.total, self.skip, self.branch = found[: depth + 1], found[depth + 1 : -depth], found[-depth:]


DIALS = (
    [{"norm": norm} for norm in NORMS]
    + [{"placement": placement} for placement in PLACEMENTS]
    + [{"residual": residual} for residual in RESIDUALS]
    + [{"placement": "post", "residual": residual} for residual in RESIDUALS]
    + [
        {"norm": "batch", "placement": "post"},
        {"layers": 1},
        {"activation": "tanh"},
        {"model": "conv", "norm": "batch"},
        {"model": "transformer"},
        {"model": "transformer", "placement": "post", "norm": "group"},
        {"model": "rnn", "placement": "inner"},
        {"model": "gru", "placement": "post", "norm": "batch"},
        {"model": "lstm", "residual": "none"},
        {"width": 5, "batch": 7},
    ]
)


@pytest.mark.parametrize("dials", DIALS, ids=str)
def test_activations_equal_plain_torch(dials, by_hand):
    run = run_of(**dials)
    books = [Ledger(run, k, by_hand) for k in range(2)]
    seen = measured(run)
    for k, book in enumerate(books):
        for i, h in enumerate(h.detach() for h in book.states):
            rows = len(h)
            apart = F.cosine_similarity(h[:, None], h[None], dim=-1)[~torch.eye(rows, dtype=torch.bool)]
            expected = {
                "act_mean": h.mean(),
                "act_std": h.std(correction=0),
                "act_rms": rms(h),
                "cosine": apart.mean(),
                "input_cosine": F.cosine_similarity(h, book.states[0].detach(), dim=-1).mean(),
            }
            for name, value in expected.items():
                assert seen[name][i, k] == pytest.approx(float(value), rel=1e-4, abs=1e-5), (name, i, k)


@pytest.mark.parametrize("dials", DIALS, ids=str)
def test_gradients_equal_autograd_by_hand(dials, by_hand):
    """Root mean square over examples of the norm of the gradient of an example's own loss."""
    run = run_of(**dials)
    books = [Ledger(run, k, by_hand) for k in range(2)]
    seen = measured(run)
    for k, book in enumerate(books):
        roads = {"grad_norm": book.total, "skip_grad_norm": book.skip, "branch_grad_norm": book.branch}
        for name, gradients in roads.items():
            expected = [float(rms(g.norm(dim=-1))) for g in gradients]
            np.testing.assert_allclose(seen[name][:, k], expected, rtol=1e-4, atol=1e-6, err_msg=name)
        for i, (skip, branch) in enumerate(zip(book.skip, book.branch, strict=True)):
            expected = F.cosine_similarity(skip, branch, dim=-1).mean()
            assert seen["skip_branch_cosine"][i, k] == pytest.approx(float(expected), abs=2e-4)


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_two_roads_add_up_to_the_gradient_of_the_blocks_input(placement, residual):
    """‖s + b‖² = ‖s‖² + ‖b‖² + 2 s·b; with one example a block, cosine and norms must fit exactly."""
    seen = measured(run_of(placement=placement, residual=residual, batch=1, seeds=3))
    skip, branch, total = (seen[f"{name}grad_norm"][:3].astype(float) for name in ("skip_", "branch_", ""))
    np.testing.assert_allclose(
        total**2, skip**2 + branch**2 + 2 * skip * branch * seen["skip_branch_cosine"], rtol=1e-4, atol=1e-12
    )
    assert (skip.max() == 0) == (residual == "none")
    assert branch.max() > 0


def test_gradient_norms_do_not_depend_on_the_batch_size(monkeypatch):
    """The same example 8 times: its loss counts an eighth, its gradient is reported as if it were alone."""
    monkeypatch.setattr(
        Batches,
        "__call__",
        lambda self, step, size, **shift: (self.x[:, [0] * size], self.y[:, [0] * size]),
    )
    one, eight = (Run(Experiment(**(SMALL | {"batch": size}))) for size in (1, 8))
    np.testing.assert_allclose(measured(one)["grad_norm"], measured(eight)["grad_norm"], rtol=1e-4)


def test_one_example_has_no_cosine_with_others():
    assert np.isnan(measured(run_of(batch=1))["cosine"]).all()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_updates_by_hand(optimizer, layers):
    run = run_of(optimizer=optimizer, lr=0.01, layers=layers)

    def matrices(which):
        named, kinds = run.weights.named(), ["first", "last"][:layers]
        return [
            torch.cat([named[f"blocks.{i}.{kind}.weight"][which].flatten(1) for kind in kinds], 1)
            for i in range(3)
        ]

    before = matrices(0)
    seen = measured(run)
    for i, (old, new, gradient) in enumerate(zip(before, matrices(0), matrices(1), strict=True)):
        assert old.shape == (2, layers * 64)
        np.testing.assert_allclose(seen["weight_norm"][i], old.norm(dim=1), rtol=1e-5)
        np.testing.assert_allclose(seen["weight_grad_norm"][i], gradient.norm(dim=1), rtol=1e-4)
        np.testing.assert_allclose(
            seen["update_ratio"][i], (new - old).norm(dim=1) / old.norm(dim=1), rtol=1e-4
        )


# Histograms


def constant_stream(values, **settings):
    """The histogram of h_0 where every example's h_0 is ``values``."""
    run = Run(Experiment(**(SMALL | {"width": len(values), "norm": "none", "seeds": 1} | settings)))
    named = run.weights.named()
    named["stem.weight"][0].zero_()
    named["stem.bias"][0][:] = torch.tensor(values)
    return run, measured(run)["act_hist"][0, 0]


def edges():
    """Edges of the inner bins: even steps of asinh, from -HIST_REACH to HIST_REACH."""
    return np.sinh(np.linspace(-HIST_REACH, HIST_REACH, HIST_BINS + 1))


@pytest.mark.parametrize("k", [0, 1, 17, HIST_BINS // 2, HIST_BINS - 1])
def test_a_value_is_counted_in_its_bin(k):
    middle = float(np.sinh((np.arcsinh(edges()[k]) + np.arcsinh(edges()[k + 1])) / 2))
    _, counts = constant_stream([middle, middle])
    assert counts[k + 1] == counts.sum() > 0


MIDDLE = HIST_BINS // 2 + 1
ENDS = [(-1e6, 0), (1e6, -1), (-3e38, 0), (3e38, -1), (-math.inf, 0), (math.inf, -1)]


@pytest.mark.parametrize(("value", "k"), [(0.0, MIDDLE), (1e-30, MIDDLE), *ENDS])
def test_extreme_values_are_counted_at_the_ends(value, k):
    _, counts = constant_stream([value, value])
    assert counts[k] == counts.sum() > 0


def test_nan_is_counted_nowhere():
    _, counts = constant_stream([math.nan, 1.0])
    assert counts.sum() == SMALL["batch"]


@pytest.mark.parametrize(
    ("width", "batch", "seeds"), [(8, 16, 2), (8, 200, 2), (64, 64, 4), (300, 3, 8), (5, 1, 1)]
)
def test_the_total_count_is_the_documented_one(width, batch, seeds):
    """The first examples, until all members together have HIST_VALUES values; at least one example each."""
    seen = measured(run_of(1, depth=2, width=width, batch=batch, seeds=seeds))
    examples = min(batch, max(1, HIST_VALUES // (seeds * width)))
    for name in ("act_hist", "grad_hist"):
        assert seen[name].shape == (3, seeds, HIST_BINS + 2)
        assert (seen[name].sum(-1) == examples * width).all()


@pytest.mark.parametrize("residual", RESIDUALS)
def test_histograms_count_the_stream_and_its_gradient(residual, by_hand):
    """Against numpy on the values computed by hand; a value on an edge may fall to either side."""
    run = run_of(residual=residual, batch=8, seeds=1)
    book = Ledger(run, 0, by_hand)
    seen = measured(run)
    decades = np.logspace(*GRAD_DECADES, HIST_BINS + 1)
    for i in range(4):
        state, gradient = book.states[i].detach().numpy(), np.abs(book.total[i].numpy())
        for name, values, bounds in (("act_hist", state, edges()), ("grad_hist", gradient, decades)):
            bounds = [-np.inf, *bounds[:-1], bounds[-1], np.inf]
            expected = np.histogram(values, bounds)[0]
            assert np.abs(seen[name][i, 0].astype(int) - expected).sum() <= 2, (name, i)


def test_a_gradient_that_is_zero_is_counted_below_all_decades():
    run = Run(Experiment(**(SMALL | {"norm": "none", "residual": "none", "final_norm": False})))
    run.weights.named()["head.weight"][0].zero_()
    counts = measured(run)["grad_hist"]
    assert (counts[..., 0] == counts.sum(-1)).all()


# Dead and saturated units


FLAT_AT = {"relu": -1.0, "tanh": 4.0, "gelu": -5.0, "leaky": -1.0, "silu": -6.0, "sigmoid": 5.0, "selu": -6.0,
           "erf": -3.0, "identity": None}  # fmt: skip
STEEP_AT = {"identity": 50.0}


def with_preactivation(activation, values):
    run = Run(Experiment(**(SMALL | {"norm": "none", "activation": activation, "width": len(values)})))
    named = run.weights.named()
    named["blocks.1.first.weight"][0].zero_()
    named["blocks.1.first.bias"][0][:] = torch.tensor(values)
    return measured(run)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_units_that_pass_nothing_on_are_dead(activation):
    """Three of four units flat on every example."""
    flat, steep = FLAT_AT[activation], STEEP_AT.get(activation, 0.5)
    seen = with_preactivation(activation, [steep if flat is None else flat] * 3 + [steep])
    assert np.array_equal(seen["dead"][1], np.full(2, 0.0 if flat is None else 0.75))
    assert np.array_equal(seen["saturated"][1], seen["dead"][1])


def test_a_unit_that_is_flat_on_some_examples_is_saturated_there_but_not_dead(by_hand):
    run = run_of(norm="layer", placement="inner", layers=1, residual="none", batch=32)
    books = [Ledger(run, k, by_hand) for k in range(2)]
    seen = measured(run)
    for k, book in enumerate(books):  # the state behind a ReLU says which units passed something on
        for i, state in enumerate(book.states[1:]):
            off = (state.detach() == 0).float().mean(0)
            assert seen["saturated"][i, k] == pytest.approx(float(off.mean()), abs=1e-6)
            assert seen["dead"][i, k] == pytest.approx(float((off == 1).float().mean()), abs=1e-6)
    assert 0 < seen["saturated"].min() < seen["saturated"].max() < 1


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_stream_or_road_of_zeros_is_orthogonal_to_all(residual):
    run = Run(Experiment(**(SMALL | {"norm": "none", "residual": residual, "gain": 0.0})))
    run.weights.named()["stem.weight"][0].zero_()
    seen = measured(run)
    for name in ("cosine", "input_cosine", "skip_branch_cosine"):
        assert not seen[name].any(), name


# What is recorded


@pytest.mark.parametrize("norm", NORMS)
def test_a_recorded_frame_has_every_array_of_the_contract(norm):
    seen = measured(Run(Experiment(**fitting(SMALL | {"norm": norm}))))
    assert seen.keys() - SOMETIMES == set(CLOCK_OF) - SOMETIMES
    states = {
        "act_mean",
        "act_std",
        "act_rms",
        "act_hist",
        "cosine",
        "input_cosine",
        "grad_norm",
        "grad_hist",
        "river",
    }
    for name in set(CLOCKS["probe_step"]) - SOMETIMES:
        assert len(seen[name]) == (4 if name in states else 3), name
        assert seen[name].shape[2 if name == "river" else 1] == 2, name


def test_a_step_that_is_not_recorded_measures_nothing():
    assert set(measured(Run(Experiment(**(SMALL | {"record_every": 0}))))) == {
        "step",
        "loss_train",
        "acc_train",
        "lr",
    }


@pytest.mark.parametrize(
    "dials", [{"norm": norm} for norm in NORMS] + [{"model": model} for model in MODELS], ids=str
)
def test_probe_at_init_equals_autograd_by_hand(dials, by_hand):
    """The gradients of all examples from one Gaussian cotangent, through the net that a run starts with."""
    e = Experiment(**fitting(SMALL | {"seed": 4} | dials))
    positions = [e.positions] if e.positions else []
    seen = probe(e)
    weights = Run(e).weights
    for k, seed in enumerate(e.member_seeds):
        h = torch.randn(16, *positions, 8, generator=generator(seed, "probe input")).requires_grad_()
        states = [h]
        for block in by_hand(weights, e, k).blocks:
            states.append(block(states[-1]))
        seen_by_head = states[-1][:, -1] if e.times else states[-1]
        cotangent = torch.randn(seen_by_head.shape, generator=generator(seed, "probe cotangent"))
        found = torch.autograd.grad(seen_by_head, states, cotangent)
        np.testing.assert_allclose(seen["act_rms"][:, k], [float(rms(s.detach())) for s in states], rtol=1e-5)
        np.testing.assert_allclose(
            seen["grad_norm"][:, k], [float(rms(g.flatten(1).norm(dim=-1))) for g in found], rtol=1e-4
        )
