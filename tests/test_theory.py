"""The closed forms themselves: numbers known from elsewhere, limits, and torch where it can be the oracle."""

import math
import re

import numpy as np
import pytest
import torch

from lnres import theory
from lnres.theory import THEORIES


def test_every_row_says_its_formula_and_its_conditions():
    assert sorted(THEORIES) == [*(f"C{i:02}" for i in range(1, 37)), "MF"]
    for name in THEORIES:
        row = THEORIES[name]
        assert row.formula, name
        assert row.about.endswith("."), name
        assert row.formula.count("{") == row.formula.count("}"), name
        assert not re.search(r"\d{4}", row.about), f"{name}: a paper belongs into its own column"


@pytest.mark.parametrize(
    ("value", "expected", "tolerance"),
    [
        (theory.kappa1(0), 1 / math.pi, 1e-12),
        (theory.kappa1(1), 1, 1e-12),
        (theory.kappa0(-1), 0, 1e-12),
        (theory.critical_sigma_w2(0.05), 1.76, 1e-3),  # Schoenholz et al. 2017
        (theory.chi1(0.5, 0), 0.5, 1e-6),
        (theory.q_star(0.5, 0), 0, 1e-6),
        (theory.batchnorm_rate(1e7), math.pi / (math.pi - 1), 1e-6),
        (theory.batchnorm_cosine(10**7), 1 / math.pi, 1e-6),
        (theory.batchnorm_depth(10**7), 41.8, 1e-2),
        (theory.scaled_total(10**6), math.e, 1e-5),
        (sum(theory.path_shares([0.5] * 54)[5:18]), 0.0045, 0.01),  # Veit et al. 2016
        (sum(theory.path_counts(54)[5:18]) / 2**54, 0.0045, 0.01),
        (theory.fixup_scale(16), 1 / 4, 1e-12),
        (theory.deepnorm(8)[0] ** 4 * theory.deepnorm(8)[1] ** 4, 1 / 4, 1e-12),
        (theory.deepnorm_pair(1, 27)[1][0], 3, 1e-12),
        (theory.dropout_shift(0), 1, 1e-12),
        (theory.xi1(1.5, 0.2), theory.xi_c(1.5, 0.2), 1e-9),  # in the ordered phase both are one
        (theory.xi1(1.5, 0.0) / theory.xi_c(1.5, 0.0), 0.5, 0.15),  # beyond it inputs move apart half as fast
        (theory.layernorm_power(2.0, 0.5)[0], 0.8, 1e-12),
        (theory.relu_scatter(500, 100), 0.01, 1e-12),
        (theory.rotation(0.1, 0.05), 0.1, 1e-12),
        (theory.recurrent_rate(0.9), 0.9, 1e-12),
    ],
)
def test_numbers_known_from_elsewhere(value, expected, tolerance):
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("scheme", theory.WRITTEN)
def test_the_shares_of_a_stream_sum_to_all_of_it(scheme):
    shares = theory.stream_shares(theory.WRITTEN[scheme](7))
    assert shares.shape == (8,)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(theory.input_cosine(scheme, 7) ** 2)


def test_of_pre_norm_every_block_owns_the_same():
    np.testing.assert_allclose(theory.stream_shares(theory.WRITTEN["pre"](9)), 0.1)


def test_paths_of_pre_norm_are_a_harmonic_number_long():
    taken = 1 / np.arange(2, 14)
    share = theory.path_shares(taken)
    assert share.sum() == pytest.approx(1)
    assert share @ np.arange(13) == pytest.approx(taken.sum())


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_c28_the_derivative_of_layer_norm(eps):
    x = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = torch.autograd.functional.jacobian(
        lambda x: torch.nn.functional.layer_norm(x, (9,), eps=eps), x
    ).numpy()
    expected = theory.layernorm_jacobian(x.numpy(), eps)
    np.testing.assert_allclose(seen, expected, atol=1e-12)
    assert np.linalg.matrix_rank(expected, tol=1e-9) == (8 if eps else 7)
    s2 = float(x.var(correction=0))
    along = (x - x.mean()).numpy() / s2**0.5 / 3
    assert along @ expected @ along == pytest.approx(theory.layernorm_power(s2, eps)[1], abs=1e-12)


@pytest.mark.parametrize("batch", [2, 5])
def test_c29_the_variance_of_a_batch_is_biased(batch):
    x = torch.randn(100_000, batch, generator=torch.Generator().manual_seed(1))
    assert float(x.var(1, correction=0).mean()) == pytest.approx(theory.batch_variance(batch), rel=0.01)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_c31_dropout_shifts_the_variance_that_batch_norm_learns(p):
    g = torch.Generator().manual_seed(1)
    z = torch.randn(400_000, generator=g).relu()
    kept = (torch.rand(400_000, generator=g) >= p) / (1 - p)
    assert float(z.var() / (z * kept).var()) == pytest.approx(theory.dropout_shift(p), rel=0.01)
