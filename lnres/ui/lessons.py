"""What the page of lessons is made of: the row of lessons, the guess, and the answer that was measured."""

from dataclasses import dataclass, field
from urllib.parse import urlencode

import streamlit as st

from lnres.boards import Panel
from lnres.engine.lockstep import Lockstep
from lnres.engine.study import Study
from lnres.lessons import FIRST, LESSONS, MORE, OPEN, Runs, handout, interval, question, told
from lnres.scene import Scene
from lnres.ui import server
from lnres.ui.board import pictures
from lnres.ui.part import part
from lnres.ui.session import study

HANDOUTS = {"class": "A class of 45 minutes", "worksheet": "Worksheet"}
ASIDE = 330
"""Pixels of the figure below an answer."""
POLL = 0.4
"""Seconds between two looks whether the runs are over."""


@dataclass
class Attempt:
    """One visitor at one lesson: the guess, and what was measured for it, one number a seed."""

    guess: int
    curve: list[float]
    seen: dict[str, list[float]] = field(default_factory=dict)
    start: int = 0
    """How many seeds were done before those that are shown."""
    awaited: bool = True
    """Whether the runs that are shown still have to be measured."""
    played: bool = False
    """Whether they were set going."""
    aside: dict | None = None
    """The figure of the last runs, below the answer."""

    @property
    def done(self) -> int:
        """How many seeds were measured."""
        return len(next(iter(self.seen.values()), []))


def attempts() -> dict[str, Attempt]:
    """The lessons that this visitor has guessed in."""
    return st.session_state.setdefault("lessons", {})


def _open(name: str) -> None:
    st.session_state.lesson = name


def chosen() -> str:
    """Draw the row of lessons; the name of the one that is open."""
    asked = st.query_params.get("lesson")
    first = asked if asked in [*LESSONS, *HANDOUTS] else next(iter(LESSONS))
    name = st.session_state.setdefault("lesson", first)
    attempt, outcome = attempts().get(name), None
    if attempt and attempt.seen:
        answer = LESSONS[name].make.answer(attempt.seen)
        outcome = {"lesson": name, "guess": attempt.guess, "answer": answer}
    rows = [{"name": n, "title": LESSONS[n].label, "about": LESSONS[n].about} for n in LESSONS]
    papers = [{"name": n, "title": title} for n, title in HANDOUTS.items()]
    data = {"lessons": rows, "handouts": papers, "chosen": name, "outcome": outcome, "part": "course"}
    part("lessons", "course", data, lesson=lambda: _open(st.session_state.course.lesson))
    st.query_params["lesson"] = name
    return name


def teach(name: str) -> None:
    """A page to print."""
    part("lessons", "print", {"part": "print", "label": "Print this page"})
    st.markdown(handout(name))


def ready(runs: Lockstep, name: str) -> Attempt | None:
    """Have the runs of a lesson stand at their start, or go on where a guess was made; the attempt if any."""
    lesson, attempt = LESSONS[name].make, attempts().get(name)
    wanted = lesson.experiments(attempt.start if attempt else 0)
    there = [run.experiment for run in runs.runs] == wanted
    drawn = (
        lesson.guessed(attempt.curve, [run.record for run in runs.runs] if there else []) if attempt else {}
    )
    runs.show(lesson.panels, drawn, lesson.at if attempt and not attempt.awaited else None)
    if not there:
        runs.set(wanted, play=attempt is not None)
    elif attempt and not attempt.played:
        runs.play()
    if attempt:
        attempt.played = True
        _studied(name, attempt)
    return attempt


def _studied(name: str, attempt: Attempt) -> Study | None:
    """The study of a lesson that has one, begun where it is waited for."""
    wanted = LESSONS[name].make.study
    if not wanted:
        return None
    own = study("lessons")
    if attempt.awaited and (own.names, own.first) != ([wanted], FIRST + attempt.start):
        own.begin([wanted], FIRST + attempt.start)
    own.look()
    return own


def ask(name: str) -> None:
    """The question, and a guess that has to be made before anything is shown."""
    lesson = LESSONS[name].make
    st.markdown(told(name, "question"))
    sketch, options = None, [{"text": option.text} for option in lesson.options]
    if lesson.sketch:
        sketch = {key: getattr(lesson.sketch, key) for key in ("about", "along", "low", "high", "log", "end")}
        for shown, option in zip(options, lesson.options, strict=True):
            shown |= lesson.sketch.curve(option.drawn)
    data = {"lesson": name, "sketch": sketch, "options": options, "part": "ask"}

    def guess() -> None:
        made = st.session_state[f"ask/{name}"].guess
        attempts()[name] = Attempt(int(made["option"]), [float(y) for y in made["curve"]])

    part("lessons", f"ask/{name}", data, guess=guess)


@st.fragment(run_every=POLL)
def _watch(runs: Lockstep, name: str, attempt: Attempt) -> None:
    """How far the runs are; once they are over, they are measured and the page is drawn again."""
    lesson, own = LESSONS[name].make, _studied(name, attempt)
    found = own.results.get(lesson.study) if own else {"values": {}}
    with runs.lock:
        made = [run.record.last_step + 1 for run in runs.runs]
        steps = [run.experiment.steps for run in runs.runs]
        theirs = [run.experiment for run in runs.runs] == lesson.experiments(attempt.start)
        if made == steps and found and theirs:  # a hand may have changed the runs
            records = [run.record for run in runs.runs]
            new = lesson.measured(records, found["values"])
            attempt.aside = lesson.aside and lesson.aside(Runs(records, found["values"]))
            attempt.seen = {key: attempt.seen.get(key, []) + values for key, values in new.items()}
            attempt.awaited = False
            st.rerun()
    share, guess = sum(made) / sum(steps), " Your guess is the dotted line." * bool(lesson.sketch)
    st.progress(share, f"Step {max(made):,} of {max(steps):,}.{guess}")
    if own and made == steps:
        st.caption(f"The insides are measured: {own.said or 'starting'}, step {own.ticks:,}")


def _more(runs: Lockstep, name: str, attempt: Attempt) -> None:
    attempt.start, attempt.awaited = attempt.done, True


def _lab(scene: str) -> str:
    """The address of the lab with everything set."""
    return f"{server.base()}/?{urlencode(Scene.parse(scene).query())}"


def answer(runs: Lockstep, name: str, attempt: Attempt) -> None:
    """The guesses again, then what was measured and what it means."""
    lesson = LESSONS[name].make
    right = lesson.answer(attempt.seen) if attempt.seen else OPEN
    lines = []
    for i, option in enumerate(lesson.options):
        marks = [":blue-badge[your guess]"] * (i == attempt.guess) + [":green-badge[measured]"] * (i == right)
        lines.append(f"{'abcdef'[i]}. {option.text} {' '.join(marks)}")
    st.markdown(f"**{question(name)}**")
    st.markdown("  \n".join(lines))
    if attempt.awaited:
        _watch(runs, name, attempt)
    elif right is not OPEN:
        held = "Your guess holds." if right == attempt.guess else "Another answer was measured; here is why."
        st.markdown(f"**{held}**")
    if not attempt.seen:
        return
    if right is OPEN:
        st.warning(
            f"Not settled with these {attempt.done} seeds: the 95 % intervals bear out none of the guesses."
        )
    st.markdown(told(name, "answer", attempt.seen))
    if attempt.aside:
        about = f"{lesson.shows}, as just measured."
        pictures([Panel(name, lesson.shows, about, attempt.aside, height=ASIDE)], "aside")
    with st.container(horizontal=True):
        st.button(f"{MORE} more seeds", on_click=_more, args=(runs, name, attempt), disabled=attempt.awaited)
        names = list(LESSONS)
        after = names[(names.index(name) + 1) % len(names)]
        st.button(f"Next: {LESSONS[after].label}", on_click=_open, args=(after,), type="primary")
    st.info(told(name, "misconception", attempt.seen))
    st.markdown(told(name, "exactly", attempt.seen))
    st.markdown(f"**One thing to change.** {told(name, 'change one thing', attempt.seen)}")
    with st.container(horizontal=True):
        st.link_button("Change it in the lab", _lab(lesson.change))
        st.link_button("This run in the lab", _lab(lesson.scene))
    with st.expander(f"All numbers, {attempt.done} seeds", expanded=right is OPEN):
        cells = lesson.cells(attempt.seen)
        rows = [
            f"| {q.about} | {q.say(cells[key].effect)} | {interval(cells[key], q.unit)} |"
            for key, q in lesson.quantities.items()
        ]
        st.markdown("\n".join(["| measured | mean | 95 % interval |", "|---|---|---|", *rows]))
        steps = max(e.steps for e in lesson.experiments())
        st.caption(
            f"A lesson of {steps:,} steps shows; claims {', '.join(lesson.claims)} decide, with runs and "
            "learning rates of their own."
        )
