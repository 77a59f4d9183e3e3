"""Every page opens, says what it compares, and answers a wrong link with a sentence."""

import json
import random
import time
from html import unescape
from urllib.parse import parse_qsl

import numpy as np
import pytest
from damage import link
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import REFUSED
from screen import ROOT, AppTest, opened

from lnres.anatomy import code, drawing, formula
from lnres.engine import local
from lnres.engine.lockstep import Lockstep
from lnres.experiment import FIELDS, Experiment
from lnres.export.tables import to_json
from lnres.record import Record
from lnres.scene import MOST, Scene
from lnres.train import Run
from lnres.ui.controls import SCENES, badge
from lnres.ui.explain import KINDS
from lnres.ui.files import qr

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("pages/*.py"))
DEFAULT = Experiment()


@pytest.fixture(scope="module", autouse=True)
def _workers():
    """They train while a test waits for them and leave the cores to it otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local.Hosted, "unwatched", 0.2)
        yield
    local.stop()


def complaints(page) -> list[str]:
    """The sentences that the page complains with, as they are read: without Markdown's backslashes."""
    lines = [line for box in page.warning for line in box.value.replace("\\", "").split("  \n")]
    return [line for line in lines if not line.startswith("The default stands in")]


def tokens(*pages) -> list[str]:
    """The visitor's runs on these pages: all pages that are opened here belong to one visitor."""

    def page(pages):
        import streamlit as st  # noqa: TID251  as in a page

        from lnres.ui.session import lockstep

        st.session_state.tokens = [lockstep(name).token for name in pages]

    asked = AppTest.from_function(page, kwargs={"pages": pages}, default_timeout=60).run()
    return asked.session_state["tokens"]


def runs() -> Lockstep:
    """The runs of the lab."""
    return local.find(*tokens("lab"))


def shown(page) -> list[Experiment]:
    """What the lab's workers train."""
    assert [run.experiment for run in runs().runs] == page.session_state["scene"].experiments
    return page.session_state["scene"].experiments


# --------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("path", ["app.py", *PAGES])
def test_a_page_opens_without_a_word_of_complaint(path):
    page = opened(path)
    assert not page.exception
    assert not page.warning


def test_every_page_has_runs_of_its_own():
    lab, other, again = tokens("lab", "other", "lab")
    assert lab == again != other
    assert tokens("other", "lab") == [other, lab]


def test_every_question_opens():
    page = opened()
    for name in SCENES:
        page.selectbox(key="chosen").set_value(name).run()
        assert not page.exception
        assert not page.warning
        asked = dict(pair.split("=") for pair in SCENES[name].make.split("&"))
        assert Scene.read(asked)[0].experiments == shown(page)


def test_one_thing_is_changed_and_the_first_network_goes_on():
    page = opened(depth="2", width="8", seeds="1", steps="100000")
    reach(5)
    before = runs().runs[0].id
    page.menu_button(key="contrast").click("lr").run()
    assert [e.lr for e in shown(page)] == [0.05, 0.15, 0.0167]
    assert runs().runs[0].id == before
    assert page.markdown[0].value.endswith(":blue-badge[differs] learning rate")
    assert page.query_params["lr"] == "0.05~0.15~0.0167"


def knob(page, name):
    """The key of a control of the scene that was opened last."""
    return f"knob/{page.session_state.opened}/{name}"


def test_the_link_opens_what_it_says():
    page = opened(norm="rms~batch", depth="4", lr="0.3")
    assert [(e.norm, e.depth, e.lr) for e in shown(page)] == [("rms", 4, 0.3), ("batch", 4, 0.3)]


def test_a_control_says_by_itself_what_it_shows():
    """Without the session's state, which is lost if the first run of the page that draws it is overtaken."""
    told = {"norm": "rms", "residual": "scaled", "depth": "4", "gain": "0.7", "sigma_w2": "1.5", "cut": "2"}
    told |= {"optimizer": "adam", "placement": "post", "steps": "700", "affine": "no"}
    page = AppTest.from_file(str(ROOT / "pages/lab.py"), default_timeout=60)
    page.query_params.update(told)
    page.session_state["more"] = True
    page.run()
    (experiment,) = shown(page)
    controls = [*page.selectbox, *page.select_slider, *page.number_input, *page.toggle, *page.text_input]
    knobs = {control.key.split("/")[2]: control for control in controls if control.key.startswith("knob/")}
    assert knobs.keys() == FIELDS.keys() - {"changes"}
    for name, control in knobs.items():
        (default,) = np.atleast_1d(control.proto.default)
        if control.type == "select_slider":
            default = float(control.options[int(default)])
        elif registry := FIELDS[name].metadata.get("registry"):
            default = [*registry][default]
        assert (default, control.proto.set_value) == (getattr(experiment, name), False)


def test_a_control_changes_the_runs_and_the_link():
    page = opened(norm="none~layer", depth="8")
    page.select_slider(key=knob(page, "depth")).set_value(4).run()
    assert [e.depth for e in shown(page)] == [4, 4]
    assert page.query_params["depth"] == "4"


def test_configurations_are_added_and_removed():
    page = opened(norm="none~layer", depth="4")
    page.button[-1].click().run()
    assert [e.norm for e in shown(page)] == ["none", "layer", "layer"]
    act(page, 0, "remove")
    assert [e.norm for e in shown(page)] == ["layer", "layer"]
    assert not page.exception


def act(page, i, what):
    page.menu_button(key=f"act/{i}").click(what).run()


def test_configurations_are_copied_and_swapped():
    page = opened(norm="none~layer~rms", depth="4")
    act(page, 0, "swap")
    assert [e.norm for e in shown(page)] == ["layer", "none", "rms"]
    act(page, 2, "copy")
    assert [e.norm for e in shown(page)] == ["rms", "rms", "rms"]


def test_a_locked_configuration_keeps_its_settings():
    page = opened(norm="none~layer", depth="8")
    act(page, 1, "lock")
    page.select_slider(key=knob(page, "depth")).set_value(4).run()
    assert [e.depth for e in shown(page)] == [4, 8]
    act(page, 0, "swap")
    act(page, 1, "copy")
    assert [(e.norm, e.depth) for e in shown(page)] == [("layer", 8), ("none", 4)]
    act(page, 0, "lock")
    page.select_slider(key=knob(page, "depth")).set_value(2).run()
    assert [e.depth for e in shown(page)] == [2, 2]


def reach(step):
    """Until every run has made this step and those that changes were asked of have made them."""
    end, lab = time.monotonic() + 60, runs()
    while min(run.record.last_step for run in lab.runs) < step or any(run.asked for run in lab.runs):
        assert time.monotonic() < end
        lab.watched = time.monotonic()  # as a browser would
        time.sleep(0.05)


def test_a_live_knob_changes_the_runs_without_a_new_start():
    page = opened(norm="none~layer", depth="2", width="8", seeds="1", steps="100000")
    reach(5)
    ids = [run.id for run in runs().runs]
    page.select_slider(key=knob(page, "lr")).set_value(0.01).run()
    assert [run.id for run in runs().runs] == ids
    reach(max(run.record.last_step for run in runs().runs) + 5)
    assert [run.now.lr for run in runs().runs] == [0.01, 0.01]
    page.run()
    first, second = (run.experiment.changes for run in runs().runs)
    assert page.query_params["changes"] == (first if first == second else f"{first}~{second}")
    assert page.select_slider(key=knob(page, "lr")).value == 0.01
    assert [run.id for run in runs().runs] == ids


def test_the_link_of_changed_runs_trains_the_same_and_its_widgets_follow():
    page = opened(depth="2", width="8", seeds="1", changes="30.lr.0.01", steps="100000", norm="layer~rms")
    assert [run.experiment.changes for run in runs().runs] == ["30.lr.0.01"] * 2
    page.run()
    reach(40)
    ids = [run.id for run in runs().runs]
    page.run()
    assert page.select_slider(key=knob(page, "lr")).value == 0.01
    page.run()
    assert [run.id for run in runs().runs] == ids
    assert page.query_params["changes"] == "30.lr.0.01"
    assert "lr" not in page.query_params


def test_a_fork_gets_a_configuration_of_its_own():
    page = opened(depth="2", width="8", seeds="1", steps="100000")
    reach(20)
    runs().fork(0, 10, {"lr": 0.01})
    page.run()
    assert [page.select_slider(key=knob(page, f"lr/{i}")).value for i in (0, 1)] == [0.05, 0.01]
    assert page.query_params["changes"] == "~10.lr.0.01"
    reach(20)
    page.select_slider(key=knob(page, "lr/0")).set_value(0.1).run()
    assert [run.now.lr for run in runs().runs] == [0.1, 0.01]


@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_is_explained(kind):
    def page(kind):
        from lnres.ui.explain import KINDS, row

        for name in KINDS[kind]:
            row(KINDS[kind][name])

    page = AppTest.from_function(page, kwargs={"kind": kind}, default_timeout=60).run()
    assert not page.exception
    told = " ".join(text.value for text in page.markdown)
    formulas = [formula.value for formula in page.latex]
    for name in KINDS[kind]:
        choice = KINDS[kind][name]
        assert f"**{choice.label}**" in told
        assert choice.about in told
        assert choice.paper in told
        assert not choice.formula or any(choice.formula in shown for shown in formulas)


# --------------------------------------------------------------------------------------------- files


def beside(name, **query) -> AppTest:
    """The page with one of its popovers open."""
    page = opened(**{"depth": "2", "width": "8", "seeds": "1", "batch": "8", "steps": "100000"} | query)
    page.session_state[name] = True
    return page.run()


def test_everything_can_be_taken_along():
    page = beside("take", norm="none~layer")
    reach(3)
    files = {button.key.removeprefix("take/") for button in page.download_button}
    assert files == {"lnres.json", "lnres.csv", "lnres.html", "lnres-A.py", "lnres-B.py",
                     "lnres-A.safetensors", "lnres-B.safetensors"}  # fmt: skip
    link = page.code[0].value
    assert Scene.parse(link).experiments == [run.experiment for run in runs().runs]
    runs().view = {"panels": "loss-dead", "at": "2"}
    assert page.run().code[0].value == f"{link}&panels=loss-dead&at=2"


def test_the_code_for_phones_holds_the_link():
    assert qr("http://127.0.0.1/?depth=4").startswith("<svg")


def brought(page, name, content):
    page.file_uploader(key="brought").set_value([(name, content, "")]).run()
    assert not page.exception
    return page


def test_a_table_of_ones_own_is_trained_on():
    rows = "\n".join(f"{i},{i % 7},{'ab'[i % 2]}" for i in range(40))
    page = brought(beside("bring", batch="64"), "own.csv", f"x,y,label\n{rows}\n".encode())
    assert not page.warning
    (e,) = shown(page)
    assert (e.data[:4], e.batch) == ("csv-", 30)
    reach(3)
    assert not runs().notice


def test_configurations_come_back():
    scene = Scene([Experiment(depth=2, width=8, norm=norm) for norm in ("rms", "batch")])
    page = brought(beside("bring"), "lnres.json", to_json(scene).encode())
    assert shown(page) == scene.experiments


def test_a_record_is_shown_at_its_end_and_goes_on_when_played():
    e = Experiment(depth=2, width=8, batch=8, seeds=2, norm="rms", changes="5.lr.0.01")
    run, record = Run(e), Record({"experiment": e.link()})
    for _ in range(12):
        record.extend(*next(run))
    page = brought(beside("bring"), "lnres-A.safetensors", record.tobytes())
    (seen,) = runs().runs
    assert (seen.experiment, seen.record.last_step, runs().playing) == (e, 11, False)
    assert page.session_state["scene"].experiments == [e.at(12)]
    runs().play()
    reach(20)
    for _ in range(9):
        record.extend(*next(run))
    np.testing.assert_array_equal(seen.record["loss_train"][:21], record["loss_train"])


@pytest.mark.parametrize("name", ["own.csv", "lnres.json", "lnres-A.safetensors"])
def test_a_damaged_file_gets_a_sentence_and_the_runs_go_on(name):
    page = beside("bring")
    ids = [run.id for run in runs().runs]
    for content in (b"", b"\0\xff", b"a,b\n1,2\n", b"{}", b"[" * 9999):
        if (name, content) == ("lnres.json", b"{}"):  # which is the default
            continue
        page = brought(page, name, content)
        (said,) = [box.value for box in page.warning]
        assert said.replace("\\", "").startswith(f"{name}: ")
        assert [run.id for run in runs().runs] == ids


def test_of_several_files_the_damaged_one_is_named():
    good = Record({"experiment": DEFAULT.link()})
    page = beside("bring")
    files = [("bad.safetensors", b"", ""), ("good.safetensors", good.tobytes(), "")]
    page.file_uploader(key="brought").set_value(files).run()
    assert page.warning[0].value.replace("\\", "").startswith("bad.safetensors: ")


# --------------------------------------------------------------------------------------------- wrong links


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("norm", "nrom", "none, layer, rms, batch"),
        ("norm", "<b>", "none, layer, rms, batch"),
        ("depth", "0", "1 to 1000"),
        ("depth", "many", "a whole number"),
        ("depth", "", "a whole number"),
        ("depth", "2.5", "a whole number"),
        ("lr", "nan", "0.0 to 100.0"),
        ("seeds", "1e999", "1 to 256"),
        ("affine", "maybe", "true or false"),
        ("depht", "3", "depth"),
        ("__class__", "x", "depth"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, allowed):
    page = opened(**{name: value, "width": "16"})
    (said,) = complaints(page)
    assert f"{name}={value!r}" in said
    assert allowed in said
    assert "\n" not in said
    assert shown(page) == [DEFAULT.replace(width=16)]


def test_what_was_wrong_with_a_link_stands_until_a_hand_changes_something():
    page = opened(norm="nrom~rms", depth="2", width="8", seeds="1", changes="10.lr.0.01", steps="100000")
    said = complaints(page)
    assert said
    reach(10)
    page.run()  # by itself: the controls follow the change on the way
    assert page.select_slider(key=knob(page, "lr")).value == 0.01
    assert complaints(page) == said
    page.select_slider(key=knob(page, "depth")).set_value(4).run()
    assert complaints(page) == []


def test_one_wrong_value_of_a_list_is_replaced_alone():
    page = opened(depth="4~x~8")
    assert len(complaints(page)) == 1
    assert [e.depth for e in shown(page)] == [4, DEFAULT.depth, 8]


def test_more_than_four_are_refused_by_number():
    page = opened(depth="1~2~3~4~5")
    assert "'depth' has 5 values; up to 4" in complaints(page)[0]
    assert [e.depth for e in shown(page)] == [1, 2, 3, 4]


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence_and_the_page_works(case):
    settings, said = REFUSED[case]
    page = opened(**settings)
    assert complaints(page) == [said]
    assert not page.exception
    assert len(shown(page)) == 1


@pytest.mark.parametrize("case", [case for case, (settings, _) in REFUSED.items() if len(settings) > 1])
def test_what_cannot_be_chosen_leaves_the_runs_and_says_why(case):
    """A control is moved to where the others do not let it: the runs that are there stay."""
    settings, said = REFUSED[case]
    *given, (name, last) = settings.items()
    page = opened(**dict(given))
    before, kind = shown(page), type(FIELDS[name].default)
    page.session_state[knob(page, name)] = kind(last)
    page.run()
    assert complaints(page) == [said]
    assert [run.experiment for run in runs().runs] == before


def test_a_cost_over_the_limit_is_refused_with_the_number():
    page = opened(depth="1000", width="1024", batch="1024")
    (said,) = complaints(page)
    assert "51,540 GFLOP" in said
    assert "limit is 200 GFLOP and 4 GiB" in said
    assert not page.exception


def test_what_costs_too_much_can_be_made_smaller_again():
    page = opened(depth="1000", width="1024", batch="1024")
    page.select_slider(key=knob(page, "width")).set_value(2).run()
    assert not page.warning
    assert shown(page) == [DEFAULT.replace(depth=1000, width=2, batch=1024)]


# --------------------------------------------------------------------------------------------- links


SINGLE = {"": ["5", "5_9"], "skip_gain": ["5-0.5_9-2"], "placement": ["5-post"]}
"""What fields of single blocks may say, by the field whose values these have."""


def values(spec):
    """Any value that a field allows."""
    told = spec.metadata
    if "timeline" in told:
        return st.sampled_from(["", "5.lr.0.1", "5.lr.0.1--90.dropout.0.3"])
    if "registry" in told:
        return st.sampled_from(list(told["registry"]))
    if "single" in told:
        return st.sampled_from(["0", *SINGLE[told["single"]]])
    kind = {bool: st.booleans, int: st.integers, float: st.floats}[type(spec.default)]
    if kind is st.booleans:
        return kind()
    exact = {"allow_subnormal": False} if kind is st.floats else {}  # training flushes them to zero
    return kind(told["low"], told["high"], **exact)


SETTINGS = st.fixed_dictionaries({}, optional={name: values(spec) for name, spec in FIELDS.items()})


def possible(choice: dict) -> bool:
    return not Experiment.read(choice)[1]


@given(SETTINGS, st.lists(SETTINGS, min_size=1, max_size=MOST))
@settings(deadline=None)
def test_the_link_is_the_scene(shared, own):
    choices = [shared | {name: one.get(name, value) for name, value in own[0].items()} for one in own]
    experiments = [Experiment(**choice) for choice in choices if possible(choice)] or [DEFAULT]
    query = Scene(experiments).query()
    read, complaints = Scene.read(query)
    assert not complaints
    assert read.experiments == experiments
    assert read.query() == query


LINKS = [link(random.Random(seed)) for seed in range(2000)]


def test_two_thousand_damaged_links_give_scenes_and_sentences():
    wrong = 0
    for query in LINKS:
        scene, complaints = Scene.read(dict(parse_qsl(query, keep_blank_values=True)))
        wrong += bool(complaints)
        assert 1 <= len(scene.experiments) <= MOST
        assert all(len(said.splitlines()) == 1 and len(said) > 10 for said in complaints), query
        assert all(e.label() for e in scene.experiments)
        assert Scene.read(scene.query()) == (Scene(scene.experiments, scene.apart & named(scene)), [])
    assert 1000 < wrong < 2000


@pytest.mark.parametrize("seed", range(0, 2000, 200))
def test_a_page_with_a_damaged_link_works(seed):
    query = dict(parse_qsl(LINKS[seed], keep_blank_values=True))
    page = opened(**query)
    assert not page.exception
    assert bool(complaints(page)) >= bool(Scene.read(query)[1])
    page.selectbox(key="chosen").set_value("norms").run()
    assert not page.exception
    assert not page.warning
    assert len(shown(page)) == MOST


def named(scene) -> set[str]:
    """The fields that a link can say to be set one by one."""
    return Scene([]).apart | {
        name for name in FIELDS if len({getattr(e, name) for e in scene.experiments}) > 1
    }


# --------------------------------------------------------------------------------------------- the badge


def told(**apart) -> tuple[str, str]:
    """What the badge of two configurations says is shared, and what differs."""
    shared, differs = badge(Scene([DEFAULT, DEFAULT.replace(**apart)])).split("&nbsp;")
    return shared, differs


def candidates(spec) -> list:
    told = spec.metadata
    if "timeline" in told:
        return ["5.lr.0.1"]
    if "single" in told:
        return SINGLE[told["single"]]
    every = list(told["registry"]) if "registry" in told else [told["low"], told["high"]]
    return [value for value in every if value != spec.default]


@pytest.mark.parametrize("name", [name for name, spec in FIELDS.items() if candidates(spec)])
def test_the_badge_names_what_differs(name):
    other = candidates(FIELDS[name])[0]
    assert told(**{name: other})[1].strip() == f":blue-badge[differs] {FIELDS[name].metadata['label']}"


def test_the_badge_says_what_is_shared():
    data, batches, weights = "the data", "every minibatch", "the initial weights wherever shapes agree"
    assert all(word in told(norm="rms")[0] for word in (data, batches, weights))
    assert [word in told(batch=8)[0] for word in (data, batches, weights)] == [True, False, True]
    assert [word in told(init="he")[0] for word in (data, batches, weights)] == [True, True, False]
    assert "nothing shared" in told(seed=1)[0]


def test_the_badge_of_twins_says_that_nothing_differs():
    assert badge(Scene([DEFAULT, DEFAULT])).endswith("nothing")


def test_the_page_of_the_flow_shows_the_block_that_its_dials_choose():
    page = opened("pages/flow.py", depth="2", width="8", seeds="1", placement="post", residual="wrong")
    assert not page.exception
    assert complaints(page)[0].startswith("residual='wrong'")
    (run,) = local.find(*tokens("flow")).runs
    assert (run.experiment.placement, run.experiment.residual, run.experiment.record_every) == (
        "post",
        "identity",
        1,
    )
    assert formula(run.experiment) in page.latex[0].value
    page.selectbox(key="flow/residual").set_value("scaled").run()
    (new,) = local.find(*tokens("flow")).runs
    assert (new.experiment.residual, new.experiment.width) == ("scaled", 8)
    assert formula(new.experiment) in page.latex[0].value
    drawn = [unescape(json.loads(node.proto.json)) for node in page.get("bidi_component")[-2:]]
    assert drawn[0] == drawing(new.experiment)
    assert code(new.experiment) in drawn[1].replace("<wbr>", "")
    assert page.query_params["residual"] == "scaled"
    page.run()
    assert local.find(*tokens("flow")).runs[0] is new  # a rerun leaves it alone
