"""Claims on a page: a list to filter; each row has its chart, its rule, its code and a run of its own."""

import html
import inspect
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import streamlit as st

from lnres.boards import Panel
from lnres.claims import CLAIMS, EXPERIMENTS, results
from lnres.claims.claim import SOURCES, TOPICS, Claim, Unit
from lnres.claims.judge import NOT_SETTLED, VERDICTS, Cell
from lnres.figures.cells import dots, height
from lnres.ui.board import pictures
from lnres.ui.controls import literal
from lnres.ui.part import part
from lnres.ui.session import study

NOT_RUN = "not run yet"
COLOURS = {
    "supported": "green", "refuted": "red", "depends": "orange", "no effect": "gray", "not settled": "blue",
    "exact": "violet", "fact": "gray", "not testable here": "gray", NOT_RUN: "gray",
}  # fmt: skip
FRESH = 200
"""Seeds of the first run on this page; every further one starts a hundred higher."""
OWN = re.compile(r"(?P<claim>\w+)-(?P<first>\d{1,6})")
"""What an address says of the visitor's own run: the claim, and its first seed."""
OPPOSED = "Sentences that cannot both be right, or that one article holds against another."
NONE = "No sentence is of this kind: choose fewer filters."
MANY = 1000
"""Seeds beyond which it does not matter how many more it would take."""

STYLE = """<style>
.cells { width: 100%; font-size: 0.85rem }
.cells td, .cells th { padding: 0.15rem 0.6rem 0.15rem 0; text-align: left }
.st-key-claims-verdict [role=toolbar] { flex-wrap: wrap }
@media (max-width: 640px) {
  .st-key-claims-verdict { display: none }
}
</style>"""


def verdict(name: str) -> str:
    """The committed verdict of a claim."""
    row = results.committed().get(name)
    return row["verdict"] if row else NOT_RUN


def badge(said: str) -> str:
    """A verdict in its colour."""
    return f":{COLOURS[said]}-badge[{said}]"


def filters() -> list[str]:
    """The controls above the list, and the claims that pass."""
    counts = Counter(map(verdict, CLAIMS))
    there = [said for said in (*VERDICTS, NOT_RUN) if counts[said]]
    said = st.pills(
        "Verdict", there, selection_mode="multi", format_func=lambda v: f"{v} {counts[v]}",
        label_visibility="collapsed", key="claims-verdict",
    )  # fmt: skip
    with st.container(horizontal=True):
        topic = st.selectbox(
            "About", ["", *TOPICS], format_func=lambda t: TOPICS.get(t, "about everything"),
            label_visibility="collapsed", key="claims-topic",
        )  # fmt: skip
        source = st.selectbox(
            "Said by", ["", *SOURCES], format_func=lambda s: SOURCES.get(s, "said by any article"),
            label_visibility="collapsed", key="claims-source",
        )  # fmt: skip
    return [
        name
        for name in sorted(CLAIMS)
        if (not said or verdict(name) in said)
        and (not topic or CLAIMS[name].make.topic == topic)
        and (not source or source in CLAIMS[name].make.sources)
    ]


def pairs() -> list[tuple[str, str]]:
    """Claims that stand against each other, each pair once."""
    return sorted({tuple(sorted((name, other))) for name in CLAIMS for other in CLAIMS[name].make.against})


def choose(name: str) -> None:
    """Open a row; the address says which."""
    st.query_params["claim"] = name


def listed(names: Iterable[str]) -> list[dict]:
    """Sentences and verdicts as the list shows them."""
    rows = ((name, CLAIMS[name].make.sentence, verdict(name)) for name in names)
    return [
        {"id": name, "sentence": said, "verdict": word, "colour": COLOURS[word]} for name, said, word in rows
    ]


def browser() -> None:
    """The list of sentences, and beside it the one that is open."""
    st.html(STYLE)
    recall()
    left, right = st.columns([5, 7], gap="medium")
    with left:
        view = st.segmented_control(
            "Show", ["all", "contradictions"], default="all", required=True, key="claims-view",
            label_visibility="collapsed", width="stretch",
        )  # fmt: skip
        groups, note = ([filters()], "") if view == "all" else (pairs(), OPPOSED)
        names = [name for group in groups for name in group]
        asked = st.query_params.get("claim") or st.session_state.get("claims-open")
        charted = (name for name in names if results.committed().get(name, {}).get("cells"))
        opened = asked if asked in CLAIMS else next(charted, next(iter(names), ""))
        data = {
            "groups": [listed(group) for group in groups],
            "chosen": opened,
            "note": note if names else NONE,
        }
        part("claims", "claims-list", data, claim=lambda: choose(st.session_state["claims-list"].claim))
    st.session_state["claims-open"] = opened  # for when the page is left and opened again
    with right:
        if opened:
            detail(CLAIMS[opened].make)


def detail(claim: Claim) -> None:
    """Who says it, what is known, the rule, the chart, the code, and the button that runs it again."""
    told = results.committed().get(claim.id)
    st.markdown(f"#### {literal(claim.sentence)}")
    if told and told["cells"]:
        shown(claim, told, "claims-chart")
    elif claim.runs:
        st.info("Not run yet: no verdict is given before the experiment has been made.")
    else:
        st.markdown(f"{badge(told['verdict'])} &nbsp; {literal(claim.settled)}")
    who = ", ".join(f"“{SOURCES[source]}”" for source in claim.sources)
    st.markdown(
        f"**The rule.** {literal(claim.said)}  \n**What is known.** {literal(claim.known)}  \n"
        f"**Said by** {literal(who)}."
    )
    if claim.revised:
        st.caption(literal(f"Rule version {claim.version}. {claim.revised}"))
    if claim.against:
        with st.container(horizontal=True):
            st.markdown("**Against it:**")
            for other in claim.against:
                st.button(
                    f"{other} {badge(verdict(other))}", key=f"against-{claim.id}-{other}", type="tertiary",
                    help=CLAIMS[other].make.sentence, on_click=choose, args=(other,),
                )  # fmt: skip
    if claim.runs:
        again(claim)
        with st.expander("The experiment: settings, learning rates, code"):
            for name in claim.experiments:
                settings(name)
                st.code(inspect.getsource(inspect.unwrap(EXPERIMENTS[name].make)))


def settings(name: str) -> None:
    """What an experiment does, the learning rate that each of its arms chose, and other notes."""
    row, kept = EXPERIMENTS[name], results.load(name, results.folder_of(results.COMMITTED))
    st.markdown(f"**{name} · {literal(row.label)}.** {literal(row.about)}")
    if kept and kept["told"]:
        st.caption("; ".join(literal(f"{arm}: {said}") for arm, said in kept["told"].items()))


def wanted(claim: Claim, cell: Cell) -> str:
    """About how many seeds would decide an open cell, if its mean stays; nothing for any other."""
    criterion = claim.criteria.get(cell.name)
    if not criterion or criterion.word(cell) != NOT_SETTLED or not math.isfinite(cell.effect):
        return ""
    seeds = cell.seeds_wanted(criterion.room(cell))
    return f": about {seeds:,} seeds" if seeds <= MANY else f": over {MANY:,} seeds"


def spanned(seeds: list[int]) -> str:
    """From which seed to which."""
    return f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"


def cost(seconds: Iterable[float]) -> str:
    """How long experiments kept a core busy."""
    spent = sum(seconds)
    return f"{spent:.2g} s of one core" if spent < 100 else f"{spent / 60:.0f} minutes of one core"


def each(seeds: list[int], values: int) -> list[str]:
    """What every single value of a cell is of: a seed, or a repeat where one seed has made them all."""
    if len(seeds) < values:
        return [f"repeat {i}" for i in range(1, values + 1)]
    return [f"seed {seed}" for seed in seeds[:values]]


def chart(claim: Claim, unit: Unit, cells: list[Mapping]) -> Panel:
    """The cells that are told in one unit."""
    said = "; ".join(f"{c['name']} {unit.say(c['effect'])} {c.get('word', '')}".strip() for c in cells)
    kind = cells[0]["each"][0].split()[0]
    return Panel(
        f"{claim.id} {unit.axis}", f"Every {kind}", f"{claim.sentence} {said}.",
        dots(cells, unit.axis, unit.form), wide=2, height=height(cells),
    )  # fmt: skip


def shown(claim: Claim, row: Mapping, key: str) -> None:
    """A verdict's chart: every seed a dot; below it the numbers."""
    seeds = row["seeds"]
    units = claim.units
    cells = [
        c | {key: results.number(c[key]) for key in ("effect", "low", "high")}
        | {"values": [results.number(v) for v in c["values"]], "each": each(seeds, c["n"]),
           "lines": claim.criteria[c["name"]].lines if c["name"] in claim.criteria else (),
           "wanted": wanted(claim, cell)}
        for c, cell in zip(row["cells"], results.cells_of(row), strict=True)
    ]  # fmt: skip
    st.markdown(
        f"{badge(row['verdict'])} &nbsp; {VERDICTS[row['verdict']]} &nbsp; "
        f":gray[{spanned(seeds)}, rule version {row['rule_version']}, {cost(row['experiments'].values())}, "
        f"{row['date']}, torch {literal(row['versions']['torch'])}]"
    )
    told_in = {unit: [c for c in cells if units[c["name"]] is unit] for unit in units.values()}
    panels = [chart(claim, unit, there) for unit, there in told_in.items() if any(c["n"] > 1 for c in there)]
    if panels:
        pictures(panels, key)
        st.caption(
            "Small dots are single values, thick lines 95 % intervals, dotted marks what the rule asks for. "
            "LN is LayerNorm, BN BatchNorm, none a network without a norm; pt is a percentage point."
        )
    with st.expander("The numbers", expanded=all(cell["n"] == 1 for cell in cells)):
        st.html(table(cells, units))


def table(cells: Iterable[Mapping], units: Mapping) -> str:
    """Every cell with its mean, interval, number of seeds and word."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in (
            c["name"], units[c["name"]].say(c["effect"]),
            " to ".join(units[c["name"]].say(c[end]) for end in ("low", "high")) if c["n"] > 1 else "exact",
            str(c["n"]), c.get("word", "shown beside") + c["wanted"],
        )) + "</tr>" for c in cells
    )  # fmt: skip
    head = "".join(f"<th>{name}</th>" for name in ("", "mean", "95 % interval", "n", ""))
    return f"<table class=cells><tr>{head}</tr>{rows}</table>"


@st.fragment(run_every=0.4)
def running(claim: Claim) -> None:
    """How far the visitor's own run is; the page is drawn again once it is done."""
    own = study("claims")
    own.look()
    if not own.running:
        st.rerun()
    about = f" of about {own.total:,}" if own.total else ""
    st.progress(own.share, f"{own.said or 'starting'} · step {own.before + own.ticks:,}{about}")
    st.button("Stop", key=f"stop-{claim.id}", on_click=stop)


def again(claim: Claim) -> None:
    """Run the experiments of a claim here, with fresh seeds; its verdict then stands below the first."""
    own = study("claims")
    mine = st.session_state.get("claims-own") == claim.id and own.names
    if mine and own.running:
        running(claim)
        return
    if mine and own.notice:
        st.warning(literal(own.notice))
    elif mine:
        st.markdown(f"**Run again, here and now, with seeds from {own.first} on:**")
        found = results.row_of(claim, [own.results[name] for name in claim.experiments])
        shown(claim, found, "claims-own-chart")
    elif own.running:
        other = st.session_state["claims-own"]
        st.caption(f"{other} is being run again: a run of this one would take its place.")
    st.button(
        "Run it again" if claim.id in results.committed() else "Run it", key=f"again-{claim.id}",
        icon=":material/replay:", on_click=start, args=(claim,),
        help="With fresh seeds, in the background; how far it is will be shown.",
    )  # fmt: skip


def start(claim: Claim) -> None:
    """Begin the visitor's own run, once however often the button is pressed."""
    own = study("claims")
    if not own.running or st.session_state["claims-own"] != claim.id:
        begin(claim, st.session_state.get("claims-next", FRESH))


def begin(claim: Claim, first: int) -> None:
    """Run a claim with seeds from ``first`` on."""
    st.session_state["claims-own"], st.session_state["claims-next"] = claim.id, first + 100
    study("claims").begin(claim.experiments, first)


def stop() -> None:
    """Leave the visitor's own run."""
    study("claims").stop()
    st.query_params.pop("own", None)


def recall() -> None:
    """The address says the visitor's own run, so that it is found again after a reload."""
    own, asked = study("claims"), OWN.fullmatch(st.query_params.get("own", ""))
    if own.names and "claims-own" in st.session_state:
        st.query_params["own"] = f"{st.session_state['claims-own']}-{own.first}"
    elif asked and asked["claim"] in CLAIMS and CLAIMS[asked["claim"]].make.runs:
        begin(CLAIMS[asked["claim"]].make, int(asked["first"]))
