"""The microscope shows what the norms compute, and its lines of code compute the same."""

import html
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from lnres.boards import BOARDS
from lnres.boards.formula import number
from lnres.boards.microscope import CODE, STEPS, Scene, lines
from lnres.norms import NORMS
from lnres.slices import SLICED, slices

BOARD = BOARDS["microscope"].make
HARD = {"eps": 0.5, "gamma": -1.5, "beta": 2.0, "groups": "4"}


def panels(**values):
    return {panel["name"]: panel for panel in json.loads(BOARD.answer(values))["panels"]}


def plain(text):
    return html.unescape(re.sub("<[^>]*>", "", text))


@pytest.mark.parametrize("step", [1, STEPS])
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("kind", ["vectors", "positions"])
@pytest.mark.parametrize("name", SLICED)
def test_any_number_is_calculated_by_hand(name, kind, way, step):
    for evaluation in (False, True)[: 1 + (name == "batch")]:
        values = {"norm": name, "batch": kind, "way": way, "step": step, "evaluation": evaluation, **HARD}
        scene, shown = Scene.of(BOARD.check(values)), panels(**values)
        assert "exactly" in shown["hand"]["html"] or re.search(r"to \de-1[4-9]", shown["hand"]["html"])
        last = {"forward": scene.told.y, "backward": scene.told.back}[way][scene.cell]
        assert plain(shown["hand"]["html"]).split("=")[-1].startswith(plain(number(last)))
        hues = np.array(shown["batch"]["table"]["hues"]).reshape(scene.x.shape)
        assert np.array_equal(hues, slices(NORMS[name].make.over, scene.x.shape, 4))


@pytest.mark.parametrize("name", SLICED)
def test_who_moves_when_one_example_does(name):
    moving = "others move too" in panels(norm=name)["movers"]["title"]
    assert moving == ("b" in NORMS[name].make.over)


def test_remembered_statistics_couple_nobody():
    assert "nobody else moves" in panels(norm="batch", evaluation=True)["movers"]["title"]


@pytest.mark.parametrize("kind", ["vectors", "positions"])
@pytest.mark.parametrize("name", CODE)
def test_the_lines_of_code_compute_what_is_shown(name, kind):
    v = BOARD.check({"norm": name, "batch": kind, "eps": 0.5, "groups": "4"})
    scene = Scene.of(v)
    told = lines(name, scene.x.shape, v["eps"], int(v["groups"]))
    x, g = torch.from_numpy(scene.x).float(), scene.x.shape[-1] ** 0.5
    assert np.allclose(eval(told.torch, {"nn": nn, "x": x, "g": g}).detach(), scene.told.y, atol=1e-5)
    there = {"np": np, "x": scene.x, "g": g, "gamma": 1.0, "beta": 0.0}
    exec(told.numpy, there)
    assert np.allclose(there["y"], scene.told.y)


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on torch, in numbers of 64 bits; its settings go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras
    keras.config.set_floatx("float64")
    return keras


@pytest.mark.parametrize("kind", ["vectors", "positions"])
@pytest.mark.parametrize("name", CODE)
def test_the_lines_of_keras_compute_what_is_shown(name, kind, keras):
    v = BOARD.check({"norm": name, "batch": kind, "eps": 0.5, "groups": "4"})
    scene = Scene.of(v)
    told = lines(name, scene.x.shape, v["eps"], int(v["groups"]))
    x, g = keras.ops.convert_to_tensor(scene.x), scene.x.shape[-1] ** 0.5
    there = {"layers": keras.layers, "ops": keras.ops, "x": x, "g": g}
    y = eval(told.keras, there)
    np.testing.assert_allclose(y.detach().numpy(), scene.told.y, rtol=1e-6, atol=1e-6)
    if made := re.match(r"layers\.\w+", told.keras):
        default = eval(made[0], there)().epsilon
        assert float(re.search(r"Keras (1e-\d)", told.note)[1]) == default


@pytest.mark.parametrize("axes", ["layer", "batch"])
def test_three_numbers_land_on_a_circle_and_two_on_two_points(axes):
    made = BOARDS["shape"].make
    for radius in (1e-5, 1.0, 10.0):
        told = json.loads(made.answer({"axes": axes, "morph": 1.0, "radius": radius}))
        assert re.search(r"within \de-1[4-9]", told["said"])
    (two,) = (panel["figure"]["data"] for panel in told["panels"] if panel["name"] == "two")
    cloud = next(trace for trace in two if "customdata" in trace)
    assert np.allclose(np.sum([cloud["x"], cloud["y"]], axis=0), 0)


def test_every_norm_is_shown_with_its_lines_of_code_or_it_is_said_why_not():
    assert set(CODE) == set(SLICED)
    said = panels()["code"]["html"]
    assert all(NORMS[name].label in said for name in set(NORMS) - set(SLICED))


def test_a_number_written_and_a_row_moved_are_in_the_batch():
    v = {"edits": [[2, 3, -7.5], [31, 7, 1.0]], "cell": [1, 0], "line": "row", "offset": 2.0, "scale": 10.0}
    before, after = Scene.of(BOARD.check({})).x, Scene.of(BOARD.check(v)).x
    assert after[2, 3] == -7.5
    assert np.array_equal(after[1], 10 * before[1] + 2)
    assert np.array_equal(np.delete(after, [1, 2], 0), np.delete(before, [1, 2], 0))


def test_running_statistics_start_at_zero_and_one():
    scene = Scene.of(BOARD.check({"norm": "batch", "evaluation": True, "seen": 0}))
    assert np.allclose(scene.told.y, scene.x / np.sqrt(1 + 1e-5))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-2.5, "−2.5"), (1234.5, "1234"), (0.00123, "0.00123"), (1e-5, "10−5"),
     (-3.21e-8, "−3.21·10−8"), (2e7, "2·107"), (float("nan"), "nan"), (0.99999, "1"), (-0.0, "0"),
     (-1.4e-17, "0")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert plain(number(value)) == text


def drawn(field, rng):
    """Some value of a control, more often than not at an end."""
    return {
        "slider": lambda: field.check(
            type(field.value)(rng.choice([field.low, field.high, rng.uniform(field.low, field.high)]))
        ),
        "toggle": lambda: bool(rng.integers(2)),
        "pick": lambda: str(rng.choice(list(field.options))),
        "index": lambda: [int(rng.integers(n)) for n in field.below],
        "cells": lambda: [[i, i % 4, float(rng.choice([0, 1e3, -1e3]))] for i in range(rng.integers(9))],
    }[field.kind]()


@pytest.mark.parametrize("name", ["microscope", "shape"])
def test_whatever_a_hand_sets_is_answered_in_numbers_that_agree(name):
    made, rng = BOARDS[name].make, np.random.default_rng(0)
    for _ in range(60):
        told = made.answer({field.name: drawn(field, rng) for field in made.fields})
        assert "nan" not in told.lower()
        for error in re.findall(r"(?:to|within) (\de[+-]\d+)", told):
            assert float(error) < 1e-6
