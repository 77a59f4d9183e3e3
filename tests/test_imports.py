"""Imports run one way: the core does not know the screen, and figures do not know the trainer."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALL = sorted(path.relative_to(ROOT) for path in (ROOT / "lnres").rglob("*.py") if path.name != "__main__.py")
CORE = [
    ".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in ALL if "ui" not in path.parts
]
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {banned}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
import {modules}
"""


def imports(modules, banned):
    code = BLOCKED.format(modules=", ".join(modules), banned=banned)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_block_blocks():
    assert "streamlit is blocked" in imports(["streamlit"], {"streamlit"}).stderr


def test_the_core_imports_without_streamlit():
    assert {"lnres.train", "lnres.engine.local", "lnres.verdict"} <= set(CORE)
    done = imports([*CORE, "lnres.__main__"], {"streamlit"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("modules", "banned"),
    [
        (["lnres.figures"], {"torch", "streamlit"}),
        (["lnres.record", "lnres.verdict", "lnres.registry"], {"torch", "streamlit", "plotly"}),
    ],
    ids=lambda names: " ".join(sorted(names)),
)
def test_what_a_module_does_without(modules, banned):
    done = imports(modules, banned)
    assert done.returncode == 0, done.stderr


def test_a_first_step_imports_neither_a_compiler_nor_scikit_learn_nor_what_draws():
    code = """
import sys
from lnres.experiment import Experiment
from lnres.optim import OPTIMIZERS
from lnres.train import Run

for name in OPTIMIZERS:
    run = Run(Experiment(depth=1, width=2, optimizer=name))
    next(run)
    run.fork(1).restore(*run.checkpoint())
print({"sklearn", "torch._dynamo", "plotly", "streamlit"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_plotly_never_meets_half_a_pandas():
    """It looks for one among the loaded modules, where another thread may have only begun to load it."""
    code = """
import sys
import lnres.boards.base
print("pandas" in sys.modules, "streamlit" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
