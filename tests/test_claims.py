"""Claims are decided by their rules alone: fast ones for real, committed ones again by the rule code."""

import json

import numpy as np
import pytest

from lnres.claims import CLAIMS, EXPERIMENTS, results
from lnres.claims.bench import Found, plain, residual, sweep, train
from lnres.claims.claim import SOURCES, TOPICS
from lnres.claims.judge import VERDICTS

ROWS = json.loads(results.COMMITTED.read_text(encoding="utf-8"))


def finished(work):
    """What a generator returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def quick():
    return {name: results.run(name, 500) for name in ("E01", "E02")}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_complete(name):
    claim = CLAIMS[name].make
    assert claim.sentence.endswith(".")
    assert claim.known
    assert claim.said
    assert set(claim.sources) <= set(SOURCES)
    assert claim.topic in TOPICS
    assert set(claim.experiments) <= set(EXPERIMENTS)
    assert bool(claim.experiments) == claim.runs
    assert claim.runs or claim.settled or not claim.testable
    assert (claim.version > 1) == bool(claim.revised)
    assert len({ask.name for ask in claim.asks}) == len(claim.asks)
    assert all(name in CLAIMS[other].make.against for other in claim.against)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("K01", "exact"), ("K02", "refuted"), ("K03", "exact"), ("K04", "exact"), ("K06", "refuted"),
        ("K08", "exact"), ("K09", "exact"), ("K12", "exact"), ("K20", "exact"), ("K33", "exact"),
        ("K44", "depends"), ("K46", "fact"), ("K47", "not testable here"),
    ],
)  # fmt: skip
def test_algebra_decides_with_other_seeds_too(quick, name, verdict):
    claim = CLAIMS[name].make
    assert results.row_of(claim, [quick[e] for e in claim.experiments])["verdict"] == verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_committed_verdict_is_what_its_rule_says(row):
    claim = CLAIMS[row["id"]].make
    judged = claim.judged(results.cells_of(row))
    assert (row["verdict"], row["rule_version"]) == (judged.verdict, claim.version)
    assert row["verdict"] in VERDICTS
    assert {cell["name"]: cell["word"] for cell in row["cells"] if "word" in cell} == judged.words
    assert {cell["name"] for cell in row["cells"]} == {ask.name for ask in claim.asks}


@pytest.mark.parametrize("row", [row for row in ROWS if row["cells"]], ids=lambda row: row["id"])
def test_committed_cells_are_what_their_experiments_found(row):
    again = results.verdict_of(CLAIMS[row["id"]].make, results.folder_of(results.COMMITTED))
    assert again == row
    assert all(seed >= 100 for seed in row["seeds"])


def test_every_arm_gets_one_rate_by_train_loss_and_the_grid_goes_on_beyond_its_edge():
    found = Found()
    arms = {"small": plain(norm="none", depth=2, width=8, seeds=2, batch=8, steps=30)}
    finished(sweep(found, arms, [("sgd", 1e-5), ("sgd", 1e-3)]))
    tried = {
        name.split(" at ")[1]: values for name, values in found.values.items() if "small loss at" in name
    }
    assert set(tried) == {"sgd 1e-05", "sgd 0.001", "sgd 0.1", "sgd 10"}
    best = min(tried, key=lambda at: np.mean(tried[at]) if np.isfinite(tried[at]).all() else np.inf)
    assert found.told["small"].startswith(best)
    assert found.values["small accuracy"] == found.values[f"small accuracy at {best}"]


def test_where_training_itself_is_judged_other_seeds_choose():
    found = Found()
    e = plain(norm="layer", depth=2, width=8, seeds=2, batch=8, steps=20)
    finished(sweep(found, {"arm": e}, [("sgd", 0.1)], choose=True))
    there, own = (finished(train(e.replace(lr=0.1, seed=seed))).loss for seed in (0, 100))
    assert found.values["arm loss at sgd 0.1"] == there.tolist()
    assert found.values["arm loss"] == own.tolist()


def test_a_member_that_diverged_scores_chance():
    e = residual("bare", depth=32, width=8, seeds=2, batch=8, steps=60, lr=10.0)
    trial = finished(train(e))
    assert trial.diverged().tolist() == [1, 1]
    assert trial.test_accuracy() == pytest.approx(0.1)
    assert np.isinf(trial.loss).all()


def test_what_is_found_comes_back_from_its_file(tmp_path):
    found = Found({"a": [1.0, float("nan")], "b": [0.123456789]}, {"a": "sgd 0.1"})
    results.save(results.packed("E01", found, 100, 3, 1.5), tmp_path)
    kept = results.load("E01", tmp_path)
    values = results.values_of([kept])
    assert values["a"][0] == 1
    assert np.isnan(values["a"][1])
    assert values["b"] == [0.123457]
    assert kept["seeds"] == [100, 101]
    assert results.load("E02", tmp_path) is None


def test_the_command_keeps_what_is_finished_and_goes_on_from_there(run_main, tmp_path):
    file = tmp_path / "claims.json"
    command = ["claims", "K12", "--json", str(file)]
    status, _, err = run_main(*command)
    assert status == 0
    assert "E01" in err
    rows = {row["id"]: row for row in json.loads(file.read_text())}
    assert rows["K12"]["verdict"] == "exact"
    assert rows["K46"]["verdict"] == "fact"
    assert "K03" not in rows
    kept = (tmp_path / "claims" / "E01.json").read_bytes()
    status, _, err = run_main(*command)
    assert status == 0
    assert "E01" not in err
    assert (tmp_path / "claims" / "E01.json").read_bytes() == kept


def test_a_claim_that_is_not_there_is_one_line(run_main):
    status, out, err = run_main("claims", "K99")
    assert (status, out) == (2, "")
    assert err.startswith("lnres: claim='K99': choose one of")
    assert err.count("\n") == 1
