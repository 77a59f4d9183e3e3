"""Papers on a page: what they printed beside what was measured, and the row that is open."""

from collections import Counter

import streamlit as st

from lnres.boards import Panel
from lnres.figures.beside import ROW, ratios
from lnres.papers import NOT_RUN, PAPERS, STATUSES, Paper, Point, committed, points_of
from lnres.ui.board import pictures
from lnres.ui.controls import literal

COLOURS = {
    "replicates": "green", "replicates in kind": "violet", "replicates in part": "orange",
    "does not replicate": "red", "not settled": "blue", NOT_RUN: "gray",
}  # fmt: skip
HINDSIGHT = "What counts as the same was written down when this result was already known."


def status(name: str) -> str:
    """The committed status of a row."""
    row = committed().get(name)
    return row["status"] if row else NOT_RUN


def chart() -> None:
    """All numbers in one chart."""
    rows = [
        vars(point)
        | {"paper": PAPERS[name].make.paper, "tolerance": PAPERS[name].make.tolerance}
        | {"near": not PAPERS[name].make.status([point]).startswith("does not")}
        for name in PAPERS
        if name in committed()
        for point in points_of(committed()[name])
        if point.published is not None
    ]
    inside = sum(row["near"] for row in rows)
    alt = f"{len(rows)} numbers over what was printed; {inside} lie within their tolerance."
    panel = Panel("papers", "All numbers", alt, ratios(rows), height=84 + ROW * len(rows))
    pictures([panel], "papers-chart")
    st.caption(
        "What was printed, or follows from what was printed, is 1. Grey bars are tolerances, lines 95 % "
        "intervals over networks; a cross lies outside."
    )


def said(paper: Paper, point: Point) -> str:
    """A number in words."""
    unit = paper.units.get(point.name)
    say = unit.say if unit else "{:.4g}".format
    printed = "" if point.published is None else f" (printed {say(point.published)})"
    spread = f", {say(point.low)} to {say(point.high)}, n = {point.n}" if point.n > 1 else ""
    return f":small[{literal(point.name)}: **{say(point.measured)}**{printed}{spread}]"


def rows() -> None:
    """Every paper: what it printed on the left, what was measured on the right."""
    st.html("<style>.st-key-papers-status [role=toolbar] { flex-wrap: wrap }</style>")
    counts = Counter(map(status, PAPERS))
    there = [word for word in STATUSES if counts[word]]
    chosen = st.pills(
        "Status", there, selection_mode="multi", format_func=lambda word: f"{word} {counts[word]}",
        label_visibility="collapsed", key="papers-status",
    )  # fmt: skip
    for word in chosen:
        st.caption(f"**{word}**: {STATUSES[word]}")
    for name in PAPERS:
        word, paper, row = status(name), PAPERS[name].make, committed().get(name)
        if chosen and word not in chosen:
            continue
        with st.container(border=True, gap="xxsmall"):
            printed, measured = st.columns(2)
            badge = f":{COLOURS[word]}-badge[{word}]"
            printed.markdown(f"**{literal(paper.paper)}** &nbsp; {badge}  \n{literal(paper.published)}")
            room = f", tolerance {paper.tolerance:.0%}" if paper.tolerance else ""
            lines = [f":gray[:small[{literal(paper.measured + room)}]]"]
            if paper.claim:
                lines.append(f"Claim {paper.claim}: **{row['verdict'] or NOT_RUN}**")
            elif row:
                lines += [said(paper, point) for point in points_of(row)]
            if paper.hindsight:
                lines.append(f":gray[:small[{HINDSIGHT}]]")
            measured.markdown("  \n".join(lines))
