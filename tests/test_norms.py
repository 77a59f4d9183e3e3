"""Every norm against torch's, and the properties that tell one norm from another."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rows import fitting
from torch import nn
from torch.nn import functional as F

from lnres.experiment import Experiment
from lnres.layers import Weights
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.train import Run, probe

SEEDS = 3
OF_WEIGHTS = [name for name in NORMS if NORMS[name].make.over == "w"]
STANDING = [name for name in NORMS if name not in OF_WEIGHTS]
REAL = [name for name in STANDING if name != "none"]
ALONE = [name for name in REAL if "b" not in NORMS[name].make.over]
ROUNDING = 2.0**-24


def draw(*shape, key=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(key), dtype=dtype)


def shaped(name, rows, features, key=0):
    """An input with positions if the norm needs them."""
    return draw(SEEDS, rows, *([36] if name == "instance" else []), features, key=key)


def build(name, features, **settings):
    """A norm with random γ and β for each member."""
    weights = Weights(range(SEEDS))
    e = Experiment(**fitting({"norm": name, "width": features} | settings))
    norm = NORMS[name].make(weights, "norm", features, e)
    weights.pack()
    for key, (value, _) in enumerate(weights.named().values()):
        value += draw(*value.shape, key=100 + key)
    return norm


LEARNED = ("gain", "shift", "slope", "offset")


class Torch:
    """torch's norm for one member of ``norm``; it keeps running statistics of its own.

    ScaleNorm, DynamicTanh and Derf, which torch lacks, are written out.
    """

    def __init__(self, name, norm, member, eps=1e-5):
        self.name, self.eps, self.member = name, eps, member
        for part in LEARNED:
            ours = getattr(norm, part, None)
            setattr(self, part, None if ours is None else ours[member, 0].detach().clone().requires_grad_())
        self.groups = getattr(norm, "groups", None)
        if name == "batch":
            self.mean, self.var = torch.zeros(norm.features), torch.ones(norm.features)

    def __call__(self, x, training=True):
        if x.ndim == 3 and self.name in ("batch", "group", "instance"):  # torch wants features at axis 1
            return self.apply(x.mT, training).mT
        return self.apply(x, training)

    def apply(self, x, training):
        return {
            "none": lambda: x,
            "group": lambda: F.group_norm(x, self.groups, self.gain, self.shift, self.eps),
            "instance": lambda: F.instance_norm(x, weight=self.gain, bias=self.shift, eps=self.eps),
            "scale": lambda: self.gain * x / x.norm(dim=-1, keepdim=True),
            "dyt": lambda: self.gain * torch.tanh(self.slope * x) + self.shift,
            "derf": lambda: self.gain * torch.erf(self.slope * x + self.offset) + self.shift,
            "layer": lambda: F.layer_norm(x, x.shape[-1:], self.gain, self.shift, self.eps),
            "rms": lambda: F.rms_norm(x, x.shape[-1:], self.gain, self.eps),
            "batch": lambda: F.batch_norm(
                x, self.mean, self.var, self.gain, self.shift, training, momentum=0.1, eps=self.eps
            ),
        }[self.name]()


SHAPES = [(5, 7), (32, 64), (33, 10), (2, 3), (5, 4, 6), (3, 16, 8)]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("name", "shape"), [(n, s) for n in STANDING for s in SHAPES if n != "instance" or len(s) == 3], ids=str
)
def test_forward_and_backward_equal_torch(name, shape, training):
    """With positions, (B, P, n), and without, where InstanceNorm cannot be."""
    features = shape[-1]
    norm = build(name, features)
    references = [Torch(name, norm, k) for k in range(SEEDS)]
    if name != "none":  # give what remembers something to remember
        for step in range(3):
            x = draw(SEEDS, *shape, key=10 + step) * 2 + 1
            norm(x)
            for k, reference in enumerate(references):
                reference(x[k])
        norm.weights.training = training
    x = (draw(SEEDS, *shape, key=2) * 1.5 + 0.5).requires_grad_()
    cotangent = draw(SEEDS, *shape, key=3)
    y = norm(x)
    trained = [getattr(norm, part) for part in LEARNED if hasattr(norm, part)]
    ours = torch.autograd.grad(y, [x, *trained], cotangent)
    for k, reference in enumerate(references):
        x_k = x[k].detach().requires_grad_()
        expected = reference(x_k, training)
        torch.testing.assert_close(y[k], expected, rtol=1e-5, atol=1e-5)
        wanted = [x_k, *(p for p in (getattr(reference, part) for part in LEARNED) if p is not None)]
        for got, want in zip(ours, torch.autograd.grad(expected, wanted, cotangent[k]), strict=True):
            torch.testing.assert_close(got[k].view_as(want), want, rtol=1e-5, atol=2e-5)


def test_batch_norm_remembers_what_torch_remembers():
    norm, reference = build("batch", 6), nn.BatchNorm1d(6)
    for step in range(5):
        x = draw(SEEDS, 9, 6, key=step) * 3 - 1
        norm(x)
        reference(x[1])
    torch.testing.assert_close(norm.running_mean[1, 0], reference.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var[1, 0], reference.running_var, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_evaluation_leaves_no_trace(name):
    norm, x = build(name, 6), shaped(name, 9, 6)
    norm.weights.training = False
    before = norm(x)
    norm(shaped(name, 9, 6, key=1) * 3 + 1)
    assert torch.equal(norm(x), before)


@pytest.mark.parametrize("offset", [0, 100, 10_000])
@pytest.mark.parametrize("name", REAL)
def test_an_input_offset_costs_no_more_than_rounding(name, offset):
    """Against torch in float64 on the same rounded input: fp32 knows the mean to offset · 2⁻²⁴ or so."""
    norm = build(name, 64)
    x = (shaped(name, 32, 64) + offset).requires_grad_()
    cotangent = shaped(name, 32, 64, key=1)
    y = norm(x)
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    for k in range(SEEDS):
        reference = Torch(name, norm, k)
        for part in (*LEARNED, "mean", "var"):
            if torch.is_tensor(getattr(reference, part, None)):
                setattr(reference, part, getattr(reference, part).detach().double())
        exact = x[k].detach().double().requires_grad_()
        expected = reference(exact)
        (expected_gradient,) = torch.autograd.grad(expected, exact, cotangent[k].double())
        tolerance = 1e-5 + 16 * ROUNDING * offset
        torch.testing.assert_close(y[k].double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(gradient[k].double(), expected_gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("offset", [0, 100])
@pytest.mark.parametrize("name", REAL)
def test_what_runs_equals_the_equation_that_is_shown(name, offset):
    norm, twin = build(name, 33), build(name, 33)
    x = shaped(name, 17, 33) * 2 + offset
    torch.testing.assert_close(
        norm.normalize(x), twin.equation(x), rtol=1e-5, atol=1e-6 + 8 * ROUNDING * offset
    )


@pytest.mark.parametrize("name", STANDING)
def test_only_norms_over_the_batch_let_examples_touch_each_other(name):
    norm = build(name, 16)
    x = shaped(name, 8, 16)
    others = torch.cat([x[:, :1], shaped(name, 7, 16, key=1) * 3], 1)
    same = torch.equal(norm(x)[:, 0], norm(others)[:, 0])
    assert same == ("b" not in NORMS[name].make.over)


@pytest.mark.parametrize("name", STANDING)
def test_members_do_not_touch_each_other(name):
    norm, alone = build(name, 16), build(name, 16)
    x = shaped(name, 8, 16)
    others = torch.cat([x[:1], x[1:] * 5 + 1])
    assert torch.equal(norm(x)[0], alone(others)[0])


@pytest.mark.parametrize("name", ALONE)
def test_an_example_alone_gets_what_it_gets_in_a_batch(name):
    norm, x = build(name, 16), shaped(name, 8, 16)
    assert torch.equal(norm(x)[:, :1], norm(x[:, :1]))


@pytest.mark.parametrize("name", REAL)
def test_without_the_affine_nothing_is_trained(name):
    norm = build(name, 5, affine=False)
    x = shaped(name, 8, 5)
    assert norm.weights.named().keys() <= {"norm.slope", "norm.offset"}  # inside the function: no affine
    assert torch.equal(norm(x), build(name, 5, affine=False).normalize(x))


@pytest.mark.parametrize("name", REAL)
def test_gain_and_shift_start_where_the_experiment_says(name):
    weights = Weights(range(2))
    norm = NORMS[name].make(
        weights, "norm", 4, Experiment(**fitting({"norm": name, "gamma": 0.25, "beta": -3}))
    )
    weights.pack()
    length = 2.0 if name == "scale" else 1.0  # ScaleNorm's one gain is a length, √n
    assert torch.equal(norm.gain, torch.full((2, 1, 1 if name == "scale" else 4), 0.25 * length))
    assert not norm.shifts or torch.equal(norm.shift, torch.full((2, 1, 4), -3.0))


@pytest.mark.parametrize("eps", [1e-3, 0.5])
@pytest.mark.parametrize("name", ["layer", "rms", "batch", "group", "instance"])
def test_epsilon_stands_inside_the_root(name, eps):
    norm, x = build(name, 12, eps=eps), shaped(name, 9, 12) * 0.5
    for k in range(SEEDS):
        expected = Torch(name, norm, k, eps)(x[k])
        torch.testing.assert_close(norm(x)[k], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(norm.rescale(norm.equation(x))[k], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_epsilon_is_the_shortest_length_that_scale_norm_divides_by(affine):
    norm, x = build("scale", 4, eps=0.5, affine=affine), draw(SEEDS, 6, 4)
    x = x / x.norm(dim=-1, keepdim=True) * 0.25
    gain = norm.gain if affine else 2.0
    torch.testing.assert_close(norm(x), gain * x / 0.5)


# Norms of weights


def layers_of(norm, model="mlp", width=6, seeds=SEEDS, **settings):
    """A network whose weights pass through a norm, and the matrices of its first block."""
    settings = {"model": model, "depth": 2, "width": width, "heads": 2, "norm": norm} | settings
    run = Run(Experiment(seeds=seeds, **settings))
    branch = run.model.blocks[0].branch
    if attention := getattr(branch, "attention", None):
        return run, {"first": attention.ask, "last": attention.tell}
    if hasattr(branch, "recurrent"):
        return run, {
            "input": branch.input,
            "recurrent": SimpleNamespace(weight=branch.recurrent, norm=branch.norm),
        }
    return run, {"first": branch.first, "last": branch.last}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_a_net_starts_with_the_weights_it_would_have_without_the_norm(name, model):
    """So that nothing but the norm differs; standardization takes each unit's mean away."""
    (_, normed), (_, plain) = layers_of(name, model), layers_of("none", model)
    for place, layer in normed.items():
        expected = plain[place].weight
        if name == "standardized":
            expected = expected - expected.mean(1, keepdim=True)
        torch.testing.assert_close(layer.norm(layer.weight), expected, rtol=1e-3, atol=1e-6)  # ε
        torch.testing.assert_close(layer.norm.gain, layer.norm.size(expected))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_norms_of_weights_stand_nowhere_else(name, model):
    (one, maps), (other, _) = (layers_of(name, model, placement=p) for p in ("pre", "every"))
    assert one.weights.named().keys() == other.weights.named().keys()
    assert one.weights.named().keys() - layers_of("none", model)[0].weights.named().keys() == {
        f"blocks.{i}.{place}.gain" for i in range(len(one.model.blocks)) for place in maps
    }
    for _ in range(2):
        assert next(one)[0]["loss_train"].tolist() == next(other)[0]["loss_train"].tolist()
    assert "pre" not in one.experiment.label()


def test_weight_norm_is_torchs():
    """Value and gradients, of a linear map and of a convolution."""
    for model, kind in [("mlp", lambda: nn.Linear(6, 6)), ("conv", lambda: nn.Conv2d(6, 6, 3, padding=1))]:
        _, layers = layers_of("weight", model)
        ours = layers["first"]
        cotangent = draw(*ours.weight.shape, key=4)
        got = torch.autograd.grad(ours.norm(ours.weight), [ours.weight, ours.norm.gain], cotangent)
        for k in range(SEEDS):
            theirs = kind()

            def as_theirs(w, shape=theirs.weight.shape):
                return w.T if len(shape) == 2 else w.unflatten(0, (3, 3, -1)).permute(3, 2, 0, 1)

            theirs.weight.data.copy_(as_theirs(ours.weight[k].detach()))
            theirs = nn.utils.parametrizations.weight_norm(theirs)
            g, v = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
            torch.testing.assert_close(ours.norm.gain[k, 0], g.flatten())
            wanted = torch.autograd.grad(theirs.weight, [v, g], as_theirs(cotangent[k]))
            torch.testing.assert_close(as_theirs(got[0][k]), wanted[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(got[1][k, 0], wanted[1].flatten(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_standardized_weights_have_mean_0_and_the_spread_of_their_gain(affine):
    run, layers = layers_of("standardized", width=32, affine=affine, gamma=3.0)
    for layer in layers.values():
        assert ("blocks.0.first.gain" in run.weights.named()) == affine
        layer.weight.data += 5  # a mean does not matter
        w, plain = layer.norm(layer.weight), layer.norm.equation(layer.weight)
        assert w.mean(1).abs().max() < 1e-5
        torch.testing.assert_close(plain.std(1, correction=0), torch.ones(SEEDS, 32), rtol=1e-3, atol=0)
        torch.testing.assert_close(w.std(1, correction=0), layer.norm.gain[:, 0], rtol=1e-3, atol=0)
        start = 3 * (1 if layer is layers["first"] else 2**0.5) / 32**0.5
        assert float(layer.norm.gain.detach().mean()) == pytest.approx(start, rel=0.05)


@pytest.mark.parametrize("name", OF_WEIGHTS)
@pytest.mark.parametrize("settings", [{"residual": "fixup"}, {"zero_last": True}, {"gain": 0.0}], ids=str)
def test_weights_that_start_at_zero_have_a_direction_and_leave_zero(name, settings):
    run, layers = layers_of(name, **settings)
    last = layers["last"]
    assert not last.norm(last.weight).any()
    assert (last.weight.norm(dim=1) > 0).all()
    for _ in range(3):
        next(run)
    assert torch.isfinite(run.weights.flat).all()
    assert (last.norm(last.weight).norm(dim=1) > 0).any() or "gain" in settings  # nothing flows there yet


def jacobian(f, x):
    return torch.autograd.functional.jacobian(lambda v: f(v[None, None])[0, 0], x)


@pytest.mark.parametrize("how", ["normalize", "equation"])
@pytest.mark.parametrize("eps", [0.0, 1e-2])
def test_layer_norm_jacobian_removes_two_directions(how, eps):
    """C28: (1/σ)(I - 11ᵀ/d - x̂x̂ᵀ/d), with ε an eigenvalue ε/(s²+ε)^1.5 along x̂."""
    d = 12
    norm, x = build("layer", d, eps=eps), draw(d, dtype=torch.float64) * 0.4 + 2
    centred = x - x.mean()
    variance = centred.square().mean()
    unit, ones = centred / centred.norm(), torch.ones(d, dtype=torch.float64) / d**0.5
    along = eps / (variance + eps) ** 1.5
    plane = torch.eye(d, dtype=torch.float64) - torch.outer(ones, ones) - torch.outer(unit, unit)
    expected = plane / (variance + eps).sqrt() + along * torch.outer(unit, unit)
    torch.testing.assert_close(jacobian(getattr(norm, how), x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("how", ["normalize", "equation"])
@pytest.mark.parametrize(("name", "rank"), [("layer", 10), ("rms", 11)])
def test_rank_of_the_jacobian(name, rank, how):
    """C28: LayerNorm stops two directions of twelve, RMSNorm one; the others share one scale."""
    norm, x = build(name, 12, eps=0.0), draw(12, dtype=torch.float64) + 1
    scale = (x - (x.mean() if name == "layer" else 0)).square().mean().sqrt()
    sizes = torch.linalg.svdvals(jacobian(getattr(norm, how), x))
    assert sizes[rank:].max() < 1e-12
    torch.testing.assert_close(sizes[:rank], (1 / scale).expand(rank), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("name", ["layer", "rms"])
def test_epsilon_ends_scale_invariance_for_tiny_inputs(name, scale):
    """C28: the output's power is s²/(s²+ε)."""
    norm, x = build(name, 64), draw(1, 1, 64, dtype=torch.float64) * scale
    power = (x - (x.mean() if name == "layer" else 0)).square().mean()
    torch.testing.assert_close(
        norm.normalize(x).square().mean(), power / (power + 1e-5), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(("name", "rows", "features"), [("batch", 2, 9), ("layer", 9, 2)])
def test_two_values_become_plus_and_minus_one_and_stop_the_gradient(name, rows, features):
    """C29: whatever the two were, so nothing below can learn."""
    norm, axis = build(name, features, eps=0.0), 1 if name == "batch" else 2
    x = draw(SEEDS, rows, features).requires_grad_()
    y = norm.normalize(x)
    (gradient,) = torch.autograd.grad(y, x, draw(SEEDS, rows, features, key=1))
    torch.testing.assert_close(y.abs(), torch.ones_like(y), rtol=0, atol=1e-5)
    gap = x.detach().amax(axis, keepdim=True) - x.detach().amin(axis, keepdim=True)
    assert (gradient * gap).abs().max() < 1e-4  # against 2 for a map that only divides by σ


def test_a_network_with_batch_norm_and_two_examples_passes_no_gradient_on():
    """C29: what is left comes from ε and rounding."""
    e = Experiment(norm="batch", placement="inner", residual="none", layers=1, batch=2, depth=3, width=64,
                   eps=0, init="he", seeds=4, activation="identity")  # fmt: skip
    seen = probe(e)
    assert (seen["grad_norm"][:-1] < 1e-3 * seen["grad_norm"][-1]).all()
    np.testing.assert_allclose(seen["act_rms"][1:], 1, rtol=1e-4)  # ±1 everywhere


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_group_norm_between_layer_norm_and_instance_norm(groups):
    """C33: one group is LayerNorm without positions, a group per feature InstanceNorm with positions."""
    norm, x = build("group", 8, groups=groups, affine=False), draw(SEEDS, 5, 9, 8)
    if groups == 8:
        torch.testing.assert_close(norm(x), build("instance", 8, affine=False)(x))
    if groups == 1:
        torch.testing.assert_close(norm(x[:, :, 0]), build("layer", 8, affine=False)(x[:, :, 0]))
    torch.testing.assert_close(norm.normalize(x), norm.equation(x))


@pytest.mark.parametrize("name", REAL)
def test_c33_a_shifted_image_is_normalized_to_the_shifted_result(name):
    """γ and β are of features, not of positions."""
    norm, x = build(name, 8), draw(SEEDS, 4, 64, 8)

    def shifted(t):
        return t.unflatten(2, (8, 8)).roll((3, 5), (2, 3)).flatten(2, 3)

    torch.testing.assert_close(norm(shifted(x)), shifted(norm(x)), rtol=1e-5, atol=1e-6)


def test_batch_norm_may_test_with_statistics_of_the_batch():
    for running in (True, False):
        norm, x = build("batch", 6, running=running), draw(SEEDS, 9, 6) * 3 + 1
        trained = norm(x)
        norm.weights.training = False
        assert torch.allclose(norm(x), trained) != running


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_batch_norm_remembers_as_fast_as_it_is_told(momentum):
    norm, reference = build("batch", 6, norm_momentum=momentum), nn.BatchNorm1d(6, momentum=momentum)
    for step in range(3):
        x = draw(SEEDS, 9, 6, key=step) * 3 - 1
        norm(x)
        reference(x[1])
    torch.testing.assert_close(norm.running_mean[1, 0], reference.running_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var[1, 0], reference.running_var, rtol=1e-5, atol=1e-6)


def test_batch_norm_of_one_example_is_beta():
    """C29."""
    norm = build("batch", 5)
    assert torch.equal(norm(draw(SEEDS, 1, 5)), norm.shift.expand(SEEDS, 1, 5))


def test_batch_norm_gradients_cancel_over_the_batch():
    """C29: their sum is 0, and so is their sum weighted by the centred input."""
    norm, x = build("batch", 7, eps=0.0), draw(SEEDS, 16, 7).requires_grad_()
    (gradient,) = torch.autograd.grad(norm(x), x, draw(SEEDS, 16, 7, key=1))
    centred = x - x.mean(1, keepdim=True)
    assert gradient.abs().mean() > 0.1
    assert gradient.sum(1).abs().max() < 1e-5
    assert (gradient * centred).sum(1).abs().max() < 1e-5
