"""What a learner waits for: from a guess to the answer, and for an experiment that is run again."""

import time

from lnres.lessons import LESSONS
from tests.bench import BENCHES
from tests.bench.browser import visited

ANSWERED = "[data-testid=stAlert]"  # the misconception, which is named once the runs are over

STEPPED = "() => / step [1-9]/.test(document.querySelector('[data-testid=stProgress]')?.innerText ?? '')"


@BENCHES.add("lessons", "from a guess to the first frame and to the answer, seconds, every lesson in turn")
def lessons() -> dict:
    """Lessons as they are played, one after the other by one visitor."""
    found = {}
    with visited() as (app, page):
        for name in LESSONS:
            page.goto(f"{app.url}/lessons?lesson={name}")
            page.locator(".lesson-options button").first.click()
            start = time.monotonic()
            page.locator(".lesson-go").click()
            page.wait_for_function("() => window.lnres?.stats().paints.some(({ step }) => step > 0)")
            moved = time.monotonic() - start
            page.locator(ANSWERED).first.wait_for(timeout=120_000)
            found[name] = {"moves": round(moved, 2), "answered": round(time.monotonic() - start, 1)}
    return found


@BENCHES.add("again", "from “Run it again” to the first step of an experiment, seconds")
def again(rows: tuple[str, ...] = ("K18", "K15", "K64", "K23", "K52")) -> dict:
    """Claims of which a visitor runs the experiments again."""
    found = {}
    with visited() as (app, page):
        for name in rows:
            page.goto(f"{app.url}/claims?claim={name}")
            page.get_by_role("button", name="Run it again").click()
            start = time.monotonic()
            page.wait_for_function(STEPPED)
            found[name] = round(time.monotonic() - start, 2)
            page.get_by_role("button", name="Stop").click()
    return found
