"""The rule code against made-up numbers: every criterion, every rule, every border."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lnres.claims import judge as j
from lnres.claims.judge import DEPENDS, EXACT, NO_EFFECT, NOT_SETTLED, REFUTED, SUPPORTED, Cell


def cell(low, high, name="", effect=None):
    return Cell(name, (low + high) / 2 if effect is None else effect, low, high, 8)


@pytest.mark.parametrize("n", [2, 8, 12, 16])
def test_an_interval_is_students_t(n):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    found = Cell.of("x", values)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert (found.effect, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.n == n
    assert found.values == tuple(values)


def test_the_factors_of_science():
    for n, t in ((8, 2.365), (12, 2.201), (16, 2.131)):
        values = np.arange(n) * 1.0
        half = Cell.of("x", values).high - values.mean()
        assert half == pytest.approx(t * values.std(ddof=1) / math.sqrt(n), rel=5e-4)


def test_a_single_value_is_exact_and_none_is_an_error():
    assert Cell.of("x", [0.5]) == Cell("x", 0.5, 0.5, 0.5, 1, (0.5,))
    with pytest.raises(ValueError, match="cell 'x' has no values"):
        Cell.of("x", [])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", [j.Above, j.Below, j.Whole, j.AtLeast, j.Within, j.Differs, j.Harm, j.Zero])
def test_what_is_not_finite_settles_nothing(kind, bad):
    found = Cell.of("x", [0.1, bad, 0.3])
    assert kind(0.01).word(found) == NOT_SETTLED
    assert found.n == 3


CASES = [
    (j.Above(0.01), [(0.005, 0.025, SUPPORTED), (-0.025, -0.005, REFUTED), (-0.009, 0.009, NO_EFFECT),
                     (0.002, 0.008, NO_EFFECT), (-0.001, 0.03, NOT_SETTLED), (0.001, 0.018, NOT_SETTLED),
                     (0.0, 0.04, NOT_SETTLED), (-0.01, 0.009, NOT_SETTLED)]),
    (j.Above(), [(1e-9, 1, SUPPORTED), (-1, -1e-9, REFUTED), (-1, 1, NOT_SETTLED), (0, 0, NOT_SETTLED)]),
    (j.Below(0.01), [(-0.025, -0.005, SUPPORTED), (0.005, 0.025, REFUTED), (-0.009, 0.009, NO_EFFECT),
                     (-0.03, 0.001, NOT_SETTLED)]),
    (j.Fall(math.log(3)), [(-3, -1, SUPPORTED), (0.0, 0.1, REFUTED), (-0.5, 0.1, NO_EFFECT),
                           (-3, 0.5, NOT_SETTLED), (-1, -0.2, NO_EFFECT)]),
    (j.Whole(0.2), [(0.1, 0.2, SUPPORTED), (0.21, 0.3, REFUTED), (0.1, 0.3, NOT_SETTLED)]),
    (j.AtLeast(0.95), [(0.95, 1, SUPPORTED), (0.8, 0.94, REFUTED), (0.9, 0.96, NOT_SETTLED)]),
    (j.Above(0.05, nothing=0.02), [(0.03, 0.08, SUPPORTED), (0.001, 0.019, NO_EFFECT),
                                   (0.001, 0.04, NOT_SETTLED)]),
    (j.NotBelow(), [(-1, 0.1, SUPPORTED), (-1, -0.1, REFUTED)]),
    (j.Within(0.02), [(-0.019, 0.019, SUPPORTED), (0.01, 0.05, REFUTED), (-0.05, -0.01, REFUTED),
                      (0.01, 0.021, NOT_SETTLED), (-0.001, 0.5, NOT_SETTLED)]),
    (j.Same(0.02), [(-0.019, 0.019, NO_EFFECT), (0.01, 0.05, REFUTED), (-0.001, 0.5, NOT_SETTLED)]),
    (j.Differs(0.1), [(0.1, 0.3, SUPPORTED), (-0.3, -0.1, SUPPORTED), (-0.05, 0.05, NO_EFFECT),
                      (-0.2, 0.3, NOT_SETTLED)]),
    (j.Harm(0.01), [(-0.03, -0.01, SUPPORTED), (-0.005, 0.5, REFUTED), (-0.009, -0.001, REFUTED),
                    (-0.03, 0.01, NOT_SETTLED), (-0.011, -0.001, NOT_SETTLED)]),
    (j.Bounds(low=0.45, high=0.55), [(0.1, 0.44, SUPPORTED), (0.46, 0.54, NO_EFFECT), (0.56, 0.7, REFUTED),
                                     (0.4, 0.5, NOT_SETTLED)]),
    (j.Rate(0.02), [(0.99, 1.01, SUPPORTED), (1.97, 2.03, REFUTED), (1.3, 1.4, NOT_SETTLED),
                    (0.9, 1.1, NOT_SETTLED)]),
    (j.Zero(1e-6), [(0, 1e-6, SUPPORTED), (-2e-6, 0, REFUTED), (1, 1, REFUTED)]),
    (j.NotZero(1e-6), [(0, 1e-6, REFUTED), (1, 1, SUPPORTED)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("criterion", "low", "high", "word"),
    [(criterion, *case) for criterion, cases in CASES for case in cases],
    ids=lambda x: str(x),
)
def test_a_criterion(criterion, low, high, word):
    assert criterion.word(cell(low, high)) == word
    assert all(map(math.isfinite, criterion.lines))


def test_the_minimum_is_of_the_mean_not_of_the_bound():
    assert j.Above(0.01).word(cell(0.001, 0.03)) == SUPPORTED
    assert j.Above(0.01).word(cell(0.001, 0.03, effect=0.009)) == NOT_SETTLED


SIZES = [st.floats(low, high, allow_subnormal=False) for low, high in ((-1, 1), (0, 1), (1e-3, 0.5))]


@given(*SIZES)
def test_above_and_below_are_mirror_images(effect, half, minimum):
    there, back = cell(effect - half, effect + half), cell(-effect - half, -effect + half)
    assert j.Above(minimum).word(there) == j.Below(minimum).word(back)


@given(*SIZES)
def test_more_certainty_never_turns_a_verdict_round(effect, half, minimum):
    wide, narrow = (j.Above(minimum).word(cell(effect - h, effect + h)) for h in (half, half / 2))
    assert wide == NOT_SETTLED or narrow == wide


S, R, N, O = SUPPORTED, REFUTED, NO_EFFECT, NOT_SETTLED  # noqa: E741


def words(*given):
    return {f"cell {k}": word for k, word in enumerate(given)}


@pytest.mark.parametrize(
    ("rule", "given", "verdict"),
    [
        (j.common, (S, S), S), (j.common, (R, R), R), (j.common, (N, N), N), (j.common, (S, R), DEPENDS),
        (j.common, (S, N), DEPENDS), (j.common, (S, O), O), (j.common, (O, O), O),
        (j.common, (S, R, O), DEPENDS),
        (j.common, (S,), S), (j.common, (), O),
        (j.exact, (S, S), EXACT), (j.exact, (S, R), R), (j.exact, (S, O), R),
        (j.opposed, (R, R), R), (j.opposed, (R, S), S),
        (j.anywhere, (S, R, O), S), (j.anywhere, (N, N), N), (j.anywhere, (N, O), O), (j.anywhere, (R, R), O),
        (j.nowhere, (S, S), S), (j.nowhere, (S, R), R), (j.nowhere, (S, N), DEPENDS), (j.nowhere, (S, O), O),
        (j.at_least(3), (S, S, S, O), S), (j.at_least(3), (S, S, O, O), O),
        (j.at_least(3), (S, S, S, R), DEPENDS),
        (j.at_least(3), (R, R, R, N), R), (j.at_least(3), (N, N, N, N), N), (j.at_least(1), (S, N), S),
        (j.at_least(2, "cell 0"), (S, S, S), O),
    ],
)  # fmt: skip
def test_a_rule(rule, given, verdict):
    assert rule(words(*given)) == verdict


def test_judge_needs_every_cell_that_has_a_criterion_and_no_other():
    criteria = {"a": j.Above(0.01), "b": j.Above(0.01)}
    good, bad = cell(0.02, 0.03, "a"), cell(-0.03, -0.02, "c")
    assert j.judge([good, bad], criteria).verdict == NOT_SETTLED  # b was not run
    judged = j.judge([good, cell(0.02, 0.03, "b"), bad], criteria)
    assert judged.verdict == SUPPORTED
    assert judged.words == {"a": S, "b": S}
    assert len(judged.cells) == 3


def test_seeds_wanted_grows_with_the_square_of_the_interval():
    assert Cell("x", 0, -0.04, 0.04, 8).seeds_wanted(0.01) == 8 * 16
    assert Cell("x", 0, -0.001, 0.001, 8).seeds_wanted(0.01) == 8


def test_a_learning_rate_is_chosen_by_train_loss():
    losses = {("sgd", 0.01): 0.5, ("sgd", 0.1): 0.2, ("adam", 0.001): math.nan, ("sgd", 1.0): math.inf}
    assert j.chosen(losses) == ("sgd", 0.1)
    with pytest.raises(ValueError, match="grid of at least one"):
        j.chosen({})


def test_where_all_diverge_the_smallest_rate_is_chosen_and_the_grid_goes_on_below_it():
    grid = [("sgd", 0.1), ("sgd", 0.01), ("sgd", 0.05)]
    best = j.chosen(dict.fromkeys(grid, math.inf))
    assert best == ("sgd", 0.01)
    assert j.beyond(grid, best) == ("sgd", 0.002)


@pytest.mark.parametrize(
    ("best", "next"),
    [
        (("sgd", 0.1), ("sgd", 0.2)), (("sgd", 0.05), None), (("sgd", 0.01), ("sgd", 0.002)),
        (("adam", 0.003), ("adam", 0.009)), (("adam", 0.001), ("adam", 0.000333)),
    ],
)  # fmt: skip
def test_a_grid_goes_on_beyond_its_edge(best, next):
    grid = [("sgd", 0.01), ("sgd", 0.05), ("sgd", 0.1), ("adam", 0.001), ("adam", 0.003)]
    assert j.beyond(grid, best) == next
    assert j.beyond([("sgd", 0.1)], ("sgd", 0.1)) is None


def test_a_loss_is_the_mean_of_the_last_twenty_steps_and_infinite_once_one_is_not_finite():
    losses = np.ones((50, 3))
    losses[:30] = 9
    losses[45, 1], losses[3, 2] = math.nan, math.nan
    assert j.final_loss(losses).tolist() == [1, math.inf, 1]


def test_what_diverged_scores_chance():
    assert j.settled(np.array([0.9, 0.3]), np.array([True, False]), 0.1).tolist() == [0.9, 0.1]


@pytest.mark.parametrize(
    ("criterion", "effect", "room"),
    [
        (j.Above(0.01), 0.03, 0.03),  # until the interval leaves 0
        (j.Above(0.01), -0.03, 0.03),
        (j.Above(0.01), 0.004, 0.006),  # until it lies inside the minimum
        (j.Within(0.02), 0.005, 0.015),
        (j.AtLeast(0.95), 0.93, 0.02),
        (j.Bounds(low=0.45, high=0.55), 0.5, 0.05),
        (j.NotBelow(), 0.2, 0.2),
    ],
)
def test_an_interval_that_fits_its_room_is_decided(criterion, effect, room):
    cell = Cell("x", effect, effect - 2 * room, effect + 2 * room, 8)
    assert criterion.room(cell) == pytest.approx(room)
    near = 0.999 * room
    assert criterion.word(Cell("x", effect, effect - near, effect + near, 8)) != NOT_SETTLED
