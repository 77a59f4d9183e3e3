"""Controls drawn from the fields of an experiment, and the link that says the same."""

import re

import streamlit as st

from lnres.experiment import DIALS, FIELDS, Experiment, text
from lnres.figures import COLOURS
from lnres.registry import Registry
from lnres.scene import MOST, Scene
from lnres.ui.explain import explain

LETTERS = "ABCD"
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
    st.session_state.setdefault(key, value)
    if registry := told.get("registry"):
        about = "\n".join(f"- **{registry[n].label}** {registry[n].about}" for n in registry)
        return st.selectbox(
            label, list(registry), format_func=lambda n: registry[n].label, key=key,
            help=None if bare else about, label_visibility="collapsed" if bare else "visible",
        )  # fmt: skip
    if isinstance(FIELDS[name].default, bool):
        return st.toggle(label, key=key)
    if told["marks"]:
        stops = sorted({*told["marks"], st.session_state[key]})
        return st.select_slider(label, stops, format_func=text, key=key, help=told["about"] or None)
    kind = type(FIELDS[name].default)
    step = 1 if kind is int else None
    shape = "%d" if kind is int else "%g"
    return st.number_input(
        label,
        kind(told["low"]),
        kind(told["high"]),
        step=step,
        format=shape,
        key=key,
        help=told["about"] or None,
    )


def _start(scene: Scene) -> None:
    """Let the widgets show a scene: their state is rebuilt from it."""
    for key in [key for key in st.session_state if str(key).startswith("knob/")]:
        del st.session_state[key]
    st.session_state.scene = scene
    st.session_state.compared = [name for name in FIELDS if name in scene.apart - set(DIALS)]


def _choose() -> None:
    if chosen := st.session_state.get("chosen"):
        _start(Scene.read(dict(pair.split("=") for pair in SCENES[chosen].make.split("&")))[0])


def _add() -> None:
    _start(Scene([*st.session_state.scene.experiments, st.session_state.scene.experiments[-1]],
                 st.session_state.scene.apart))  # fmt: skip


def _remove(i: int) -> None:
    rest = [e for k, e in enumerate(st.session_state.scene.experiments) if k != i]
    _start(Scene(rest, st.session_state.scene.apart))


def _set_apart() -> None:
    _start(Scene(st.session_state.scene.experiments, set(DIALS) | set(st.session_state.compared)))


def literal(sentence: str) -> str:
    """A sentence as Markdown that shows every letter of it: links are written by strangers."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", sentence)


def opened() -> list[str]:
    """On a visitor's first run: read the address; returns a sentence for everything in it that was wrong."""
    if "scene" in st.session_state:
        return []
    query = {name: st.query_params[name] for name in st.query_params}
    if not query:
        query = dict(pair.split("=") for pair in SCENES["start"].make.split("&"))
    scene, complaints = Scene.read(query)
    _start(scene)
    return complaints


def controls() -> Scene:
    """Draw all controls into the sidebar and return the scene they show."""
    scene: Scene = st.session_state.scene
    first = scene.experiments[0]
    values = [{} for _ in scene.experiments]

    st.selectbox(
        "Question", list(SCENES), format_func=lambda n: SCENES[n].label, key="chosen", index=None,
        placeholder="Choose a question ...", on_change=_choose, label_visibility="collapsed",
    )  # fmt: skip
    explain()
    apart = [name for name in FIELDS if name in scene.apart]
    for i, experiment in enumerate(scene.experiments):
        with st.container(border=True, gap="xxsmall", key=f"configuration-{LETTERS[i]}"):
            with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="xxsmall"):
                st.html(f"<b style='color:{COLOURS[i]}'>{LETTERS[i]}</b>", width="content")
                for name in ("norm", "residual"):
                    values[i][name] = widget(name, f"knob/{name}/{i}", getattr(experiment, name), bare=True)
                if len(scene.experiments) > 1:
                    st.button(
                        "×", key=f"remove/{i}", type="tertiary", on_click=_remove, args=(i,), help="Remove"
                    )
            values[i]["placement"] = experiment.placement
            if values[i]["norm"] != "none":
                values[i]["placement"] = widget(
                    "placement", f"knob/placement/{i}", experiment.placement, bare=True
                )
            for name in apart:
                if name not in DIALS:
                    values[i][name] = widget(name, f"knob/{name}/{i}", getattr(experiment, name))
    if len(scene.experiments) < MOST:
        st.button("Add a configuration", on_click=_add, width="stretch")
    st.caption("All configurations")
    shared = {}
    for name in FRONT:
        if name not in scene.apart:
            shared[name] = widget(name, f"knob/{name}", getattr(first, name))
    rest = [name for name in FIELDS if name not in scene.apart and name not in FRONT]
    more = st.expander("More settings", key="more", on_change="rerun")
    if more.open:  # two dozen widgets would double the time of every rerun
        with more:
            st.multiselect(
                "Set one by one", [n for n in FIELDS if n not in DIALS],
                format_func=lambda n: FIELDS[n].metadata["label"], key="compared", on_change=_set_apart,
            )  # fmt: skip
            for group in dict.fromkeys(FIELDS[name].metadata["group"] for name in rest):
                st.caption(group.capitalize())
                inside = [name for name in rest if FIELDS[name].metadata["group"] == group]
                shared |= {name: widget(name, f"knob/{name}", getattr(first, name)) for name in inside}
    else:
        shared |= {name: getattr(first, name) for name in rest}
    scene.experiments = [Experiment(**shared | own) for own in values]
    return scene
