"""What a visitor feels: frames per second, answers to a hand, and what one viewer costs the server."""

import statistics
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench import BENCHES
from tests.browser_app import READY, App, browser, running

SECONDS = 20
PAIR = "norm=layer~rms&steps=100000"
FOUR = "norm=none~none~layer~layer&residual=none~identity~none~identity&init=xavier&steps=100000"
SIX = f"{FOUR}&panels=loss-loss_difference-activations-gradients-update_ratio-gradient_map"
RECORDED = 2000
# What a hand on the scrubber waits for: from each jump to the first charts that show it, and to the last.
SCRUB = """async ([steps, times]) => {
  const range = document.querySelector('.lnres-bar input[type=range]'), taken = [];
  const frame = () => new Promise(requestAnimationFrame);
  for (let i = 0; i < times; i++) {
    await frame();
    const start = performance.now();
    range.value = Math.floor(steps * ((i * 0.618034) % 1));
    range.dispatchEvent(new Event('input'));
    let paints = [];
    while (paints.at(-1)?.waiting !== 0) {
      await frame();
      paints = lnres.stats().paints.filter(({ at }) => at >= start);
    }
    const ended = ({ at, cost }) => at + cost - start;
    taken.push([ended(paints[0]), ended(paints.at(-1))]);
  }
  return taken;
}"""
# Both begin when the hand moves and end when the browser has drawn what came of it.
SLIDER = """() => new Promise((done) => {
  const { version } = lnres.state(), start = performance.now();
  const look = () => {
    const paint = lnres.stats().paints.find((paint) => paint.version > version && paint.step >= 0);
    paint ? done(paint.at + paint.cost - start) : requestAnimationFrame(look);
  };
  look();
})"""
PLAY = """() => new Promise((done) => {
  const { step } = lnres.state(), start = performance.now();
  document.querySelector('.lnres-play').click();
  const look = () => {
    const paint = lnres.stats().paints.find((paint) => paint.at > start && paint.step > step);
    paint ? done(paint.at + paint.cost - start) : requestAnimationFrame(look);
  };
  look();
})"""


def quantiles(values: list[float], digits: int = 1) -> dict[str, float]:
    """Median, 95th percentile and largest of some numbers."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {
        "p50": round(statistics.median(ordered), digits),
        "p95": round(high, digits),
        "max": round(ordered[-1], digits),
    }


@contextmanager
def visited() -> Iterator[tuple[App, object]]:
    """The app and a browser window of 1440 × 900."""
    from playwright.sync_api import sync_playwright  # the other benches need no browser

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        chromium = browser(playwright)
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        with running(Path(folder) / "log") as app:
            yield app, page
        chromium.close()


def opened(app: App, page, link: str) -> float:
    """Open a link and wait for its first frame; returns the seconds that took, as the page counts them."""
    page.goto(f"{app.url}/?{link}")
    page.wait_for_function(READY)
    return page.evaluate("() => lnres.stats().paints.find(({ step }) => step >= 0).at / 1000")


def cpu(processes: list[psutil.Process]) -> float:
    """CPU seconds used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def watched(app: App, page, link: str) -> dict:
    """What painting and serving cost while one visitor looks on for twenty seconds."""
    blobs: list[bytes] = []
    collecting = [False]

    def frame(data) -> None:
        if collecting[0] and isinstance(data, bytes):
            blobs.append(data)

    def listen(socket) -> None:
        if "/lnres/live/" in socket.url:
            socket.on("framereceived", frame)

    page.on("websocket", listen)
    opened(app, page, link)
    page.wait_for_function("() => lnres.stats().painted > 30")
    session = page.context.new_cdp_session(page)
    workers = app.workers()
    before, collecting[0] = page.evaluate("lnres.stats()"), True
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]  # the browser is among them
    used, trained, drawn, start = cpu([app.process]), cpu(workers), cpu(ours), time.perf_counter()
    everywhere = psutil.cpu_times()
    page.wait_for_timeout(1000 * SECONDS)
    seconds = time.perf_counter() - start
    after, collecting[0] = page.evaluate("lnres.stats()"), False
    used, trained, drawn = cpu([app.process]) - used, cpu(workers) - trained, cpu(ours) - drawn
    others = psutil.cpu_count() * seconds - (psutil.cpu_times().idle - everywhere.idle) - drawn
    session.send("HeapProfiler.collectGarbage")
    page.remove_listener("websocket", listen)
    grew = {name: after[name] - before[name] for name in before if name not in ("paints", "charts")}
    costs = [paint["cost"] for paint in after["paints"] if paint["at"] > before["paints"][-1]["at"]]
    gaps = [b["at"] - a["at"] for a, b in zip(after["paints"], after["paints"][1:], strict=False)]
    packer = zlib.compressobj(wbits=-12)  # as permessage-deflate: one window for the whole connection
    packed = sum(len(packer.compress(blob) + packer.flush(zlib.Z_SYNC_FLUSH)) for blob in blobs)
    return {
        "painted_per_s": round(grew["painted"] / seconds, 2),
        "whole_paints_per_s": round((grew["painted"] - grew["turns"]) / seconds, 2),
        "paints_in_turns": grew["turns"],
        "ms_between_paints": quantiles(gaps[-grew["painted"] :]),
        "ms_per_paint": quantiles(costs),
        "lost": after["lost"],
        "mounts": after["mounts"],
        "bytes_per_answer": round(sum(map(len, blobs)) / max(1, len(blobs))),
        "bytes_per_answer_packed": round(packed / max(1, len(blobs))),
        "bytes_per_answer_max": max(map(len, blobs), default=0),
        "answers_per_s": round(len(blobs) / seconds, 2),
        "server_cpu_percent": round(100 * used / seconds, 2),
        "worker_cpu_percent": round(100 * trained / seconds, 1),
        "browser_cpu_percent": round(100 * (drawn - used - trained) / seconds, 1),
        "others_cpu_percent": round(100 * others / seconds, 1),
        "steps_per_s": round((after["paints"][-1]["step"] - before["paints"][-1]["step"]) / seconds, 1),
        "heap_mib": round(page.evaluate("performance.memory.usedJSHeapSize") / 2**20, 1),
    }


def slid(page, times: int = 20) -> dict[str, float]:
    """Milliseconds from a key on the depth slider to the first painted frame of the new runs."""
    slider = page.get_by_role("slider", name="depth")
    taken = []
    for i in range(times):
        page.evaluate(
            f"addEventListener('keydown', () => window.first = ({SLIDER})(), {{ once: true, capture: true }})"
        )
        slider.press("ArrowLeft" if i % 4 < 2 else "ArrowRight")
        taken.append(page.evaluate("first"))
        page.wait_for_function(
            "(painted) => lnres.stats().painted > painted", arg=page.evaluate("lnres.stats().painted") + 5
        )
    return quantiles(taken)


def played(page, times: int = 10) -> dict[str, float]:
    """Milliseconds from pressing play to the first painted frame with a new step."""
    taken = []
    for _ in range(times):
        page.evaluate("document.querySelector('.lnres-play').click()")
        asked = page.evaluate("lnres.stats().asked")
        page.wait_for_function(
            "(asked) => lnres.stats().asked > asked + 3", arg=asked
        )  # all that was under way is here
        taken.append(page.evaluate(PLAY))
    return quantiles(taken)


@BENCHES.add("browser", "what a visitor feels: two networks, four charts")
def pair() -> dict:
    """Two configurations of 32 blocks and 4 seeds, four charts, 20 s of looking on, then keys and buttons."""
    with visited() as (app, page):
        page.goto(app.url)
        page.get_by_text("Which of these networks learns?").wait_for()
        page.locator(".lnres-play").wait_for()
        readable = time.time() - app.started
        page.wait_for_function(READY)
        live = time.time() - app.started
        told = {"s_command_to_readable": round(readable, 2), "s_command_to_first_frame": round(live, 2)}
        told |= {"s_page_to_first_frame": round(opened(app, page, PAIR), 2)}
        return (
            told
            | watched(app, page, PAIR)
            | {"ms_slider_to_frame": slid(page), "ms_play_to_frame": played(page)}
        )


@BENCHES.add("browser4", "what a visitor feels: four networks, four charts")
def four() -> dict:
    """The default question: four configurations of 32 blocks and 4 seeds, 20 s of looking on."""
    with visited() as (app, page):
        return watched(app, page, FOUR) | {"ms_slider_to_frame": slid(page)}


@BENCHES.add("browser6", "what a visitor feels: four networks, six charts, and 2,000 recorded steps")
def six() -> dict:
    """Four configurations of 32 blocks and 4 seeds in six charts: looking on, then jumps into the past."""
    with visited() as (app, page):
        told = watched(app, page, SIX)
        page.wait_for_function("(steps) => lnres.state().step >= steps", arg=RECORDED, timeout=150_000)
        page.evaluate("document.querySelector('.lnres-play').click()")
        page.wait_for_timeout(1500)
        first, whole = zip(*page.evaluate(SCRUB, [RECORDED, 60]), strict=True)
        costs = {name: round(cost, 1) for name, cost in page.evaluate("lnres.stats().charts")}
        return told | {
            "ms_scrub_to_first_charts": quantiles(first),
            "ms_scrub_to_all_charts": quantiles(whole),
            "ms_per_chart": costs,
        }


# From the click that asks for a fork to the first step that is the fork's own, as it stands in the browser.
FORK = """async () => {
  const start = performance.now();
  document.querySelector('.lnres-fork-form').requestSubmit();
  const own = () => lnres.state().runs[1]?.step >= 1000;
  while (!own()) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""


@BENCHES.add("fork", "a fork at step 1,000 of a network of 32 blocks and 4 seeds: its first frame")
def fork() -> dict:
    """The fork is made from step 1,000 while the network stands a little further on."""
    with visited() as (app, page):
        opened(app, page, "norm=layer&steps=100000")
        page.wait_for_function("() => lnres.state().step >= 1050", timeout=150_000)
        page.evaluate("document.querySelector('.lnres-play').click()")
        page.wait_for_timeout(1500)
        page.get_by_role("slider", name="Step looked at").fill("1000")
        page.get_by_role("button", name="go on differently").click()
        page.get_by_label("To which value").fill("0.01")
        return {"ms_to_first_frame": round(page.evaluate(FORK), 1)}


# Each chart again and again with other numbers, `how` it is told: the same data, layout and frames for both.
REDRAW = """async ([how, chart, times]) => {
  const { name } = performance.getEntriesByType('resource').find(({ name }) => name.endsWith('/draw.js'));
  const draw = how === 'draw' ? (await import(name)).draw : Plotly.react;
  const node = document.querySelectorAll('.lnres-chart')[chart];
  const { template, ...layout } = node.layout;
  const still = structuredClone(layout), { data } = node;
  for (let i = 0; i < times; i++) {
    const by = 1 - 0.001 * (i % 7);
    const moved = (cells) => Array.from(cells, (cell) => (cell?.length ? moved(cell) : by * cell));
    const fresh = data.map(({ ...trace }) => {
      const key = trace.z ? 'z' : 'y';
      if (trace[key]) trace[key] = moved(trace[key]);
      return trace;
    });
    draw(node, fresh, { ...still, template }, {});
    await new Promise(requestAnimationFrame);
  }
}"""


@BENCHES.add("draw", "six charts whose numbers alone are new: drawn in place against Plotly.react")
def draw(times: int = 25) -> dict:
    """CPU milliseconds of the browser's main thread per chart, which a busy machine does not change much."""
    with visited() as (app, page):
        opened(app, page, SIX)
        page.wait_for_function("() => lnres.state().step >= 100", timeout=150_000)
        page.evaluate("document.querySelector('.lnres-play').click()")
        page.wait_for_timeout(1500)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})

        def spent() -> float:
            metrics = session.send("Performance.getMetrics")["metrics"]
            return next(row["value"] for row in metrics if row["name"] == "TaskDuration")

        told = {}
        for chart, name in enumerate(page.evaluate("lnres.state().panels")):
            told[name] = {}
            for how in ("draw", "react"):
                page.evaluate(REDRAW, [how, chart, 3])
                before = spent()
                page.evaluate(REDRAW, [how, chart, times])
                told[name][f"ms_{how}"] = round(1000 * (spent() - before) / times, 1)
        return told | {
            f"ms_{how}": round(sum(chart[f"ms_{how}"] for chart in told.values()), 1)
            for how in ("draw", "react")
        }
