"""A CSV of one's own: read, checked in sentences, split, trained on, and known to the workers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnres.__main__ import main
from lnres.data import DATA, SCALERS, Batches
from lnres.engine.store import Store
from lnres.engine.worker import Order, Worker
from lnres.experiment import Experiment
from lnres.tables import NAME, Own, read_csv, recall
from lnres.train import Run

SMALL = {"depth": 1, "width": 8, "batch": 8, "seeds": 2}


def csv(rows=60, change=None, separator=",", end="\n"):
    """Two features that tell three classes apart, and a third that does not."""
    rng = np.random.default_rng(0)
    table = [["height", "weight", "noise", "kind"]]
    for i in range(rows):
        x = rng.normal(size=3) * [1, 100, 1e-3] + [3 * (i % 3), 0, 0]
        table.append([*(f"{value:.6g}" for value in x), "abc"[i % 3]])
    for (row, column), value in (change or {}).items():
        table[row][column] = value
    return end.join(separator.join(row) for row in table).encode()


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setattr(DATA, "_choices", dict(DATA._choices))
    monkeypatch.setattr(DATA, "_unlisted", set(DATA._unlisted))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_is_read_as_it_stands(separator, end):
    own = read_csv(csv(separator=separator, end=end))
    assert (own.label, own.columns, own.classes) == ("kind", ("height", "weight", "noise"), tuple("abc"))
    assert (own.x.shape, own.x.dtype, own.y.tolist()) == ((60, 3), np.float32, [i % 3 for i in range(60)])
    lines = [line.split(",")[:3] for line in csv().decode().splitlines()[1:]]
    np.testing.assert_array_equal(own.x, np.array(lines, np.float32))
    assert own.name == read_csv(csv(separator=separator, end=end)).name
    assert read_csv(b"\xef\xbb\xbf" + csv()).columns[0] == "height"


def test_the_label_may_be_any_column_and_any_kind_of_value():
    other = {(row, 0): str(10 * (row % 2)) for row in range(1, 61)} | {
        (row, 3): "1" * (row % 5 + 1) for row in range(1, 61)
    }
    own = read_csv(csv(change=other), "height")
    assert (own.label, own.classes, own.columns) == ("height", ("0", "10"), ("weight", "noise", "kind"))
    with pytest.raises(
        ValueError, match="label='size': there is no such column; choose one of height, weight"
    ):
        read_csv(csv(), "size")


WRONG = {
    "Features must be numbers; weight holds text such as 'tall': remove it": csv(change={(3, 1): "tall"}),
    "2 cells are empty, the first in row 5 of height; fill in": csv(change={(5, 0): "", (6, 2): ""}),
    "1 cell is empty, the first in row 5 of kind;": csv(change={(5, 3): ""}),
    "weight holds numbers that are infinite or beyond 10³⁸": csv(change={(5, 1): "1e39"}),
    "noise has the same value in every row; remove it": csv(change={(i, 2): "7" for i in range(1, 61)}),
    "The label kind has a single class": csv(change={(i, 3): "a" for i in range(1, 61)}),
    "The label kind has 60 different values in 60 rows; it needs at most 30": csv(
        change={(i, 3): str(i) for i in range(1, 61)}
    ),
    "The table has 9 rows; it needs at least 10": csv(9),
    "The first line must name the columns; it holds numbers: 1, 2, 3, 4": csv(
        change={(0, i): str(i + 1) for i in range(4)}
    ),
    "Column 1 has no name; name it in the first line": csv(change={(0, 0): ""}),
    "Two columns have the same name; the names are height, height,": csv(change={(0, 1): "height "}),
    "The file has a single column; it needs features and a label": b"a\n" + b"1\n" * 20,
    "The file is no table: No columns": b"",
    "The file is not UTF-8 text": csv() + b"\xff",
    "The file has 4.8 MiB; the limit is 4 MiB": b"a,b\n" + b"1,2\n" * 1_250_000,
    "The table has 1,100 features; the limit is 1,000": "\n".join(
        [",".join(f"c{i}" for i in range(1101))] + [",".join(["1"] * 1101)] * 12
    ).encode(),
    "The table has 3,000 rows of 400 features; the limit is 1,000,000 numbers": "\n".join(
        [",".join(f"c{i}" for i in range(401))] + [",".join(["1"] * 401)] * 3000
    ).encode(),
    "The file is no table: Error tokenizing data": csv() + b"\n1,2,3,a,b,c",
}  # fmt: skip


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said_in_a_sentence(said):
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as caught:
        read_csv(WRONG[said])
    assert said in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    bad = {(3, 1): "x", (4, 0): ""} | {(i, c): "7" for i in range(1, 61) for c in (2, 3)}
    with pytest.raises(
        ValueError, match=r"such as 'x'.* 1 cell is empty.*noise has the same.*a single class"
    ):
        read_csv(csv(change=bad))


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 1500), at=st.integers(0, 1500), junk=st.binary(max_size=6))
def test_damage_is_a_sentence_or_another_table(cut, at, junk):
    raw = csv(40)
    raw = raw[:at] + junk + raw[at + cut % 50 :]
    try:
        own = read_csv(raw)
    except ValueError as error:
        own, said = None, str(error)
    assert np.isfinite(own.x).all() if own else "\n" not in said


# As data


@pytest.mark.parametrize("scaler", SCALERS)
def test_a_table_is_data_like_any_other(scaler):
    own = read_csv(csv(100))
    name = own.enrol()
    assert NAME.fullmatch(name)
    b = Batches(Experiment(data=name, scaler=scaler, **SMALL))
    assert (b.x.shape, b.test_x.shape, b.outputs) == ((2, 75, 3), (2, 25, 3), 3)
    raw = Batches(Experiment(data=name, scaler="none", **SMALL))
    whole = torch.cat([raw.x[0], raw.test_x[0]])
    np.testing.assert_array_equal(np.unique(whole, axis=0), np.unique(own.x, axis=0))
    assert not torch.equal(raw.test_y[0], raw.test_y[1])
    assert torch.equal(
        Batches(Experiment(data=name, scaler=scaler, **(SMALL | {"seed": 1, "seeds": 1}))).x[0], b.x[1]
    )


def test_a_network_learns_a_table():
    e = Experiment(
        data=read_csv(csv(300)).enrol(), depth=2, width=16, batch=32, optimizer="adam", lr=0.01, seeds=2
    )
    assert Experiment.parse(e.link()) == e
    run = Run(e)
    for _ in range(120):
        next(run)
    assert run.test()[1].min() > 0.85


def test_a_table_of_two_features_is_drawn():
    drop = [0, 1, 3]
    raw = "\n".join(",".join(line.split(",")[i] for i in drop) for line in csv().decode().splitlines())
    assert "regions" in next(Run(Experiment(data=read_csv(raw.encode()).enrol(), **SMALL)))[0]


def test_a_small_table_refuses_a_large_batch():
    name = read_csv(csv(20)).enrol()
    with pytest.raises(ValueError, match=f"batch=64: {name} has 15 training examples; choose at most 15"):
        Experiment(data=name)


def test_nobody_is_shown_the_tables_of_others():
    listed, many = list(DATA), len(DATA)
    name = read_csv(csv()).enrol()
    assert read_csv(csv()).enrol() == name
    assert name in DATA
    assert (list(DATA), len(DATA)) == (listed, many)
    with pytest.raises(ValueError, match="choose one of digits") as caught:
        Experiment(data="csv-0123456789abcdef")
    assert name not in str(caught.value)


# In other processes


def forget(name):
    del DATA._choices[name]
    DATA._unlisted.remove(name)


def test_a_worker_finds_a_table_in_the_folder(tmp_path):
    own = read_csv(csv())
    e = Experiment(data=own.enrol(tmp_path), **SMALL)
    forget(own.name)
    told = []
    worker = Worker(Store(str(tmp_path)), lambda *message: told.append(message))
    worker.do("open", "g", Order("g", ["r"], [e]))
    worker.do("step", "g")
    worker.turn()
    assert [kind for kind, *_ in told] == ["frame"]
    np.testing.assert_array_equal(DATA[own.name].make()[0], own.x)


def test_a_table_survives_the_way_and_damage_does_not_pass(tmp_path):
    own = read_csv(csv())
    again = Own.frombytes(own.tobytes())
    assert again.name == own.name
    assert (again.columns, again.classes) == (own.columns, own.classes)
    with pytest.raises(ValueError, match="this is not a"):
        Own.frombytes(own.tobytes()[:-9])
    recall("../../etc/passwd", tmp_path)
    recall(own.name, tmp_path)  # which is not there
    assert own.name not in DATA


def test_the_command_line_takes_a_file(tmp_path, monkeypatch, capsys):
    path = tmp_path / "own.csv"
    path.write_bytes(csv())
    words = [f"{key}={value}" for key, value in SMALL.items()]
    monkeypatch.setattr("sys.argv", ["lnres", "train", f"data={path}", *words, "--steps", "2", "--quiet"])
    assert main() == 0
    assert json.loads(capsys.readouterr().out)["experiment"]["data"] == read_csv(csv()).name
    path.write_bytes(csv(5))
    assert main() == 2
    assert capsys.readouterr().err == "lnres: The table has 5 rows; it needs at least 10.\n"
