"""An experiment is what its fields say, and what is wrong with one is said in a sentence."""

import dataclasses
import inspect
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import fitting

from lnres.blocks import PLACEMENTS
from lnres.data import DATA, SCALERS, STREAMS
from lnres.experiment import FIELDS, MAX_FLOPS, Experiment
from lnres.fields import LAST_BLOCK, LAST_STEP, read_changes, tell_blocks, tell_changes
from lnres.layers import ACTIVATIONS, INITS
from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS, SCHEDULES
from lnres.registry import Registry
from lnres.residuals import RESIDUALS
from lnres.train import Run

REGISTRIES = [
    NORMS, PLACEMENTS, RESIDUALS, ACTIVATIONS, INITS, OPTIMIZERS, SCHEDULES, MODELS, DATA, SCALERS, STREAMS,
]  # fmt: skip
PICKS = [name for name, spec in FIELDS.items() if "registry" in spec.metadata]
KNOBS = [name for name, spec in FIELDS.items() if "low" in spec.metadata]
SWITCHES = [name for name in KNOBS if isinstance(FIELDS[name].default, bool)]
WHOLE = [name for name in KNOBS if type(FIELDS[name].default) is int]
SINGLES = [name for name, spec in FIELDS.items() if "single" in spec.metadata]
LIVE = [*(name for name in KNOBS if FIELDS[name].metadata["live"]), *SINGLES]
REAL = [name for name in KNOBS if type(FIELDS[name].default) is float]


def anything(name):
    """Legal values of a field."""
    spec = FIELDS[name].metadata
    if "timeline" in spec:
        change = st.sampled_from(LIVE).flatmap(
            lambda knob: st.tuples(st.integers(0, LAST_STEP), st.just(knob), anything(knob))
        )
        return st.lists(change, max_size=4).map(tell_changes)
    if name in PICKS:
        return st.sampled_from(list(spec["registry"]))
    if name in SINGLES:
        of = spec["single"]
        own = anything(of) if of else st.just(True)
        return st.dictionaries(st.integers(1, LAST_BLOCK), own, max_size=3).map(tell_blocks)
    if name in SWITCHES:
        return st.booleans()
    if name in WHOLE:
        return st.integers(spec["low"], spec["high"])
    return st.floats(spec["low"], spec["high"], allow_subnormal=False)  # torch flushes them here


def allowed(name):
    """What the sentence about a wrong value of a field has to mention."""
    if name in PICKS:
        return list(FIELDS[name].metadata["registry"])
    if name in SINGLES:
        return [f"1 to {LAST_BLOCK}", "0 for none"]
    if name in SWITCHES:
        return ["true", "false"]
    if "timeline" in FIELDS[name].metadata:
        return ["120.lr.0.01"]
    return [str(FIELDS[name].metadata[end]) for end in ("low", "high")]


def sentence_about(name, value):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        Experiment.parse({name: value})
    said = str(caught.value)
    assert said.startswith(f"{name}={value!r}")
    assert all(word in said for word in allowed(name))
    return said


# Registries


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.kind)
def test_every_row_says_what_it_is(registry):
    for name in registry:
        row = registry[name]
        assert row.name == name
        assert row.label
        assert row.about.endswith(".")
        assert callable(row.make) or registry is PLACEMENTS


@pytest.mark.parametrize("registry", [r for r in REGISTRIES if r is not PLACEMENTS], ids=lambda r: r.kind)
def test_every_row_shows_its_code(registry):
    for name in registry:
        make = getattr(registry[name].make, "func", registry[name].make)
        assert inspect.getdoc(make).splitlines()[0].split()[0] in registry[name].code


def test_an_unknown_row_names_the_ones_there_are_and_the_closest():
    with pytest.raises(
        ValueError, match=r"norm='layr': choose one of none, layer, .*\(did you mean layer\?\)"
    ):
        NORMS["layr"]


def test_a_row_cannot_be_registered_twice():
    registry = Registry("fruit")
    registry.put("apple", "apple", make=1, about="Red.")
    with pytest.raises(ValueError, match="fruit='apple' is registered twice"):
        registry.put("apple", "apple", make=2, about="Green.")


# Links


@pytest.mark.parametrize("name", FIELDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_field_goes_through_a_link_and_back(name, data):
    e, _ = Experiment.read(fitting({name: data.draw(anything(name))}))
    assert Experiment.parse(e.link()) == e


@settings(max_examples=50, deadline=None)
@given(values=st.fixed_dictionaries({}, optional={name: anything(name) for name in FIELDS}))
def test_a_whole_experiment_goes_through_a_link_and_back(values):
    e, _ = Experiment.read(values)  # two values that do not go together: one falls back
    assert Experiment.parse(e.link()) == e


def test_the_link_of_the_default_is_empty():
    assert Experiment().link() == ""
    assert Experiment.parse("") == Experiment()


def test_a_link_is_short_and_readable():
    assert (
        Experiment(depth=16, norm="rms", lr=0.1, affine=False).link()
        == "norm=rms&depth=16&affine=false&lr=0.1"
    )


def test_an_experiment_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().depth = 3


def test_equal_experiments_are_equal_keys():
    assert len({Experiment(depth=3), Experiment(depth="3"), Experiment(depth=3.0)}) == 1


# Values


@pytest.mark.parametrize("name", KNOBS)
def test_the_ends_of_a_range_are_allowed_and_what_lies_beyond_is_not(name):
    low, high = (FIELDS[name].metadata[end] for end in ("low", "high"))
    values = {"norm": "none"} if name == "batch" else {}
    assert getattr(Experiment(**values, **{name: low}), name) == low
    assert getattr(Experiment(**values, **{name: high}), name) == high
    if name not in SWITCHES:
        sentence_about(name, low - 1)
        sentence_about(name, high + 1)


MOVED = {
    "none": ({"norm": "none"}, "5-post", "norm=none has none that could move"),
    "of weights": ({"norm": "weight"}, "5-post", "norm=weight has none that could move"),
    "too few": ({}, "5-sandwich", "sandwich takes 2 norms, and with placement=pre a block has 1"),
    "too many": ({"placement": "every"}, "5-pre", "pre takes 1 norms, and with placement=every a block has"),
    "of gates": ({"model": "lstm"}, "2-inner", "in block 2 of model=lstm not every slot has room"),
    "of a stage": (
        {"model": "conv", "depth": 4, "stages": 2}, "3-post", "in block 3 of model=conv not every slot",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVED)
def test_a_norm_that_cannot_move_says_why_and_what_can_be_chosen(case):
    settings, moved, why = MOVED[case]
    with pytest.raises(ValueError, match=rf"^placements='{moved}': {why}.*; choose"):
        Experiment(**settings, placements=moved)
    with pytest.raises(ValueError, match=why):
        Experiment(**settings).change(7, placements=moved)


@pytest.mark.parametrize("value", ["5-", "-1", "1_", "5__9", "2001", "5.9", "1-pre-post", True])
@pytest.mark.parametrize("name", SINGLES)
def test_what_names_no_blocks_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name}={value!r}: "):
        Experiment(**{name: value})


def test_links_of_a_single_block_stay_valid():
    e = Experiment.parse("changes=120.cut.5--200.cut.0--200.drop_branch.9--200.gain_block.3")
    assert [e.at(step).cut for step in (119, 120, 200)] == ["0", "5", "0"]
    assert Experiment(cut=5) == Experiment(cut="5") == Experiment.parse("cut=5")
    assert Experiment(cut="9_5_9").knobs["cut"] == {5: True, 9: True}


WORDS = ["", "x", "nan", "NaN", "inf", "-inf", "1e999", "0x10", "1,5", "None", "1 2"]
WRONG = [*WORDS, None, [], {}, (1,), 1j, math.nan, math.inf, -math.inf, 10**400]


@pytest.mark.parametrize("name", [*PICKS, *KNOBS, *SINGLES, "changes"])
def test_what_is_no_value_of_a_field_is_refused_in_a_sentence(name):
    for value in WRONG[name == "changes" :]:  # no change is one of its values
        sentence_about(name, value)


@pytest.mark.parametrize("value", ["1.5", 1.5, "2.000001", True, False, "true"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number_is_neither_a_fraction_nor_a_switch(name, value):
    assert "a whole number" in sentence_about(name, value)


@pytest.mark.parametrize("value", [True, False, "true", "false"])
@pytest.mark.parametrize("name", REAL)
def test_a_number_is_not_a_switch(name, value):
    sentence_about(name, value)


@pytest.mark.parametrize("value", ["yes", "2", 2, 0.5, "on"])
@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_true_or_false(name, value):
    sentence_about(name, value)


@pytest.mark.parametrize(
    ("said", "meant"), [("true", True), ("False", False), ("1", True), ("0", False), (1, True)]
)
def test_a_switch_is_read_from_words(said, meant):
    assert Experiment(affine=said).affine is meant


@pytest.mark.parametrize(("said", "meant"), [("12", 12), ("1e3", 1000), ("12.0", 12), (12.0, 12), (" 7 ", 7)])
def test_a_whole_number_may_be_written_in_any_way(said, meant):
    width = Experiment(width=said).width
    assert (width, type(width)) == (meant, int)


@pytest.mark.parametrize("name", PICKS)
def test_a_choice_that_is_not_there_is_refused_with_those_that_are(name):
    sentence_about(name, "nonsense")


@pytest.mark.parametrize("key", ["nonsense", "Depth", "", " depth", "__class__", "parse"])
def test_a_key_that_is_not_there_is_refused_with_those_that_are(key):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        Experiment.parse({key: "1"})
    assert str(caught.value).startswith(f"{key}='1': there is no such setting")
    assert all(name in str(caught.value) for name in FIELDS)


def test_batch_norm_of_a_single_example_is_refused():
    with pytest.raises(ValueError, match=r"batch=1: BatchNorm .*choose batch=2 or more, or norm=layer"):
        Experiment(norm="batch", batch=1)


def test_replacing_checks_too():
    with pytest.raises(ValueError, match="depth=0: choose a whole number from 1 to 1000"):
        Experiment().replace(depth=0)


# What read makes of the wrong


def test_read_keeps_what_is_right_and_says_what_is_wrong():
    e, said = Experiment.read("depth=7&norm=nrom&lr=fast&colour=red")
    assert e == Experiment(depth=7)
    assert [line.split("=")[0] for line in said] == ["norm", "lr", "colour"]


def test_read_keeps_the_rest_where_two_values_do_not_go_together():
    e, said = Experiment.read("norm=batch&batch=1&depth=7")
    assert len(said) == 1
    assert e.depth == 7
    assert (e.norm, e.batch) != ("batch", 1)


TEXT = st.text(max_size=30)
PAIRS = st.lists(st.tuples(st.sampled_from(list(FIELDS)), TEXT), max_size=5)
LINKS = PAIRS.map(lambda pairs: "&".join(f"{key}={value}" for key, value in pairs))
VALUES = st.one_of(
    TEXT, st.none(), st.integers(), st.floats(allow_subnormal=False), st.booleans(), st.binary()
)


@settings(max_examples=300, deadline=None)
@given(link=st.one_of(TEXT, LINKS))
def test_any_string_is_read_and_every_complaint_is_one_line(link):
    e, said = Experiment.read(link)
    assert isinstance(e, Experiment)
    assert all(line and len(line.splitlines()) == 1 for line in said)


@settings(max_examples=300, deadline=None)
@given(key=st.one_of(st.sampled_from(list(FIELDS)), TEXT), value=VALUES)
def test_any_value_is_taken_or_refused_with_value_error(key, value):
    e, said = Experiment.read({key: value})
    assert Experiment.parse(e.link()) == e
    if said:
        with pytest.raises(ValueError, match=r"^[^\n\r]+$"):
            Experiment.parse({key: value})


# Changes on the way


def test_changes_are_told_in_the_order_of_their_steps_and_the_last_of_two_counts():
    e = Experiment(changes="200.dropout.0.3--120.lr.0.02--120.lr.0.01")
    assert e.changes == "120.lr.0.01--200.dropout.0.3"
    assert read_changes(e.changes) == ((120, "lr", 0.01), (200, "dropout", 0.3))


def test_what_holds_at_a_step():
    e = Experiment(lr=0.5, changes="120.lr.0.01--200.dropout.0.3")
    assert e.at(119) == Experiment(lr=0.5)
    assert e.at(120) == Experiment(lr=0.01)
    assert e.at(math.inf) == Experiment(lr=0.01, dropout=0.3)


def test_a_fork_keeps_what_was_changed_before_it_only():
    e = Experiment(changes="120.lr.0.01--200.dropout.0.3")
    assert e.fork(200, lr=0.1).changes == "120.lr.0.01--200.lr.0.1"
    assert e.change(150, lr=0.1).changes == "120.lr.0.01--150.lr.0.1--200.dropout.0.3"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("lr.0.1", "write step.setting.value"),
        ("-1.lr.0.1", "write step.setting.value"),
        ("1.5.lr", "can change while a run goes on, not 5"),
        ("99999999.lr.0.1", "write step.setting.value"),
        ("5.depth.3", "can change while a run goes on, not depth"),
        ("5.lr.-1", r"lr='-1': choose a number from 0.0 to 100.0"),
        ("5.batch.1", "BatchNorm needs more than one example"),
        ("--".join(["5.lr.1"] * 99), "99 changes are too many"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_a_sentence(told, why):
    with pytest.raises(ValueError, match=rf"^changes.*{why}[^\n]*$"):
        Experiment(norm="batch", changes=told)


def test_a_change_beyond_the_cost_limit_is_refused():
    with pytest.raises(ValueError, match="one step would take"):
        Experiment(depth=1000, width=512, seeds=1, batch=2).change(5, batch=1024)


# Cost


@pytest.mark.parametrize("factor", [{"depth": 64}, {"batch": 128}, {"seeds": 8}])
def test_cost_grows_with_every_factor(factor):
    assert Experiment(**factor).cost()[0] == 2 * Experiment().cost()[0]
    assert Experiment(**factor).cost()[1] > 1.2 * Experiment().cost()[1]


@pytest.mark.parametrize(("model", "stages"), [*((model, 1) for model in MODELS), ("conv", 2), ("conv", 3)])
def test_cost_counts_the_weights_there_are(model, stages):
    """Of one example: weights, gradient, two moments and what is copied weigh more than the stream."""
    e = Experiment(model=model, stages=stages, depth=3, width=16, seeds=1, batch=1)
    count = sum(value.numel() for name, (value, _) in Run(e).weights.named().items() if "blocks" in name)
    assert 4 * 4 * count < e.cost()[1] < 4 * 15 * count


def test_halving_an_image_and_doubling_its_features_costs_the_same_and_keeps_less():
    one, three = (Experiment(model="conv", stages=n, depth=3, batch=256) for n in (1, 3))
    assert one.cost()[0] == three.cost()[0]
    assert one.cost()[1] > three.cost()[1]


def test_what_the_lab_starts_with_is_affordable():
    assert Experiment().affordable() == Experiment()


@pytest.mark.parametrize(
    "steep", [{"width": 1024, "batch": 1024}, {"depth": 1000, "width": 1024, "batch": 2}]
)
def test_too_much_is_refused_with_the_number_and_the_limit(steep):
    e = Experiment(**steep)
    flops, size = e.cost()
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        e.affordable()
    told = f"{flops / 1e9:,.0f} GFLOP", f"{size / 2**30:.1f} GiB", f"{MAX_FLOPS / 1e9:,.0f} GFLOP", "4 GiB"
    assert all(number in str(caught.value) for number in told)


# Names


def test_the_label_tells_what_differs():
    a = Experiment(norm="none", depth=32)
    b = a.replace(depth=16)
    assert a.differing(b) == ["depth"]
    assert "32" in a.label([a, b])
    assert a.label([a, b]) != b.label([a, b])
