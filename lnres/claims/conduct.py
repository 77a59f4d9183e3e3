"""Experiments run side by side, a core each; what is finished is kept."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from lnres.claims import results
from lnres.claims.bench import FIRST
from lnres.train import one_thread


def conduct(name: str, folder: Path) -> str:
    """Run one experiment with a progress bar on stderr and keep what it found; returns its name."""
    one_thread()
    with tqdm(unit="step", desc=name, total=results.usual_ticks(name), mininterval=0.5) as bar:

        def tick(said: str) -> None:
            bar.set_postfix_str(said, refresh=False)
            bar.update()

        results.save(results.run(name, FIRST, tick), folder)
    return name


def side_by_side(names: Sequence[str], folder: Path, jobs: int) -> Iterator[str]:
    """The names of experiments as they are finished; an interruption loses those under way alone."""
    if not names:
        return
    with ProcessPoolExecutor(max(1, min(jobs, len(names))), get_context("spawn")) as pool:
        for done in as_completed([pool.submit(conduct, name, folder) for name in names]):
            yield done.result()
