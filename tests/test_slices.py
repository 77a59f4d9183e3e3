"""Normalization by hand agrees with the norms and with autograd, and slices are what the axes say."""

import numpy as np
import pytest
import torch

from lnres.norms import NORMS
from lnres.slices import SLICED, alone, moved, slices, walk

SHAPES = {"vectors": (6, 8), "positions": (3, 4, 8)}
CASES = [(name, shape) for name in SLICED for shape in SHAPES if name != "instance" or shape == "positions"]
SETTINGS = [
    {},
    {"eps": 0.5, "gamma": -2.5, "beta": 3.0, "groups": 4},
    {"eps": 1e-8, "gamma": 0.1, "beta": -1.0, "groups": 8},
]


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(3, 5, shape)


def test_all_norms_by_statistics_of_activations_are_walked():
    assert set(SLICED) == {name for name in NORMS if NORMS[name].make.over not in ("", "w")}


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "wide", "narrow"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_step_agrees_with_the_norm_and_with_autograd(name, shape, training, settings):
    norm = alone(name, 8, **settings)
    for seed in range(3):
        norm(torch.from_numpy(draw(SHAPES[shape], 10 + seed))[None])
    norm.weights.training = training
    told = walk(norm, draw(SHAPES[shape]), draw(SHAPES[shape], 1))
    assert told.forward_error < 1e-12 * max(1, abs(told.y).max())
    assert told.backward_error < 1e-11 * max(1, abs(told.back).max())
    assert np.allclose(told.asked, told.common + told.along + told.kept)


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_what_remains_of_a_gradient_can_neither_move_a_slice_nor_stretch_it(name, shape):
    told = walk(alone(name, 8, eps=1e-12), draw(SHAPES[shape]), draw(SHAPES[shape], 1))
    for one in range(told.slices.max() + 1):
        here = told.slices == one
        assert told.kept[here] @ told.normal[here] == pytest.approx(0, abs=1e-9)
        if NORMS[name].make.centres:
            assert told.kept[here].sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["batch", "layer", "scale"])
def test_numbers_that_do_not_differ_are_walked_too(name):
    told = walk(alone(name, 8), np.zeros((4, 8)), draw((4, 8)))
    assert told.forward_error == 0
    assert told.backward_error < 1e-9 * abs(told.back).max()


@pytest.mark.parametrize(
    ("over", "shape", "groups", "expected"),
    [
        ("c", (2, 3), 1, [[0, 0, 0], [1, 1, 1]]),
        ("bp", (2, 3), 1, [[0, 1, 2], [0, 1, 2]]),
        ("pc/g", (2, 4), 2, [[0, 0, 1, 1], [2, 2, 3, 3]]),
        ("p", (1, 2, 2), 1, [[[0, 1], [0, 1]]]),
        ("c", (1, 2, 2), 1, [[[0, 0], [1, 1]]]),
        ("pc/g", (2, 2, 2), 1, [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]),
    ],
)
def test_slices_are_what_the_axes_say(over, shape, groups, expected):
    assert slices(over, shape, groups).tolist() == expected


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_the_slices_are_where_the_norm_mixes(name, shape):
    """An output depends on an input just where the two share a slice."""
    norm, x = alone(name, 8), draw(SHAPES[shape])
    index = slices(norm.over, x.shape, 2)
    value = torch.from_numpy(x).requires_grad_()
    probe = tuple(n // 2 for n in x.shape)
    (found,) = torch.autograd.grad(norm(value[None])[0][probe], value)
    assert np.array_equal(found.numpy() != 0, index == index[probe])


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_who_else_moves(name, shape):
    change = moved(alone(name, 8), draw(SHAPES[shape]), 1, 5.0)
    assert change[1] > 1e-3
    others = np.delete(change, 1)
    assert (others > 1e-3).all() if "b" in NORMS[name].make.over else (others == 0).all()
