"""A comparison as one HTML page with working charts that needs no network and no server."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lnres.experiment import FIELDS, Experiment
from lnres.export.tables import experiment_of
from lnres.fields import text
from lnres.figures import FIGURES, THEMES, Config, fill
from lnres.record import CLOCKS, Record
from lnres.scene import LETTERS, Scene
from lnres.verdict import sentence

PAGE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report(records: Sequence[Record]) -> str:
    """HTML of one to four records: what differs, a sentence on each, every chart, and the link."""
    scene = Scene([experiment_of(record) for record in records])
    first, *others = scene.experiments
    configs = [
        Config.of(i, e.label([other for other in scene.experiments if other != e]), e)
        for i, e in enumerate(scene.experiments)
    ]
    specs = {name: FIGURES[name].make(configs) for name in FIGURES}
    specs = {
        name: spec
        for name, spec in specs.items()
        if spec.get("applies", True) and any(n in r for n in _arrays(spec) for r in records)
    }
    figures = {name: _filled(spec, records) for name, spec in specs.items()}
    shared = f"Shared: {', '.join(scene.shared())}." if others and scene.shared() else ""
    differ = f"Different: {', '.join(scene.differences())}." if first.differing(*others) else ""
    steps = max(record.last_step for record in records) + 1
    return PAGE.get_template("report.html.jinja").render(
        title=" · ".join(f"{c.letter} {c.label}" for c in configs),
        about=f"{steps:,} steps. {shared} {differ}",
        runs=[
            {"config": c, "origin": scene.origin(c.index), "sentence": sentence(r)}
            for c, r in zip(configs, records, strict=True)
        ],
        specs=specs,
        labels={name: FIGURES[name].label for name in specs},
        settings=list(_settings(scene.experiments)),
        events=[
            (letter, event["text"]) for letter, r in zip(LETTERS, records, strict=False) for event in r.events
        ],
        link="&".join(f"{name}={value}" for name, value in scene.query().items()),
        themes=THEMES,
        plotly=Markup(get_plotlyjs()),
        figures=_embedded(figures),
        templates=_embedded({name: theme["template"] for name, theme in THEMES.items()}),
    )


def _embedded(value) -> Markup:
    """JSON that may stand in a script of a page: nothing in it can end the script."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _filled(spec: dict, records: Sequence[Record]) -> dict:
    """The data of a figure, and its layout in each theme."""
    drawn = {name: json.loads(fill(spec, records, theme=name).to_json()) for name in THEMES}
    layouts = {name: {k: v for k, v in d["layout"].items() if k != "template"} for name, d in drawn.items()}
    return {"data": drawn["light"]["data"], "layouts": layouts}


def _arrays(node) -> Iterator[str]:
    """The arrays that a spec refers to, clocks aside."""
    if isinstance(node, dict):
        if node.get("ref") and node["ref"] not in CLOCKS:
            yield node["ref"]
        node = node.values()
    if not isinstance(node, str) and hasattr(node, "__iter__"):
        for inner in node:
            yield from _arrays(inner)


def _settings(experiments: Sequence[Experiment]) -> Iterator[tuple[str, list[str]]]:
    """Label and values of every setting: those that differ, those that are no default, and the rest."""
    apart = experiments[0].differing(*experiments[1:])
    changed = {name for e in experiments for name in e.changed()}
    for name in sorted(FIELDS, key=lambda name: (name not in apart, name not in changed)):
        told = FIELDS[name].metadata
        values = [getattr(e, name) for e in experiments]
        yield told["label"], [told["registry"][v].label if "registry" in told else text(v) for v in values]
