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
from lnres.layers import generator
from lnres.train import probe

ENDS, COUNTED = 5, 30
PLAIN = {"residual": "none", "layers": 1, "depth": COUNTED + 2 * ENDS, "width": 512, "seeds": 8, "batch": 8}
STREAM = {"width": 512, "seeds": 8, "batch": 8}


def kappa1(c):
    return (np.sqrt(1 - c**2) + c * (math.pi - np.arccos(c))) / math.pi


def kappa0(c):
    return (math.pi - math.acos(c)) / math.pi


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


def test_c03_xavier_and_relu_halve_the_power_per_layer():
    close(1 / rate(power(norm="none", init="xavier", **PLAIN)), 1 / 2)


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


NODES = np.polynomial.hermite_e.hermegauss(99)


def gaussian_mean(f):
    """E f(z) of a standard normal z, by quadrature."""
    z, weight = NODES
    return float((weight * f(z)).sum() / weight.sum())


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(3.0, 0.3), (1.5, 0.2)])
def test_c07_c08_a_tanh_network_settles_and_its_gradient_follows_chi(sigma_w2, sigma_b2):
    q = 1.0
    for _ in range(1000):
        q = sigma_w2 * gaussian_mean(lambda z, q=q: np.tanh(q**0.5 * z) ** 2) + sigma_b2
    chi = sigma_w2 * gaussian_mean(lambda z: np.cosh(q**0.5 * z) ** -4)
    settings = PLAIN | {"norm": "none", "activation": "tanh", "init": "meanfield", "depth": 30}
    settings |= {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    settled = power(**settings)[10:].mean()  # of the activations: E tanh² = (q* - σ_b²) / σ_w²
    close(sigma_w2 * settled + sigma_b2, q)
    close(rate(grad(**settings)), chi)


@pytest.mark.parametrize("batch", [8, 64])
def test_c11_batch_norm_explodes_at_the_rate_of_its_batch_size(batch):
    c = -1 / (batch - 1)
    expected = (kappa0(c) + batch - 1) / ((batch - 3) * (1 - kappa1(c))) - 1 / (batch - 3)
    settings = PLAIN | {"batch": batch, "depth": 25, "seeds": 8, "norm": "batch", "placement": "inner"}
    close(rate(grad(**settings)), expected)


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_c14_layer_norm_before_relu_keeps_the_gradient_for_any_weight_scale(gain):
    close(rate(grad(norm="layer", placement="inner", init="he", gain=gain, **PLAIN)), 1)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(2.0, 0.1), (1.0, 0.5)])
def test_c14_biases_take_their_share(sigma_w2, sigma_b2):
    settings = {"init": "meanfield", "sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    profile = grad(norm="layer", placement="inner", **settings, **PLAIN)
    close(rate(profile), sigma_w2 / (sigma_w2 + 2 * sigma_b2))


@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_c15_layer_norm_behind_relu_explodes_slowly(gain):
    profile = grad(norm="layer", placement="activated", init="he", gain=gain, **PLAIN)
    close(rate(profile), math.pi / (math.pi - 1))


def test_c17_a_bare_skip_doubles_variance_and_gradient_per_block():
    settings = STREAM | {"depth": 20, "norm": "none", "residual": "identity"}
    close(1 / rate(power(**settings)), 2)
    close(rate(grad(**settings)), 2)


def test_c17_if_both_matrices_are_he_it_triples():
    settings = STREAM | {"depth": 20, "norm": "none", "residual": "identity", "init": "he"}
    close(1 / rate(power(**settings)), 3)
    close(rate(grad(**settings)), 3)


@pytest.mark.parametrize("depth", [10, 30])
def test_c18_a_branch_scaled_by_depth_stays_below_e(depth):
    """The total is a rate over all blocks, so the tolerance of a rate holds for its root."""
    settings = STREAM | {"depth": depth, "norm": "none", "residual": "scaled"}
    for profile in (power(**settings)[::-1], grad(**settings)):
        total = float(np.exp(np.log(profile[0] / profile[-1]).mean()))
        close(total, (1 + 1 / depth) ** depth, 0.03)
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
    np.testing.assert_allclose(profile, profile[0] + np.arange(17), rtol=0.03)


def test_c19_pre_norm_gradient_grows_like_the_stream_above():
    profile, v0 = grad(**PRE).mean(1), float(power(**PRE)[0].mean())
    above, here = v0 + np.arange(1, 17), v0 + np.arange(16)
    np.testing.assert_allclose(profile[:-1] / profile[1:], above / here, rtol=0.015)
    close(profile[0] / profile[-1], (v0 + 16) / v0, 0.05)


def test_c21_post_norm_keeps_the_gradient_per_block():
    close(rate(grad(**(PRE | {"placement": "post"}))), 1)


SCHEMES = {
    "bare": ({"norm": "none"}, lambda depth: 2 ** (-depth / 2)),
    "post": ({"norm": "layer", "placement": "post"}, lambda depth: 2 ** (-depth / 2)),
    "pre": ({"norm": "layer", "placement": "pre"}, lambda depth: (depth + 1) ** -0.5),
    "scaled": ({"norm": "none", "residual": "scaled"}, lambda depth: (1 + 1 / depth) ** (-depth / 2)),
    "deepnorm": (
        {"norm": "layer", "placement": "post", "residual": "deepnorm"},
        lambda depth: (1 + 1 / (8 * depth) / (2 * depth) ** 0.5) ** (-depth / 2),  # β⁴ / α²
    ),
}


@pytest.mark.parametrize("depth", [4, 16])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_c24_how_much_of_the_input_the_stream_still_carries(scheme, depth):
    settings, expected = SCHEMES[scheme]
    cosine = measured(**(STREAM | {"depth": depth, "residual": "identity"} | settings))["input_cosine"]
    assert cosine[-1].mean() == pytest.approx(expected(depth), abs=0.01)
