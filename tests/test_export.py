"""A script of plain torch, run as its reader would: its losses are those of the experiment."""

import contextlib
import io
import re
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from rows import fitting
from sklearn import datasets

from lnres.experiment import FIELDS, Experiment
from lnres.export.parts import PARTS
from lnres.export.script import script
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.residuals import RESIDUALS
from lnres.tables import read_csv
from lnres.train import Run

# A group of few numbers can be nearly constant; a recurrence multiplies the rounding of its 1/σ step by step.
STEADY = {"groups": 1}
SMALL = {"depth": 2, "width": 8, "batch": 8, "seeds": 1, "heads": 2, "record_every": 0, "steps": 4}


@pytest.fixture(scope="module", autouse=True)
def _digits_are_read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_digits", cache(datasets.load_digits))
        yield


def experiment(**settings) -> Experiment:
    return Experiment(**fitting(SMALL | settings, width=8))


def follows(e: Experiment) -> None:
    """The script's losses, of training and of the test, are the run's."""
    run, space, told = Run(e), {"__name__": "script"}, io.StringIO()
    expected = [next(run)[0]["loss_train"][0, 0] for _ in range(e.steps)]
    exec(compile(script(e), "train.py", "exec"), space)
    with contextlib.redirect_stdout(told):
        losses = space["train"]()
    test = float(re.search(r"test: loss (\S+)", told.getvalue())[1])
    np.testing.assert_allclose([*losses, test], [*expected, float(run.test()[0])], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("field", PARTS)
def test_every_row_has_its_part(field):
    assert list(PARTS[field]) == list(FIELDS[field].metadata["registry"])


@pytest.mark.parametrize(
    ("model", "norm"), [(m, n) for m in MODELS for n in NORMS if (m, n) != ("mlp", "instance")]
)
def test_every_model_with_every_norm_gives_the_same_losses(model, norm):
    for placement in ("pre", "branch" if norm == "instance" else "every"):  # it cannot stand in a recurrence
        steady = STEADY if MODELS[model].make.recurrent else {}
        follows(experiment(model=model, norm=norm, placement=placement, **steady))


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("model", MODELS)
def test_every_residual(model, residual):
    follows(experiment(model=model, residual=residual, placement="post"))


@pytest.mark.parametrize(
    "field", ["placement", *(f for f in PARTS if f not in ("model", "norm", "residual"))]
)
def test_every_row_of_the_other_registries(field):
    for name in FIELDS[field].metadata["registry"]:
        follows(experiment(**{field: name}))


@pytest.mark.parametrize("model", MODELS)
def test_every_view(model):
    for view in MODELS[model].make.views:
        follows(experiment(model=model, view=view, dropout=0.2, drop_path=0.3))


FURTHER = [
    {"layers": 1, "init": "orthogonal", "activation": "tanh", "residual": "none", "norm": "none"},
    {"init": "meanfield", "sigma_b2": 0.5, "sigma_w2": 1.5, "gain": 0.7, "model": "conv"},
    {"gamma": 2.0, "beta": 0.5, "eps": 0.01, "placement": "every"},
    {"gamma": 2.0, "beta": 0.5, "norm": "rms", "affine": False, "placement": "every"},
    {"gamma": 2.0, "beta": 0.5, "norm": "weight", "residual": "fixup"},
    {"gamma": 2.0, "norm": "standardized", "zero_last": True, "model": "transformer", "residual": "deepnorm"},
    {"norm": "weight", "affine": False, "optimizer": "lion", "lr": 0.001, "weight_decay": 0.1, "clip": 0.1},
    {"norm": "weight", "optimizer": "muon", "lr": 0.01, "weight_decay": 0.1, "changes": "2.momentum.0.5"},
    {"model": "conv", "stages": 2, "optimizer": "muon", "lr": 0.01, "residual": "highway"},
    {"model": "gru", "optimizer": "muon", "lr": 0.01},
    {"model": "transformer", "optimizer": "muon", "lr": 0.01},
    {"norm": "batch", "running": False, "final_norm": False, "placement": "inner"},
    {"residual": "deepnorm", "model": "transformer", "init": "torch", "placement": "post"},
    {"residual": "layerscale", "alpha": 0.3, "model": "conv"},
    {"model": "conv", "stages": 2, "norm": "batch", "placement": "every", "dropout": 0.2, "layers": 1},
    {"model": "conv", "stages": 3, "depth": 4, "residual": "highway", "init": "torch"},
    {"model": "conv", "stages": 2, "depth": 3, "residual": "layerscale", "init": "xavier", "norm": "weight"},
    {"model": "conv", "stages": 2, "residual": "none", "norm": "scale"},
    {"residual": "layerscale", "depth": 20},
    {"residual": "layerscale", "depth": 26, "model": "transformer"},
    {"residual": "scaled", "model": "transformer"},
    {"residual": "skipinit", "alpha": 0.25},
    {"residual": "highway", "model": "conv", "drop_path": 0.2},
    {"schedule": "cosine", "warmup": 3, "clip": 0.5, "weight_decay": 0.01, "momentum": 0.5},
    {"noise": 0.3, "contrast": 2.0, "contrast_spread": 0.5, "brightness": 0.2, "label_noise": 0.3},
    {"noise": 0.3, "contrast": 2.0, "contrast_spread": 0.5, "brightness": 0.2, "shift": "both"},
    {"noise": 0.3, "contrast": 2.0, "shift": "test", "seed": 7},
    {"changes": "1.lr.0.1--2.dropout.0.5--2.batch.16--3.noise.0.5--3.momentum.0", "dropout": 0.1},
    {"changes": "1.cut.2--2.skip_gain.0.5--2.norm_gain.3", "residual": "highway", "placement": "every"},
    {"changes": "1.norm_gain.0.5", "model": "transformer", "heads": 2, "cut": 1},
    {"changes": "1.gain_block.2--1.skip_gain.0.5--2.drop_branch.1--3.cut.2", "residual": "highway"},
    {"changes": "1.cut.1_2--2.skip_gains.1-2_2-0.5--3.drop_branch.1_2", "model": "conv", "norm": "instance"},
    {"changes": "1.placements.2-post--3.placements.0", "norm": "batch", "norm_gain": 2.0, "cut": 2},
    {
        "changes": "1.placements.1-inner--3.placements.1-branch_2-post",
        "model": "conv",
        "depth": 3,
        "stages": 2,
    },
    {"changes": "1.placements.2-post--3.placements.1-branch", "model": "transformer"},
    {"placements": "2-branch", "model": "lstm", "norm": "rms", "placement": "post"},
    {"changes": "1.norm_gain.0.5--2.cut.1", "model": "lstm", "placement": "inner", "joint": False},
    {"changes": "1.norm_gain.0.5--2.cut.1", "model": "conv", "depth": 3, "stages": 2},
    {"changes": "2.lr.0.1--2.weight_decay.0.1", "optimizer": "adam", "schedule": "step", "weight_decay": 0.2},
]


@pytest.mark.parametrize("settings", FURTHER, ids=lambda settings: " ".join(map(str, settings)))
def test_every_other_setting(settings):
    follows(experiment(**settings))


@pytest.mark.parametrize(
    ("classes", "label"), [(["no", "yes", "maybe"], "kind"), ([3, 10, 2], '"""\\N + {{ e }}')],
    ids=["words", "numbers"],
)  # fmt: skip
def test_a_table_of_ones_own(classes, label, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f}; {b:.3f};{classes[i % 3]};{i % 7}" for i, (a, b) in enumerate(rng.normal(size=(60, 2)))]
    quoted = label.replace('"', '""')
    table = "\n".join([f'a;b;"{quoted}";c', *rows])
    (tmp_path / "table.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    follows(experiment(data=read_csv(table.encode(), label).enrol()))


@pytest.mark.parametrize("model", [model for model in MODELS if MODELS[model].make.recurrent])
@pytest.mark.parametrize("norm", ["layer", "batch", "standardized", "group"])
def test_norms_inside_a_recurrence(model, norm):
    for placement, joint in [("inner", True), ("inner", False), ("activated", True)]:
        drawn = {"init": "torch", "gain": 0.8, "dropout": 0.2, "forget": 0.5}
        follows(experiment(model=model, norm=norm, placement=placement, joint=joint, **drawn, **STEADY))


def test_a_script_runs_without_this_project_and_prints_every_loss(tmp_path):
    e = experiment(model="conv", norm="batch")
    (tmp_path / "train.py").write_text(script(e))
    command = [sys.executable, "-I", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    run = Run(e)
    told = [float(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("step")]
    assert told == pytest.approx([next(run)[0]["loss_train"][0, 0] for _ in range(e.steps)], abs=1e-4)


def test_scripts_are_written_as_one_writes_them(tmp_path):
    """Nothing unused, nothing badly laid out: ruff has no complaint."""
    scenes = [{}, *FURTHER, *({"model": model} for model in MODELS), *({"norm": norm} for norm in NORMS)]
    for i, settings in enumerate(scenes):
        source = script(experiment(**settings))
        assert "lnres." not in source
        assert "import lnres" not in source
        (tmp_path / f"train{i}.py").write_text(source)
    for check in (["check", "--select", "F,I,B,UP,SIM,C4"], ["format", "--check", "--line-length", "110"]):
        command = [sys.executable, "-m", "ruff", *check, "--isolated", "."]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_what_is_not_chosen_is_not_there():
    source = script(Experiment(norm="layer"))
    assert not any(
        word in source for word in ("Dropout", "BatchNorm", "Conv2d", "Attention", "Lion", "NOISE")
    )
    assert len(source.splitlines()) < 170
