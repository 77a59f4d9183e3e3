"""Controls drawn from the fields of an experiment, and the link that says the same."""

import re
from collections.abc import Sequence
from functools import lru_cache
from math import inf

import streamlit as st

from lnres.engine.lockstep import Lockstep
from lnres.experiment import DIALS, FIELDS, Experiment
from lnres.fields import text
from lnres.figures import COLOURS
from lnres.registry import Registry
from lnres.scene import CONTRASTS, LETTERS, MOST, Scene
from lnres.ui.explain import explain
from lnres.ui.server import VIEW

SETTINGS = [name for name in FIELDS if name != "changes"]  # changes are made by hand, while a run goes on
FRONT = "depth", "width", "lr", "batch"

SCENES = Registry("scene")
for _name, _label, _link, _about in [
    ("start", "Skip, norm, both?",
     "norm=none~none~layer~layer&residual=none~identity~none~identity&init=xavier",
     "32 blocks that differ only in norm and skip: one of the four learns, and the panels show why."),
    ("norms", "Which norm?", "norm=none,layer,rms,batch&residual=identity",
     "The same residual network with four norms at the branch's entrance."),
    ("places", "Before or after the sum?", "placement=pre,post,sandwich,branch&optimizer=adam&lr=0.01",
     "LayerNorm at four places of the same block."),
    ("scale", "A skip without a norm", "norm=none,none,layer&residual=identity,scaled,identity&lr=0.01",
     "A skip alone explodes; does a constant do what the norm does?"),
    ("skips", "Which skip?", "norm=none&residual=identity~scaled~rezero~fixup&lr=0.01",
     "Four ways to join branch and stream, all without a norm."),
    ("models", "The same in every architecture?", "model=mlp~conv~transformer&depth=4~4~4&width=32&seeds=2"
     "&optimizer=adam&lr=0.003", "An MLP, a convnet and a transformer through the same block."),
    ("depth", "How deep?", "depth=4,16,64,128&lr=0.02&seeds=2",
     "Pre-LayerNorm at four depths, from the same seeds."),
    ("batch", "The batch of two",
     "norm=batch,layer&residual=none&placement=inner&layers=1&depth=4&batch=2&lr=0.02"
     "&momentum=0&final_norm=false", "BatchNorm and LayerNorm where a batch has only two examples."),
]:  # fmt: skip
    SCENES.put(_name, _label, make=_link, about=_about)


def badge(scene: Scene) -> str:
    """What the configurations share and in what they differ, in Markdown."""
    same, differ = scene.shared(), " and ".join(scene.differences()) or "nothing"
    shared = f":green-badge[shared] {', '.join(same)}" if same else ":orange-badge[nothing shared]"
    return f"{shared} &nbsp; :blue-badge[differs] {differ}"


def widget(name: str, key: str, value, *, bare: bool = False):
    """The control of one field, at first showing ``value``; a ``bare`` one hides its label from the eye."""
    told = FIELDS[name].metadata
    label = told["label"]
    # The value goes with the control: what the session's state says of one that is drawn for the first time
    # is lost if a hand on another one ends that run of the page, and the browser would show the first choice.
    value = st.session_state.get(key, value)
    if registry := told.get("registry"):
        about = "\n".join(f"- **{registry[n].label}** {registry[n].about}" for n in registry)
        rows = list(dict.fromkeys([*registry, value]))  # a table of one's own is not listed
        return st.selectbox(
            label, rows, rows.index(value), format_func=lambda n: registry[n].label, key=key,
            help=None if bare else about, label_visibility="collapsed" if bare else "visible",
        )  # fmt: skip
    if isinstance(FIELDS[name].default, bool):
        return st.toggle(label, value, key=key)
    if told.get("marks"):
        stops = sorted({*told["marks"], value})
        return st.select_slider(label, stops, value, format_func=text, key=key, help=told["about"] or None)
    if "single" in told:
        return st.text_input(label, value, key=key, help=told["about"])
    kind = type(FIELDS[name].default)
    step = 1 if kind is int else None
    shape = "%d" if kind is int else "%g"
    return st.number_input(
        label,
        kind(told["low"]),
        kind(told["high"]),
        value,
        step=step,
        format=shape,
        key=key,
        help=told["about"] or None,
    )


def _compared(scene: Scene) -> list[str]:
    """The fields beside the dials that are set one by one."""
    return [name for name in SETTINGS if name in scene.apart - set(DIALS)]


def _key(name: str, i: int | None = None) -> str:
    """The key of a control, which is another one whenever a scene is opened."""
    return f"knob/{st.session_state.opened}/{name}" + (f"/{i}" if i is not None else "")


def _start(scene: Scene, wrong: Sequence[str] = ()) -> None:
    """Let the widgets show a scene: they are new ones; what was wrong stands until a hand changes it."""
    st.session_state.scene = scene
    st.session_state.wrong = wrong
    st.session_state.opened = st.session_state.get("opened", 0) + 1


def _choose() -> None:
    st.session_state.question = chosen = st.session_state.get("chosen")
    if chosen:
        _start(Scene.parse(SCENES[chosen].make))


def _contrast() -> None:
    """The first configuration as it is now, and others that differ from it in one thing."""
    st.session_state.locked = set()
    _start(Scene.contrast(st.session_state.scene.experiments[0].at(inf), st.session_state.contrast))


@lru_cache(64)  # some seventy experiments are made and checked for it, in every rerun of the page
def _contrasted(e: Experiment) -> dict[str, str]:
    """What could be the one thing that differs from an experiment, and what it would be."""
    told = {}
    for name in CONTRASTS:
        _, *others = Scene.contrast(e, name).experiments
        if others:
            label, registry = (FIELDS[name].metadata.get(key) for key in ("label", "registry"))
            values = [getattr(other, name) for other in others]
            told[name] = f"{label}: {', '.join(registry[v].label if registry else text(v) for v in values)}"
    return told


def show(experiments: list[Experiment]) -> None:
    """Let the widgets show these experiments."""
    _start(Scene(experiments, set(st.session_state.scene.apart)))


def _add() -> None:
    show([*st.session_state.scene.experiments, st.session_state.scene.experiments[-1]])


def _set_apart() -> None:
    _start(Scene(st.session_state.scene.experiments, set(DIALS) | set(st.session_state[_key("compared")])))


def _locked() -> set[int]:
    """Which configurations keep all their settings, whatever is set for all."""
    return st.session_state.setdefault("locked", set())


ACTS = Registry("act")


@ACTS.add("copy", "Copy to the others")
def _copy(all_of_them: list, i: int) -> list:
    """All configurations become this one."""
    return [e if k in _locked() else all_of_them[i] for k, e in enumerate(all_of_them)]


@ACTS.add("swap", "Swap with the next")
def _swap(all_of_them: list, i: int) -> list:
    """This configuration and the next change places."""
    k = (i + 1) % len(all_of_them)
    order = {i: k, k: i}
    st.session_state.locked = {order.get(locked, locked) for locked in _locked()}
    return [all_of_them[order.get(j, j)] for j in range(len(all_of_them))]


@ACTS.add("lock", "Lock or unlock")
def _lock(all_of_them: list, i: int) -> list:
    """Nothing that is set for all changes it; locked again, it is free."""
    st.session_state.locked = _locked() ^ {i}
    return all_of_them


@ACTS.add("remove", "Remove")
def _remove(all_of_them: list, i: int) -> list:
    """The others go on."""
    st.session_state.locked = {k - (k > i) for k in _locked() - {i}}
    return [e for k, e in enumerate(all_of_them) if k != i] or all_of_them


def _act(i: int) -> None:
    show(ACTS[st.session_state[f"act/{i}"]].make(st.session_state.scene.experiments, i))


def literal(sentence: str) -> str:
    """A sentence as Markdown that shows every letter of it: links are written by strangers."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", sentence)


def _asked() -> tuple[Scene, list[str]]:
    """What the address says, the first question if nothing, and a sentence for everything that is wrong."""
    query = {name: value for name, value in st.query_params.items() if name not in VIEW}
    return Scene.read(query) if query else (Scene.parse(SCENES["start"].make), [])


def opened() -> None:
    """On a visitor's first run: read the address."""
    if "scene" not in st.session_state:
        _start(*_asked())


def complain(wrong: Sequence[str]) -> None:
    """Say what was wrong with the address."""
    if wrong:
        st.warning("  \n".join([*map(literal, wrong), "The default stands in for what could not be used."]))


def follow(now: list[Experiment]) -> None:
    """Let the widgets show what the runs are trained with, where that changed on its own: by a fork, say."""
    if now and now != st.session_state.get("now", now):
        apart = st.session_state.scene.apart | set(now[0].differing(*now[1:]))
        _start(Scene(now, apart), st.session_state.wrong)


def spoken(runs: Lockstep) -> dict[str, str]:
    """The address that trains the same again and shows the same."""
    view = runs.view  # Streamlit's own idea of the address is from before a hand changed the view
    if view is None:
        view = {name: value for name, value in st.query_params.items() if name in VIEW}
    return Scene([run.told for run in runs.runs]).query() | view


def settle(runs: Lockstep) -> None:
    """Write into the address what is trained, unless it says so already, and remember it."""
    st.session_state.now = [run.now for run in runs.runs]
    asked, wrong = _asked()
    if wrong or asked.experiments != [run.told for run in runs.runs]:
        st.query_params.from_dict(spoken(runs))


def _first(scene: Scene) -> Experiment:
    """The configuration that speaks for all: the first that is not locked, if there is one."""
    free = [e for i, e in enumerate(scene.experiments) if i not in _locked()]
    return (free or scene.experiments)[0]


def question() -> None:
    """Draw the questions that open a scene."""
    asked = st.session_state.get("question")  # Streamlit forgets a control while another page is open
    st.selectbox(
        "Question", list(SCENES), list(SCENES).index(asked) if asked else None,
        format_func=lambda n: SCENES[n].label, key="chosen",
        placeholder="Choose a question ...", on_change=_choose, label_visibility="collapsed",
    )  # fmt: skip


def contrast() -> None:
    """Draw what could be the one thing that differs."""
    if contrasts := _contrasted(_first(st.session_state.scene).at(inf)):  # none of what costs too much
        st.menu_button(
            "Change exactly one thing", list(contrasts), key="contrast", format_func=contrasts.get,
            width="stretch", on_click=_contrast,
            help="A stays as it is; the others equal it but for what you choose",
        )  # fmt: skip


def controls() -> Scene:
    """Draw the controls of all settings and return the scene they show."""
    scene: Scene = st.session_state.scene
    first = _first(scene)
    values = [{} for _ in scene.experiments]
    explain()
    apart = [name for name in SETTINGS if name in scene.apart]
    for i, experiment in enumerate(scene.experiments):
        with st.container(border=True, gap="xxsmall", key=f"configuration-{LETTERS[i]}"):
            with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="xxsmall"):
                st.html(f"<b style='font-size:19px;color:{COLOURS[i]}'>{LETTERS[i]}</b>", width="content")
                for name in ("norm", "residual"):
                    values[i][name] = widget(name, _key(name, i), getattr(experiment, name), bare=True)
                if len(scene.experiments) > 1:
                    st.menu_button(
                        "⋯", list(ACTS), key=f"act/{i}", format_func=lambda n: ACTS[n].label,
                        type="tertiary", on_click=_act, args=(i,), help=f"What to do with {LETTERS[i]}",
                    )  # fmt: skip
            if i in _locked():
                st.caption(f"locked: {experiment.label()}")
            values[i]["placement"] = experiment.placement
            if values[i]["norm"] != "none":
                values[i]["placement"] = widget(
                    "placement", _key("placement", i), experiment.placement, bare=True
                )
            for name in apart:
                if name not in DIALS:
                    values[i][name] = widget(name, _key(name, i), getattr(experiment, name))
    if len(scene.experiments) < MOST:
        st.button("Add a configuration", on_click=_add, width="stretch")
    st.caption("All configurations")
    shared = {}
    for name in FRONT:
        if name not in scene.apart:
            shared[name] = widget(name, _key(name), getattr(first, name))
    rest = [name for name in SETTINGS if name not in scene.apart and name not in FRONT]
    st.session_state.setdefault("more", st.session_state.get("unfolded", False))
    more = st.expander("More settings", key="more", on_change="rerun")
    st.session_state.unfolded = more.open
    if more.open:  # two dozen widgets would double the time of every rerun
        with more:
            st.multiselect(
                "Set one by one", [n for n in SETTINGS if n not in DIALS], _compared(scene),
                format_func=lambda n: FIELDS[n].metadata["label"], key=_key("compared"), on_change=_set_apart,
            )  # fmt: skip
            for group in dict.fromkeys(FIELDS[name].metadata["group"] for name in rest):
                st.caption(group.capitalize())
                inside = [name for name in rest if FIELDS[name].metadata["group"] == group]
                shared |= {name: widget(name, _key(name), getattr(first, name)) for name in inside}
    else:
        shared |= {name: getattr(first, name) for name in rest}
    made = [Experiment(**shared | own) for own in values]
    chosen = [
        old if i in _locked() or new == old.at(-1) else new  # an address may say what changes on the way
        for i, (old, new) in enumerate(zip(scene.experiments, made, strict=True))
    ]
    if chosen != scene.experiments:
        scene.experiments, st.session_state.wrong = chosen, ()
    return scene
