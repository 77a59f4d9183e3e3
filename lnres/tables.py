"""Bring your own: a CSV of numbers and a label column becomes a row of DATA, named after its content."""

import hashlib
import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnres.data import DATA, Table
from lnres.record import pack, unpack

MOST_BYTES, MOST_CELLS, MOST_FEATURES, MOST_CLASSES, FEWEST_ROWS = 4 * 2**20, 1_000_000, 1_000, 100, 10
TEST_SHARE = 0.25
SEPARATORS = ",;\t"
NAME = re.compile(r"csv-[0-9a-f]{16}")
"""What the field ``data`` says for a table of one's own."""


@dataclass(frozen=True)
class Own:
    """A table that was read: x (rows, features) and the index (rows,) of each row's class in ``classes``."""

    label: str
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray

    def tobytes(self) -> bytes:
        """The table as safetensors, as it is sent to the workers."""
        told = {"label": self.label, "columns": self.columns, "classes": self.classes}
        return pack({"x": self.x, "y": self.y}, told)

    @classmethod
    def frombytes(cls, blob: bytes) -> "Own":
        """What ``tobytes`` made; ``ValueError`` if it is damaged."""
        arrays, told = unpack(blob)
        try:
            return cls(
                told["label"], tuple(told["columns"]), tuple(told["classes"]), arrays["x"], arrays["y"]
            )
        except (KeyError, TypeError):
            raise ValueError("this is not a table of lnres: something is missing in it") from None

    @property
    def name(self) -> str:
        """The same for the same content, and not to be guessed without it."""
        return f"csv-{hashlib.sha256(self.tobytes()).hexdigest()[:16]}"

    def enrol(self, folder: Path | None = None) -> str:
        """Make it a row of DATA that no list shows, and leave it in a folder for other processes.

        Returns the name that the field ``data`` takes. Each seed splits it as it splits every table.
        """
        if self.name not in DATA:
            rows, features = self.x.shape
            test = round(rows * TEST_SHARE)
            table = Table(
                self.name, lambda: (self.x, self.y), features, len(self.classes), rows - test, test,
                label=self.label,
            )  # fmt: skip
            said = (
                f"{rows:,} rows, {features} features, {len(self.classes)} classes; {test:,} are for testing."
            )
            DATA.put(self.name, f"your table ({self.label})", make=table, about=said, listed=False)
        if folder and not (path := folder / f"{self.name}.safetensors").exists():
            path.write_bytes(self.tobytes())
        return self.name


def forget(names: Iterable[str], folder: Path | None = None) -> None:
    """Enrolled tables are needed no longer, nor what they left in a folder; other names are left alone."""
    for name in filter(NAME.fullmatch, names):
        DATA.drop(name)
        if folder:
            (folder / f"{name}.safetensors").unlink(missing_ok=True)


def recall(name: str, folder: Path) -> None:
    """Enrol the table of this name that another process has left in the folder; nothing for other names."""
    if NAME.fullmatch(name) and name not in DATA and (path := folder / f"{name}.safetensors").exists():
        Own.frombytes(path.read_bytes()).enrol()


def read_csv(raw: bytes, label: str = "") -> Own:
    """A CSV whose first line names the columns; the label is the named column, else the last.

    Separators are commas, semicolons or tabs. ``ValueError`` has a sentence for everything that is wrong.
    """
    import pandas  # a third of a second: only who reads a table waits for it

    frame = _frame(raw)
    label = label or frame.columns[-1]
    if label not in frame.columns:
        raise ValueError(f"label={label!r}: there is no such column; choose one of {listed(frame.columns)}")
    cells, classes = frame.drop(columns=label), frame[label]
    numbers = cells.apply(pandas.to_numeric, errors="coerce").astype(np.float64)
    if wrong := [*_wrong_features(cells, numbers), *_wrong_classes(classes)]:
        raise ValueError(" ".join(wrong))
    ordered = classes if classes.dtype.kind in "biuf" else classes.astype(str)
    names, y = np.unique(ordered.to_numpy(), return_inverse=True)
    x = numbers.to_numpy(np.float32)
    return Own(label, tuple(cells.columns), tuple(map(str, names.tolist())), x, y.astype(np.int32))


def listed(names) -> str:
    """A few names, and how many more."""
    shown = [repr(str(name))[1:-1][:40] for name in list(names)[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _frame(raw: bytes):
    """The cells as pandas reads them; ``ValueError`` where they are no table of a fitting size."""
    import pandas

    if len(raw) > MOST_BYTES:
        raise ValueError(
            f"The file has {len(raw) / 2**20:.1f} MiB; the limit is {MOST_BYTES / 2**20:.0f} MiB: "
            "keep fewer rows."
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("The file is not UTF-8 text; save it as CSV in UTF-8.") from None
    first = text.lstrip().partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frame = pandas.read_csv(io.StringIO(text), sep=separator, index_col=False, skipinitialspace=True)
    except (ValueError, Warning, OverflowError) as error:
        why = str(error).strip().splitlines()[-1:] or ["it is empty"]
        raise ValueError(f"The file is no table: {why[0].rstrip('.')}.") from None
    frame.columns = [str(name).strip() for name in frame.columns]
    rows, columns = frame.shape
    if columns < 2:
        raise ValueError(
            "The file has a single column; it needs features and a label, "
            "separated by commas, semicolons or tabs."
        )
    if all(re.fullmatch(r"[-+.\deE]+", name) for name in frame.columns):
        raise ValueError(f"The first line must name the columns; it holds numbers: {listed(frame.columns)}.")
    if unnamed := [i for i, name in enumerate(frame.columns, 1) if not name or name.startswith("Unnamed:")]:
        raise ValueError(f"Column {unnamed[0]} has no name; name it in the first line, or remove it.")
    if len(set(frame.columns)) < columns:
        raise ValueError(f"Two columns have the same name; the names are {listed(frame.columns)}.")
    if rows < FEWEST_ROWS:
        raise ValueError(f"The table has {rows} rows; it needs at least {FEWEST_ROWS}.")
    if columns - 1 > MOST_FEATURES:
        raise ValueError(f"The table has {columns - 1:,} features; the limit is {MOST_FEATURES:,}.")
    if rows * (columns - 1) > MOST_CELLS:
        raise ValueError(
            f"The table has {rows:,} rows of {columns - 1} features; "
            f"the limit is {MOST_CELLS:,} numbers in all."
        )
    return frame


def _missing(frame) -> str:
    """Where cells are empty, in a sentence; nothing where none is."""
    empty = frame.isna().to_numpy()
    if not empty.any():
        return ""
    row, column = np.argwhere(empty)[0]
    where = f"the first in row {row + 1} of {listed([frame.columns[column]])}"
    are = "cells are" if empty.sum() > 1 else "cell is"
    return f"{empty.sum():,} {are} empty, {where}; fill in what is missing or remove the row."


def _wrong_features(cells, numbers) -> list[str]:
    """A sentence for each thing that keeps the features, as they were read and as numbers, from training."""
    words, wrong = cells.notna() & numbers.isna(), []
    if wordy := list(numbers.columns[words.any()]):
        example = str(cells[wordy[0]][words[wordy[0]]].iloc[0])[:40]
        wrong.append(
            f"Features must be numbers; {listed(wordy)} holds text such as {example!r}: "
            "remove it or give its categories numbers."
        )
    if missing := _missing(cells):
        wrong.append(missing)
    if endless := list(numbers.columns[(numbers.abs() > np.finfo(np.float32).max).any()]):
        wrong.append(f"{listed(endless)} holds numbers that are infinite or beyond 10³⁸; remove these rows.")
    if constant := list(numbers.columns[numbers.nunique() == 1]):
        wrong.append(f"{listed(constant)} has the same value in every row; remove it, it tells nothing.")
    return wrong


def _wrong_classes(classes) -> list[str]:
    """A sentence for each thing that keeps the label column from being classes."""
    if missing := _missing(classes.to_frame()):
        return [missing]
    many = classes.nunique()
    if many == 1:
        return [f"The label {listed([classes.name])} has a single class; there is nothing to tell apart."]
    if many > min(MOST_CLASSES, len(classes) // 2):
        return [
            f"The label {listed([classes.name])} has {many:,} different values in {len(classes):,} rows; "
            f"it needs at most {min(MOST_CLASSES, len(classes) // 2)} classes with two rows each or more."
        ]
    return []
