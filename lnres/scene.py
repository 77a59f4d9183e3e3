"""A scene is what is compared: one to four experiments, and the link that says the same."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from lnres.experiment import DIALS, FIELDS, Experiment
from lnres.fields import read_changes, text

LETTERS = "ABCD"
MOST = len(LETTERS)
BETWEEN = "~"  # between the values of a list in a link: browsers escape a comma

SHARED = {
    "the data": {"data", "scaler", "label_noise", "seed", "seeds"},
    "every minibatch": {
        "data", "scaler", "label_noise", "seed", "seeds",
        "batch", "stream", "noise", "contrast", "contrast_spread", "brightness", "shift",
    },
    "the initial weights wherever shapes agree": {"seed", "seeds", "init", "gain", "activation"},
}  # fmt: skip
"""What configurations share as long as none of these fields differs."""

CONTRASTS = {
    "norm": (), "placement": (), "residual": (), "depth": (2, 1 / 2, 4), "lr": (3, 1 / 3),
    "batch": (1 / 8, 8), "init": (), "optimizer": (), "activation": (), "width": (2, 1 / 2, 4),
    "model": (), "data": (),
}  # fmt: skip
"""Fields that may be the one thing in which configurations differ; by which factors, if they are numbers."""
IDLE = {"placement": ("norm", "none")}
"""Fields that change nothing where another has this value."""


@dataclass
class Scene:
    """One to four experiments to compare, and which fields are set one by one."""

    experiments: list[Experiment]
    apart: set[str] = field(default_factory=lambda: set(DIALS))

    @classmethod
    def contrast(cls, e: Experiment, name: str) -> "Scene":
        """An experiment and up to three more that equal it but for one field; alone where none can be."""
        told, value = FIELDS[name].metadata, getattr(e, name)
        if IDLE.get(name) in vars(e).items():
            return cls([e])
        scaled = [float(f"{value * factor:.3g}") for factor in CONTRASTS[name]]
        others = [e]
        for other in told.get("registry") or map(type(value), scaled):
            with suppress(ValueError):  # not everything goes together, or can be afforded
                others.append(e.replace(**{name: other}).affordable())
        different = list(dict.fromkeys(others))[:MOST]
        return cls(different, set(DIALS) | {name})

    @classmethod
    def parse(cls, link: str) -> "Scene":
        """From an address or its query alone; ``ValueError`` says in one sentence what is wrong."""
        scene, complaints = cls.read(dict(parse_qsl(link.rpartition("?")[2], keep_blank_values=True)))
        if complaints:
            raise ValueError(complaints[0])
        return scene

    @classmethod
    def read(cls, query: Mapping[str, str]) -> tuple["Scene", list[str]]:
        """From an address; a list such as ``norm=none~layer`` gives each configuration its own value."""
        lists = {name: value.replace(",", BETWEEN).split(BETWEEN) for name, value in query.items()}
        complaints = [
            f"{name!r} has {len(values)} values; up to {MOST} configurations can be compared"
            for name, values in lists.items()
            if len(values) > MOST
        ]
        count = min(MOST, max(map(len, lists.values()), default=1))
        experiments = []
        for i in range(count):
            known, wrong = Experiment.read({n: v[min(i, len(v) - 1)] for n, v in lists.items()})
            experiments.append(known)
            complaints += [sentence for sentence in wrong if sentence not in complaints]
        return cls(
            experiments, set(DIALS) | {n for n, v in lists.items() if len(v) > 1 and n in FIELDS}
        ), complaints

    def query(self) -> dict[str, str]:
        """The address of this scene: what is not a default, one value where all agree."""
        rows = {n: [text(getattr(e, n)) for e in self.experiments] for n in FIELDS}
        query = {
            name: values[0] if len(set(values)) == 1 else BETWEEN.join(values)
            for name, values in rows.items()
            if any(value != text(FIELDS[name].default) for value in values)
        }
        if len(self.experiments) > 1 and not any(BETWEEN in value for value in query.values()):
            query["norm"] = BETWEEN.join(rows["norm"])  # nothing differs, but their number must be said
        return query

    def shared(self) -> list[str]:
        """What all configurations have in common, as people say it; empty where it is nothing."""
        first, *others = self.experiments
        apart = set(first.differing(*others))
        same = [name for name, fields in SHARED.items() if not fields & apart]
        return [*same, f"{first.seeds} seeds" if first.seeds > 1 else "1 seed"] if same else []

    def differences(self) -> list[str]:
        """The labels of the fields in which the configurations differ."""
        first, *others = self.experiments
        return [FIELDS[name].metadata["label"] for name in first.differing(*others)]

    def origin(self, i: int) -> str:
        """Where the i-th comes from, as people say it; nothing where it is no fork."""
        parent = self.parent(i)
        return f"fork of {LETTERS[parent[0]]} at step {parent[1]:,}" if parent else ""

    def parent(self, i: int) -> tuple[int, int] | None:
        """(configuration, step) that the i-th is a fork of: the one it shares the longest past with."""

        def past(e: Experiment) -> list[tuple]:
            return list(read_changes(e.changes))

        own, found = past(self.experiments[i]), []
        for k, other in enumerate(self.experiments):
            if k == i or other.replace(changes="") != self.experiments[i].replace(changes=""):
                continue
            apart = set(own) ^ set(past(other))
            step = min((change[0] for change in apart), default=None)
            if step is not None and any(change in apart for change in own if change[0] == step):
                found.append((step, -k))
        return (-max(found)[1], max(found)[0]) if found else None
