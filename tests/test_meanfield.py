"""What theory predicts of an experiment: the closed forms exactly, and real networks within their scatter."""

import numpy as np
import pytest

from lnres import theory
from lnres.blocks import PLACEMENTS
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS, INITS
from lnres.meanfield import QUANTITIES, foreseeable, foreseen, predict, predicted
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.residuals import RESIDUALS
from lnres.theory import THEORIES
from lnres.train import Run, probe

PLAIN = {"residual": "none", "layers": 1, "depth": 40, "width": 1024}
SKIP = {"residual": "identity", "layers": 2, "depth": 12, "width": 1024}
UP = np.arange(13)
WIDE = 1022 / 1021  # what a LayerNorm over 1024 features adds to the rate


def rate(e, quantity="grad_norm", at=20):
    values = predict(e, quantity).values
    return float((values[at] / values[at + 1]) ** 2)


@pytest.mark.parametrize(
    ("settings", "row", "expected"),
    [
        ({"norm": "none", "init": "he"}, "C01", 1),
        ({"norm": "none", "init": "xavier"}, "C03", theory.xavier_power()),
        ({"norm": "batch", "placement": "inner", "batch": 5}, "C11", theory.batchnorm_rate(5)),
        ({"norm": "batch", "placement": "inner", "batch": 64, "gain": 3.0}, "C11", theory.batchnorm_rate(64)),
        (
            {"norm": "batch", "placement": "inner", "batch": 8, "activation": "identity"},
            "C12",
            theory.batchnorm_linear_rate(8),
        ),
        ({"norm": "layer", "placement": "inner", "gain": 0.5}, "C14", WIDE),
        (
            {
                "norm": "layer",
                "placement": "inner",
                "init": "meanfield",
                "sigma_w2": 1.0,
                "sigma_b2": 0.5,
            },
            "C14",
            theory.layernorm_rate(1.0, 0.5) * WIDE,
        ),
        ({"norm": "layer", "placement": "activated"}, "C15", theory.relu_layernorm_rate() * WIDE),
    ],
)
def test_a_rate_is_the_closed_form_of_the_row_that_is_named(settings, row, expected):
    e = Experiment(**PLAIN | settings, eps=0)
    assert predict(e, "grad_norm").theory == row
    assert rate(e) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(3.0, 0.3), (1.5, 0.2)])
def test_a_tanh_network_settles_where_the_closed_forms_say(sigma_w2, sigma_b2):
    settings = {"activation": "tanh", "init": "meanfield", "sigma_w2": sigma_w2, "sigma_b2": sigma_b2}
    e = Experiment(**PLAIN | settings | {"depth": 160}, norm="none")
    q = sigma_w2 * predict(e, "act_rms").values[-1] ** 2 + sigma_b2
    assert q == pytest.approx(theory.q_star(sigma_w2, sigma_b2), rel=1e-4)
    assert rate(e) == pytest.approx(theory.chi1(sigma_w2, sigma_b2), rel=1e-4)
    product = predict(e, "cosine").values[-1] * predict(e, "act_rms").values[-1] ** 2
    assert (sigma_w2 * product + sigma_b2) / q == pytest.approx(theory.c_star(sigma_w2, sigma_b2), abs=1e-3)
    normed = Experiment(**PLAIN | settings, norm="layer", placement="inner", eps=0)
    assert rate(normed) == pytest.approx(theory.layernorm_tanh_rate(sigma_w2, sigma_b2), rel=5e-3)


@pytest.mark.parametrize(
    ("settings", "row", "power", "gradient"),
    [
        ({"norm": "none"}, "C17", 2.0**UP, 2.0 ** UP[::-1]),
        ({"norm": "none", "residual": "scaled"}, "C18", (13 / 12) ** UP, (13 / 12) ** UP[::-1]),
        ({"norm": "layer"}, "C19", 1 + UP, theory.prelayernorm_gradient(12)),
        ({"norm": "batch", "batch": 1024}, "C20", 1 + UP, theory.prebatchnorm_gradient(12)),
        ({"norm": "layer", "placement": "post"}, "C21", UP**0, UP**0),
    ],
)
def test_a_stream_is_the_closed_form_of_the_row_that_is_named(settings, row, power, gradient):
    e = Experiment(**SKIP | settings, eps=0)
    assert predict(e, "grad_norm").theory == row
    np.testing.assert_allclose(predict(e, "act_rms").values ** 2, power, rtol=1e-3)
    np.testing.assert_allclose(predict(e, "grad_norm").values ** 2 / 1024, gradient, rtol=0.02)


SCHEMES = {
    "bare": {"norm": "none"},
    "post": {"placement": "post"},
    "pre": {},
    "scaled": {"norm": "none", "residual": "scaled"},
    "deepnorm": {"placement": "post", "residual": "deepnorm"},
}


@pytest.mark.parametrize("scheme", theory.WRITTEN)
def test_what_is_left_of_the_input_is_c24(scheme):
    e = Experiment(**SKIP | SCHEMES[scheme], eps=0)
    seen = predict(e, "input_cosine")
    assert seen.theory == "C24"
    assert seen.values[-1] == pytest.approx(theory.input_cosine(scheme, 12), rel=1e-6)


def test_cosines_are_c04_and_c32():
    seen = predict(Experiment(**PLAIN, norm="none", init="he"), "cosine").values
    np.testing.assert_allclose(seen[1:], theory.kappa1(seen[:-1]), rtol=1e-9)
    e = Experiment(**PLAIN, norm="batch", placement="inner", batch=8)
    np.testing.assert_allclose(predict(e, "cosine").values[1:], theory.batchnorm_cosine(8), rtol=1e-9)


# Of every registry each row, within an otherwise common network; what cannot be predicted says why.
COMMON = {"width": 256, "depth": 6, "seeds": 8, "batch": 32, "placement": "pre"}
POINTS = [
    *({"norm": name, "placement": "inner"} for name in NORMS if name != "instance"),
    *({"norm": name} for name in NORMS if name != "instance"),
    *({"norm": norm, "placement": name} for name in PLACEMENTS for norm in ("layer", "batch")),
    *({"residual": name} for name in RESIDUALS),
    *({"activation": name, "norm": norm} for name in ACTIVATIONS for norm in ("none", "batch")),
    *({"init": name, "norm": "none", "layers": 1, "residual": "none"} for name in INITS),
    *({name: value, "norm": "batch"} for name, value in (("dropout", 0.3), ("gamma", 2.0), ("cut", 3))),
    {"norm": "layer", "norm_gain": 0.5, "skip_gain": 0.8, "eps": 0.1},
    {"norm": "layer", "placements": "3-post_5-inner", "cut": "2_4", "skip_gains": "1-0.5"},
    {"norm": "none", "drop_branch": 2, "skip_gain": 0.5, "gain_block": 4},
    {"norm": "batch", "placement": "inner", "batch": 8, "residual": "none", "layers": 1},
    {"norm": "group", "groups": 16, "placement": "inner", "residual": "none", "layers": 1},
]


@pytest.mark.parametrize("settings", POINTS, ids=lambda s: " ".join(map(str, s.values())))
def test_networks_do_what_is_predicted_or_it_says_why_nothing_is(settings):
    e = Experiment(**COMMON | settings)
    said = predicted(e)
    assert set(said) == set(QUANTITIES)
    measured = probe(e)
    for name, prediction in said.items():
        if prediction.values is None:
            assert prediction.why.endswith("."), name
            continue
        assert prediction.theory in THEORIES
        seen, values = measured[name].astype(float).mean(1), prediction.values
        scale = said["act_rms"].values if name == "act_mean" else 1.0 if "cosine" in name else values
        np.testing.assert_allclose((seen - values) / np.where(scale, scale, 1), 0, atol=0.1, err_msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "layer"},
        {"norm": "none", "scaler": "none"},
        {"norm": "batch", "residual": "none", "layers": 1, "placement": "inner"},
        {"norm": "layer", "placement": "post", "activation": "tanh"},
    ],
)
def test_what_is_laid_over_a_run_is_what_its_first_probe_has(settings):
    """From its own h_0, whose data theory does not know, and of the gradient its own size."""
    e = Experiment(depth=8, width=256, seeds=4, **settings)
    seen, _ = next(Run(e))
    told = foreseen(e, seen)
    assert set(told) == {"theory_step", *(f"{name}_theory" for name in foreseeable(e))}
    for name in ("act_std", "cosine", "grad_norm"):
        theory, measured = told[f"{name}_theory"], seen[name].astype(float)
        assert theory.shape == measured.shape
        scale = 1 if name == "cosine" else theory[0].mean(1)
        off = (measured[0].mean(1) - theory[0].mean(1)) / scale
        np.testing.assert_allclose(off[1:], 0, atol=0.15)
        assert abs(off[0]) < 0.3  # digits are not equally long, and a norm takes the gradient by 1/length


NONE = (
    ({"residual": "highway"}, "gate"), ({"model": "rnn"}, "choose model=mlp"), ({"record_every": 0}, ""),
    ({"norm": "batch", "placement": "post"}, "not normally distributed"),  # only who walks the blocks sees it
)  # fmt: skip


@pytest.mark.parametrize(("settings", "why"), NONE)
def test_nothing_is_laid_over_a_run_where_nothing_is_predicted_and_why_is_said(settings, why):
    e = Experiment(depth=2, width=8, seeds=2, batch=8, **settings)
    assert foreseen(e, next(Run(e))[0]) == {}
    assert all(why in told.why for told in foreseeable(e).values())


UNKNOWN = [
    *({"model": name} for name in MODELS if name != "mlp"),
    {"residual": "highway"},
    {"beta": 0.5},
    {"drop_path": 0.2},
    {"norm": "batch", "eps": 0.5},
    {"norm": "batch", "placement": "activated"},
    {"norm": "dyt", "placement": "post"},
    {"norm": "batch", "batch": 8, "activation": "gelu", "placement": "inner"},
]


@pytest.mark.parametrize("settings", UNKNOWN, ids=lambda s: " ".join(map(str, s.values())))
def test_where_no_closed_form_is_known_a_sentence_says_so(settings):
    seen = predict(Experiment(depth=4, **settings), "act_rms")
    assert seen.values is None
    assert seen.why.endswith(".")


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "batch", "batch": 4},
        {"norm": "none", "layers": 1},
        {"norm": "group", "groups": 16, "placement": "activated", "layers": 1, "residual": "none"},
    ],
)
def test_there_are_states_with_a_theory_whose_gradients_have_none(settings):
    e = Experiment(depth=4, **settings)
    assert predict(e, "act_rms").values is not None
    assert predict(e, "grad_norm").values is None


def test_a_quantity_without_theory_names_those_that_have_one():
    with pytest.raises(ValueError, match=r"'loss'.*act_rms"):
        predict(Experiment(), "loss")
