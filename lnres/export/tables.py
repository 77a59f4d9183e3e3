"""Records as a table and experiments as JSON, and the way back."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Sequence

import numpy as np

from lnres.experiment import Experiment
from lnres.record import AXES, CLOCK_OF, CLOCKS, HIST_BINS, Record, written
from lnres.scene import LETTERS, MOST, Scene

KEYS = ("run", "step", "seed", "block", "time")
"""What a row of a table is about; ``block`` and ``time`` are empty where it is the whole network."""


def experiment_of(record: Record) -> Experiment:
    """What a record is of; ``ValueError`` if it does not say, or if its arrays show another."""
    if "experiment" not in record.header:
        raise ValueError("this record does not say which experiment it is of")
    e = Experiment.parse(record.header["experiment"])
    sizes = {"s": e.seeds, "l": e.blocks + 1, "b": e.blocks, "t": e.times}
    sizes |= {"h": HIST_BINS + 2, "w": len(written(e.blocks)) + 2}
    for name in set(record) - set(CLOCKS):
        shape = record[name].shape[1:]
        wanted = tuple(sizes.get(axis, size) for axis, size in zip(AXES[name], shape, strict=True))
        if shape != wanted:
            raise ValueError(f"this record does not fit its experiment: {name!r} is not {wanted} a step")
    return e


def to_csv(records: Sequence[Record]) -> str:
    """One table of all runs: a row for each step and seed, and for each block where it was measured.

    Columns are ``run`` (A, B, ...), ``step``, ``seed``, ``block`` (0 is the stem's state), ``time`` (of a
    recurrent network), and the names of the arrays. A cell is empty where nothing was measured. Histograms
    and pictures, which no cell can hold, stay behind.
    """
    names = [name for name in CELLS if any(name in record for record in records)]
    lines = [(*KEYS, *names)]
    for letter, record in zip(LETTERS, records, strict=False):
        lines += _rows(letter, record, names)
    return "".join(",".join(line) + "\n" for line in lines)


PLACES = {"s": "", "ls": "block", "bs": "block", "ts": "time"}
"""The column that says where in a network each number of such an array was measured."""
CELLS = [name for name in CLOCK_OF if AXES.get(name) in PLACES]
"""Arrays that are columns; histograms, and pictures, fit no cell."""


def _rows(letter: str, record: Record, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The rows of a run as texts."""
    first = experiment_of(record).seed
    for kind in ("", "block", "time"):
        here = [n for n in names if n in record and PLACES[AXES[n]] == kind]
        if not here:
            continue
        steps = np.unique(np.concatenate([record[CLOCK_OF[n]] for n in here]))
        places = max(record[n].shape[1] for n in here) if kind else 1
        shape = (len(steps), places, record[here[0]].shape[-1])
        columns = {name: np.full(shape, "", "U16") for name in names}
        for n in here:
            values = record[n] if kind else record[n][:, None]
            rows = np.searchsorted(steps, record[CLOCK_OF[n]])
            columns[n][rows, places - values.shape[1] :] = values.astype("U16")  # blocks end where states do
        step, place, seed = np.indices(shape)
        keys = {"run": np.full(shape, letter), "step": steps[step], "seed": first + seed}
        keys[kind] = place + (kind == "time")
        whole = [keys[k].astype(str) if k in keys else np.full(shape, "") for k in KEYS]
        yield from zip(*(column.ravel() for column in [*whole, *columns.values()]), strict=True)


def from_csv(text: str | bytes) -> dict[str, Record]:
    """The runs of a table by letter; ``ValueError`` says in one sentence what is wrong with it."""
    try:
        lines = text.decode() if isinstance(text, bytes) else text
        head, *rows = csv.reader(lines.splitlines(), strict=True)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"this is not a table of lnres: {error}") from None
    names = head[len(KEYS) :]
    if tuple(head[: len(KEYS)]) != KEYS:
        raise ValueError(f"this is not a table of lnres: its columns do not begin with {', '.join(KEYS)}")
    if wrong := [n for n in names if n not in CELLS or names.count(n) > 1]:
        raise ValueError(f"column {wrong[0]!r}: choose each once among {', '.join(CELLS)}")
    if short := [i for i, row in enumerate(rows, 2) if len(row) != len(head)]:
        raise ValueError(f"line {short[0]}: it has not the {len(head)} cells of the first line")
    cells = dict(zip(head, np.array(rows, dtype=object).reshape(-1, len(head)).T, strict=True))
    if wrong := set(cells["run"]) - set(LETTERS):
        raise ValueError(f"run {min(wrong)!r}: choose one of {', '.join(LETTERS)}")
    return {letter: _record(cells, names, cells["run"] == letter) for letter in sorted(set(cells["run"]))}


def _record(cells: dict[str, np.ndarray], names: Sequence[str], mine: np.ndarray) -> Record:
    """The record of the rows that are ``mine``."""
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        there = mine & (cells[name] != "")
        if not there.any():
            continue
        kind = next((k for k in ("block", "time") if (cells[k][there] != "").any()), "")
        axes = [_whole(k, cells[k][there]) for k in ("step", kind, "seed") if k]
        ticks, index = zip(*(np.unique(axis, return_inverse=True) for axis in axes), strict=True)
        shape = tuple(map(len, ticks))
        if len(np.unique(np.ravel_multi_index(index, shape))) != len(axes[0]) or len(axes[0]) != np.prod(
            shape
        ):
            raise ValueError(f"column {name!r}: there is not one number for every {' and '.join(KEYS[1:3])}")
        arrays[name] = np.empty(shape, np.float32)
        try:
            with np.errstate(over="ignore"):
                arrays[name][index] = cells[name][there].astype(float)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None
        clock = CLOCK_OF[name]
        if not np.array_equal(arrays.setdefault(clock, ticks[0].astype(np.int32)), ticks[0]):
            raise ValueError(f"column {name!r}: its steps are not those of the others")
    record = Record()
    record.extend(arrays)
    return record


def _whole(name: str, cells: np.ndarray) -> np.ndarray:
    """Cells as whole numbers from 0 on."""
    try:
        numbers = cells.astype(np.int32)
    except (ValueError, OverflowError):
        numbers = np.full(1, -1)
    if (numbers < 0).any():
        raise ValueError(f"column {name!r}: every cell must be a whole number from 0 to {2**31 - 1}")
    return numbers


def to_json(scene: Scene) -> str:
    """Experiments as JSON: a list of objects with every field."""
    return json.dumps([dataclasses.asdict(e) for e in scene.experiments], indent=1) + "\n"


def from_json(text: str | bytes) -> tuple[Scene, list[str]]:
    """The experiments of a JSON list, or the one of an object, and a sentence about each wrong value.

    Wrong values are replaced by their defaults, as in ``Experiment.read``; ``ValueError`` says in one
    sentence why a text can not be read at all.
    """
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is not JSON: {error}") from None
    told = told if isinstance(told, list) else [told]
    if not 1 <= len(told) <= MOST or not all(isinstance(one, dict) for one in told):
        raise ValueError(f"this is not a configuration of lnres: it is not a list of 1 to {MOST} objects")
    experiments, complaints = zip(*map(Experiment.read, told), strict=True)
    return Scene(list(experiments)), [sentence for some in complaints for sentence in some]
