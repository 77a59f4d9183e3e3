"""Leave with what was seen, and bring what is one's own."""

import io
from collections.abc import Callable, Sequence
from urllib.parse import urlencode

import segno
import streamlit as st

from lnres.data import DATA
from lnres.engine.lockstep import Lockstep, Seen
from lnres.export import FORMATS
from lnres.export.tables import from_json
from lnres.record import Record
from lnres.registry import Registry
from lnres.scene import LETTERS, MOST
from lnres.tables import read_csv
from lnres.ui.controls import literal, show, spoken

MOST_MIB = 64  # of an uploaded file
ENDINGS = {"script": "py", "json": "json", "csv": "csv", "html": "html"}


def take(lockstep: Lockstep) -> None:
    """A button that opens the link, its QR code and everything that can be downloaded."""
    page = st.popover("Take it along", width="stretch", key="take", on_change="rerun")
    if not page.open:
        return
    runs = lockstep.runs
    with page:
        link = f"{st.context.url}?{urlencode(spoken(lockstep), safe='~')}"
        st.caption("This address trains the same again, and shows the same.")
        st.code(link, None, wrap_lines=True)
        st.image(qr(link), width=180)
        st.caption("Of all configurations")
        for name in FORMATS:
            if name != "script":
                _download(FORMATS[name].label, f"lnres.{ENDINGS[name]}", FORMATS[name].make, runs, lockstep)
        for letter, run in zip(LETTERS, runs, strict=False):
            st.caption(f"Of {letter}: {literal(run.name)}")
            _download(FORMATS["script"].label, f"lnres-{letter}.py", FORMATS["script"].make, [run], lockstep)
            _download("record (safetensors)", f"lnres-{letter}.safetensors", _whole, [run], lockstep)


def qr(link: str) -> str:
    """The link as an SVG picture for phones."""
    picture = io.BytesIO()
    segno.make(link, error="l", micro=False).save(picture, kind="svg", xmldecl=False, border=2, light="#fff")
    return picture.getvalue().decode()


def _whole(records: Sequence[Record]) -> bytes:
    """The only record as a file."""
    (record,) = records
    return record.tobytes()


def _download(label: str, file: str, make: Callable, runs: Sequence[Seen], lockstep: Lockstep) -> None:
    """A file that is made of the records of runs when somebody wants it."""

    def made() -> str | bytes:
        with lockstep.lock:  # a row must be whole; whoever else watches must not wait for the file
            records = [run.record.snapshot() for run in runs]
        return make(records)

    st.download_button(label, made, file, on_click="ignore", width="stretch", key=f"take/{file}")


READERS = Registry("file")


def _made(make: Callable, name: str, *args):
    """What is made of a file; what is wrong with it is said under its name."""
    try:
        return make(*args)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


@READERS.add("csv", "table of features and a label column")
def _csv(raw: list[tuple[str, bytes]], lockstep: Lockstep) -> None:
    """Data: all configurations train on it."""
    file, content = raw[-1]
    name = lockstep.bring(_made(read_csv, file, content, st.session_state.get("label", "")))
    there = DATA[name].make.train
    chosen = st.session_state.scene.experiments
    show([e.replace(data=name, view="auto", batch=min(e.batch, there), changes="") for e in chosen])


@READERS.add("json", "configurations")
def _json(raw: list[tuple[str, bytes]], lockstep: Lockstep) -> None:
    """What to train."""
    file, content = raw[-1]
    scene, complaints = _made(from_json, file, content)
    show(scene.experiments)
    if complaints:
        said = " ".join([*complaints, "The default stands in for what could not be used."])
        raise ValueError(f"{file}: {said}")


@READERS.add("safetensors", "records, up to four together")
def _records(raw: list[tuple[str, bytes]], lockstep: Lockstep) -> None:
    """What was recorded elsewhere, shown at its end; play goes on from there."""
    if len(raw) > MOST:
        raise ValueError(f"here are {len(raw)} records; up to {MOST} can be compared")
    lockstep.load([_made(Record.parse, *file) for file in raw])
    show([run.now for run in lockstep.runs])


def bring(lockstep: Lockstep) -> None:
    """A button that takes a table, configurations or a record."""
    page = st.popover("Bring your own", width="stretch", key="bring", on_change="rerun")
    if not page.open:
        return
    with page:
        st.markdown(
            "\n".join(f"- **.{name}**, {READERS[name].label}. {READERS[name].about}" for name in READERS)
        )
        st.text_input("label column of a table", key="label", placeholder="the last one")
        st.file_uploader(
            "Files", list(READERS), accept_multiple_files=True, key="brought", max_upload_size=MOST_MIB,
            on_change=_read, args=(lockstep,), label_visibility="collapsed",
        )  # fmt: skip
        if told := st.session_state.pop("refused", ""):
            st.warning(literal(told))


def _read(lockstep: Lockstep) -> None:
    files = st.session_state.get("brought")
    if not files:
        return
    ending = files[-1].name.rpartition(".")[2].lower()
    raw = [(file.name, file.getvalue()) for file in files if file.name.lower().endswith(ending)]
    try:
        READERS[ending].make(raw, lockstep)
    except ValueError as error:
        st.session_state.refused = f"{error}"
