"""What was found is kept: one file an experiment, and the verdicts of all claims in another."""

import datetime
import importlib.metadata
import json
import math
import platform
import time
from collections import ChainMap
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from lnres.claims.claim import CLAIMS, Claim
from lnres.claims.judge import Cell, Judged

ASSETS = Path(__file__).parents[2] / "assets"
COMMITTED = ASSETS / "claims.json"
"""The verdicts that the page opens with; what the experiments found lies in the folder of the same name."""
DIGITS = 6
"""Significant digits that are kept of a value."""


def folder_of(file: Path) -> Path:
    """Where the experiments behind a file of verdicts are kept."""
    return Path(file).with_suffix("")


def plain(value: float) -> float | None:
    """A number as JSON knows it: rounded, and null where it is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def number(value: float | None) -> float:
    """The same, read."""
    return math.nan if value is None else value


def versions() -> dict[str, str]:
    """Of what computed it."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in ("torch", "numpy")
    }


def begin(name: str, first: int) -> Generator[str, None, dict]:
    """An experiment step by step: says what it does, and returns what is kept of it."""
    from lnres.claims import EXPERIMENTS

    start, ticks = time.process_time(), 0
    work = EXPERIMENTS[name].make(first)
    while True:
        try:
            said = next(work)
        except StopIteration as end:
            return packed(name, end.value, first, ticks, time.process_time() - start)
        ticks += 1
        yield said


def run(name: str, first: int, tick: Callable[[str], None] = lambda said: None) -> dict:
    """Run an experiment to its end and return what is kept of it; ``tick`` hears every step."""
    work = begin(name, first)
    while True:
        try:
            tick(next(work))
        except StopIteration as end:
            return end.value


def packed(name: str, found, first: int, ticks: int, seconds: float) -> dict:
    """What a finished experiment leaves: values, notes, seeds, steps, CPU seconds, date and versions."""
    seeds = found.seeds or max(map(len, found.values.values()))
    return {
        "id": name,
        "values": {key: [plain(v) for v in values] for key, values in found.values.items()},
        "told": found.told,
        "seeds": list(range(first, first + seeds)),
        "ticks": ticks,
        "seconds": round(seconds, 1),
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
    }


def save(result: Mapping, folder: Path) -> None:
    """Keep an experiment; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{result['id']}.json", result)


def write(file: Path, value) -> None:
    """As JSON, whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    part.replace(file)


def load(name: str, folder: Path) -> dict | None:
    """A kept experiment, None if it was not run yet."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def values_of(results: Iterable[Mapping]) -> Mapping[str, np.ndarray]:
    """Everything that some experiments found, by name."""
    return ChainMap(*[
        {name: np.array([number(v) for v in values]) for name, values in result["values"].items()}
        for result in results
    ])  # fmt: skip


def verdict_of(claim: Claim, folder: Path) -> dict | None:
    """The row of a claim; None if an experiment that it needs was not run yet."""
    results = [load(name, folder) for name in claim.experiments]
    return None if None in results else row_of(claim, results)


def row_of(claim: Claim, results: list[Mapping]) -> dict:
    """The verdict of what was found, with its cells, seeds, date and versions."""
    cells = claim.cells(values_of(results)) if claim.runs else []
    judged = claim.judged(cells)
    made = results[0] if results else {"date": None, "versions": {}, "seeds": []}
    seeds = made["seeds"][: max((cell.n for cell in cells), default=0)]
    return {
        "id": claim.id,
        "verdict": judged.verdict,
        "cells": [told(cell, judged) for cell in cells],
        "seeds": seeds,
        "rule_version": claim.version,
        "date": made["date"],
        "versions": made["versions"],
        "experiments": {result["id"]: result["seconds"] for result in results},
    }


def told(cell: Cell, judged: Judged) -> dict:
    """A cell as it is kept."""
    numbers = {name: plain(getattr(cell, name)) for name in ("effect", "low", "high")}
    word = {"word": judged.words[cell.name]} if cell.name in judged.words else {}
    return {"name": cell.name} | numbers | {"n": cell.n, "values": [plain(v) for v in cell.values]} | word


def cells_of(row: Mapping) -> list[Cell]:
    """The cells of a kept row."""
    return [
        Cell(
            c["name"], *(number(c[key]) for key in ("effect", "low", "high")), c["n"],
            tuple(map(number, c["values"])),
        )
        for c in row["cells"]
    ]  # fmt: skip


def needed(names: Iterable[str]) -> list[str]:
    """The experiments behind these claims (all without names), cheapest first; E04 itself is one."""
    from lnres.claims import EXPERIMENTS

    wanted = list(names) or list(CLAIMS)
    own = [e for name in wanted for e in ((name,) if name in EXPERIMENTS else CLAIMS[name].make.experiments)]
    return [name for name in EXPERIMENTS if name in own]


def rows(folder: Path) -> list[dict]:
    """The rows of all claims whose experiments are there."""
    found = [verdict_of(CLAIMS[name].make, folder) for name in sorted(CLAIMS)]
    return [row for row in found if row]


def usual_ticks(name: str) -> int | None:
    """How many steps an experiment took when it was last committed; None if it never was."""
    kept = load(name, folder_of(COMMITTED))
    return kept and kept["ticks"]


@cache
def committed() -> dict[str, dict]:
    """The committed rows by claim."""
    if not COMMITTED.exists():
        return {}
    return {row["id"]: row for row in json.loads(COMMITTED.read_text(encoding="utf-8"))}
