"""The real app in a real browser: everything a visitor does, from the first frame to closing the page."""

import numpy as np
import psutil
import pytest
from browser_app import READY, browser, running, until

from lnres.experiment import Experiment
from lnres.train import Run

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")

LONG = "norm=layer~rms&depth=8&width=16&steps=100000"  # two quick networks that never finish
LOSS, GRADIENTS = 0, 2  # which charts these are
FULL = 5  # each paint draws at least the chart that has waited longest of four, and one may be under way
SOCKETS = """
  window.sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(...asked) { super(...asked); sockets.push(this); }
  };
"""
EMPTY = """(answers) => {
  const { asked, frames } = lnres.stats(), then = window.then ?? { asked, frames: -1, empty: 0 };
  if (asked > then.asked) window.then = { asked, frames, empty: frames === then.frames ? then.empty + 1 : 0 };
  else window.then = then;
  if (window.then.empty < answers) return false;
  delete window.then;
  return true;
}"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    with running(tmp_path_factory.mktemp("app") / "log") as app:
        yield app
    assert "Traceback" not in app.log.read_text()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        chromium = browser(playwright)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def errors():
    """What went wrong in any page, as its console and its requests tell."""
    return []


@pytest.fixture(autouse=True)
def _nothing_went_wrong(errors):
    yield
    told = errors.copy()
    errors.clear()
    assert not told


@pytest.fixture(scope="module")
def enter(app, chromium, errors):
    """Open a link as a new visitor."""

    def enter(link="", ready=READY, **options):
        context = chromium.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
        context.add_init_script(SOCKETS)
        page = context.new_page()
        page.set_default_timeout(60_000)  # for slow machines; nothing is expected to take that long
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(f"{request.failure} {request.url}"))
        page.goto(f"{app.url}/?{link}")
        page.wait_for_function(ready)
        return page

    return enter


@pytest.fixture
def visit(enter):
    """Pages of one test."""
    pages = []

    def visit(*args, **options):
        pages.append(enter(*args, **options))
        return pages[-1]

    yield visit
    for page in pages:
        page.context.close()


@pytest.fixture(scope="class")
def first(enter):
    """What a newcomer sees: the page without any link; closed after its tests, whatever came of them."""
    page = enter()
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def quick(enter):
    page = enter(LONG)
    yield page
    page.context.close()


@pytest.fixture
def lab(quick):
    """Two quick networks that have just started, in a page that was used before."""
    version = state(quick)["version"]
    quick.evaluate("document.querySelector('.lnres-live').click()")  # from the past back to now
    quick.get_by_label("Speed").select_option("max")
    quick.get_by_role("button", name="Start again").click()
    wait(quick, "(version) => lnres.state().version > version && lnres.state().step === 0", version)
    quick.get_by_role("button", name="Play or pause").click()
    wait(quick, "() => lnres.state().step > 0")
    yield quick
    rest(quick)


def rest(page) -> None:
    """Leave the cores to the next test."""
    if state(page)["playing"]:
        page.get_by_role("button", name="Play or pause").click()


def state(page) -> dict:
    return page.evaluate("lnres.state()")


def stats(page) -> dict:
    return page.evaluate("lnres.stats()")


def array(page, name, run=0) -> np.ndarray:
    told = page.evaluate("([run, name]) => lnres.array(run, name)", [run, name])
    return np.array(told["values"]).reshape(told["shape"])


def wait(page, condition, argument=None):
    """Until a condition holds in the page."""
    page.wait_for_function(condition, arg=argument)


def paints(page, count) -> None:
    """Until so many more frames are painted; FULL show every chart, however slowly they are drawn."""
    wait(page, "(painted) => lnres.stats().painted >= painted", stats(page)["painted"] + count)


def pause(page) -> int:
    """Pause and return the step at which everything stands still: two answers in a row brought nothing."""
    rest(page)
    wait(page, EMPTY, 2)
    return state(page)["step"]


def steps(page) -> list[int]:
    return [run["step"] for run in state(page)["runs"]]


def drawn(page, chart, trace, axis="y") -> np.ndarray:
    """The values that Plotly holds for a curve."""
    code = """([chart, name, axis]) =>
      [...document.querySelectorAll('.lnres-chart')[chart].data.find((trace) => trace.name === name)[axis]]"""
    return np.array(page.evaluate(code, [chart, trace, axis]), float)


def gapless(page, run=0) -> None:
    recorded = array(page, "step", run)
    np.testing.assert_array_equal(recorded, np.arange(len(recorded)))


# --------------------------------------------------------------------------------------------- it plays


class TestTheFirstPage:
    def test_the_page_opens_with_four_networks_already_playing(self, first):
        assert state(first)["playing"]
        assert len(state(first)["runs"]) == first.locator(".lnres-chip").count() == 4
        wait(first, "(step) => lnres.state().runs.every((run) => run.step > step + 20)", state(first)["step"])
        assert stats(first)["lost"] == 0
        assert stats(first)["mounts"] == 4

    def test_the_four_panels_stand_above_the_fold(self, first):
        boxes = [panel.bounding_box() for panel in first.locator(".lnres-panel").all()]
        assert len(boxes) == 4
        assert max(box["y"] + box["height"] for box in boxes) <= 900

    def test_only_skip_and_norm_together_learn(self, first):
        wait(first, "() => Math.min(...lnres.array(3, 'acc_test').values.slice(-4)) > 0.9")
        assert array(first, "acc_test", 0)[-1].max() < 0.2
        assert array(first, "acc_train", 0)[-20:].mean() < 0.2
        chip = first.locator(".lnres-chip").nth(3)
        chip.get_by_text("Learns").wait_for()
        tested = "document.querySelectorAll('.lnres-chip')[3].querySelectorAll('.lnres-accuracy b')[1]"
        wait(first, f"() => parseInt({tested}.textContent) >= 90")


def test_what_is_recorded_is_what_python_computes(lab):
    wait(lab, "() => lnres.state().runs[1].step >= 30")
    run = Run(Experiment(norm="rms", depth=8, width=16, steps=100000))
    losses = [next(run)[0]["loss_train"][0] for _ in range(30)]
    np.testing.assert_array_equal(array(lab, "loss_train", 1)[:30], np.array(losses, float))


def test_two_visitors_see_the_same_numbers_and_the_worker_rests_when_they_leave(lab, visit, app):
    other = visit(LONG)
    for page in (lab, other):
        wait(page, "() => lnres.state().step >= 50")
    np.testing.assert_array_equal(array(lab, "loss_train")[:50], array(other, "loss_train")[:50])
    rest(lab)
    until(lambda: busy(app) > 20)
    other.context.close()
    until(lambda: busy(app) < 3)


# --------------------------------------------------------------------------------------------- hands


def test_pause_stops_and_play_goes_on(lab):
    lab.get_by_role("button", name="Play or pause").click()
    stood = pause(lab)
    wait(lab, "(asked) => lnres.stats().asked >= asked", stats(lab)["asked"] + 2)
    assert set(steps(lab)) == {stood}
    lab.get_by_role("button", name="Play or pause").click()
    wait(lab, "(step) => lnres.state().runs.every((run) => run.step > step)", stood)
    gapless(lab)


def test_step_makes_one_step_of_every_network(lab):
    stood = pause(lab)
    lab.get_by_role("button", name="One minibatch").click()
    wait(lab, "(step) => lnres.state().runs.every((run) => run.step > step)", stood)
    wait(lab, EMPTY, 2)
    assert steps(lab) == [stood + 1] * 2


def test_reset_starts_again_from_the_same_weights_and_batches(lab):
    wait(lab, "() => lnres.state().step >= 20")
    before, version = array(lab, "loss_train")[:20], state(lab)["version"]
    lab.get_by_role("button", name="Start again").click()
    wait(lab, "(version) => lnres.state().version > version && lnres.state().step === 0", version)
    assert not state(lab)["playing"]
    lab.keyboard.press(" ")
    wait(lab, "() => lnres.state().step >= 20")
    np.testing.assert_array_equal(array(lab, "loss_train")[:20], before)


def test_a_slower_pace_is_kept_through_a_reset(lab):
    lab.get_by_label("Speed").select_option("5 steps/s")
    wait(lab, "() => lnres.state().speed === 5")
    lab.get_by_role("button", name="Start again").click()
    wait(lab, "() => lnres.state().step === 0")
    assert state(lab)["speed"] == 5
    assert lab.get_by_label("Speed").input_value() == "5"


def test_scrubbing_shows_what_was_recorded_while_training_goes_on(lab):
    wait(lab, "() => lnres.state().step >= 60")
    lab.get_by_label("Step looked at").fill("25")
    wait(lab, "(step) => lnres.state().step > step + 20", state(lab)["step"])
    paints(lab, FULL)
    row = np.searchsorted(array(lab, "probe_step"), 25, "right") - 1
    expected = np.exp(np.log(array(lab, "grad_norm")[row]).mean(-1))
    np.testing.assert_allclose(drawn(lab, GRADIENTS, "A"), expected, rtol=1e-6)
    assert state(lab)["at"] == 25


def test_from_the_past_back_to_now(lab):
    wait(lab, "() => lnres.state().step >= 60")
    lab.get_by_label("Step looked at").fill("25")
    paints(lab, FULL)
    past = drawn(lab, GRADIENTS, "A")
    lab.get_by_title("Back to now").click()
    paints(lab, FULL)
    assert state(lab)["at"] is None
    assert not np.allclose(drawn(lab, GRADIENTS, "A"), past, rtol=1e-3)


def ranges(page) -> list[float]:
    """What the two axes of the gradient chart reach over."""
    return page.evaluate("""() => {
      const { xaxis, yaxis } = document.querySelectorAll('.lnres-chart')[2]._fullLayout;
      return [...xaxis.range, ...yaxis.range];
    }""")


def zoom(page) -> None:
    """Draw a rectangle into the gradient chart."""
    box = page.locator(".lnres-chart").nth(GRADIENTS).locator(".nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"], steps=4)
    page.mouse.up()


def test_a_zoom_survives_twenty_frames(lab):
    zoom(lab)
    zoomed = ranges(lab)
    assert zoomed[1] - zoomed[0] == pytest.approx(0.3 * 8, rel=0.1)
    paints(lab, 20)
    assert ranges(lab) == zoomed


def test_a_double_click_ends_a_zoom(lab):
    zoom(lab)
    assert ranges(lab)[:2] != [0, 8]
    lab.locator(".lnres-chart").nth(GRADIENTS).locator(".nsewdrag").dblclick()
    wait(lab, "() => document.querySelectorAll('.lnres-chart')[2]._fullLayout.xaxis.range[1] === 8")


def test_the_keyboard_steps_scrubs_and_resets(lab):
    wait(lab, "() => lnres.state().step >= 30")
    stood = pause(lab)
    lab.keyboard.press("ArrowRight")
    wait(lab, "(step) => lnres.state().step === step + 1", stood)
    ticks = array(lab, "probe_step").astype(int)
    lab.keyboard.press("ArrowLeft")
    lab.keyboard.press("ArrowLeft")
    earlier = state(lab)["at"]
    assert earlier in ticks[-3:-1]
    lab.keyboard.press("ArrowRight")
    assert state(lab)["at"] == ticks[list(ticks).index(earlier) + 1]
    version = state(lab)["version"]
    for key in ("Home", "Shift+R"):
        lab.keyboard.press(key)
        version += 1
        wait(lab, "(version) => lnres.state().version === version && lnres.state().step === 0", version)
    assert state(lab)["at"] is None


def test_digits_hide_and_show_networks(lab):
    chip = lab.get_by_title("Show or hide B")
    for pressed in ("false", "true"):
        lab.keyboard.press("2")
        assert chip.get_attribute("aria-pressed") == pressed
        assert [run["shown"] for run in state(lab)["runs"]] == [True, pressed == "true"]


def test_keys_typed_into_a_control_are_not_for_the_player(lab):
    lab.get_by_role("slider", name="width").focus()
    for key in ("2", " ", "R"):
        lab.keyboard.press(key)
    assert state(lab)["playing"]
    assert all(run["shown"] for run in state(lab)["runs"])


def test_a_panel_turns_into_any_other_and_back(lab):
    for name in ("Accuracy", "Loss"):
        lab.get_by_label("What this panel shows").nth(LOSS).select_option(label=name)
        lab.locator(f".lnres-chart[aria-label^={name}]").wait_for()
        paints(lab, FULL)
    assert stats(lab)["mounts"] == 4


def test_a_panel_opened_later_shows_its_past_and_travels_in_the_link_also_to_new_runs(visit):
    page = visit(LONG)
    wait(page, "() => lnres.state().step >= 60")
    page.get_by_role("button", name="Add a panel").click()
    page.locator(".lnres-pick").last.select_option("cosine")
    wait(page, "() => lnres.array(0, 'cosine').shape[0] >= lnres.array(0, 'grad_norm').shape[0]")
    assert state(page)["panels"][-1] == "cosine"
    page.get_by_label("Step looked at").fill("25")
    paints(page, FULL + 1)
    row = np.searchsorted(array(page, "probe_step"), 25, "right") - 1
    np.testing.assert_allclose(drawn(page, 4, "A"), array(page, "cosine")[row].mean(-1), rtol=1e-6)
    assert stats(page)["lost"] == 0
    wait(page, "() => location.search.includes('-cosine') && location.search.includes('at=25')")
    assert "norm=layer~rms" in page.url
    deeper(page)
    wait(page, "() => location.search.includes('depth=12') && location.search.includes('-cosine')")


def deeper(page) -> None:
    """A slider starts new runs in the same charts."""
    version, ids = state(page)["version"], [run["id"] for run in state(page)["runs"]]
    page.get_by_role("slider", name="depth").press("ArrowRight")
    wait(page, "(version) => lnres.state().version > version && lnres.state().step > 5", version)
    assert not set(ids) & {run["id"] for run in state(page)["runs"]}
    assert state(page)["playing"]
    assert array(page, "grad_norm").shape[1] == 13
    paints(page, FULL + 1)
    assert len(drawn(page, GRADIENTS, "A")) == 13
    assert stats(page)["mounts"] == 5


def test_a_link_opens_its_panels_at_its_step(visit):
    page = visit(f"{LONG}&panels=loss_difference-update_ratio&big=update_ratio&at=30")
    wait(page, "() => lnres.state().at === 30")
    assert state(page)["panels"] == ["loss_difference", "update_ratio"]
    assert [panel.is_visible() for panel in page.locator(".lnres-panel").all()] == [False, True]
    page.keyboard.press("Escape")
    assert [panel.is_visible() for panel in page.locator(".lnres-panel").all()] == [True, True]
    words = "document.querySelector('.lnres-chart').layout?.annotations?.[0]?.text"  # perhaps not drawn yet
    wait(page, f"() => ['A−B real', 'A−B not shown'].includes({words})")
    page.keyboard.press("[")
    page.get_by_role("button", name="Replay the recording").click()
    line = "document.querySelector('.lnres-chart').layout.shapes[0].x0"
    wait(page, f"() => lnres.state().at > 35 && {line} > 35")
    scrubber = page.get_by_role("slider", name="Step looked at")
    pause(page)  # or the step beside it might get another digit
    held = scrubber.bounding_box()
    page.get_by_title("Back to now").click()
    assert state(page)["at"] is None
    wait(page, "() => !location.search.includes('at=')")
    assert scrubber.bounding_box() == pytest.approx(held, abs=2)  # a hand that drags it must not lose it


@pytest.mark.parametrize("format", ["png", "svg"])
def test_a_panel_is_saved_as_a_picture(lab, format):
    menu = lab.locator(".lnres-menu").nth(GRADIENTS)
    menu.locator("summary").click()
    with lab.expect_download() as saved:
        menu.get_by_role("button", name=f"Save as {format.upper()}").click()
    assert saved.value.suggested_filename == f"gradients.{format}"


# 60,000 steps, every tenth with 512 numbers of each block; one array is asked for when half is over.
HOURS = """async () => {
  const style = document.querySelector('link[href*="player.css"]').href;
  const { Record } = await import(style.replace('player.css', 'record.js'));
  const record = new Record();
  const rows = (from, to, width, factor) => {
    const cell = (_, i) => factor * (from + Math.floor(i / width));
    const values = Float32Array.from({ length: (to - from) * width }, cell);
    return { shape: [to - from, width].slice(0, width > 1 ? 2 : 1), values };
  };
  const send = (name, width, factor, to, from = record.have[name] ?? 0) =>
    record.extend(name, rows(from, to, width, factor), from);
  let most = 0;
  for (let step = 1000; step <= 60_000; step += 1000) {
    send('step', 1, 1, step);
    send('loss_train', 4, 2, step);
    send('probe_step', 1, 10, step / 10);
    send('grad_norm', 512, 30, step / 10);
    if (step >= 30_000) send('cosine', 512, 50, step / 10);
    record.thin();
    const arrays = Object.values(record.arrays);
    most = Math.max(most, arrays.reduce((sum, { rows, width }) => sum + 4 * rows * width, 0));
  }
  send('grad_norm', 512, 30, 6000, 5995); // again, after a connection broke
  const lost = send('cosine', 512, 50, 6008, 6007);
  const kept = Object.entries(record.arrays).map(([name, { rows, width, values }]) =>
    [name, Array.from({ length: rows }, (_, i) => values[i * width])]);
  return { most, lost, have: record.have, ...Object.fromEntries(kept) };
}"""


def test_a_page_left_open_for_hours_keeps_a_coarser_past_in_little_memory(lab):
    told = lab.evaluate(HOURS)
    assert told["most"] < 2.5 * 4 * 2**20
    assert told["lost"] == 7  # and the next pull asks for them
    assert told["have"] == {"step": 60_000, "loss_train": 60_000, "events": 0} | dict.fromkeys(
        ("probe_step", "grad_norm", "cosine"), 6000
    )
    step, probes = np.array(told["step"]), np.array(told["probe_step"])
    np.testing.assert_array_equal(step, np.arange(60_000))
    assert 256 < len(probes) < 6000
    np.testing.assert_array_equal(probes[:32], 10 * np.arange(32))
    assert probes[-1] == 59_990
    assert np.all(np.diff(np.log2(np.diff(probes) / 10)[40:-1:50]) <= 0)  # the past is the coarser part
    np.testing.assert_array_equal(told["loss_train"], 2 * step)
    np.testing.assert_array_equal(told["grad_norm"], 3 * probes)
    np.testing.assert_array_equal(told["cosine"], 5 * probes)


# --------------------------------------------------------------------------------------------- trouble


def test_a_dropped_connection_resumes_without_a_gap(lab):
    before = stats(lab)["reconnects"]
    for drop in (1, 2, 3):
        lab.evaluate("sockets.filter(({ url }) => url.includes('/lnres/live/')).at(-1).close()")
        wait(lab, "(reconnects) => lnres.stats().reconnects === reconnects", before + drop)
        wait(lab, "(step) => lnres.state().runs.every((run) => run.step > step + 20)", state(lab)["step"])
    pause(lab)
    for run in (0, 1):
        gapless(lab, run)
        assert len(array(lab, "loss_train", run)) == len(array(lab, "step", run))
    assert stats(lab)["lost"] == 0


def test_a_killed_worker_is_replaced_and_nothing_is_missing(lab, app):
    wait(lab, "() => lnres.state().step >= 200")
    before = app.workers()
    for worker in before:
        worker.kill()
    lab.get_by_text("A worker died and was replaced").wait_for()
    wait(lab, "(step) => lnres.state().runs.every((run) => run.step > step + 50)", state(lab)["step"])
    assert len(app.workers()) == len(before)
    assert not set(app.workers()) & set(before)
    run = Run(Experiment(norm="rms", depth=8, width=16, steps=100000))
    losses = [next(run)[0]["loss_train"][0] for _ in range(state(lab)["runs"][1]["step"])]
    np.testing.assert_array_equal(array(lab, "loss_train", 1)[: len(losses)], np.array(losses, float))
    gapless(lab, 1)
    assert stats(lab)["lost"] == 0


def test_a_fork_goes_on_from_the_step_looked_at_beside_the_old_one(visit):
    page = visit(LONG)
    wait(page, "() => lnres.state().step >= 60")
    pause(page)
    page.get_by_role("slider", name="Step looked at").fill("20")
    page.get_by_role("button", name="go on differently").click()
    page.get_by_label("Fork which").select_option("B")
    page.get_by_label("What to change").select_option("learning rate")
    page.get_by_label("To which value").fill("0.5")
    page.get_by_role("button", name="Go", exact=True).click()
    wait(page, "() => lnres.state().runs.length === 3 && lnres.state().runs[2].step === lnres.state().step")
    page.locator(".lnres-chip").nth(2).get_by_text("fork of B at 20", exact=True).wait_for()
    page.get_by_test_id("stSidebar").get_by_text("C", exact=True).wait_for()
    wait(page, "() => location.search.includes('20.lr.0.5')")
    assert len(set(steps(page))) == 1
    old, new = (array(page, "loss_train", run) for run in (1, 2))
    np.testing.assert_array_equal(old[:21], new[:21])
    assert not np.array_equal(old[21:60], new[21:60])
    gapless(page, 2)
    assert stats(page)["lost"] == 0
    tree = page.get_by_role("group", name="Forks. C leaves B at step 20")
    tree.get_by_role("button").click()
    assert state(page)["at"] == 20


# The address has the very step at which the learning rate of each network changed.
CHANGED = """() => {
  const steps = lnres.state().runs.map(({ events }) => events.find(({ kind }) => kind === 'change')?.step);
  const said = [...new Set(steps)].map((step) => `${step}.lr.0.1`).join('~');
  return location.search.includes(`changes=${said}`);
}"""


def test_the_lab_is_as_it_was_when_somebody_comes_back_to_it(visit, app):
    page = visit(f"{LONG}&panels=loss-cosine&big=cosine")
    page.get_by_text("More settings").click()
    page.get_by_role("slider", name="learning rate").press("ArrowRight")
    wait(page, CHANGED)
    assert (
        page.evaluate("history.length") == 2
    )  # the first is what was there before: one press on Back leaves
    wait(page, "() => lnres.state().step >= 60")
    page.get_by_label("Step looked at").fill("25")
    page.get_by_title("Show or hide B").click()
    wait(page, "() => location.search.includes('at=25')")
    before, link = state(page), page.url
    page.get_by_role("link", name="Lessons").click()
    page.locator(".lnres-chip").first.wait_for(state="detached")
    left = state(page)["step"]  # a player that has gone still tells what it last knew
    until(lambda: busy(app) < 3)
    page.get_by_role("link", name="Lab").click()
    page.locator(".lnres-chip").first.wait_for()
    wait(page, "(step) => lnres.state().at === 25 && lnres.state().step > step + 20", left)
    after = state(page)
    assert [after[name] for name in ("playing", "panels")] == [True, ["loss", "cosine"]]
    assert [[run["id"], run["shown"]] for run in after["runs"]] == [
        [run["id"], run["shown"]] for run in before["runs"]
    ]
    assert [panel.is_visible() for panel in page.locator(".lnres-panel").all()] == [False, True]
    wait(page, "(link) => location.href === link", link)
    assert page.get_by_role("slider", name="learning rate").get_attribute("aria-valuetext") == "0.1"
    page.get_by_role("spinbutton", name="momentum", exact=True).wait_for()  # of "More settings"
    gapless(page)


def test_what_the_verdict_suggests_is_tried_at_a_click(visit):
    page = visit(
        "norm=none&residual=none&depth=24&width=16&init=xavier&gain=0.5&activation=tanh&steps=100000"
    )
    attempt = page.locator(".lnres-attempt")
    attempt.wait_for()
    stood = pause(page)  # or another verdict might suggest another thing before the click
    told = attempt.inner_text().removeprefix("Try ")
    attempt.click()
    wait(page, "() => lnres.state().runs.length === 2")
    page.get_by_role("button", name="Play or pause").click()
    wait(page, "(stood) => lnres.state().runs[1].step > stood + 20", stood)
    assert told in page.locator(".lnres-name").nth(1).inner_text()


def test_the_past_is_judged_as_it_was(visit):
    page = visit("norm=layer&depth=8&width=32&seeds=1&steps=100000")
    page.locator(".lnres-chip p").get_by_text("Learns").wait_for()
    pause(page)
    page.get_by_role("slider", name="Step looked at").fill("1")
    page.locator(".lnres-chip p").get_by_text("Learns").wait_for(state="detached")


def busy(app) -> float:
    """Share of a core, in percent, that training takes during half a second."""
    workers = app.workers()
    start = sum(sum(worker.cpu_times()[:2]) for worker in workers)
    psutil.cpu_percent(interval=0.5)
    return (sum(sum(worker.cpu_times()[:2]) for worker in workers) - start) / 0.5 * 100


def test_a_damaged_link_gets_sentences_letter_by_letter_the_usual_panels_and_a_running_page(visit):
    values = "nrom", "![x](/x.png)", "<img src=/x.png>", "[here](/x) **b** :red[x] $y$"
    page = visit(f"norm={'~'.join(values)}&depth=4&width=16&panels=loss-nrom&at=x&big=x")
    page.get_by_text('panels: "nrom" is none of them').wait_for()
    assert state(page)["panels"] == ["loss", "activations", "gradients", "gradient_map"]
    assert state(page)["at"] is None
    alert = page.get_by_role("alert")
    for value in values:
        assert f"norm='{value}': choose one of none, layer, rms, batch" in alert.inner_text()
    assert alert.locator("img, a, strong, .katex").count() == 0
    wait(page, "() => lnres.state().runs.length === 4 && lnres.state().step >= 20")


def test_a_page_that_was_refused_plays_once_it_is_affordable(visit):
    page = visit("depth=1000&width=1024&batch=1024", ready="() => window.lnres")
    assert "51,540 GFLOP" in page.get_by_role("alert").inner_text()
    page.get_by_role("slider", name="width").press("Home")
    wait(page, READY)
    page.get_by_role("alert").wait_for(state="detached")


def test_divergence_is_said_and_marked_while_the_others_go_on(visit):
    page = visit("norm=none~layer&lr=100~0.05&depth=8&width=16&steps=100000")
    wait(page, "() => /^Diverged/.test(document.querySelectorAll('.lnres-chip p')[0].textContent)")
    wait(page, "(step) => lnres.state().runs[1].step > step + 20", state(page)["step"])
    paints(page, FULL)
    assert len(drawn(page, LOSS, "A event", "x")) > 0
    back = page.locator(".lnres-rewind").first
    said = back.inner_text()
    back.click()
    assert said == f"Back to {state(page)['at']}"
    back.wait_for(state="hidden")  # it has not diverged there


# --------------------------------------------------------------------------------------------- screens


def test_a_phone_shows_a_chart_beside_play_and_does_not_scroll_sideways(visit):
    page = visit(viewport={"width": 390, "height": 664}, is_mobile=True, has_touch=True)
    wide = """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
                    .map((element) => element.scrollWidth - element.clientWidth)"""
    assert page.evaluate(wide) == [0, 0]
    assert page.get_by_role("button", name="Play or pause").is_visible()
    assert page.locator(".lnres-chart").first.bounding_box()["y"] < 500
    page.get_by_role("button", name="More about B").tap()
    assert page.get_by_role("button", name="More about B").get_attribute("aria-expanded") == "true"


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_charts_follow_the_visitors_light_or_dark(lab, scheme):
    lab.emulate_media(color_scheme=scheme)
    red = "parseInt(document.querySelector('.lnres-chart')._fullLayout.font.color.slice(1, 3), 16)"
    wait(lab, f"() => {red} {'>' if scheme == 'dark' else '<'} 128")


def test_every_chart_says_what_it_shows(lab):
    said = [chart.get_attribute("aria-label") for chart in lab.locator(".lnres-chart").all()]
    assert len(said) == 4
    assert all("LayerNorm" in text and "RMSNorm" in text for text in said)


def touch(page, block) -> None:
    """Click on a block of the chart of gradients, once it stands still."""
    chart = page.locator(".lnres-chart").nth(1)
    box = chart.bounding_box()
    x = 46 + (block - 0.5) / 16 * (box["width"] - 58)
    chart.click(position={"x": x, "y": 0.25 * box["height"]})


def test_a_block_whose_skip_is_cut_starves_those_before_it(visit):
    page = visit(LONG)
    page.get_by_role("link", name="Flow").click()
    wait(page, "() => lnres.state().panels[0] === 'river' && lnres.state().step >= 2")
    page.get_by_role("button", name="Play or pause").click()
    stood = pause(page)
    touch(page, 5)
    menu = page.get_by_role("dialog", name="Block 5")
    menu.get_by_role("button", name="Cut its skip").click()
    wait(page, "(stood) => lnres.state().step === stood + 1", stood)
    skip, branch = array(page, "skip_grad_norm"), array(page, "branch_grad_norm")
    assert not skip[-1, 4].any()
    assert skip[-1, [3, 5]].all()
    both = skip + branch
    arrives = (both[:, 0] / both[:, -1]).mean(1)  # at block 1, of what leaves the last
    assert arrives[-1] < arrives[-2]
    np.testing.assert_allclose(array(page, "river")[-1, 5, 1], 0, atol=1e-6)  # nothing of the source is left
    touch(page, 9)
    menu = page.get_by_role("dialog", name="Block 9")
    menu.get_by_label("its norm").select_option("post")
    wait(page, "(stood) => lnres.state().step === stood + 2", stood)
    assert not array(page, "skip_grad_norm")[-1, 4].any()  # what was done before stays
    page.get_by_text("cut skip 5, norm moved 9: post").wait_for()


# ---------------------------------------------------------------------------------------------- boards


def board(page, key="microscope"):
    return page.evaluate("(key) => lnresBoards[key]()", key)


def test_the_microscope_answers_in_place_and_a_reload_shows_the_same(visit, errors):
    page = visit(LONG)
    page.get_by_role("link", name="Microscope").click()
    wait(page, "() => window.lnresBoards?.microscope?.().painted > 0")
    before = board(page)
    page.get_by_label("Norm", exact=True).select_option("batch")
    page.get_by_label("Way", exact=True).select_option("backward")
    cell = page.get_by_label("digit 0, px 3", exact=True).first
    cell.fill("99")
    cell.press("Enter")
    page.get_by_label("Move by", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_text("5 of the 5 others move too").wait_for()
    wait(page, "() => lnresBoards.microscope().values.by === 8.5 && !lnresBoards.microscope().waiting")
    after = board(page)
    assert after["values"]["edits"] == [[0, 2, 99]]
    assert after["values"]["cell"] == [0, 2]
    assert after["mounts"] == before["mounts"]
    page.locator(".board-title").get_by_text("By hand: digit 0, column 3", exact=True).wait_for()
    wait(page, "() => location.search.includes('by=8.5')")
    page.reload()
    wait(page, "() => window.lnresBoards?.microscope?.().painted > 0")
    assert board(page)["values"] == after["values"]
    errors[:] = [told for told in errors if "404" not in told]  # Streamlit looks for itself below every page


def test_theory_answers_a_hand(app, chromium, errors):
    context = chromium.new_context()
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{app.url}/theory?width=64&depth=16")
    page.wait_for_function("() => window.lnresBoards?.profiles?.().painted > 0")  # it stands before
    said = page.locator(".board-said")
    before = said.inner_text()
    assert before.startswith("Theory")
    slider = page.locator(".board-slider", has_text="Depth").locator("input")
    slider.focus()
    slider.press("End")
    page.wait_for_function("before => document.querySelector('.board-said').innerText !== before", arg=before)
    page.wait_for_function("location.search.includes('depth=60')")
    assert page.evaluate("lnresBoards.profiles().mounts") == 3
    page.get_by_role("link", name="Train this network in the lab").click()
    page.wait_for_function("location.pathname === '/lab' && location.search.includes('depth=60')")
    page.wait_for_function(READY)
    context.close()
