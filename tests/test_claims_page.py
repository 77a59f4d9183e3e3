"""The page of claims says what the committed rows say, and a worker runs them again."""

import json
import time

import pytest
from screen import opened

from lnres.claims import CLAIMS, results
from lnres.engine import local
from lnres.engine.store import Store
from lnres.engine.worker import Worker
from lnres.figures import fill
from lnres.figures.cells import dots
from lnres.ui import claims as page_of_claims

ROWS = results.committed()


@pytest.fixture(scope="module", autouse=True)
def _workers():
    yield
    local.stop()


def said(page) -> str:
    """All that the page says as Markdown, without its backslashes."""
    return "\n".join(part.value for part in page.markdown).replace("\\", "")


def parts(page) -> list[dict]:
    """What the page gives to scripts of ours."""
    return [json.loads(part.proto.json) for part in page.get("bidi_component")]


def listed(page) -> list[list[dict]]:
    """The groups of sentences in the list."""
    (found,) = (part["groups"] for part in parts(page) if "groups" in part)
    return found


def test_every_sentence_stands_there_with_its_committed_verdict():
    page = opened("pages/claims.py")
    assert not page.exception
    ((*rows,),) = listed(page)
    told = {row["id"]: (row["sentence"], row["verdict"]) for row in rows}
    assert told == {name: (CLAIMS[name].make.sentence, ROWS[name]["verdict"]) for name in CLAIMS}
    (chart,) = (part for part in parts(page) if "told" in part)
    (panel,) = json.loads(chart["told"])["answer"]["panels"]
    assert all(cell["name"] in panel["alt"] for cell in ROWS["K01"]["cells"])


@pytest.mark.parametrize("name", ["K01", "K10", "K26", "K47", "K53"])
def test_a_row_opens_to_its_rule_and_its_numbers(name):
    page = opened("pages/claims.py", claim=name)
    assert not page.exception
    told, claim = said(page), CLAIMS[name].make
    assert claim.sentence in told
    assert claim.said in told
    assert f"badge[{ROWS[name]['verdict']}]" in told
    assert len(page.code) == len(claim.experiments)


def test_filters_narrow_the_list_and_contradictions_come_as_pairs():
    page = opened("pages/claims.py")
    page.selectbox(key="claims-topic").set_value("batch").run()
    page.selectbox(key="claims-source").set_value("S3").run()
    assert [[row["id"] for row in rows] for rows in listed(page)] == [["K16", "K18"]]
    assert ("K16", "K17") in page_of_claims.pairs()
    assert all(a in CLAIMS[b].make.against for a, b in page_of_claims.pairs())


def test_a_row_runs_again_with_fresh_seeds_in_a_worker_and_is_found_again():
    page = opened("pages/claims.py", claim="K20")
    page.button(key="again-K20").click().run()
    end = time.monotonic() + 60
    while "with seeds from 200" not in said(page):
        assert time.monotonic() < end
        assert not page.exception
        time.sleep(0.2)
        page.run()
    assert said(page).count("badge[exact]") >= 2
    assert ":gray[seeds 200 to 207" in said(page)
    assert page.query_params["own"] == "K20-200"
    again = opened("pages/claims.py", claim="K20", own="K20-200")  # reloaded: nothing is run once more
    assert "with seeds from 200" in said(again)


def test_a_study_takes_turns_and_finds_what_the_command_line_finds(tmp_path):
    heard = []
    worker = Worker(Store(str(tmp_path)), lambda *message: heard.append(message))
    worker.do("study", "s", ["E01"], 300)
    worker.do("pause", "s")
    worker.turn()
    assert not any("results" in str(message) and "E01" in str(message) for message in heard)
    worker.do("play", "s")
    while ("finished", "s") not in heard:
        worker.turn()
    told = [json.loads(message[3]) for message in heard if message[0] == "frame"]
    assert told[-1]["results"]["E01"]["values"] == results.run("E01", 300)["values"]
    assert told[-1]["results"]["E01"]["seeds"] == list(range(300, 308))


@pytest.mark.parametrize(
    ("form", "value", "place"), [("points", 0.02, 2), ("factor", 0.0, 1), ("plain", 3, 3)]
)
def test_a_chart_has_every_seed_and_the_mean(form, value, place):
    row = {
        "name": "a",
        "word": "supported",
        "values": [value] * 3,
        "each": ["seed 100"] * 3,
        "lines": (0.01,),
    }
    row |= dict.fromkeys(("effect", "low", "high"), value)
    seeds, interval, mean = fill(dots([row], "x", form), []).data
    assert list(seeds.x) == [place] * 3
    assert list(interval.x) == [place] * 2
    assert list(mean.x) == [place]


def test_what_is_not_finite_is_named_but_not_drawn():
    row = {
        "name": "a",
        "effect": float("nan"),
        "low": 0,
        "high": 0,
        "values": [0],
        "each": ["seed 1"],
        "lines": (),
    }
    figure = fill(dots([row], "x", "plain"), [])
    assert not figure.data
    (name,) = figure.layout.annotations
    assert name.text.startswith("a")
