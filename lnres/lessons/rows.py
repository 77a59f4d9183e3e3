"""The lessons: what each asks, shows and measures."""

import math

import numpy as np

from lnres.claims.bench import NORMS_COMPARED
from lnres.claims.judge import Cell
from lnres.claims.robust import BEFORE, CONTRASTS
from lnres.data import DATA
from lnres.figures.asides import against, remembered, squares
from lnres.lessons.lesson import LESSONS, MORE, Lesson, Measure, Option, Quantity, Runs, Sketch
from lnres.reading import Reading

# -------------------------------------------------------------------------------------------- measuring


def on_test(run: int, step: int | None = None) -> Measure:
    """Test accuracy of a configuration in its last test, or in that of a step."""
    return lambda runs: Reading(runs[run].record, step).tested("acc_test")


def trained(run: int) -> Measure:
    """Training accuracy of a configuration over its last steps; what has diverged guesses."""
    return lambda runs: np.nan_to_num(runs[run].accuracy, nan=0.1)


def loss(run: int) -> Measure:
    """Training loss of a configuration over its last steps."""
    return lambda runs: runs[run].loss


def online(run: int) -> Measure:
    """Share of the last two thirds of a stream that was answered before it was learnt from."""

    def measure(runs: Runs) -> np.ndarray:
        right = runs[run].curve("acc_online")
        return right[len(right) // 3 :].mean(0)

    return measure


def power(run: int, array: str, start: int = 0, end: int | None = None) -> Measure:
    """By how much the square of an array's numbers grows per block, from one block to another, at init."""

    def measure(runs: Runs) -> np.ndarray:
        sizes = np.log(runs[run].record[array][0].astype(float))[start:end]
        return np.exp(2 * (sizes[-1] - sizes[0]) / (len(sizes) - 1))

    return measure


def towards_input(run: int, start: int = 0, end: int | None = None) -> Measure:
    """By how much the squared gradient grows per block towards the input, at init."""
    forwards = power(run, "grad_norm", start, end)
    return lambda runs: 1 / forwards(runs)


def found(name: str) -> Measure:
    """A value of the lesson's study."""
    return lambda runs: np.asarray(runs.found[name], float)


def over(one: Measure, other: Measure) -> Measure:
    """The ratio of two, seed by seed."""
    return lambda runs: one(runs) / other(runs)


def minus(one: Measure, other: Measure) -> Measure:
    """The difference of two, seed by seed."""
    return lambda runs: one(runs) - other(runs)


# ---------------------------------------------------------------------------------------------- lessons

PLAIN = "residual=none&layers=1&placement=inner&momentum=0&final_norm=false"
INF = math.inf
ALIKE = 0.02
"""Accuracies closer than this count as the same."""


def _score(about: str, measure: Measure) -> Quantity:
    return Quantity(about, "%", measure)


def _gap(about: str, one: Measure, other: Measure) -> Quantity:
    return Quantity(about, "pt", minus(one, other))


CLEAN, UP, DOWN = 500, 600, 700
"""Tests of the lesson on contrast: before it is changed, turned up, turned down."""


THREE = {"none": "A none", "ln": "B LayerNorm", "bn": "C BatchNorm"}


def _lost(run: int) -> Measure:
    return minus(on_test(run, UP), on_test(run, CLEAN))


def turned(runs: Runs) -> dict:
    """Test accuracy at every contrast, from far less to far more than in training."""
    lines = {}
    for name, norm in zip(THREE.values(), NORMS_COMPARED, strict=True):
        cells = [Cell.of(name, runs.found[f"{norm} × {contrast:g}"]) for contrast in CONTRASTS]
        lines[name] = tuple([getattr(cell, end) for cell in cells] for end in ("effect", "low", "high"))
    return against(CONTRASTS, lines, f"contrast of the test digits, after {BEFORE} steps")


def recalled(runs: Runs) -> dict:
    """One unit's means in the last batches of the stream, and the one it remembers."""
    step = [int(at) for at in runs.found["step"]]
    means = (runs.found[name] for name in ("mean of the batch", "remembered mean"))
    return remembered(step, *means, [at // 4 % 10 for at in step])


def owned(runs: Runs, rows: int = 12) -> dict:
    """Some wines as rows: each number's share of its row's power, and the same scaled column by column."""
    x = np.asarray(DATA["wine_km"].make()[0])
    shares, low, high = x**2 / (x**2).sum(1, keepdims=True), x.min(0), x.max(0)
    some = np.linspace(0, len(x) - 1, rows).astype(int)
    own = shares.max(1).min()
    tables = {
        f"along rows: nm has {np.floor(1000 * own) / 10:g} %": shares[some],
        "down columns": ((x - low) / (high - low))[some],
    }
    return squares(tables, ["km", "nm", *[""] * (x.shape[1] - 2)], "wine")


ACCURACY = {"figure": "accuracy", "along": "step", "low": 0.0, "high": 1.0}

LESSONS.put(
    "batch",
    "The batch of two",
    about="BatchNorm where a batch has two examples",
    make=Lesson(
        scene=f"{PLAIN}&norm=batch~layer~batch~layer&depth=4&batch=2~2~64~64&lr=0.02~0.02~0.05~0.05"
        "&steps=2001~2001~401~401&record_every=50",
        panels=("accuracy", "gradients"),
        sketch=Sketch(end=2000, about="test accuracy of BatchNorm, two examples a batch", **ACCURACY),
        options=(
            Option("the same as LayerNorm", {"gap": (-ALIKE, 1)}, (0.1, 0.85, 0.92, 0.95, 0.95)),
            Option("a few points lower", {"gap": (-0.25, -ALIKE)}, (0.1, 0.7, 0.8, 0.84, 0.85)),
            Option("about half of it", {"bn2": (0.3, 0.65)}, (0.1, 0.4, 0.46, 0.48, 0.5)),
            Option("close to guessing", {"bn2": (0, 0.3)}, (0.1, 0.1, 0.1, 0.1, 0.1)),
        ),
        quantities={
            "bn2": _score("A BatchNorm, two examples: test accuracy", on_test(0)),
            "ln2": _score("B LayerNorm, two examples", on_test(1)),
            "bn64": _score("C BatchNorm, many examples", on_test(2)),
            "ln64": _score("D LayerNorm, many examples", on_test(3)),
            "gap": _gap("A − B, seed by seed", on_test(0), on_test(1)),
        },
        claims=("K16", "K17", "K18"),
        change=f"{PLAIN}&norm=batch~batch~batch~batch&depth=4&batch=2~3~4~8&lr=0.02&seeds=4",
    ),
)

LESSONS.put(
    "plain",
    "No cure for depth",
    about="Whether a gradient of the right size is enough to learn",
    make=Lesson(
        scene="norm=none~layer~layer&residual=none~none~identity&placement=inner~inner~pre&layers=1~1~2"
        "&depth=32&width=32&optimizer=adam&lr=0.001&steps=351&record_every=35",
        panels=("accuracy", "cosine"),
        seeds=7,
        sketch=Sketch(end=350, about="accuracy of B", **ACCURACY),
        options=(
            Option("as well as C, with skips", {"short": (-ALIKE, ALIKE)}, (0.1, 0.8, 0.9, 0.95, 0.98)),
            Option("better than A, worse than C", {"gain": (ALIKE, 1), "short": (ALIKE, 1)},
                   (0.1, 0.6, 0.75, 0.85, 0.9)),
            Option("no better than A, which has nothing", {"gain": (-1, ALIKE), "short": (ALIKE, 1)},
                   (0.1, 0.25, 0.45, 0.6, 0.7)),
            Option("its gradient explodes all the same", {"rate": (1.2, INF)}, (0.1, 0.1, 0.1, 0.1, 0.1)),
        ),
        quantities={
            "none": _score("A nothing: training accuracy", trained(0)),
            "ln": _score("B LayerNorm", trained(1)),
            "res": _score("C LayerNorm and skips", trained(2)),
            "gain": _gap("B − A, seed by seed", trained(1), trained(0)),
            "short": _gap("C − B, seed by seed", trained(2), trained(1)),
            "rate": Quantity("B squared gradient per layer towards the input, at the start", "x",
                             towards_input(1, 0, -5)),
            "alike": Quantity("B mean cosine of examples at the top, at the start", ".2f",
                              lambda runs: runs[1].record["cosine"][0, -1]),
        },
        claims=("K21", "K22"),
        change=f"{PLAIN}&norm=layer&depth=4~8~16~32&width=32&optimizer=adam&lr=0.001&steps=401&seeds=4",
    ),
)  # fmt: skip

LESSONS.put(
    "skip",
    "A skip alone",
    about="What a skip does to sizes when nothing keeps them in check",
    make=Lesson(
        scene="norm=none&residual=identity~scaled~identity~scaled&depth=8~8~64~64&width=32&momentum=0"
        "&lr=0.05&steps=401",
        panels=("act_std", "accuracy"),
        at=0,
        sketch=Sketch(
            "act_std", "block", 64, 0.1, 1e11, "root of the power along C", log=True,
            anchor=("act_std", 2, 0),
        ),
        options=(
            Option("it stays as it is", {"rate": (0.9, 1.1)}, (1, 1)),
            Option("every block adds the same again", {"whole": (0.7, 1.4)},
                   tuple(math.sqrt(1 + block) for block in range(65))),
            Option("it doubles every second block", {"rate": (1.3, 1.55)}, (1, 2**16)),
            Option("it doubles in every block", {"rate": (1.75, 2.25)}, (1, 2**32)),
        ),
        quantities={
            "rate": Quantity("C bare skips: power per block", "x", power(2, "act_rms")),
            "whole": Quantity("C power in the end, as a power of L + 1", ".2f",
                              lambda runs: 64 * np.log(power(2, "act_rms")(runs)) / np.log(65)),
            "held": Quantity("D scaled skips: power per block", "x", power(3, "act_rms")),
            "back": Quantity("C squared gradient per block, towards the input", "x",
                             towards_input(2)),
            "bare8": _score("A bare, shallow: test accuracy", on_test(0)),
            "scaled8": _score("B scaled, shallow", on_test(1)),
            "bare64": _score("C bare, deep", on_test(2)),
            "scaled64": _score("D scaled, deep", on_test(3)),
        },
        claims=("K23",),
        change="norm=none~none~layer&residual=identity~rezero~identity&depth=64&width=32&momentum=0&seeds=4",
    ),
)  # fmt: skip

LESSONS.put(
    "place",
    "Before or after the sum",
    about="LayerNorm in the branch or on the sum, at two learning rates",
    make=Lesson(
        scene="norm=layer&placement=pre~post~pre~post&depth=24&optimizer=adam&lr=0.01~0.01~0.001~0.001"
        "&steps=201&record_every=50",
        panels=("loss", "accuracy"),
        seeds=3,
        sketch=Sketch(end=200, about="accuracy of post (B) at the larger learning rate", **ACCURACY),
        options=(
            Option("no difference", {"gap": (-ALIKE, ALIKE)}, (0.1, 0.85, 0.92, 0.95, 0.96)),
            Option("post is slower but ends close", {"gap": (ALIKE, 0.2)}, (0.1, 0.4, 0.65, 0.8, 0.88)),
            Option("post fails, pre trains", {"post": (0, 0.3), "pre": (0.8, 1)}, (0.1, 0.1, 0.1, 0.1, 0.1)),
            Option("pre fails, post trains", {"pre": (0, 0.3), "post": (0.8, 1)},
                   (0.1, 0.87, 0.93, 0.95, 0.96)),
        ),
        quantities={
            "pre": _score("A pre, larger learning rate: test accuracy", on_test(0)),
            "post": _score("B post, larger learning rate", on_test(1)),
            "pre_low": _score("C pre, smaller learning rate", on_test(2)),
            "post_low": _score("D post, smaller learning rate", on_test(3)),
            "gap": _gap("A − B, seed by seed", on_test(0), on_test(1)),
            "gap_low": _gap("C − D, seed by seed", on_test(2), on_test(3)),
        },
        claims=("K31", "K34"),
        change="norm=layer&placement=post~post~post&residual=identity~identity~deepnorm&depth=24"
        "&optimizer=adam&lr=0.01&warmup=0~100~0&steps=301&seeds=4&record_every=20",
    ),
)  # fmt: skip

LESSONS.put(
    "order",
    "One swap",
    about="LayerNorm before or after the ReLU",
    make=Lesson(
        scene=f"{PLAIN.replace('placement=inner', 'placement=inner~activated~inner~activated')}&norm=layer"
        "&depth=4~4~24~24&lr=0.05&steps=401",
        panels=("gradients", "accuracy"),
        at=0,
        seeds=5,
        sketch=Sketch(
            "gradients", "block", 24, 1e-4, 1e4, "gradient along D, relative to the top", log=True,
            anchor=("grad_norm", 3, -1),
        ),
        options=(
            Option("not at all", {"after": (0.85, 1.1)}, (1, 1)),
            Option("by about a tenth", {"after": (1.05, 1.25)}, (1.1**12, 1)),
            Option("by about a half", {"after": (1.3, 1.7)}, (1.5**12, 1)),
            Option("it doubles", {"after": (1.8, 2.2)}, (2**12, 1)),
        ),
        quantities={
            "after": Quantity("D after the ReLU: squared gradient per layer", "x", towards_input(3, 5, -5)),
            "before": Quantity("C before the ReLU: squared gradient per layer", "x", towards_input(2, 5, -5)),
            "a4": _score("A before, few layers: test accuracy", on_test(0)),
            "b4": _score("B after, few layers", on_test(1)),
            "c24": _score("C before, many layers", on_test(2)),
            "d24": _score("D after, many layers", on_test(3)),
            "gap": _gap("C − D, seed by seed", on_test(2), on_test(3)),
        },
        claims=("K35",),
        change=f"{PLAIN.replace('placement=inner', 'placement=inner~activated~inner~activated')}"
        "&norm=rms~rms~layer~layer&depth=24&lr=0.05&steps=401&seeds=4",
    ),
)  # fmt: skip

LESSONS.put(
    "contrast",
    "Turn up the contrast",
    about="Which norm bears inputs that have changed since training",
    make=Lesson(
        scene=f"{PLAIN}&norm=none~layer~batch&scaler=unit&depth=4&lr=0.05&steps=701&shift=test"
        "&changes=501.contrast.5--601.contrast.0.2&record_every=20",
        panels=("accuracy", "loss"),
        seeds=5,
        study="E21 turned",
        aside=turned,
        shows="Test accuracy at every contrast",
        sketch=Sketch(end=DOWN, about="test accuracy of the one that suffers most", **ACCURACY),
        options=(
            Option("A, without a norm", {"none_ln": (-1, -ALIKE), "none_bn": (-1, -ALIKE)},
                   (0.1, 0.9, 0.94, 0.95, 0.96, 0.5, 0.5)),
            Option("B, LayerNorm", {"none_ln": (ALIKE, 1), "ln_bn": (-1, -ALIKE)},
                   (0.1, 0.9, 0.94, 0.95, 0.96, 0.4, 0.4)),
            Option("C, BatchNorm", {"none_bn": (ALIKE, 1), "ln_bn": (ALIKE, 1)},
                   (0.1, 0.9, 0.94, 0.95, 0.96, 0.6, 0.6)),
            Option("all alike", {"none_ln": (-ALIKE, ALIKE), "none_bn": (-ALIKE, ALIKE)},
                   (0.1, 0.9, 0.94, 0.95, 0.96, 0.8, 0.8)),
        ),
        quantities={
            f"{moment}_{norm}": quantity
            for i, (norm, label) in enumerate(THREE.items())
            for moment, quantity in {
                "clean": _score(f"{label}: test accuracy, clean", on_test(i, CLEAN)),
                "up": _gap(f"{label}: what fivefold contrast changes", on_test(i, UP), on_test(i, CLEAN)),
                "down": _gap(f"{label}: what a fifth changes", on_test(i, DOWN), on_test(i, CLEAN)),
            }.items()
        }
        | {
            "none_ln": _gap("A − B at fivefold contrast", _lost(0), _lost(1)),
            "none_bn": _gap("A − C at fivefold contrast", _lost(0), _lost(2)),
            "ln_bn": _gap("B − C at fivefold contrast", _lost(1), _lost(2)),
        },
        claims=("K52",),
        change=f"{PLAIN}&norm=none~layer~batch&scaler=unit&depth=4&lr=0.05&steps=701&shift=both"
        "&contrast_spread=0.7&seeds=4",
    ),
)  # fmt: skip

LESSONS.put(
    "stream",
    "The class-sorted stream",
    about="Norms that meet one class after the other",
    make=Lesson(
        scene=f"{PLAIN}&norm=batch~layer~none~batch&stream=sorted~sorted~sorted~iid&scaler=unit&depth=3"
        "&lr=0.05&batch=8&steps=600&record_every=20",
        panels=("online", "loss"),
        seeds=5,
        study="E23 unit",
        aside=recalled,
        shows="One unit of A: its mean now, and the one it remembers",
        sketch=Sketch("online", "step", 600, 0.0, 1.0, "accuracy of A before learning, lately"),
        options=(
            Option("most often of all", {"gap": (ALIKE, 1)}, (0.1, 0.8, 0.9, 0.95, 0.97)),
            Option("as often as LayerNorm", {"gap": (-ALIKE, ALIKE)}, (0.1, 0.5, 0.7, 0.8, 0.85)),
            Option("somewhat less often", {"gap": (-0.3, -ALIKE)}, (0.1, 0.45, 0.6, 0.65, 0.7)),
            Option("hardly more than by guessing", {"bn": (0, 0.25)}, (0.1, 0.1, 0.1, 0.1, 0.1)),
        ),
        quantities={
            "bn": _score("A BatchNorm, sorted: accuracy before learning", online(0)),
            "ln": _score("B LayerNorm, sorted", online(1)),
            "none": _score("C no norm, sorted", online(2)),
            "shuffled": _score("D BatchNorm, shuffled", online(3)),
            "gap": _gap("A − B, seed by seed", online(0), online(1)),
        },
        claims=("K53",),
        change=f"{PLAIN}&norm=batch&stream=sorted&scaler=unit&depth=3&lr=0.05&batch=8&steps=600"
        "&norm_momentum=0.01~0.1~0.5~1&seeds=4",
    ),
)  # fmt: skip

LESSONS.put(
    "units",
    "Kilometres and nanometres",
    about="Whether a norm in the network replaces scaling the data",
    make=Lesson(
        scene=f"{PLAIN}&data=wine_km&norm=none~layer~batch~none&scaler=none~none~none~minmax&depth=1"
        "&width=32&batch=32&optimizer=adam&lr=0.01&steps=301&record_every=20",
        panels=("accuracy", "loss"),
        seeds=8,
        aside=owned,
        shows="Twelve wines: who owns the power of a row",
        sketch=Sketch(end=300, about="test accuracy of LayerNorm, B", **ACCURACY),
        options=(
            Option("fully: as good as scaled data", {"short": (-1, 0.05)}, (0.35, 0.9, 0.95, 0.97, 0.98)),
            Option("partly", {"gain": (0.1, 1), "short": (0.05, 1)}, (0.35, 0.55, 0.65, 0.7, 0.72)),
            Option("hardly, but BatchNorm does", {"gain": (-1, 0.2), "bn_short": (-1, 0.05)},
                   (0.35, 0.4, 0.45, 0.45, 0.45)),
            Option("hardly, and BatchNorm does not fully", {"gain": (-1, 0.2), "bn_short": (0.05, 1)},
                   (0.35, 0.36, 0.37, 0.37, 0.37)),
        ),
        quantities={
            "none": _score("A no norm: test accuracy", on_test(0)),
            "ln": _score("B LayerNorm", on_test(1)),
            "bn": _score("C BatchNorm", on_test(2)),
            "scaled": _score("D no norm, scaled data", on_test(3)),
            "gain": _gap("B − A, seed by seed", on_test(1), on_test(0)),
            "short": _gap("D − B, seed by seed", on_test(3), on_test(1)),
            "bn_short": _gap("D − C, seed by seed", on_test(3), on_test(2)),
        },
        claims=("K57", "K58"),
        change=f"{PLAIN}&data=wine&norm=none~layer~batch~none&scaler=none~none~none~minmax&depth=1"
        "&width=32&batch=32&optimizer=adam&lr=0.01&steps=301&seeds=8",
    ),
)  # fmt: skip

FALLS, STAYS = (0.0, 0.9), (0.9, INF)
"""A tenth less is less."""


def _ratio(what: str, lr: str) -> Quantity:
    both = (found(f"{norm} lr {lr} {what}") for norm in ("batch", "none"))
    return Quantity(f"{what}, rate {lr}: BatchNorm over none", "x", over(*both))


LESSONS.put(
    "shift",
    "Is it the covariate shift?",
    about="What BatchNorm calms down inside a network",
    make=Lesson(
        scene=f"{PLAIN}&norm=none~batch~none~batch&depth=8&lr=0.02~0.02~0.1~0.1&steps=201&record_every=20",
        panels=("loss", "update_ratio"),
        study="E05 short",
        seeds=MORE,
        options=tuple(
            Option(text, dict(zip(("drift2", "drift10", "shift2", "shift10"), ranges, strict=True)))
            for text, ranges in {
                "both: means drift less, and gradients shift less": (FALLS,) * 4,
                "only the drift of means": (FALLS, FALLS, STAYS, STAYS),
                "only the shift of gradients": (STAYS, STAYS, FALLS, FALLS),
                "neither": (STAYS,) * 4,
            }.items()
        ),
        quantities={
            "drift2": _ratio("drift, before the norm", "0.02"),
            "drift10": _ratio("drift, before the norm", "0.1"),
            "shift2": _ratio("gradient shift", "0.02"),
            "shift10": _ratio("gradient shift", "0.1"),
            "loss2": Quantity("training loss, rate 0.02: BatchNorm over none", "x", over(loss(1), loss(0))),
            "loss10": Quantity("training loss, rate 0.1: BatchNorm over none", "x", over(loss(3), loss(2))),
        },
        claims=("K13", "K14", "K15"),
        change=f"{PLAIN}&norm=none~batch&depth=8&lr=1&steps=201&seeds=4",
    ),
)
