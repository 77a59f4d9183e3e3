"""What is compared, and which of them is a fork of which."""

from urllib.parse import urlencode

import pytest

from lnres.experiment import Experiment
from lnres.scene import CONTRASTS, MOST, Scene


def parents(*changes, **others):
    scene = Scene([Experiment(changes=told, **others) for told in changes])
    return [scene.parent(i) for i in range(len(changes))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["", ""], [None, None]),
        (["", "120.lr.0.1"], [None, (0, 120)]),
        (["120.lr.0.1", ""], [(1, 120), None]),
        (["300.lr.0.2", "120.lr.0.1"], [None, (0, 120)]),
        (["", "120.lr.0.1", "120.lr.0.1--200.dropout.0.5"], [None, (0, 120), (1, 200)]),
        (["", "120.lr.0.1", "120.lr.0.2"], [None, (0, 120), (0, 120)]),
        (["50.lr.0.3", "50.lr.0.3--120.lr.0.1"], [None, (0, 120)]),
    ],
)
def test_a_fork_knows_where_it_comes_from(changes, expected):
    assert parents(*changes) == expected


def test_another_network_is_no_parent():
    scene = Scene([Experiment(norm="rms"), Experiment(changes="120.lr.0.1")])
    assert scene.parent(1) is None
    assert scene.origin(1) == ""


def test_an_origin_is_said_in_words():
    assert Scene([Experiment(), Experiment(changes="1200.lr.0.1")]).origin(1) == "fork of A at step 1,200"


FIRSTS = {
    "the default": {},
    "without a norm": {"norm": "none", "residual": "scaled"},
    "a convnet": {"model": "conv", "depth": 4, "width": 8, "norm": "instance"},
    "tokens": {"model": "transformer", "depth": 4, "width": 32, "optimizer": "adam", "lr": 0.003},
    "points": {"data": "spirals", "batch": 2},
    "the limits": {"depth": 1000, "width": 2, "batch": 1, "lr": 100.0},
    "nothing": {"depth": 1, "lr": 0.0},
}


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("first", FIRSTS)
def test_a_contrast_changes_exactly_one_thing(first, name):
    e = Experiment(**FIRSTS[first])
    scene = Scene.contrast(e, name)
    assert scene.experiments[0] == e
    assert len(set(scene.experiments)) == len(scene.experiments) <= MOST
    assert e.differing(*scene.experiments[1:]) == [name][: len(scene.experiments) - 1]
    assert len(scene.differences()) == min(1, len(scene.experiments) - 1)
    assert Scene.parse(f"?{urlencode(scene.query())}").experiments == scene.experiments


@pytest.mark.parametrize("name", CONTRASTS)
def test_every_contrast_of_the_default_has_something_to_show(name):
    assert len(Scene.contrast(Experiment(), name).experiments) > 1


def test_where_no_norm_is_its_place_is_no_contrast():
    assert len(Scene.contrast(Experiment(norm="none"), "placement").experiments) == 1
