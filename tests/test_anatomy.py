"""The drawing, the formula and the code of a block say the same as the network that is built."""

import ast
import textwrap
from xml.etree import ElementTree

import pytest
from rows import fitting

from lnres.anatomy import code, drawing, formula, slots
from lnres.blocks import PLACEMENTS
from lnres.experiment import Experiment
from lnres.layers import Weights
from lnres.models import MODELS
from lnres.norms import NORMS, NoNorm
from lnres.residuals import RESIDUALS

DIALS = (
    [{"norm": norm} for norm in NORMS if norm != "instance"]
    + [{"placement": placement, "residual": residual} for placement in PLACEMENTS for residual in RESIDUALS]
    + [{"layers": 1, "placement": "inner"}]
)


def experiment(dials):
    return Experiment(**fitting({"depth": 1, "width": 8, "seeds": 1} | dials))


@pytest.mark.parametrize("dials", DIALS, ids=str)
def test_all_three_have_as_many_norms_as_the_block(dials):
    e = experiment(dials)
    weights = Weights([0])
    block = MODELS["mlp"].make(weights, e, 64, 10).blocks[0]
    made = [block.before, block.between, block.after, block.branch.inner, block.branch.activated]
    norms = sum(not isinstance(norm, NoNorm) for norm in made)
    assert len(slots(e)) == formula(e).count("N(") == drawing(e).count('fill-opacity="0.22"') == norms
    source = code(e)
    assert (
        sum(source.count(f"self.{name}(") for name in ("before", "between", "after", "inner", "activated"))
        == norms
    )


@pytest.mark.parametrize("dials", DIALS, ids=str)
def test_they_can_be_read(dials):
    e = experiment(dials)
    ast.parse(textwrap.dedent(code(e)))
    picture = ElementTree.fromstring(drawing(e))
    assert picture.get("aria-label").endswith(".")
    said = formula(e)
    assert said.count("(") == said.count(")")
    assert ('opacity=".35"' in drawing(e)) == (e.residual == "none")


def test_formulas_say_where_the_norm_stands():
    said = {place: formula(experiment({"placement": place})) for place in PLACEMENTS}
    assert r"y=x+F(x)\\F(x)=W_2f(W_1N(x))" in said["pre"]
    assert r"y=N(x+F(x))\\F(x)=W_2f(W_1x)" in said["post"]
    assert r"F(x)=W_2f(N(W_1x))" in said["inner"]
    assert r"F(x)=N(W_2N(f(N(W_1N(x)))))" in said["every"]
    assert r"y=\alpha x+F(x)" in formula(experiment({"residual": "deepnorm"}))
