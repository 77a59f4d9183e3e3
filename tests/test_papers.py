"""Papers: a status follows from numbers and tolerance alone; what is committed follows from its numbers."""

import json

import numpy as np
import pytest
from screen import opened
from test_claims import finished

from lnres import __main__ as command
from lnres.claims import EXPERIMENTS, depth, nets, place, results
from lnres.claims.judge import Cell
from lnres.figures import fill
from lnres.figures.beside import ratios
from lnres.papers import (
    DIFFERS,
    IN_KIND,
    IN_PART,
    NOT_RUN,
    OPEN,
    PAPERS,
    REPLICATES,
    STATUSES,
    Paper,
    Point,
    committed,
    measured,
    points_of,
    run,
)
from lnres.papers.paper import COMMITTED

QUICK = ("veit-paths", "deepnorm", "fixup", "rezero", "dong", "xiong-sum", "xiong-slope")


def point(published, measured):
    return Point("", published, measured, measured, measured, 1)


@pytest.mark.parametrize(
    ("tolerance", "numbers", "status"),
    [
        (0.02, [(2.0, 2.03), (1.0, 0.99)], REPLICATES),
        (0.02, [(2.0, 2.03), (1.0, 0.97)], DIFFERS),
        (0.02, [(1.0, float("nan"))], DIFFERS),
        (0.0, [(1.0, 1.0)], REPLICATES),
        (0.0, [(1.0, 1.001)], DIFFERS),
        (0.02, [], NOT_RUN),
    ],
)
def test_the_status_of_numbers(tolerance, numbers, status):
    assert Paper("", "", "", tolerance).status([point(*pair) for pair in numbers]) == status


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        ("supported", IN_KIND),
        ("refuted", DIFFERS),
        ("no effect", DIFFERS),
        ("not settled", OPEN),
        ("depends", IN_PART),
        (None, NOT_RUN),
    ],
)
def test_the_status_of_a_claim(verdict, status):
    paper = Paper("", "", "", claim="K18", kind=frozenset({"supported"}))
    assert paper.status([], verdict) == status


def test_rows_are_committed_as_their_numbers_say():
    assert {row["id"]: row for row in json.loads(COMMITTED.read_text("utf-8"))} == committed()
    assert set(committed()) <= set(PAPERS)
    for name, row in committed().items():
        paper = PAPERS[name].make
        assert (row["paper"], row["published"], row["tolerance"]) == (
            paper.paper,
            paper.published,
            paper.tolerance,
        )
        assert row["status"] == paper.status(points_of(row), row.get("verdict")) in STATUSES
        assert bool(row["measured"]) == (row["status"] != NOT_RUN)


@pytest.mark.parametrize("name", [name for name in PAPERS if PAPERS[name].make.experiments])
def test_what_a_paper_asks_of_an_experiment_is_found_there(name, monkeypatch):
    """A misspelt arm would come to light hours later, when the experiment is over."""

    def sweep(found, arms, grid, measures=None, **training):
        for arm in arms:
            found.put(f"{arm} accuracy", [0.5, 0.6])
        yield ""

    for module in (depth, nets, place):
        monkeypatch.setattr(module, "sweep", sweep)
    monkeypatch.setattr(nets, "over_time", lambda run: [0.5, 0.6])
    paper, found = PAPERS[name].make, {}
    for experiment in paper.experiments:
        kept = results.load(experiment, results.folder_of(results.COMMITTED))
        found |= kept["values"] if kept else finished(EXPERIMENTS[experiment].make(900)).values
    cells = [Cell.of(ask.name, ask.value({k: np.asarray(v) for k, v in found.items()})) for ask in paper.asks]
    assert len({cell.name for cell in cells}) == len(cells)
    assert paper.status([], paper.judged(cells)) in STATUSES


@pytest.mark.parametrize("name", QUICK)
def test_what_is_quick_is_measured_anew(name):
    row, kept = run(name), committed()[name]
    assert row["status"] == kept["status"]
    for new, old in zip(row["measured"], kept["measured"], strict=True):
        assert new["measured"] == pytest.approx(old["measured"], rel=1e-3)


def test_weights_behind_a_norm_turn_by_what_their_decay_asks_for():
    assert measured.rotation("layer", 0.1, 0.2).mean() == pytest.approx(1, abs=0.05)


def test_the_command_keeps_what_it_was_not_asked_for(tmp_path, monkeypatch):
    file = tmp_path / "papers.json"
    for name in ("veit-paths", "rezero"):
        monkeypatch.setattr("sys.argv", ["lnres", "papers", name, "--json", str(file)])
        assert command.main() == 0
    assert {row["id"]: row["status"] for row in json.loads(file.read_text())} == {
        "veit-paths": REPLICATES,
        "rezero": REPLICATES,
    }
    monkeypatch.setattr("sys.argv", ["lnres", "papers", "nobody"])
    assert command.main() == 2


def test_the_chart_crosses_what_lies_outside():
    rows = [
        {
            "paper": "P, Theorem 1",
            "name": n,
            "published": 2.0,
            "measured": m,
            "low": m,
            "high": m,
            "tolerance": 0.1,
        }
        | {"near": near}
        for n, m, near in (("a", 2.1, True), ("b", 3.0, False))
    ]
    figure = fill(ratios(rows), [])
    assert [trace.marker.symbol for trace in figure.data if trace.mode == "markers"] == ["circle", "x"]
    assert [note.text for note in figure.layout.annotations] == ["P · a", "P · b"]


def test_the_page_says_what_is_committed():
    page = opened("pages/papers.py")
    assert not page.exception
    words = " ".join(box.value for box in page.markdown)
    for status in {row["status"] for row in committed().values()}:
        assert f"badge[{status}]" in words
    page.session_state["papers-status"] = [DIFFERS]
    assert any(STATUSES[DIFFERS] in box.value for box in page.run().caption)
