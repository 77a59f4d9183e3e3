"""Tables, configurations and reports: what was seen goes out and comes back; damage is told in a sentence."""

import json
import random
import shutil

import numpy as np
import pytest
from browser_app import OFFLINE
from damage import damaged

from lnres.data import DATA
from lnres.experiment import Experiment
from lnres.export import FORMATS
from lnres.export.report import report
from lnres.export.tables import experiment_of, from_csv, from_json, to_csv, to_json
from lnres.models import MODELS
from lnres.record import CLOCK_OF, CLOCKS, Record, pack
from lnres.scene import Scene
from lnres.tables import read_csv
from lnres.train import Run

E = Experiment(depth=2, width=8, batch=8, seeds=2, seed=5, steps=60)


def recorded(e: Experiment) -> Record:
    record = Record({"experiment": e.link(), "label": e.label()})
    run = Run(e)
    while run.step < e.steps:
        record.extend(*next(run))
    return record


@pytest.fixture(scope="module")
def records():
    """One that learns and one that diverges."""
    return [recorded(E), recorded(E.replace(norm="none", activation="identity", lr=100.0))]


# ------------------------------------------------------------------------------------------------- tables


def test_a_table_comes_back_as_the_records_it_was_made_of(records):
    back = from_csv(to_csv(records))
    assert list(back) == ["A", "B"]
    for record, read in zip(records, back.values(), strict=True):
        flat = {name for name in record if record[name].dtype == np.float32 and record[name].ndim < 4}
        flat |= {CLOCK_OF[name] for name in flat}
        assert set(read) == flat
        for name in flat:
            np.testing.assert_array_equal(read[name], record[name], err_msg=name)


@pytest.mark.parametrize(
    "settings", [{"data": name} for name in DATA] + [{"model": name} for name in MODELS], ids=str
)
def test_whatever_can_be_trained_can_be_taken_along(settings):
    record = recorded(E.replace(steps=2, **settings))
    assert all(FORMATS[to].make([record]) for to in FORMATS)
    (read,) = from_csv(to_csv([record])).values()
    np.testing.assert_array_equal(read["loss_train"], record["loss_train"])


def test_a_row_of_a_table_is_a_step_a_seed_and_a_block(records):
    lines = [line.split(",") for line in to_csv(records).splitlines()]
    head, rows = lines[0], lines[1:]
    assert head[:7] == ["run", "step", "seed", "block", "time", "loss_train", "acc_train"]
    assert rows[3][:6] == ["A", "1", "6", "", "", str(records[0]["loss_train"][1, 1])]
    there = [row for row in rows if row[:5] == ["A", "7", "5", "2", ""]]
    assert [float(row[head.index("grad_norm")]) for row in there] == [records[0]["grad_norm"][7, 2, 0]]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("run,step", "step,run", "its columns do not begin with run, step"),
        ("loss_train", "loss_trian", "column 'loss_trian'"),
        ("A,0,5", "A,0", "it has not the 2"),
        ("A,0,5", "Z,0,5", "run 'Z'"),
        ("A,0,5", "A,-1,5", "column 'step': every cell must be a whole number"),
        ("A,1,5", "A,0,5", "there is not one number for every step"),
        ("A,0,5,,,", "A,0,5,,,x", "column 'loss_train': could not convert"),
    ],
)
def test_a_wrong_table_is_told_in_a_sentence(before, after, said, records):
    with pytest.raises(ValueError, match=said):
        from_csv(to_csv(records).replace(before, after, 1))


# ------------------------------------------------------------------------------------------ configurations


def test_configurations_come_back():
    scene = Scene([E, E.replace(norm="batch", changes="3.lr.0.1")])
    back, complaints = from_json(to_json(scene))
    assert (back.experiments, complaints) == (scene.experiments, [])
    assert from_json(json.dumps({"depth": 4}))[0].experiments == [Experiment(depth=4)]


def test_a_wrong_configuration_is_told_problem_by_problem():
    scene, complaints = from_json('[{"depth": -1, "norm": [1], "width": 16}, {"lr": NaN}]')
    assert scene.experiments == [Experiment(width=16), Experiment()]
    assert [sentence.partition("=")[0] for sentence in complaints] == ["depth", "norm", "lr"]
    for text in ("", "{", "3", "[]", "[[]]", "[" * 100_000, "[{}, {}, {}, {}, {}]"):
        with pytest.raises(ValueError, match=r"this is not (JSON|a configuration of lnres): .+"):
            from_json(text)


# ------------------------------------------------------------------------------------------- damaged files


READ = {
    "record": (Record.tobytes, lambda blob: as_seen(Record.parse(blob))),
    "csv": (lambda record: to_csv([record]).encode(), lambda blob: list(map(drawn, from_csv(blob).values()))),
    "json": (lambda record: to_json(Scene([experiment_of(record)])).encode(), from_json),
    "table": (lambda record: TABLE.encode(), lambda blob: read_csv(blob).tobytes()),
}
TABLE = "size,mass,kind\n" + "".join(f"{i % 7},{i * i / 10},{'ab'[i % 2]}\n" for i in range(40))


def as_seen(record: Record) -> None:
    """What a page does with a record."""
    experiment_of(record)
    for to in ("json", "csv", "html"):
        FORMATS[to].make([record])


def drawn(record: Record) -> None:
    record.tobytes()


def refusal(read, blob: bytes) -> str:
    try:
        read(blob)
    except ValueError as error:
        return str(error)
    return ""


def test_a_record_whose_arrays_are_other_than_they_should_be_is_refused(records):
    record, _ = records
    arrays = {name: record[name] for name in record}
    for name in set(arrays) - set(CLOCKS):
        for axis in range(1, arrays[name].ndim):
            blob = pack(arrays | {name: np.repeat(arrays[name], 2, axis)}, record.header)
            with pytest.raises(ValueError, match=f"does not fit its experiment: '{name}' is not"):
                experiment_of(Record.parse(blob))
    for wrong in (record["grad_norm"][..., 0], record["grad_norm"].astype(float)):
        with pytest.raises(ValueError, match=r"'grad_norm' (has no seeds, or|is float64, not float32)"):
            Record.parse(pack(arrays | {"grad_norm": wrong}, record.header))
    del arrays["grad_norm"]
    with pytest.raises(ValueError, match="it has no 'grad_norm'"):
        Record.parse(pack(arrays, record.header))


@pytest.mark.parametrize("kind", READ)
def test_a_damaged_file_gives_a_sentence_and_never_a_traceback(kind, records):
    write, read = READ[kind]
    blob = write(records[0].until(12))
    said = [refusal(read, damaged(blob, random.Random(f"{kind} {seed}"))) for seed in range(200)]
    assert sum(map(bool, said)) > 100
    assert all(10 < len(sentence) < 2000 and "\n" not in sentence for sentence in said if sentence)


# ------------------------------------------------------------------------------------------------- reports


def test_a_report_says_what_differs_and_embeds_all_it_needs(records):
    page = report(records)
    assert page.count("<script") == 2
    assert "Different: norm, activation, learning rate" in page
    assert "http://" not in page.partition("<script>")[0]
    assert "<code>?norm=layer~none" in page


def test_a_report_says_what_is_a_fork_of_what():
    records = []
    for changes in ("", "3.lr.0.01"):
        run = Run(Experiment(depth=1, width=4, batch=4, seeds=1, changes=changes))
        records.append(Record({"experiment": run.first.link()}))
        for _ in range(5):
            records[-1].extend(*next(run))
    assert report(records).count("(fork of A at step 3)") == 1


def test_nobody_can_write_into_a_report():
    record = Record({"experiment": "depth=2"})
    record.extend({"step": np.arange(1, dtype=np.int32), "loss_train": np.ones((1, 4), np.float32)})
    record.events.append({"step": 0, "kind": "note", "text": "</script><script>alert(1)</script>"})
    assert "alert(1)</script>" not in report([record])


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_report_draws_every_chart_from_a_file_without_a_network(theme, records, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    (tmp_path / "report.html").write_text(report(records), encoding="utf-8")
    told = []
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[OFFLINE])
        page = chromium.new_context(offline=True, color_scheme=theme).new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: told.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        charts = page.locator(".chart")
        charts.last.locator(".main-svg").first.wait_for(state="attached")  # drawn in their order
        assert all(charts.nth(i).locator(".main-svg").count() for i in range(charts.count()))
        assert page.evaluate("Object.keys(figures).length") == charts.count() >= 5
        with page.expect_download() as saved:
            charts.first.hover()
            charts.first.locator("[data-title='Download as SVG']").click()
        assert saved.value.suggested_filename == "loss.svg"
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 21, 27)"}[theme]
        chromium.close()
    assert [text for text in told if not text.startswith(("file:", "blob:", "data:"))] == []
