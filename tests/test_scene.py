"""What is compared, and which of them is a fork of which."""

import pytest

from lnres.experiment import Experiment
from lnres.scene import Scene


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
