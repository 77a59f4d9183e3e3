"""What ``probe`` measures at initialization against closed forms (shared science notes, section 3).

Conditions of all rows: independent Gaussian weights, no biases, γ = 1, β = 0, wide. A rate is per layer,
counted towards the input, over all layers but the first and last five; the tolerance is 1.5 % for a rate,
0.01 for a cosine, and 3 % for a single state of the stream.
"""

import math
from functools import lru_cache

import numpy as np
import pytest
import torch

from lnres.experiment import Experiment
from lnres.layers import Weights, generator
from lnres.models import MODELS
from lnres.probes import Tape
from lnres.theory import (
    LAST_GRADIENT,
    WRITTEN,
    bare_rate,
    batchnorm_cosine,
    batchnorm_linear_rate,
    batchnorm_rate,
    c_star,
    chi1,
    critical_sigma_w2,
    gradient_cosine,
    input_cosine,
    kappa1,
    layernorm_rate,
    layernorm_tanh_rate,
    postlayernorm_rate,
    prebatchnorm_gradient,
    prelayernorm_gradient,
    prelayernorm_power,
    q_star,
    recurrent_rate,
    relu_layernorm_rate,
    relu_power,
    scaled_total,
    xavier_power,
)
from lnres.train import Run, probe

ENDS, COUNTED = 5, 30
PLAIN = {"residual": "none", "layers": 1, "depth": COUNTED + 2 * ENDS, "width": 512, "seeds": 8, "batch": 8}
STREAM = {"width": 512, "seeds": 8, "batch": 8}


@lru_cache
def measured(**settings):
    return {name: array.astype(float) for name, array in probe(Experiment(**settings)).items()}


def grad(**settings):
    return measured(**settings)["grad_norm"] ** 2


def power(**settings):
    return measured(**settings)["act_rms"] ** 2


def rate(profile):
    """Geometric mean over nets of the growth per layer towards the input."""
    a, b = profile[ENDS], profile[-1 - ENDS]
    return float(np.exp(np.log(a / b).mean() / (len(profile) - 1 - 2 * ENDS)))


def close(value, expected, tolerance=0.015):
    assert value == pytest.approx(expected, rel=tolerance)


NARROW = {"norm": "none", "init": "he", "residual": "none", "layers": 1, "depth": 20, "width": 64, "batch": 1}


def test_c01_c02_he_keeps_the_mean_power_and_what_it_scatters():
    """Of the layers of hundreds of narrow nets; a layer behind ReLU scatters by 5/n."""
    nets = [power(**NARROW, seeds=64, seed=first) for first in range(0, 512, 64)]
    ratios = np.concatenate([(net[2:] / net[1:-1]).ravel() for net in nets])
    close(ratios.mean(), relu_power())
    close(64 * ratios.var(), 5, 0.05)


def test_c03_xavier_and_relu_halve_the_power_per_layer():
    close(1 / rate(power(norm="none", init="xavier", **PLAIN)), xavier_power())


@pytest.mark.parametrize(("norm", "init"), [("none", "he"), ("layer", "he")])
def test_c04_relu_draws_all_inputs_together(norm, init):
    """The mean pairwise cosine follows κ1 from every measured pair of inputs."""
    settings = {**PLAIN, "seeds": 40, "depth": 12, "norm": norm, "init": init, "placement": "inner"}
    cosine = measured(**settings)["cosine"].mean(1)
    x = torch.stack(
        [torch.randn(8, 512, generator=generator(seed, "probe input")) for seed in range(40)]
    ).double()
    x = x / x.norm(dim=-1, keepdim=True)
    pairs = (x @ x.mT)[:, ~torch.eye(8, dtype=torch.bool)].numpy()
    for layer in range(13):
        assert cosine[layer] == pytest.approx(pairs.mean(), abs=0.01), layer
        pairs = kappa1(pairs)


@pytest.mark.parametrize("batch", [8, 128])
def test_c32_batch_norm_keeps_all_inputs_apart(batch):
    settings = PLAIN | {"batch": batch, "depth": 25, "norm": "batch", "placement": "inner"}
    cosine = measured(**settings)["cosine"].mean(1)
    np.testing.assert_allclose(cosine[1:], batchnorm_cosine(batch), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("residual", "placement"), [("none", "inner"), ("scaled", "pre"), ("identity", "pre")]
)
def test_c05_gradients_of_different_inputs_turn_apart(residual, placement):
    """From the same cotangent for all inputs, with unit branches W2 ReLU(W1 h)."""
    norm = {"none": "none", "scaled": "none", "identity": "layer"}[residual]
    e = Experiment(depth=6, width=512, batch=6, seeds=24, norm=norm, residual=residual,
                   placement=placement, alpha=1.0)  # fmt: skip
    weights = Weights(e.member_seeds)
    model = MODELS["mlp"].make(weights, e, e.width, 1)
    weights.pack()
    x = torch.stack([torch.randn(6, 512, generator=generator(s, "input")) for s in e.member_seeds])
    x.requires_grad_()
    u = torch.stack([torch.randn(1, 512, generator=generator(s, "cotangent")) for s in e.member_seeds])
    model.stream(x).backward(u.expand_as(x))
    apart = ~torch.eye(6, dtype=torch.bool)

    def cosines(rows):
        rows = rows.detach().double() / rows.detach().double().norm(dim=-1, keepdim=True)
        return (rows @ rows.mT)[:, apart].numpy()

    skips = {"none": [0] * 6, "scaled": [1] * 6, "identity": range(1, 7)}[residual]
    expected = gradient_cosine(cosines(x), skips)
    assert cosines(x.grad).mean() == pytest.approx(expected.mean(), abs=0.02)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(3.0, 0.3), (1.5, 0.2)])
def test_c07_c08_a_tanh_network_settles_and_its_gradient_follows_chi(sigma_w2, sigma_b2):
    settings = PLAIN | {"norm": "none", "activation": "tanh", "init": "meanfield", "depth": 30}
    settings |= {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    settled = power(**settings)[10:].mean()  # of the activations: E tanh² = (q* - σ_b²) / σ_w²
    close(sigma_w2 * settled + sigma_b2, q_star(sigma_w2, sigma_b2))
    close(rate(grad(**settings)), chi1(sigma_w2, sigma_b2))


def test_c06_on_the_critical_line_the_tanh_gradient_keeps_its_size():
    settings = {"norm": "none", "activation": "tanh", "init": "meanfield", "sigma_b2": 0.05}
    settings |= {"sigma_w2": critical_sigma_w2(0.05)}
    close(rate(grad(**(PLAIN | {"depth": 50} | settings))), 1)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(3.0, 0.3), (4.0, 0.05), (1.5, 0.2)])
def test_c10_tanh_inputs_meet_at_a_correlation_of_their_own(sigma_w2, sigma_b2):
    """Two chaotic points and an ordered one, where all inputs become one."""
    settings = PLAIN | {"norm": "none", "activation": "tanh", "init": "meanfield", "depth": 40}
    seen = measured(**settings, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    size, alike = seen["act_rms"][-15:] ** 2, seen["cosine"][-15:]  # of the activations
    among = (sigma_w2 * size * alike + sigma_b2) / (sigma_w2 * size + sigma_b2)  # of the pre-activations
    assert among.mean() == pytest.approx(c_star(sigma_w2, sigma_b2), abs=0.01)


def test_c09_c10_in_the_ordered_phase_inputs_meet_at_the_rate_of_the_gradient():
    """1 - c shrinks by χ1 per layer: the depth scale is -1/log χ1 for both."""
    settings = PLAIN | {"norm": "none", "activation": "tanh", "init": "meanfield", "depth": 30}
    settings |= {"sigma_w2": 1.5, "sigma_b2": 0.2}
    apart = 1 - measured(**settings)["cosine"].mean(1)
    close((apart[20] / apart[10]) ** 0.1, rate(grad(**settings)), 0.03)


@pytest.mark.parametrize("batch", [5, 8, 64])
def test_c12_batch_norm_of_a_linear_network_explodes_too(batch):
    settings = PLAIN | {"batch": batch, "depth": 25, "norm": "batch", "activation": "identity"}
    close(rate(grad(**settings, placement="inner")), batchnorm_linear_rate(batch))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_dropout_lets_signal_and_gradient_grow_by_what_it_scales_up(share):
    """A layer behind ReLU and dropout has 1/(1-p) times the power, in both directions."""
    settings = PLAIN | {"norm": "none", "init": "he", "batch": 32, "dropout": share}
    close(1 / rate(power(**settings)), 1 / (1 - share))
    close(rate(grad(**settings)), 1 / (1 - share))


@pytest.mark.parametrize("batch", [8, 64])
def test_c11_batch_norm_explodes_at_the_rate_of_its_batch_size(batch):
    settings = PLAIN | {"batch": batch, "depth": 25, "seeds": 8, "norm": "batch", "placement": "inner"}
    close(rate(grad(**settings)), batchnorm_rate(batch))


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_c14_layer_norm_before_relu_keeps_the_gradient_for_any_weight_scale(gain):
    close(rate(grad(norm="layer", placement="inner", init="he", gain=gain, **PLAIN)), layernorm_rate())


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(2.0, 0.1), (1.0, 0.5)])
def test_c14_biases_take_their_share(sigma_w2, sigma_b2):
    settings = {"init": "meanfield", "sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    profile = grad(norm="layer", placement="inner", **settings, **PLAIN)
    close(rate(profile), layernorm_rate(sigma_w2, sigma_b2))


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_c15_layer_norm_behind_relu_explodes_slowly(gain):
    profile = grad(norm="layer", placement="activated", init="he", gain=gain, **PLAIN)
    close(rate(profile), relu_layernorm_rate())


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(2.0, 0.0), (2.0, 0.1), (1.0, 0.5)])
def test_c16_layer_norm_before_tanh_depends_on_the_ratio_of_the_variances(sigma_w2, sigma_b2):
    settings = {"init": "meanfield", "sigma_w2": sigma_w2, "sigma_b2": sigma_b2, "activation": "tanh"}
    profile = grad(norm="layer", placement="inner", **settings, **PLAIN)
    close(rate(profile), layernorm_tanh_rate(sigma_w2, sigma_b2))


@pytest.mark.parametrize("norm", ["layer", "rms", "batch"])
def test_c30_behind_the_weights_a_norm_makes_their_scale_a_matter_of_the_gradient_alone(norm):
    """f(aW) = f(W) and ‖grad W‖ = a ‖grad aW‖, with no part of it along W."""
    runs = []
    for gain in (1.0, 4.0):
        runs.append(Run(Experiment(depth=3, width=16, layers=1, residual="none", placement="inner", norm=norm,
                                   gain=gain, eps=0, batch=16, seeds=2)))  # fmt: skip
        next(runs[-1])
    for name, (_, gradient) in runs[0].weights.named().items():
        if name.startswith("blocks") and name.endswith("weight"):
            torch.testing.assert_close(gradient, 4 * runs[1].weights.named()[name][1], rtol=1e-3, atol=1e-6)
            w = Run(runs[0].experiment).weights.named()[name][0].detach()
            cosine = (w * gradient).sum((1, 2)) / w.norm(dim=(1, 2)) / gradient.norm(dim=(1, 2))
            assert cosine.abs().max() < 1e-4


def test_c17_a_bare_skip_doubles_variance_and_gradient_per_block():
    settings = STREAM | {"depth": 20, "norm": "none", "residual": "identity"}
    close(1 / rate(power(**settings)), bare_rate())
    close(rate(grad(**settings)), bare_rate())


def test_c17_if_both_matrices_are_he_it_triples():
    settings = STREAM | {"depth": 20, "norm": "none", "residual": "identity", "init": "he"}
    close(1 / rate(power(**settings)), bare_rate(branch=2))
    close(rate(grad(**settings)), bare_rate(branch=2))


@pytest.mark.parametrize("depth", [10, 30])
def test_c18_a_branch_scaled_by_depth_stays_below_e(depth):
    """The total is a rate over all blocks, so the tolerance of a rate holds for its root."""
    settings = STREAM | {"depth": depth, "norm": "none", "residual": "scaled"}
    for profile in (power(**settings)[::-1], grad(**settings)):
        total = float(np.exp(np.log(profile[0] / profile[-1]).mean()))
        close(total, scaled_total(depth), 0.03)
        assert total < math.e


PRE = STREAM | {
    "width": 256,
    "seeds": 48,
    "batch": 16,
    "depth": 16,
    "norm": "layer",
    "placement": "pre",
    "residual": "identity",
}


def test_c19_pre_norm_adds_one_unit_of_variance_per_block():
    profile = power(**PRE).mean(1)
    np.testing.assert_allclose(profile, prelayernorm_power(16, profile[0]), rtol=0.03)


def test_c19_pre_norm_gradient_grows_like_the_stream_above():
    profile, v0 = grad(**PRE).mean(1), float(power(**PRE)[0].mean())
    expected = prelayernorm_gradient(16, v0)
    np.testing.assert_allclose(profile[:-1] / profile[1:], expected[:-1] / expected[1:], rtol=0.015)
    close(profile[0] / profile[-1], expected[0], 0.05)


@pytest.mark.parametrize("depth", [8, 32])
def test_c20_pre_batch_norm_gradients_grow_faster_than_pre_layer_norms(depth):
    settings = PRE | {"norm": "batch", "batch": 256, "depth": depth, "seeds": 8}
    np.testing.assert_allclose(power(**settings).mean(1), 1 + np.arange(depth + 1), rtol=0.03)
    profile, expected = grad(**settings).mean(1), prebatchnorm_gradient(depth)[0]
    assert math.log(profile[0] / profile[-1]) == pytest.approx(math.log(expected), rel=0.03)


def test_c21_post_norm_keeps_the_gradient_per_block():
    close(rate(grad(**(PRE | {"placement": "post"}))), postlayernorm_rate())


@pytest.mark.parametrize(("placement", "exponent"), LAST_GRADIENT.items())
def test_c22_how_the_last_gradient_depends_on_depth(placement, exponent):
    """Of the last block's second matrix, one example a net: (L+1)^(-1/2) with a final norm, or constant."""
    sizes, depths = [], np.array([2, 8, 24])
    for depth in depths.tolist():
        e = Experiment(
            depth=depth, width=64, placement=placement, batch=1, seeds=64, final_norm=placement == "pre"
        )
        sizes.append(float((next(Run(e))[0]["weight_grad_norm"][0, -1] ** 2).mean() ** 0.5))
    slope = np.polyfit(np.log(depths + 1), np.log(sizes), 1)[0]
    assert slope == pytest.approx(exponent, abs=0.03)


@pytest.mark.parametrize("depth", [2, 6])
def test_c23_what_a_layer_of_a_transformer_adds_to_its_stream(depth):
    """All variances 1/n: the MLP adds 1/2, attention between 0 (all the same) and 1 (each its own)."""
    settings = {"model": "transformer", "depth": depth, "width": 64, "heads": 1, "init": "lecun", "seeds": 64}
    steps = np.diff(power(norm="layer", placement="pre", batch=2, **settings).mean(1))
    assert steps[1::2].mean() == pytest.approx(0.5, rel=0.1)
    assert ((steps[::2] > 0) & (steps[::2] < 1)).all()


def test_c35_attention_without_a_skip_makes_all_positions_alike():
    """‖H - mean row‖/‖H‖: without a skip each layer takes it down, faster and faster; a skip holds it."""

    def spread(residual):
        e = Experiment(
            model="transformer", depth=4, width=64, norm="none", residual=residual, seeds=4, batch=4
        )
        weights, tape = Weights(e.member_seeds), Tape()
        model = MODELS["transformer"].make(weights, e, 64, 1)
        weights.pack()
        model.stream(
            torch.stack([torch.randn(4, 16, 64, generator=generator(s)) for s in e.member_seeds]), tape
        )
        return [float(((h - h.mean(2, keepdim=True)).norm() / h.norm()).detach()) for h in tape.states]

    alone, held = spread("none"), spread("identity")
    assert alone[-1] < 1e-3 < 0.3 < held[-1]
    assert (np.diff(np.log(alone[:7:2]), 2) < 0).all()


@pytest.mark.parametrize("radius", [0.8, 1.1])
def test_c36_a_linear_recurrence_multiplies_the_gradient_by_its_radius_each_step(radius):
    settings = {"model": "rnn", "activation": "identity", "norm": "none", "residual": "none", "depth": 1}
    profile = measured(**STREAM, **settings, gain=radius)["time_grad_norm"]
    steps = len(profile) - 1
    close(float(np.exp(np.log(profile[0] / profile[-1]).mean() / steps)), recurrent_rate(radius))


SCHEMES = {
    "bare": {"norm": "none"},
    "post": {"norm": "layer", "placement": "post"},
    "pre": {"norm": "layer", "placement": "pre"},
    "scaled": {"norm": "none", "residual": "scaled"},
    "deepnorm": {"norm": "layer", "placement": "post", "residual": "deepnorm"},
}


@pytest.mark.parametrize("depth", [4, 16])
@pytest.mark.parametrize("scheme", WRITTEN)
def test_c24_how_much_of_the_input_the_stream_still_carries(scheme, depth):
    settings = STREAM | {"depth": depth, "residual": "identity"} | SCHEMES[scheme]
    cosine = measured(**settings)["input_cosine"]
    assert cosine[-1].mean() == pytest.approx(input_cosine(scheme, depth), abs=0.01)
