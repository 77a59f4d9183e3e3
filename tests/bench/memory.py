"""What a page that is left open takes: it must not grow for as long as it plays."""

import psutil

from tests.bench import BENCHES
from tests.bench.browser import SIX, opened, visited

LIMIT = 50.0
"""MB that the page may grow by from minute 5 to minute 30."""


def renderers() -> list[psutil.Process]:
    """The processes that draw the pages of browsers which this process has started."""
    return [p for p in psutil.Process().children(recursive=True) if "--type=renderer" in p.cmdline()]


def taken(page, session) -> dict[str, float]:
    """What a page takes once its garbage is collected: MB of JavaScript objects, and MB of its own in all."""
    session.send("HeapProfiler.collectGarbage")
    counts = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
    return {
        "step": page.evaluate("lnres.state().step"),
        "heap_mb": round(counts["JSHeapUsedSize"] / 1e6, 1),
        "page_mb": round(sum(p.memory_full_info().uss for p in renderers()) / 1e6, 1),
        "nodes": int(counts["Nodes"]),
        "listeners": int(counts["JSEventListeners"]),
    }


@BENCHES.add(
    "memory", "what a page takes that plays on: four networks, six charts, as long as --minutes says"
)
def memory(minutes: float = 3.0) -> dict:
    """Four configurations of 32 blocks and 4 seeds in six charts, as fast as they go.

    Growth is counted from minute 5 on, of shorter runs from their first third on: what is compiled and
    cached at first is no leak.
    """
    if not 0.1 <= minutes <= 600:
        raise ValueError(f"--minutes {minutes:g}: choose a time from 0.1 to 600 minutes")
    start = min(5.0, minutes / 3)
    with visited() as (app, page):
        opened(app, page, SIX)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        seen = []
        for waited in [start, *[(minutes - start) / 5] * 5]:
            page.wait_for_timeout(60_000 * waited)
            seen.append(taken(page, session))
        grew = {name: round(seen[-1][name] - seen[0][name], 1) for name in seen[0]}
        return {
            "minutes": minutes,
            "from_minute": round(start, 2),
            "grew": grew,
            "limit_mb": LIMIT,
            "seen": seen,
        }
