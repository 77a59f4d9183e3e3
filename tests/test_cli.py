"""The command line: a record and JSON on success, one line on stderr and status 2 on bad input."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
from rows import REFUSED, SOMETIMES

from lnres.experiment import Experiment
from lnres.record import CLOCK_OF, CLOCKS, Record
from lnres.train import Run, probe

ROOT = Path(__file__).parents[1]
SMALL = ["depth=2", "width=8", "batch=8", "seeds=2"]
E = Experiment(depth=2, width=8, batch=8, seeds=2)


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "lnres", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_train_writes_a_record_and_prints_json(tmp_path):
    path = tmp_path / "run.safetensors"
    done = command("train", *SMALL, "--steps", "25", "--out", str(path))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["steps"] == 25
    assert summary["experiment"]["depth"] == 2
    assert [len(summary[name]) for name in ("loss_train", "acc_train", "loss_test", "acc_test")] == [2] * 4
    assert "25/25" in done.stderr
    with safetensors.safe_open(path, "np") as file:
        told = {"theory_step", *CLOCKS["theory_step"]}
        assert set(file.keys()) == (set(CLOCK_OF) - SOMETIMES) | told
        assert file.get_tensor("loss_train").shape == (25, 2)
        assert np.array_equal(file.get_tensor("theory_step"), [0])


def test_train_equals_the_library(run_main, tmp_path):
    path = tmp_path / "run.safetensors"
    status, out, _ = run_main("train", *SMALL, "--steps", "12", "--out", str(path), "--quiet")
    run = Run(E.replace(steps=12))
    losses = np.concatenate([next(run)[0]["loss_train"] for _ in range(12)])
    assert status == 0
    assert np.array_equal(Record.load(path)["loss_train"], losses)
    assert json.loads(out)["loss_train"] == pytest.approx(losses[-1].tolist())
    assert json.loads(out)["acc_test"] == pytest.approx(run.test()[1].tolist())


def test_a_diverged_run_prints_null_and_says_so(run_main):
    status, out, err = run_main(
        "train", *SMALL, "norm=none", "lr=100", "activation=identity", "--steps", "60"
    )
    summary = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert status == 0
    assert summary["loss_train"] == [None, None]
    assert sorted(event["member"] for event in summary["events"]) == [0, 1]
    assert summary["verdict"].startswith("Diverged")
    assert "seed 0 diverged at step" in err


def test_probe_prints_the_profiles(run_main):
    status, out, err = run_main("probe", *SMALL)
    assert status == 0, err
    told = json.loads(out)
    assert Experiment(**told["experiment"]) == E
    states = {"act_mean", "act_std", "act_rms", "cosine", "input_cosine", "grad_norm"}
    blocks = {"dead", "saturated", "skip_grad_norm", "branch_grad_norm", "skip_branch_cosine"}
    for name in states | blocks:
        assert np.array(told[name]).shape == (3 if name in states else 2, 2), name


def test_probe_equals_the_library(run_main):
    told = json.loads(run_main("probe", *SMALL, "norm=batch", "residual=none")[1])
    expected = probe(E.replace(norm="batch", residual="none"))
    for name in ("act_rms", "grad_norm", "cosine"):
        np.testing.assert_allclose(told[name], expected[name], rtol=1e-6)


def test_probe_of_a_single_example_prints_null_where_there_is_no_number(run_main):
    told = json.loads(run_main("probe", "depth=1", "width=4", "batch=1", "seeds=1")[1])
    assert told["cosine"] == [[None], [None]]
    assert all(math.isfinite(row[0]) for row in told["grad_norm"])


BAD = {
    "a wrong value": (["depth=x"], "depth='x': choose a whole number from 1 to 1000"),
    "a wrong choice": (["norm=nrom"], "norm='nrom': choose one of none, layer, rms, batch"),
    "a wrong key": (["dept=3"], "dept='3': there is no such setting"),
    "no value": (["depth"], "'depth': write key=value"),
    "too much": (["depth=1000", "width=1024", "batch=1024", "seeds=64"], "the limit is"),
    "what does not go together": (["norm=batch", "batch=1"], "batch=1: BatchNorm"),
}


@pytest.mark.parametrize("verb", ["train", "probe"])
@pytest.mark.parametrize("case", [name for name in BAD if name != "too much"])
def test_bad_input_is_one_line_and_status_2(verb, case, run_main):
    words, said = BAD[case]
    status, out, err = run_main(verb, *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"lnres: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", ["train", "probe"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(verb, case, run_main):
    settings, said = REFUSED[case]
    status, out, err = run_main(verb, *(f"{name}={value}" for name, value in settings.items()))
    assert (status, out, err) == (2, "", f"lnres: {said}\n")


def test_too_much_is_refused(run_main):
    words, said = BAD["too much"]
    status, out, err = run_main("train", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize("steps", ["0", "-3", "1000001"])
def test_a_wrong_number_of_steps_is_one_line(steps, run_main):
    status, _, err = run_main("train", *SMALL, "--steps", steps)
    assert status == 2
    assert err == f"lnres: steps={steps}: choose a whole number from 1 to 1000000\n"


def test_a_record_that_cannot_be_written_is_one_line(run_main, tmp_path):
    status, _, err = run_main(
        "train", *SMALL, "--steps", "2", "--quiet", "--out", str(tmp_path / "no" / "run")
    )
    assert status == 2
    assert err.startswith("lnres: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["fly"], [], ["train", "--fast"]])
def test_an_unknown_command_is_status_2(words, run_main):
    status, out, err = run_main(*words)
    assert (status, out) == (2, "")
    assert err.startswith("lnres: ")
    assert err.count("\n") == 1
    assert "--help" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["step", "--minutes", "3"], "--minutes: step takes the time it takes; leave it out"),
        (["memory", "--minutes", "1e9"], "--minutes 1e+09: choose a time from 0.1 to 600 minutes"),
        (["fast"], "bench='fast': choose one of "),
    ],
)
def test_a_bench_that_cannot_be_is_one_line(words, said, run_main):
    status, out, err = run_main("bench", *words)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"lnres: {said}")


def test_from_outside_an_error_shows_no_traceback():
    done = command("train", "norm=nrom")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_gone_is_no_error():
    """As with head: neither a word nor a status that says something is wrong."""
    gone, output = os.pipe()
    os.close(gone)
    words = [sys.executable, "-m", "lnres", "probe", *SMALL]
    done = subprocess.run(words, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, check=False)
    os.close(output)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["probe", "--help"], ["bench", "--help"]])
def test_help_is_help(words, run_main):
    status, out, _ = run_main(*words)
    assert status == 0
    assert out.startswith("usage: python -m lnres")
