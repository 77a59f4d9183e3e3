"""Normalization by hand: a small real batch, one norm, and the whole calculation of any of its numbers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from lnres.boards import formula as f
from lnres.boards.base import BOARDS, Answer, Board, Cells, Index, Panel, Pick, Slider, Toggle
from lnres.data import shipped
from lnres.figures import COLOURS
from lnres.norms import NORMS
from lnres.slices import SLICED, Walk, alone, moved, walk

STEPS = 6
ROW = 226
"""Pixels: on a laptop the batch, its calculation and two pictures of it stand above the fold."""
MOST = 8  # examples
VECTOR = [18, 19, 20, 21, 42, 43, 44, 45]  # pixels in which digits differ: four above, four below the middle
TOKENS = [[8 * row + column for column in (2, 3, 4, 5)] for row in (2, 3, 4, 5)]


@lru_cache(1)
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The first hundred digits of the data as vectors, and which they are."""
    values = np.loadtxt(shipped("digits.csv.gz"), delimiter=",", max_rows=100)
    return values[:, :-1], values[:, -1].astype(int)


def batch(kind: str, examples: int, start: int = 0) -> np.ndarray:
    """Pixels of real digits: (B, 8), or (B, 4, 4) where rows of the picture are positions."""
    x = digits()[0][start : start + examples]
    return x[:, VECTOR] if kind == "vectors" else x[:, TOKENS]


@lru_cache
def pulls(kind: str) -> np.ndarray:
    """A gradient to come back, dL/dy, in tenths so that it can be followed by hand."""
    rng = np.random.default_rng(3)
    return rng.integers(-15, 16, batch(kind, MOST).shape) / 10


@lru_cache
def remembered(kind: str, seen: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The running statistics of BatchNorm after so many batches of other digits."""
    norm = alone("batch", batch(kind, 1).shape[-1])
    for k in range(seen):
        norm(torch.from_numpy(batch(kind, 6, 8 + k % 80))[None])
    return norm.running_mean, norm.running_var


FIELDS = (
    Pick("norm", "Norm", "layer", {name: NORMS[name].label for name in SLICED}),
    Pick(
        "batch", "Batch", "vectors",
        {"vectors": "digits × 8 pixels", "positions": "digits × 4 positions × 4 channels"},
        about="positions: as a convnet or a transformer sees them, here rows of the picture",
    ),
    Pick("way", "Way", "forward", {"forward": "forward, x to y", "backward": "backward, dL/dy to dL/dx"}),
    Slider("step", "Step", STEPS, 1, STEPS, 1, play=1500, about="the calculation in slow motion"),
    Pick("groups", "Groups", "2", {k: k for k in "124"}, about="of features, for GroupNorm"),
    Toggle("evaluation", "Evaluation", False, about="use the running statistics, as after training"),
    Slider("seen", "Batches seen", 20, 0, 100, 1, about="batches that the running statistics remember"),
    Slider("examples", "Examples", 6, 1, MOST, 1, panel="batch", about="at most 4 with positions"),
    Pick(
        "line", "Change", "row", {"row": "its row", "column": "its column"}, panel="batch",
        about="what offset and scale act on: the row or the column of the number chosen",
    ),
    Slider("offset", "Offset", 0.0, -50.0, 50.0, 0.5, panel="batch"),
    Slider("scale", "Scale", 1.0, 0.01, 100.0, log=True, panel="batch"),
    Slider("eps", "ε", 1e-5, 1e-8, 10.0, log=True, panel="hand"),
    Slider("gamma", "γ", 1.0, -3.0, 3.0, 0.1, panel="hand"),
    Slider("beta", "β", 0.0, -3.0, 3.0, 0.1, panel="hand"),
    Slider("by", "Move by", 8.0, -20.0, 20.0, 0.5, panel="movers"),
    Index("cell", "Number chosen", (2, 3), (4 * MOST, 8)),
    Cells("edits", "Numbers written", (), (4 * MOST, 8), -1000.0, 1000.0),
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What the values of the controls make of the batch."""

    values: dict[str, Any]
    kind: str
    norm: Any
    x: np.ndarray
    told: Walk
    cell: tuple[int, ...]
    """Where the number chosen stands in x."""

    @classmethod
    def of(cls, v: dict[str, Any]) -> "Scene":
        """The batch with everything a hand did to it, and its norm."""
        kind = "positions" if NORMS[v["norm"]].make.over == "p" else v["batch"]
        examples = v["examples"] if kind == "vectors" else min(v["examples"], 4)
        x = batch(kind, examples)
        rows = x.reshape(-1, x.shape[-1])  # a copy of the pixels: to be written into
        for i, j, value in v["edits"]:
            if i < len(rows) and j < rows.shape[1]:
                rows[i, j] = value
        cell = min(v["cell"][0], len(rows) - 1), min(v["cell"][1], rows.shape[1] - 1)
        line = (cell[0], slice(None)) if v["line"] == "row" else (slice(None), cell[1])
        rows[line] = rows[line] * v["scale"] + v["offset"]
        x = rows.reshape(x.shape)
        settings = {name: v[name] for name in ("eps", "gamma", "beta")} | {"groups": int(v["groups"])}
        norm = alone(v["norm"], x.shape[-1], **settings)
        if v["norm"] == "batch":
            # Copies: a training batch changes them.
            norm.running_mean, norm.running_var = (part.clone() for part in remembered(kind, v["seen"]))
        norm.weights.training = not v["evaluation"]
        place = np.unravel_index(cell[0], x.shape[:-1])
        return cls(v, kind, norm, x, walk(norm, x, pulls(kind)[:examples]), (*map(int, place), cell[1]))

    @property
    def here(self) -> np.ndarray:
        """Which numbers share a mean and a variance with the one chosen."""
        return self.told.slices == self.told.slices[self.cell]

    @property
    def example(self) -> str:
        """The digit of the number chosen."""
        return f"digit {digits()[1][self.cell[0]]}"

    def table(self, values: np.ndarray, **more) -> dict:
        """A tensor as rows and columns, tinted by slices."""
        flat = values.reshape(-1, values.shape[-1])
        named = digits()[1][: len(values)]
        positions = self.x.shape[1] if self.kind == "positions" else 1
        rows = [
            f"digit {label}" if position == 0 else f"pos. {position + 1}"
            for label in named
            for position in range(positions)
        ]
        chosen = np.ravel_multi_index(self.cell[:-1], self.x.shape[:-1])
        feature = "px" if self.kind == "vectors" else "ch."
        return {
            "values": flat, "rows": rows, "hues": self.told.slices.reshape(flat.shape),
            "columns": [f"{feature} {j + 1}" for j in range(flat.shape[1])],
            "breaks": [i for i in range(1, len(rows)) if positions > 1 and i % positions == 0],
            "marked": [[int(chosen), self.cell[-1]]],
        } | more  # fmt: skip


def _sum(values: np.ndarray, square: bool = False) -> str:
    return f.total([f.squared(f.bracketed(v)) if square else f.bracketed(v) for v in values])


def forward(scene: Scene) -> list[tuple[str, str, str, np.ndarray]]:
    """The steps from x to y: what is done, the formula with the numbers, and the batch after it."""
    told, cell, norm = scene.told, scene.cell, scene.norm
    n = f.number(int(scene.here.sum()))
    x, mean, centred = told.x[cell], told.mean[cell], told.centred[cell]
    variance, normal = told.variance[cell], told.normal[cell]
    eps, gain, shift = norm.eps, told.gain[cell], told.shift[cell]
    fixed, by_length = norm.remembered is not None, not norm.centres and norm.divisor(torch.ones(())) > 1.5
    if fixed:
        averaged = "remembered from training", f.formula("μ", "=", f.number(mean))
        spread = "remembered too", f.formula(f.squared("σ"), "=", f.number(variance))
    elif norm.centres:
        averaged = "their mean", f.formula("μ", "=", f.over(_sum(told.x[scene.here]), n), "=", f.number(mean))
        spread = (
            "the mean of their squares is the variance",
            f.formula(
                f.squared("σ"), "=", f.over(_sum(told.centred[scene.here], True), n), "=", f.number(variance)
            ),
        )
    else:
        averaged = "no mean is taken", f.formula("μ", "=", f.number(0))
        spread = (
            "the mean of their squares",
            f.formula(
                f.squared("σ"), "=", f.over(_sum(told.x[scene.here], True), n), "=", f.number(variance)
            ),
        )
    divisor = (
        f.row(f.root(n, "·", f.number(variance)))
        if by_length
        else f.root(f.number(variance), "+", f.number(eps))
    )
    named = f.root("n", f.squared("σ")) if by_length else f.root(f.squared("σ"), "+", "ε")
    centre = f.row("x", "−", "μ")
    divided = "over its root" + ("" if by_length else ", which ε keeps from zero")
    scaled = f.formula(
        f.hat("x"), "=", f.over(centre, named), "=", f.over(f.number(centred), divisor), "=", f.number(normal)
    )
    affine = f.formula(
        "y", "=", "γ", f.hat("x"), "+", "β", "=", f.bracketed(gain), "·", f.bracketed(normal), "+",
        f.bracketed(shift), "=", f.number(told.y[cell]),
    )  # fmt: skip
    taken = f.formula(centre, "=", f.number(x), "−", f.bracketed(mean), "=", f.number(centred))
    return [
        (
            "the numbers of one hue share their statistics",
            f.formula("x", "=", f.number(x), ",", "n", "=", n),
            told.x,
        ),
        (*averaged, told.mean),
        ("less the mean", taken, told.centred),
        (*spread, told.variance),
        (divided, scaled, told.normal),
        ("times γ, plus β" if norm.shifts else "times γ; there is no β", affine, told.y),
    ]


def backward(scene: Scene) -> list[tuple[str, str, str, np.ndarray]]:
    """The steps from dL/dy to dL/dx."""
    told, cell, norm = scene.told, scene.cell, scene.norm
    here = scene.here
    n = f.number(int(here.sum()))
    asked, common, along = told.asked[cell], told.common[cell], told.along[cell]
    kept, size = told.kept[cell], told.size[cell]
    fixed = norm.remembered is not None
    loss = f.row("dL", "/", "dy"), f.row("dL", "/", "dx")
    products = told.asked[here] * told.normal[here]
    one = "the statistics are remembered" if fixed else "no mean was taken"
    mean = f"{one}: nothing is taken off", f.formula("m", "=", f.number(0))
    stretch = f"{one}: nothing is taken off", f.formula("s", "=", f.number(0))
    if norm.centres and not fixed:
        mean = (
            "what would move all alike (their mean) is taken off",
            f.formula("m", "=", f.over(_sum(told.asked[here]), n), "=", f.number(common)),
        )
    if not fixed:
        stretch = "and what would only stretch them: the part along x̂", f.formula(
            "s", "=", f.hat("x"), "·", f.over(f.row("∑", "g", f.hat("x")), n), "=",
            f.number(told.normal[cell]), "·", f.bracketed(products.mean()), "=", f.number(along),
        )  # fmt: skip
    through = f.formula(
        "g", "=", "γ", loss[0], "=", f.bracketed(told.gain[cell]), "·", f.bracketed(told.incoming[cell]), "=",
        f.number(asked),
    )  # fmt: skip
    remains = f.formula(
        "r", "=", "g", "−", "m", "−", "s", "=", f.number(asked), "−", f.bracketed(common), "−",
        f.bracketed(along), "=", f.number(kept),
    )  # fmt: skip
    divided = f.formula(loss[1], "=", f.over(f.number(kept), f.number(size)), "=", f.number(told.back[cell]))
    return [
        ("what comes in", f.formula(loss[0], "=", f.number(told.incoming[cell])), told.incoming),
        ("through γ", through, told.asked),
        (*mean, told.common),
        (*stretch, told.along),
        ("what remains", remains, told.kept),
        ("over the same root as before", divided, told.back),
    ]


NAMES = {
    "forward": ("x", "μ", "x − μ", "σ²", "x̂", "y"),
    "backward": (
        "dL/dy", "g = γ dL/dy", "m, the part along 1", "s, the part along x̂", "r, what remains", "dL/dx",
    ),
}  # fmt: skip
WAYS = {"forward": forward, "backward": backward}


def by_hand(scene: Scene) -> tuple[Panel, Panel]:
    """The calculation of the number chosen, and the batch after the step looked at."""
    way, at = scene.values["way"], scene.values["step"]
    lines = WAYS[way](scene)
    when = {True: "board-later", False: ""}
    items = [
        f"<li class='{'board-now' if i == at else when[i > at]}'><span>{said}</span>{math}</li>"
        for i, (said, math, _) in enumerate(lines, 1)
    ]
    told = scene.told
    error = told.forward_error if way == "forward" else told.backward_error
    truth = f"{NORMS[scene.values['norm']].label} itself" if way == "forward" else "autograd"
    close = f"to {error:.0e}" if error else "exactly"
    checked = f"All {told.x.size} numbers agree with {truth} {close}."
    hand = Panel(
        "hand", f"By hand: {scene.example}, column {scene.cell[-1] + 1}",
        f"The calculation of one number in {STEPS} steps, {way}.",
        html=f"<ol class='board-steps'>{''.join(items)}</ol><p class='board-note'>{checked}</p>",
        tall=2, height=ROW,
    )  # fmt: skip
    name = NAMES[way][at - 1]
    after = scene.table(lines[at - 1][2])
    return hand, Panel(
        "after", f"Step {at} of {STEPS}: {name}", f"The batch after step {at}, {name}.",
        table=after, clicks="cell", height=ROW,
    )  # fmt: skip


def movers(scene: Scene) -> Panel:
    """Move one example: who else moves?"""
    by, chosen = scene.values["by"], scene.cell[0]
    change = moved(scene.norm, scene.x, chosen, by)
    labels = [f"digit {d}" for d in digits()[1][: len(change)]]
    others = np.delete(change, chosen)
    count = int((others > 1e-9).sum())
    who = "nobody else moves" if not count else f"{count} of the {len(others)} others move too"
    colours = [COLOURS[0] if i == chosen else COLOURS[1] for i in range(len(change))]
    figure = {
        "data": [{
            "type": "bar", "x": labels, "y": change, "marker": {"color": colours},
            "text": [f"{v:.2g}" if v > 1e-9 else "0" for v in change], "textposition": "outside",
            "cliponaxis": False, "hovertemplate": "%{x}: %{y:.3g}<extra></extra>",
        }],
        "layout": {
            "yaxis": {"title": {"text": "change of y (RMS)"}, "range": [0, max(1e-3, 1.2 * change.max())]},
            "bargap": 0.35, "margin": {"l": 52, "r": 14, "t": 12, "b": 30}, "showlegend": False,
        },
    }  # fmt: skip
    title = f"Move {labels[chosen]} by {by:g}: {who}"
    return Panel(
        "movers",
        title,
        f"How far each output goes when {labels[chosen]} is moved: {who}.",
        figure,
        height=ROW,
    )


def microscope(v: dict[str, Any]) -> Answer:
    """The board's function."""
    scene = Scene.of(v)
    hand, after = by_hand(scene)
    shared = int(scene.here.sum())
    label = NORMS[v["norm"]].label
    x = scene.table(scene.told.x, digits=1)
    first = Panel(
        "batch", "The batch x: write into any cell",
        f"{len(scene.x)} digits as rows of numbers; {shared} of them share one hue.",
        table=x, clicks="cell", edits="edits", tall=2, height=ROW,
    )  # fmt: skip
    idle = [] if NORMS[v["norm"]].make.over.endswith("/g") else ["groups"]
    idle += [] if v["norm"] == "batch" else ["evaluation", "seen"]
    idle += ["batch"] if NORMS[v["norm"]].make.over == "p" else []
    idle += [] if scene.norm.shifts else ["beta"]
    source = "all of them remembered from training" if scene.norm.remembered else "computed from these alone"
    said = f"{label}: the {shared} numbers of one hue share their statistics, {source}. Click a number."
    if shared == 1 and not scene.norm.remembered:
        said = f"{label}: each number is the only one of its hue, which leaves β of it. Click a number."
    return Answer([first, hand, after, movers(scene), code(scene)], idle, said)


@dataclass(frozen=True)
class Lines:
    """The same computation in three libraries; {eps}, {groups} and {n} are filled in, x is (B, [P,] n)."""

    torch: str
    numpy: str
    keras: str
    note: str = ""


MEAN = "mu = x.mean({axis}, keepdims=True)\nvar = x.var({axis}, keepdims=True)\n"
PLAIN = MEAN + "y = gamma * (x - mu) / np.sqrt(var + {eps}) + beta"
CODE = {
    "layer": Lines(
        "nn.LayerNorm({n}, eps={eps})(x)", PLAIN.replace("{axis}", "-1"),
        "layers.LayerNormalization(epsilon={eps})(x)",
        "ε by default: PyTorch 1e-5, Keras 1e-3.",
    ),
    "rms": Lines(
        "nn.RMSNorm({n}, eps={eps})(x)",
        "y = gamma * x / np.sqrt((x**2).mean(-1, keepdims=True) + {eps})",
        "layers.RMSNormalization(epsilon={eps})(x)",
        "ε by default: PyTorch the smallest step of the number format (1.2e-7), Keras 1e-6.",
    ),
    "batch": Lines(
        "nn.BatchNorm1d({n}, eps={eps})({turned}){back}", PLAIN.replace("{axis}", "{others}"),
        "layers.BatchNormalization(epsilon={eps})(x, training=True)",
        "ε by default: PyTorch 1e-5, Keras 1e-3. What PyTorch calls momentum 0.1 is Keras' 0.9; its default "
        "is 0.99.",
    ),
    "group": Lines(
        "nn.GroupNorm({groups}, {n}, eps={eps})({turned}){back}",
        "g = x.reshape(len(x), -1, {groups}, {n} // {groups})\n"
        "mu = g.mean((1, 3), keepdims=True)\nvar = g.var((1, 3), keepdims=True)\n"
        "y = gamma * ((g - mu) / np.sqrt(var + {eps})).reshape(x.shape) + beta",
        "layers.GroupNormalization({groups}, epsilon={eps})(x)",
        "ε by default: PyTorch 1e-5, Keras 1e-3.",
    ),
    "instance": Lines(
        "nn.InstanceNorm1d({n}, eps={eps}, affine=True)({turned}){back}", PLAIN.replace("{axis}", "1"),
        "layers.GroupNormalization(groups=-1, epsilon={eps})(x)",
        "ε by default: PyTorch 1e-5, Keras 1e-3.",
    ),
    "scale": Lines(
        "g * x / x.norm(dim=-1, keepdim=True).clamp_min({eps})",
        "y = g * x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), {eps})",
        "g * x / ops.maximum(ops.norm(x, axis=-1, keepdims=True), {eps})",
        "No library has it; g starts at γ √n.",
    ),
}  # fmt: skip


_NO_STATISTICS = ", ".join(NORMS[name].label for name in NORMS if not NORMS[name].make.over)
_OF_WEIGHTS = ", ".join(NORMS[name].label for name in NORMS if NORMS[name].make.over == "w")
ABSENT = (
    f"Not shown, as every number is on its own there: {_NO_STATISTICS}.",
    f"Nor those of weights, whose statistics are of what leads into a unit: {_OF_WEIGHTS}.",
)
"""Why the other norms are not to be chosen here."""


def lines(name: str, shape: tuple[int, ...], eps: float, groups: int) -> Lines:
    """The lines of a norm for a batch of this shape."""
    tokens = len(shape) == 3
    words = {
        "n": shape[-1], "eps": f"{eps:g}", "groups": groups, "others": "(0, 1)" if tokens else "0",
        "turned": "x.mT" if tokens else "x", "back": ".mT" if tokens else "",
    }  # fmt: skip
    made = CODE[name]
    return Lines(*(text.format(**words) for text in (made.torch, made.numpy, made.keras)), made.note)


def code(scene: Scene) -> Panel:
    """The same in PyTorch, NumPy and Keras."""
    v = scene.values
    told = lines(v["norm"], scene.x.shape, v["eps"], int(v["groups"]))
    blocks = "".join(
        f"<div><b>{library}</b><pre>{text}</pre></div>"
        for library, text in (("PyTorch", told.torch), ("Keras", told.keras), ("NumPy", told.numpy))
    )
    notes = "".join(f"<p class='board-note'>{note}</p>" for note in (told.note, *ABSENT))
    html = f"<div class='board-code'>{blocks}</div>{notes}"
    return Panel(
        "code",
        "The same in PyTorch, Keras and NumPy",
        "Lines of code for this norm.",
        html=html,
        wide=3,
        height=ROW,
    )


BOARDS.put(
    "microscope", "Normalization by hand",
    make=Board(FIELDS, microscope),
    about="A small real batch, one norm, and the whole calculation of any number.",
)  # fmt: skip
