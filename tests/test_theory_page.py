"""What the theory page says is what was measured and what the closed forms say."""

import json
import re

import numpy as np
import pytest

from lnres import measures, theory
from lnres.agreement import FEW, TOLD, agreement, percent, sentence
from lnres.boards import BOARDS, PICTURES, chaos, networks, profiles
from lnres.boards import theory as boards
from lnres.experiment import Experiment
from lnres.figures import VANISHED
from lnres.meanfield import predict
from lnres.measures import MEASURES, complete
from lnres.train import Run, probe

SMALL = {"width": 32, "depth": 12, "nets": 2}
ASKED = {
    "profiles": SMALL | {"batch": 8},
    "waterfall": SMALL | {"batch": 8},
    "carpet": {"width": 32, "depth": 6},
    "chaos": SMALL,
    "exponents": {"width": 16, "nets": 2},
    "batches": {"width": 32, "nets": 2},
}


pytestmark = pytest.mark.usefixtures("measured_here")


def ask(name, **values):
    return json.loads(BOARDS[name].make.answer(ASKED[name] | values))


def numbers(text):
    return [float(n) for n in re.findall(r"[−-]?\d+\.\d+", text.replace("−", "-"))]


def ray(panel, name):
    """The dashed line that belongs to a name."""
    (found,) = (t for t in panel["figure"]["data"] if t.get("name") == name and t.get("line", {}).get("dash"))
    return np.array(found["y"], float)


@pytest.mark.parametrize("name", PICTURES)
def test_theory_stands_first_then_what_is_measured_with_a_sentence_and_an_alternative(name, monkeypatch):
    values = {"profiles": {"steps": 2}}.get(name, {})
    with monkeypatch.context() as patch:
        patch.setattr(networks, "PATIENCE", -1)
        patch.setattr(profiles, "AT_ONCE", -1)
        first = ask(name, **values)
    answer = ask(name, **values)
    assert not answer["more"]
    if first["more"]:
        assert "being m" in first["said"]
        assert first["said"] != answer["said"]
        dashed = [
            {str(t["y"]) for t in panel.get("figure", {"data": []})["data"] if "dash" in t.get("line", {})}
            for panel in (*first["panels"], *answer["panels"])
        ]
        assert any(one and one in dashed[len(first["panels"]) :] for one in dashed[: len(first["panels"])])
    assert first["more"] == (name not in ("carpet", "chaos"))  # these take no time
    assert answer["said"].endswith(".")
    assert all(panel["alt"] for panel in answer["panels"])
    assert set(ASKED) == set(PICTURES)


def test_a_profile_is_the_probe_and_its_ray_the_prediction():
    answer = ask("profiles", skip="identity", norm="layer")
    e = Experiment(norm="layer", residual="identity", width=32, depth=12, seeds=2, batch=8, record_every=0)
    seen = probe(e)
    assert answer["said"] == sentence(e, seen)
    size, gradient, likeness = answer["panels"]
    for panel, array, log in ((size, "act_rms", 2), (gradient, "grad_norm", 2), (likeness, "cosine", 0)):
        values, rows = predict(e, array).values, seen[array].astype(float)
        expected = log * np.log10(values) if log else values
        np.testing.assert_allclose(ray(panel, "theory"), expected, rtol=1e-6, atol=1e-9)
        (line,) = (t for t in panel["figure"]["data"] if t.get("name") == "measured")
        middle = (log * np.log10(rows) if log else rows).mean(1)
        np.testing.assert_allclose(line["y"], middle, rtol=1e-5, atol=1e-6)


def test_after_some_steps_the_profile_is_what_the_run_records_and_the_ray_is_faded():
    answer = ask("profiles", norm="layer", steps=3)
    assert "After 3 steps" in answer["said"]
    run = Run(Experiment(norm="layer", width=32, depth=12, seeds=2, batch=8, record_every=3))
    frame = [next(run)[0] for _ in range(4)][-1]
    (line,) = (t for t in answer["panels"][2]["figure"]["data"] if t.get("name") == "measured")
    np.testing.assert_allclose(line["y"], frame["cosine"][0].mean(1), rtol=1e-5)
    cosine = frame["cosine"][0].mean(1)
    theory_ = predict(Experiment(norm="layer", width=32, depth=12, seeds=2, batch=8), "cosine").values
    off = np.abs(cosine - theory_)
    assert f"likeness of examples {off.max():.2f} at block {off.argmax()}." in answer["said"]
    assert all(t["opacity"] < 1 for p in answer["panels"] for t in p["figure"]["data"] if "opacity" in t)


def test_networks_that_diverged_are_said_to_have():
    answer = ask("profiles", steps=4, sigma=4.0)
    assert answer["said"] == "After 4 steps these networks have diverged: no number is left to be compared."


@pytest.mark.parametrize("many", [1.5, 5], ids=["at once", "one pair of cores after the other"])
@pytest.mark.parametrize(("name", "options"), [("probe", {}), ("trained", {"steps": 2})])
def test_networks_measured_on_all_cores_are_what_each_is_alone(name, options, many, monkeypatch):
    e = Experiment(norm="layer", width=16, depth=4, seeds=5, batch=8, record_every=0)
    make = MEASURES[name].make
    alone = [complete(make(e.replace(seed=seed, seeds=1), {}, **options)) for seed in e.member_seeds]
    monkeypatch.setattr(measures, "LARGE", 0)
    monkeypatch.setattr(measures, "PART", e.cost()[0] / many)
    monkeypatch.setattr(measures.os, "cpu_count", lambda: 2)
    together = complete(make(e, {}, **options))
    assert {"act_rms", "grad_norm", "cosine"} <= set(together)
    for array, found in together.items():
        np.testing.assert_array_equal(found, np.concatenate([one[array] for one in alone], -1), array)


def test_the_last_gradient_is_what_a_run_records():
    e = Experiment(norm="layer", width=16, depth=4, seeds=3, batch=1)
    recorded = next(Run(e.replace(record_every=1)))[0]["weight_grad_norm"][0, -1]
    np.testing.assert_array_equal(complete(MEASURES["last"].make(e, {}))["weight_grad_norm"], recorded)


def test_too_much_training_is_refused_in_words_and_init_is_shown(monkeypatch):
    monkeypatch.setattr(measures, "MOST_TRAINED", 1e6)
    answer = ask("profiles", steps=100)
    assert "take too long here" in answer["said"]
    assert len(answer["panels"]) == 3


def test_the_waterfall_says_the_rates_that_were_measured():
    answer = ask("waterfall", batch=8)
    e = boards.experiment(**boards.FALLS["BN → ReLU"], width=32, depth=12, seeds=2, batch=8, gain=1.0)
    square = probe(e)["grad_norm"].astype(float) ** 2
    rate = np.exp(np.log(square[5] / square[-6]).mean() / 2)
    assert numbers(answer["said"])[0] == pytest.approx(rate, abs=0.005)
    table = answer["panels"][1]["html"]
    for expected in (theory.batchnorm_rate(8), theory.xavier_power() ** 1, theory.bare_rate()):
        assert f"× {expected:.3f}" in table


def test_the_carpet_says_the_cosines_and_draws_c04_and_c32():
    answer = ask("carpet")
    *tiles, lines = answer["panels"]
    assert len(tiles) == 3
    ends = numbers(answer["said"])
    for label, end in zip(boards.CARPETS, ends, strict=True):
        seen = [t for t in lines["figure"]["data"] if t.get("name") == label and t["line"].get("width") == 4]
        assert seen[0]["y"][-1] == pytest.approx(end, abs=0.005)
    np.testing.assert_allclose(ray(lines, "BatchNorm")[1:], theory.batchnorm_cosine(boards.DIGITS))
    e = boards.experiment(residual="none", norm="none", width=32, depth=6)
    start = complete(MEASURES["likeness"].make(e, {}, 40))
    pairs = start["cosines"][0].astype(float)[~np.eye(40, dtype=bool)]
    np.testing.assert_allclose(ray(lines, "no norm")[1], theory.kappa1(pairs).mean(), atol=1e-5)
    side, edge = (np.array(trace["z"], float) for trace in tiles[0]["figure"]["data"][1:])
    first = start["pixels"][0].reshape(8, 8)
    np.testing.assert_allclose(side[:8], first, atol=0.006)
    np.testing.assert_allclose(edge[:, :8], first, atol=0.006)
    meta, cells = tiles[0]["figure"]["layout"]["meta"], np.array(tiles[0]["figure"]["data"][0]["z"], float)
    np.testing.assert_allclose(meta["pictures"], start["pixels"], atol=0.006)
    there = np.isfinite(cells[0])
    np.testing.assert_array_equal(np.array(meta["columns"])[there], np.tile(np.arange(40), there.sum() // 40))


@pytest.mark.parametrize(("dot", "kind"), [((3.0, 0.1), "explode"), ((1.0, 0.2), "vanish")])
def test_the_dot_says_its_rate(dot, kind):
    answer = ask("chaos", dot=dot)
    assert f"gradients {kind}, × {theory.chi1(*dot):.3f} per layer" in answer["said"]
    normed = ask("chaos", dot=dot, ln=True)
    assert f"× {theory.layernorm_tanh_rate(*dot):.3f}" in normed["said"]
    assert "C16" in normed["panels"][0]["title"]


def test_networks_that_start_elsewhere_train_as_those_that_an_experiment_starts_there():
    e = boards.experiment(
        residual="none", norm="none", activation="tanh", width=16, depth=3, batch=8, steps=4
    )
    e = e.replace(init="meanfield", seeds=2)
    options = {"sigma_w2": (0.8, 3.0), "sigma_b2": (0.3, 0.1)}
    found = complete(MEASURES["trainable"].make(e, {}, **options))["accuracy"]
    for k, (w2, b2) in enumerate(zip(*options.values(), strict=True)):
        run = Run(e.replace(seed=e.seed + k, seeds=1, sigma_w2=w2, sigma_b2=b2))
        seen = [next(run)[0]["acc_train"][0, 0] for _ in range(4)]
        assert found[k] == pytest.approx(np.mean(seen), abs=1e-6)


def test_the_plane_is_filled_as_networks_are_trained(monkeypatch):
    monkeypatch.setattr(chaos, "SHORT", chaos.SHORT | {"steps": 2, "width": 16})
    monkeypatch.setattr(networks, "PATIENCE", -1)
    first = ask("chaos", trained=True)
    assert first["more"]
    assert "0 of 72 networks of 12 layers" in first["said"]
    monkeypatch.setattr(networks, "PATIENCE", 1e9)
    answer = ask("chaos", trained=True)
    assert not answer["more"]
    cells = np.array(answer["panels"][0]["figure"]["data"][1]["z"], float)
    assert cells.shape == (chaos.ROWS, chaos.COLUMNS)
    x, y, accuracy = chaos.accuracies({**BOARDS["chaos"].make.values, **ASKED["chaos"]})
    np.testing.assert_allclose(cells, accuracy, atol=1e-3)
    inside = 6 * theory.xi_c(x, y[:, None], 25) >= 12
    assert f"reach {accuracy[inside].mean():.0%} on average" in answer["said"]
    assert f"outside {accuracy[~inside].mean():.0%}." in answer["said"]


def test_contours_stand_where_six_depth_scales_are_so_many_layers():
    u, v = chaos.contours((30,))[30]
    there = np.isfinite(u)
    assert there.sum() > 10
    for a, b in zip(u[there][::4], v[there][::4], strict=True):
        assert 6 * theory.xi_c(a, b) == pytest.approx(30, rel=0.15)


def test_exponents_and_batches_say_what_was_measured():
    said = ask("exponents")["said"]
    slopes = dict(zip(("pre", "post", "deepnorm"), numbers(said), strict=True))
    for scheme in ("pre", "post"):
        made = [boards.measured(boards.experiment(
            **{"residual": "identity"} | boards.SCHEMES[scheme], depth=depth, width=16, seeds=2, batch=1
        ), "last")["weight_grad_norm"] for depth in boards.DEPTHS]  # fmt: skip
        slope = np.polyfit(np.log(np.array(boards.DEPTHS) + 1.0), np.log(made).mean(1), 1)[0]
        assert slopes[scheme] == pytest.approx(slope, abs=0.006)
    answer = ask("batches")
    assert f"theory {theory.batchnorm_rate(16):.2f}" in answer["said"]
    expected = [theory.batchnorm_linear_rate(b) for b in np.geomspace(5, 128, 60)]
    np.testing.assert_allclose(ray(answer["panels"][0], "BatchNorm, linear"), expected)


E = Experiment(norm="layer", width=64, depth=10, seeds=4)


def test_theory_holds_where_the_measurement_is_the_prediction_and_says_by_how_much_it_is_off():
    exact = {name: np.tile(predict(E, name).values[:, None], 4) for name in TOLD}
    assert "within 0 % for the size, 0 % for the gradient and 0.01 for the likeness" in sentence(E, exact)
    off = exact | {"grad_norm": exact["grad_norm"] * 1.04}
    assert agreement(E, "grad_norm", off["grad_norm"]).error == pytest.approx(0.04)
    assert "4 % for the gradient" in sentence(E, off) or "5 % for the gradient" in sentence(E, off)


@pytest.mark.parametrize(
    ("e", "factor", "why"),
    [
        (E.replace(width=1024, seeds=64), 2.0, "not quite"),
        (E.replace(width=8, depth=40), 30.0, "networks of width 8 scatter by"),
        (E.replace(norm="batch", batch=FEW - 1, width=1024), 2.0, "scatter wildly"),
        (E, np.inf, "single precision ends at 3"),
        (E, VANISHED / 1e3, "single precision ends at 10"),
    ],
)
def test_where_theory_breaks_the_block_and_the_reason_are_named(e, factor, why):
    seen = {name: np.tile(predict(e, name).values[:, None], e.seeds) for name in TOLD}
    seen["act_rms"][6:] *= factor
    said = sentence(e, seen)
    assert "breaks here: the size leaves it at block 6" in said
    assert why in said


def test_without_a_closed_form_the_reason_is_the_sentence():
    e = E.replace(residual="highway")
    assert "no closed form is known" in sentence(e, probe(e))


def test_a_percentage_is_rounded_up():
    assert [percent(x) for x in (0.0, 0.031, 1.5)] == ["0 %", "4 %", "a factor of 2.5"]
