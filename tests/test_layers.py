"""Weights with a member axis: where they come from, and that nobody else can change them."""

import itertools

import pytest
import torch
from rows import fitting
from torch.nn import functional as F

from lnres.experiment import Experiment
from lnres.layers import (
    ACTIVATIONS,
    INITS,
    Attention,
    Conv,
    HalvingConv,
    Linear,
    Weights,
    generator,
    second_moment,
)
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS
from lnres.train import Run, probe

STD = {  # of a weight and of a bias, for fan_in, fan_out and the experiment, as the papers have it
    "unit": lambda i, o, e: (i**-0.5, 0.0),
    "he": lambda i, o, e: ((2 / i) ** 0.5, 0.0),
    "xavier": lambda i, o, e: ((2 / (i + o)) ** 0.5, 0.0),
    "lecun": lambda i, o, e: (i**-0.5, 0.0),
    "torch": lambda i, o, e: ((3 * i) ** -0.5, (3 * i) ** -0.5),
    "meanfield": lambda i, o, e: ((e.sigma_w2 / i) ** 0.5, e.sigma_b2**0.5),
    "orthogonal": lambda i, o, e: (max(i, o) ** -0.5, 0.0),
}


def values(run_or_weights):
    weights = getattr(run_or_weights, "weights", run_or_weights)
    return {name: value.clone() for name, (value, _) in weights.named().items()}


def linear(init, fan_in, fan_out, seeds=1, power=1.0, **settings):
    e = Experiment(init=init, **settings)
    weights = Weights(range(seeds))
    layer = Linear(
        weights, "layer", fan_in, fan_out, e.scaled(INITS[init].make(e, fan_in, fan_out, power), 1.0)
    )
    weights.pack()
    return layer, e


@pytest.mark.parametrize(("fan_in", "fan_out"), [(300, 500), (500, 300)])
@pytest.mark.parametrize("init", INITS)
def test_measured_std_is_the_one_that_was_asked_for(init, fan_in, fan_out):
    layer, e = linear(init, fan_in, fan_out, seeds=4, sigma_w2=1.7, sigma_b2=0.3)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    weight_std, bias_std = STD[init](fan_in, fan_out, e)
    assert float(weight.square().mean().sqrt()) == pytest.approx(weight_std, rel=0.01)
    assert float(bias.square().mean().sqrt()) == pytest.approx(bias_std, rel=0.05)
    assert abs(float(weight.mean())) < 0.01 * weight_std


def test_torch_default_equals_torchs_own_bounds():
    ours, theirs = linear("torch", 40, 50, seeds=50)[0], torch.nn.Linear(40, 50)
    bound = 40**-0.5
    assert float(theirs.weight.detach().abs().max()) <= bound
    assert float(ours.weight.detach().abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(ours.bias.detach().abs().max()) == pytest.approx(bound, rel=1e-2)


@pytest.mark.parametrize("init", INITS)
def test_gain_multiplies_weights_not_biases(init):
    plain, doubled = (linear(init, 20, 20, sigma_b2=0.5, gain=gain)[0] for gain in (1.0, 2.0))
    torch.testing.assert_close(doubled.weight, 2 * plain.weight)
    assert torch.equal(doubled.bias, plain.bias)


@pytest.mark.parametrize(
    ("name", "moment"), [("relu", 0.5), ("identity", 1.0), ("tanh", 0.394294), ("gelu", 0.425216)]
)
def test_second_moment_of_known_activations(name, moment):
    assert second_moment(ACTIVATIONS[name].make().__call__) == pytest.approx(moment, rel=0.005)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_second_moment_is_that_of_many_draws(activation):
    f = ACTIVATIONS[activation].make()
    drawn = f(torch.randn(10**6, generator=generator("moment"))).square().mean()
    assert second_moment(f.__call__) == pytest.approx(float(drawn), rel=0.01)


def homogeneous(activation):
    f, z = ACTIVATIONS[activation].make(), torch.linspace(-3, 3, 7)
    return torch.equal(f(2 * z), 2 * f(z))


@pytest.mark.parametrize(
    ("activation", "layers"),
    [(name, layers) for name in ACTIVATIONS for layers in (1, 2) if layers == 2 or homogeneous(name)],
)
def test_unit_branch_keeps_the_second_moment(activation, layers):
    """With one layer only where f(az) = a f(z): a bounded activation cannot make up for what it takes."""
    e = Experiment(depth=1, width=512, layers=layers, norm="none", residual="none", activation=activation,
                   init="unit", batch=64, seeds=8)  # fmt: skip
    size = probe(e)["act_rms"]
    assert float((size[1] / size[0]).mean()) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_where_an_activation_is_called_flat_its_slope_is_small(activation):
    f = ACTIVATIONS[activation].make()
    z = torch.linspace(-9, 9, 3001).requires_grad_()
    (slope,) = torch.autograd.grad(f(z).sum(), z)
    flat = f.flat(z.detach(), torch.empty_like(z))
    assert set(flat.unique().tolist()) <= {0.0, 1.0}
    assert slope[flat == 1].abs().le(1 - 0.97**2 + 1e-4).all()
    assert torch.equal(flat[[0, -1]], slope[[0, -1]].abs().lt(0.05).float())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("init", INITS)
def test_members_draw_what_they_would_draw_alone(init, norm):
    settings = fitting({"depth": 2, "width": 6, "init": init, "norm": norm, "sigma_b2": 0.2})
    together = values(Run(Experiment(seed=3, seeds=4, **settings)))
    for k in range(4):
        alone = values(Run(Experiment(seed=3 + k, seeds=1, **settings)))
        assert together.keys() == alone.keys()
        assert all(torch.equal(together[name][k], alone[name][0]) for name in alone)


@pytest.mark.parametrize(
    "other",
    [
        {"norm": "none"},
        {"norm": "batch"},
        {"placement": "post"},
        {"residual": "none"},
        {"depth": 5},
        {"layers": 1},
        {"activation": "tanh"},
        {"optimizer": "adam"},
        {"batch": 7},
    ],
    ids=str,
)
def test_two_experiments_share_every_weight_whose_name_and_shape_agree(other):
    settings = {"depth": 3, "width": 6, "seeds": 2, "init": "lecun"}
    a, b = values(Run(Experiment(**settings))), values(Run(Experiment(**(settings | other))))
    shared = [name for name in a.keys() & b.keys() if a[name].shape == b[name].shape]
    assert len([name for name in shared if name.endswith("weight")]) >= 5
    assert all(torch.equal(a[name], b[name]) for name in shared)


def test_different_seeds_names_and_keys_draw_different_numbers():
    drawn = [torch.randn(4, generator=generator(*key)) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1)]]
    assert len({tuple(each.tolist()) for each in drawn}) == 4


def test_a_generator_is_untouched_by_what_others_draw():
    before = torch.randn(4, generator=generator(5, "a"))
    torch.manual_seed(1)
    torch.randn(100)
    assert torch.equal(torch.randn(4, generator=generator(5, "a")), before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_all_parameters_live_in_one_flat_buffer(optimizer):
    run = Run(Experiment(depth=2, width=6, seeds=3, optimizer=optimizer))
    next(run)
    low, high = run.weights.flat.data_ptr(), run.weights.flat.data_ptr() + 4 * run.weights.flat.numel()
    spans = sorted((v.data_ptr(), v.data_ptr() + 4 * v.numel()) for v, _ in run.weights.named().values())
    assert all(low <= start < end <= high for start, end in spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    assert all(value.is_contiguous() for value, _ in run.weights.named().values())
    assert run.weights.flat.numel() % 64 == 0


def test_padding_stays_zero():
    run = Run(Experiment(depth=1, width=3, seeds=1, optimizer="adamw", weight_decay=0.1))
    for _ in range(5):
        next(run)
    used = sum(value.numel() for value, _ in run.weights.named().values())
    assert used < run.weights.flat.numel()
    assert not run.weights.flat.detach()[used:].any()


LAW = 0.3, 0.1, "normal"
LAYERS = {
    "conv 2 to 4": lambda weights: Conv(weights, "layer", 2, 4, LAW),
    "conv 8 to 8": lambda weights: Conv(weights, "layer", 8, 8, LAW),
    "conv 24 to 16": lambda weights: Conv(weights, "layer", 24, 16, LAW),
    "conv 8 to 16, halving": lambda weights: HalvingConv(weights, "layer", 8, 16, LAW),
    "attention 8 / 2": lambda weights: Attention(weights, "layer", 8, 2, LAW, LAW),
    "attention 16 / 16": lambda weights: Attention(weights, "layer", 16, 16, LAW, LAW),
}
FEATURES = {"conv 2 to 4": 2, "conv 24 to 16": 24, "attention 16 / 16": 16}


def passed(name, seeds, x, key="g"):
    """Output, gradient of the input and of every parameter, for members of these seeds."""
    weights = Weights(seeds)
    layer = LAYERS[name](weights)
    weights.pack()
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(torch.stack([torch.randn(y.shape[1:], generator=generator(s, key)) for s in seeds]))
    return y.detach(), x.grad, *(gradient for _, gradient in weights.named().values())


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_a_member_of_a_layer_over_positions_equals_the_layer_alone(name, batch):
    shape = batch, 16, FEATURES.get(name, 8)
    x = torch.stack([torch.randn(shape, generator=generator(s, "x")) for s in range(5)])
    together = passed(name, range(5), x)
    for k in (0, 4):
        for ours, alone in zip(together, passed(name, [k], x[k : k + 1]), strict=True):
            assert torch.equal(ours[k], alone[0])


@pytest.mark.parametrize("name", LAYERS)
def test_nan_in_one_member_leaves_the_others_alone(name):
    x = torch.randn(3, 6, 16, FEATURES.get(name, 8), generator=generator("x"))
    whole = passed(name, range(3), x)
    x[1] = torch.nan
    for with_nan, without in zip(passed(name, range(3), x), whole, strict=True):
        assert torch.equal(with_nan[::2], without[::2])
        assert with_nan[1].isnan().any() or torch.equal(with_nan[1], without[1])  # a bias's does not see x


@pytest.mark.parametrize(("batch", "side"), [(6, 8), (7, 5)])
def test_convolution_and_its_gradients_are_torchs(batch, side):
    weights = Weights(range(2))
    layer = Conv(weights, "layer", 3, 5, LAW)
    weights.pack()
    x = torch.randn(2, batch, side * side, 3, generator=generator("x")).requires_grad_()
    y = layer(x)
    cotangent = torch.randn(y.shape, generator=generator("g"))
    y.backward(cotangent)
    gradients = weights.named()
    for k in range(2):
        image = x[k].detach().mT.unflatten(2, (side, side)).requires_grad_()
        kernel = layer.weight[k].detach().unflatten(0, (3, 3, 3)).permute(3, 2, 0, 1).requires_grad_()
        bias = layer.bias[k, 0].detach().requires_grad_()
        expected = F.conv2d(image, kernel, bias, padding=1)
        expected.backward(cotangent[k].mT.unflatten(2, (side, side)))
        torch.testing.assert_close(y[k], expected.flatten(2).mT, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.grad[k], image.grad.flatten(2).mT, rtol=1e-5, atol=1e-5)
        ours = gradients["layer.weight"][1][k].unflatten(0, (3, 3, 3)).permute(3, 2, 0, 1)
        torch.testing.assert_close(ours, kernel.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradients["layer.bias"][1][k, 0], bias.grad, rtol=1e-4, atol=1e-4)
