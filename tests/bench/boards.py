"""How fast a board answers a hand: from the event of its slider to the picture."""

from lnres.boards import PICTURES
from lnres.ui.server import REHEARSAL
from tests.bench import BENCHES
from tests.bench.browser import READY, quantiles, visited

STANDS = "() => window.lnresBoards?.microscope?.().painted > 0"
DRAWN = "() => document.querySelector('.js-plotly-plot .main-svg')"
# When a page can be used, and when all its first charts are drawn.
OPENED = {
    "microscope": (STANDS, DRAWN),
    "flow": (READY, "() => document.querySelectorAll('.js-plotly-plot .main-svg').length > 1"),
}
SLIDERS = {"microscope": ["Step", "ε", "Offset", "Move by"], "shape": ["From x to y", "Turn"]}
# One event after another, each when the last is answered and the eye had time to look.
DRAG = """async ([key, label, times]) => {
  const slider = document.querySelector(`.lnres-board input[aria-label="${label}"]`);
  const [low, high] = [Number(slider.min), Number(slider.max)];
  const taken = [];
  for (let i = 1; i <= times; i++) {
    const { painted } = lnresBoards[key]();
    slider.value = low + (high - low) * ((i * 0.618034) % 1);
    slider.dispatchEvent(new Event("input"));
    while (lnresBoards[key]().waiting || lnresBoards[key]().painted === painted) {
      await new Promise(requestAnimationFrame);
    }
    taken.push(lnresBoards[key]().paints.at(-1).waited);
    await new Promise((done) => setTimeout(done, 30));
  }
  return taken;
}"""


@BENCHES.add("microscope", "microscope, flow: seconds to open them; what the sliders of the one answer in")
def microscope() -> dict:
    """Opened on a warm server behind the lab, then forty moves of each of six sliders, under BatchNorm."""
    with visited() as (app, page):
        page.goto(app.url)
        page.wait_for_function(READY)
        page.wait_for_timeout(10_000)  # workers start, and the lab's runs go on
        opened = {name: [] for name in OPENED}
        for name, signs in OPENED.items():
            for _ in range(6):
                page.goto(f"{app.url}/{name}", wait_until="commit")
                seconds = []
                for sign in signs:
                    page.wait_for_function(sign)
                    seconds.append(round(page.evaluate("performance.now() / 1000"), 2))
                opened[name].append(seconds)
        page.goto(f"{app.url}/microscope?norm=batch&batch=positions")
        page.wait_for_function(DRAWN)
        told = {}
        for key, labels in SLIDERS.items():
            page.get_by_label(labels[-1], exact=True).first.scroll_into_view_if_needed()
            page.wait_for_timeout(1000)
            told |= {label: page.evaluate(DRAG, [key, label, 40]) for label in labels}
    return {
        "s_to_use_and_to_charts": opened,
        "ms_slider_to_picture": quantiles([one for taken in told.values() for one in taken]),
        "by_slider": {label: quantiles(taken) for label, taken in told.items()},
    }


LARGE = "width=512&depth=50&nets=4"


@BENCHES.add("theory", "the theory page: seconds to open each picture, what its sliders take at width 512")
def theory() -> dict:
    """Opened on a warm server after the lab, until drawn; then moves that are each a probe of the largest."""
    with visited() as (app, page):
        page.goto(app.url)
        page.wait_for_timeout(1000 * (REHEARSAL + 1) * len(PICTURES))
        opened, told = {}, {}
        for picture in PICTURES:
            page.goto(f"{app.url}/theory?picture={picture}")
            page.wait_for_function(f"() => window.lnresBoards?.['{picture}']?.().painted > 0")
            page.wait_for_function(DRAWN)
            opened[picture] = round(page.evaluate("performance.now() / 1000"), 2)
        for name, network in {"plain": "skip=none&norm=batch&place=inner", "skip": "norm=layer"}.items():
            page.goto(f"{app.url}/theory?{LARGE}&{network}")
            page.wait_for_function("() => window.lnresBoards?.profiles?.().painted > 0")
            page.wait_for_timeout(1000)
            for label in ("Weight scale σ", "Batch"):
                told[f"{name}: {label}"] = page.evaluate(DRAG, ["profiles", label, 12])
    return {
        "s_to_draw": opened,
        "ms_slider_to_picture": quantiles([one for taken in told.values() for one in taken]),
        "by_slider": {label: quantiles(taken) for label, taken in told.items()},
    }
