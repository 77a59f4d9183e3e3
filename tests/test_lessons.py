"""Lessons: every scene is legal, prose has no numbers of its own, and the answer is what was measured."""

import math
import re

import numpy as np
import pytest
import torch
from screen import opened
from test_claims import finished

from lnres import theory
from lnres.claims import EXPERIMENTS
from lnres.claims.judge import Cell
from lnres.claims.robust import remembering
from lnres.data import DATA, STREAMS
from lnres.engine import local
from lnres.experiment import Experiment
from lnres.figures import FIGURES, Config, fill
from lnres.lessons import LESSONS, NUMBER, OPEN, Runs, handout, interval, prose, said, told
from lnres.lessons.rows import CLEAN, DOWN, UP
from lnres.reading import Reading
from lnres.record import Record
from lnres.scene import LETTERS, Scene
from lnres.train import Run
from lnres.ui.lessons import Attempt

PARTS = ["question", "answer", "misconception", "exactly", "change one thing"]


@pytest.fixture(scope="module", autouse=True)
def _workers():
    yield
    local.stop()


def made_up(lesson, value=0.5):
    """Seen numbers: one value for every quantity of a lesson, hardly scattered."""
    return {name: [value - 1e-4, value, value + 1e-4] for name in lesson.quantities}


@pytest.mark.parametrize("name", LESSONS)
def test_scenes_are_legal_and_figures_apply(name):
    lesson = LESSONS[name].make
    experiments = [e.affordable() for e in lesson.experiments()]
    assert Scene.parse(lesson.change).experiments != experiments
    assert {e.seed for e in lesson.experiments(lesson.seeds)} == {e.seed + lesson.seeds for e in experiments}
    configs = [Config.of(i, "", e) for i, e in enumerate(experiments)]
    for figure in lesson.panels:
        assert FIGURES[figure].make(configs).get("applies", True), figure
    assert not lesson.sketch or lesson.sketch.figure in lesson.panels
    assert not lesson.study or EXPERIMENTS[lesson.study].make


@pytest.mark.parametrize("name", LESSONS)
def test_prose_has_all_parts_and_no_number_that_is_not_computed(name):
    lesson = LESSONS[name].make
    assert list(prose(name)) == PARTS
    for part in PARTS:
        words = re.sub(r"\$[^$]*\$", "", prose(name)[part])  # formulas are asserted below
        for letter, setting, quantity in NUMBER.findall(words):
            assert quantity in lesson.quantities if quantity else hasattr(lesson.experiments()[0], setting)
            assert not letter or LETTERS.index(letter) < len(lesson.experiments())
        assert not re.search(r"\d", NUMBER.sub("", words)), part
        assert "{" not in re.sub(r"\$[^$]*\$", "", told(name, part, made_up(lesson)))
    assert not any(re.search(r"\d", option.text) for option in lesson.options)


@pytest.mark.parametrize("name", LESSONS)
def test_every_option_can_be_right_and_only_one_at_a_time(name):
    """Numbers in the middle of an option's ranges bear it out, and no other that is asked before it."""
    lesson = LESSONS[name].make
    for i, option in enumerate(lesson.options):
        middle = {key: np.clip(ends, -2, 4).mean() for key, ends in option.ranges.items()}
        seen = made_up(lesson, -99) | {key: [v - 1e-4, v, v + 1e-4] for key, v in middle.items()}
        assert lesson.answer(seen) == i
        wide = {key: [v - 50, v, v + 50] for key, v in middle.items()}
        assert lesson.answer(seen | wide) is OPEN


def test_numbers_are_said_as_people_read_them():
    assert [said(0.234, "%"), said(-0.0215, "pt"), said(1.947, "x"), said(0.987, ".2f")] == [
        "23 %",
        "-2.1 points",
        "×1.95",
        "0.99",
    ]
    assert said(math.nan, "%") == "–"
    assert interval(Cell("", 0.5, 0.25, 0.75, 4), "%") == "25 % to 75 %"


def scene(name):
    return LESSONS[name].make.experiments()


def test_what_the_prose_says_in_words_is_so():
    assert [e.batch for e in scene("batch")] == [2, 2, 64, 64]  # two examples
    for step, contrast in ((CLEAN, 1), (UP, 5), (DOWN, 0.2)):  # fivefold, a fifth; towards the end
        assert {e.at(step).contrast for e in scene("contrast")} == {contrast}
        assert {e.shift for e in scene("contrast")} == {"test"}
    labels = torch.arange(1000) % 10
    picked = [{int(labels[i]) for i in STREAMS["sorted"].make.pick(labels, 0, t, 8)} for t in range(8)]
    assert picked == [{0}] * 4 + [{1}] * 4  # four batches of one digit, four of the next
    assert Experiment().norm_momentum == 0.1
    x, _ = DATA["wine_km"].make()
    sizes = sorted(np.abs(x).mean(0))
    assert len(sizes) == 13
    assert 7.5 < np.log10(sizes[-1] / sizes[0]) < 8.5  # eight powers of ten
    x, _ = DATA["wine"].make()
    assert 1e3 < np.abs(x).mean(0).max() / np.abs(x).mean(0).min() < 1e4  # a thousandfold
    faster = [e.lr for e in Scene.parse(LESSONS["shift"].make.change).experiments]
    assert faster == [10 * e.lr for e in scene("shift")[2:]]  # ten times as high
    assert {e.layers for e in scene("plain")[:2]} == {1}  # what has depth 32 has so many layers
    assert abs(1 / math.pi - 1 / 3) < 0.02  # a third of its power: the mean of what a ReLU lets through


def test_a_class_lasts_45_minutes_and_the_worksheet_asks_every_question():
    plan = handout("class")
    minutes = [(int(a), int(b)) for a, b in re.findall(r"^\| (\d+) to (\d+) \|", plan, re.MULTILINE)]
    assert [a for a, _ in minutes] == [0, *[b for _, b in minutes[:-1]]]
    assert minutes[-1][1] == 45
    assert f"of {scene('plain')[0].depth} layers" in plan
    assert f"of {scene('order')[0].depth}?" in plan
    sheet = handout("worksheet")
    for name in LESSONS:
        assert told(name, "question") in sheet
        assert all(option.text in sheet for option in LESSONS[name].make.options)


def test_the_formulas_are_those_of_theory():
    assert f"{theory.relu_layernorm_rate():.2f}" in prose("order")["exactly"]
    for c in (-0.5, 0.0, 0.5, 0.9):
        assert theory.kappa1(c) == pytest.approx(
            (math.sqrt(1 - c**2) + c * (math.pi - math.acos(c))) / math.pi
        )
        assert theory.kappa1(c) > c
    assert f"0.9^4\\approx{0.9**4:.2f}" in prose("stream")["exactly"]


class Found(dict):
    """A study that found whatever is asked for."""

    def __missing__(self, name):
        return [1.0, 2.0]


@pytest.mark.parametrize("name", LESSONS)
def test_every_quantity_is_one_number_a_seed(name):
    """Measured on the lesson's own networks, made small and short, where it is allowed."""
    lesson = LESSONS[name].make
    records = []
    for e in lesson.experiments():
        record = Record({"experiment": (small := e.replace(width=8, steps=3, seeds=2)).link()})
        for arrays, header in Run(small):
            record.extend(arrays, header)
            if record.last_step == small.steps - 1:
                break
        records.append(record)
    with np.errstate(all="ignore"):
        measured = lesson.measured(records, Found())
    assert {len(values) for values in measured.values()} == {2}
    assert len(Reading(records[0]).curve("loss_train")) == 3
    assert bool(lesson.aside) == bool(lesson.shows)
    if lesson.aside:
        assert fill(lesson.aside(Runs(records, Found())), []).data


def test_a_norm_remembers_less_than_its_batches_move():
    told = finished(remembering(900)).values
    assert np.ptp(told["remembered mean"]) < np.ptp(told["mean of the batch"])
    assert np.diff(told["remembered mean"]) == pytest.approx(
        0.1 * np.subtract(told["mean of the batch"], told["remembered mean"])[:-1]
    )


def test_a_guess_is_drawn_from_the_size_that_was_measured():
    lesson = LESSONS["skip"].make
    record = Record()
    record.extend({"probe_step": np.array([0]), "act_std": np.full((1, 65, 2), 3.0, np.float32)})
    (trace,) = lesson.guessed([1, 2**32], [record] * 4)["act_std"]
    assert (trace["x"][0], trace["x"][-1]) == (0, 64)
    assert (trace["y"][0], trace["y"][-1]) == pytest.approx((3, 3e11 if 2**32 > 1e11 else 3 * 2**32))
    assert trace["y"][20] ** 2 == pytest.approx(trace["y"][0] * trace["y"][-1], rel=1e-6)


def test_the_page_asks_then_runs_then_answers():
    page = opened("pages/lessons.py", lesson="skip")
    assert not page.exception
    words = " ".join(box.value for box in page.markdown)
    assert "grew" not in words  # nothing is answered yet
    lesson = LESSONS["skip"].make
    page.session_state["lessons"]["skip"] = Attempt(1, [1.0, 2.0], seen=made_up(lesson, 2.0), awaited=False)
    page.run()
    assert not page.exception
    words = " ".join(box.value for box in page.markdown)
    assert "×2" in words
    assert "your guess" in words
    assert "Another answer was measured" in words
    (lockstep,) = local.start().groups.values()
    assert lockstep.panels == lesson.panels
    assert [*lockstep.drawn] == ["act_std"]
    assert lockstep.playing
    page.button[0].click().run()  # more seeds
    assert [run.experiment for run in lockstep.runs] == lesson.experiments(3)
    lockstep.close()


@pytest.mark.browser
def test_a_visitor_guesses_and_sees(tmp_path):
    """Before the guess nothing is shown; after it the runs play, and the answer is what they measured."""
    sync_api = pytest.importorskip("playwright.sync_api")
    from browser_app import browser, running

    with running(tmp_path / "log") as app, sync_api.sync_playwright() as playwright:
        chromium = browser(playwright)
        page = chromium.new_page()
        page.goto(f"{app.url}/lessons?lesson=units")  # the first address that this server is asked for
        page.locator(".lesson-options button").nth(3).wait_for()
        assert page.locator("[data-testid=stTopNavLink]").count() > 1
        assert page.locator(".lnres").count() == 0
        assert page.locator(".lesson-go").is_disabled()
        box = page.locator(".lesson-sketch").bounding_box()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.6 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.97 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
        page.mouse.up()  # the guess that is drawn chooses the option next to it
        assert "hardly" in page.locator(".lesson-options [aria-checked=true]").inner_text()
        page.locator(".lesson-go").click()
        page.get_by_text("more seeds").wait_for(timeout=120_000)
        page.wait_for_function("() => window.lnres?.stats().painted > 0")
        assert page.locator(".lnres-chart .legendtext, .lnres-chart .trace").count()
        kept = "JSON.parse(localStorage.getItem('lnres.lessons'))"
        page.wait_for_function(f"() => {kept}?.units?.answer === 3")
        assert set(page.evaluate(kept)) == {"units"}
        page.reload()
        page.locator(".lesson-course .lesson-done").wait_for()
        chromium.close()
    assert "Traceback" not in app.log.read_text()
