"""Networks that boards measure: made from a few controls, measured in workers, remembered."""

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lnres.boards.base import Slider
from lnres.engine import local
from lnres.experiment import Experiment

GRAIN = 16
"""Widths are multiples of it, so that they fall into groups."""


@lru_cache(512)
def measured(e, name: str = "probe", options: tuple = ()) -> dict[str, np.ndarray]:
    """A measure of an experiment, remembered; it is frozen, and so is what it does."""
    return local.start().measure(name, e, **dict(options))


PATIENCE = 0.3
"""Seconds after which an answer is given with what is measured so far."""


def patiently() -> Callable[..., dict[str, np.ndarray] | None]:
    """A function that is ``measured`` until a hand has waited long enough, then None."""
    end = time.monotonic() + PATIENCE
    return lambda *what: measured(*what) if time.monotonic() < end else None


def experiment(**settings):
    """An MLP of plain layers, or of blocks with a skip; ``ValueError`` in words where settings do not fit."""
    layers = 1 if settings.get("residual") == "none" else 2
    return Experiment(**{"layers": layers, "record_every": 0} | settings)


def size(**first) -> tuple[Slider, ...]:
    """The sliders that several boards have."""
    return (
        Slider("width", "Width", first.get("width", 256), GRAIN, 512, GRAIN),
        Slider("depth", "Depth", first.get("depth", 32), first.get("least", 4), 60, 1),
        Slider("nets", "Networks", first.get("nets", 4), 1, 16, 1, about="how many are measured"),
    )


def trained_in_lab(e) -> tuple[str, str]:
    """The way to the lab, where this network trains."""
    return "Train this network in the lab →", f"lab?{e.replace(record_every=10).link()}"


def common(v: dict) -> dict:
    """What those sliders say, as settings."""
    return {"width": v["width"] // GRAIN * GRAIN, "depth": v["depth"], "seeds": v["nets"]}
