"""What papers printed, beside what is measured here: each number with its tolerance, each status computed."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from lnres import theory
from lnres.claims import results
from lnres.claims.claim import FACTOR, POINTS, SHARE, Ask, Unit, minus, of, times
from lnres.claims.depth import DEPTHS
from lnres.claims.judge import (
    DEPENDS,
    NO_EFFECT,
    NOT_SETTLED,
    POINT,
    REFUTED,
    SUPPORTED,
    Above,
    AtLeast,
    Below,
    Cell,
    Whole,
    judge,
)
from lnres.claims.nets import SEQUENCES
from lnres.claims.rows_depth import slope
from lnres.claims.speed import WIDTHS_TIMED
from lnres.experiment import Experiment
from lnres.layers import ACTIVATIONS
from lnres.registry import Registry
from lnres.theory import batchnorm_linear_rate, batchnorm_rate
from lnres.train import Run, probe

PAPERS = Registry("paper")
COMMITTED = Path(__file__).parents[1] / "assets" / "papers.json"
REPLICATES, IN_KIND, DIFFERS, NOT_RUN = "replicates", "replicates in kind", "does not replicate", "not run"
IN_PART, OPEN = "replicates in part", "not settled"
STATUSES = {
    REPLICATES: "Every number lies within the tolerance of what was printed.",
    IN_KIND: "The same shape or sign, at another scale and on other data.",
    IN_PART: "The same under some of the conditions, not under others.",
    DIFFERS: "At least one number, or the sign, is another here.",
    OPEN: "The seeds that were run do not decide it.",
    NOT_RUN: "Nothing was measured, so nothing is said.",
}
"""Every status, and when it is given."""


@dataclass(frozen=True)
class Point:
    """One number: as it was printed (none where only the kind can be compared), and as it was measured."""

    name: str
    published: float | None
    measured: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, name: str, published: float | None, values) -> "Point":
        """From one value a network, with the 95 % interval of their mean."""
        cell = Cell.of(name, values)
        return cls(name, published, cell.effect, cell.low, cell.high, cell.n)


@dataclass(frozen=True)
class Paper:
    """A row: who printed what, and how it is measured or which claim decides it."""

    paper: str
    published: str
    measured: str
    """What is measured against it, in words."""
    tolerance: float = 0.0
    """Of a number, relative to what was printed; 0 is exact to rounding."""
    measure: Callable[[], list[Point]] | None = None
    claim: str = ""
    """The claim whose verdict decides a row that holds in kind only."""
    kind: frozenset[str] = frozenset({SUPPORTED})
    """Verdicts, of that claim or of the row's own cells, which say the same as the paper."""
    asks: tuple[Ask, ...] = ()
    """The row's own cells, where no claim asks what the paper says."""
    experiments: tuple[str, ...] = ()
    """Experiments of the claims that find what these cells need."""
    hindsight: bool = False
    """Whether what counts as the same was written down when the result was already known."""

    @property
    def decided(self) -> bool:
        """Whether experiments of the claims decide it."""
        return bool(self.claim or self.experiments)

    @property
    def units(self) -> dict[str, Unit]:
        """How its own cells are told."""
        return {ask.name: ask.unit for ask in self.asks}

    def judged(self, cells: Sequence[Cell]) -> str:
        """The verdict of the row's own cells."""
        return judge(cells, {ask.name: ask.criterion for ask in self.asks if ask.criterion}).verdict

    def status(self, points: Iterable[Point], verdict: str | None = None) -> str:
        """What the numbers, or the verdict, come to."""
        points = list(points)
        if self.decided:
            if verdict in self.kind:
                return IN_KIND
            return {None: NOT_RUN, DEPENDS: IN_PART, NOT_SETTLED: OPEN}.get(verdict, DIFFERS)
        if not points:
            return NOT_RUN
        room = max(self.tolerance, 1e-6)
        near = all(abs(p.measured - p.published) <= room * max(abs(p.published), 1e-12) for p in points)
        return REPLICATES if near else DIFFERS


def run(name: str) -> dict:
    """Measure one row and say what it comes to, as it is kept in assets/papers.json."""
    paper, verdict = PAPERS[name].make, None
    points = paper.measure() if paper.measure else []
    if paper.decided and (told := _decided(paper)):
        verdict, cells = told
        points = [Point(c.name, None, c.effect, c.low, c.high, c.n) for c in cells]
    return {
        "id": name,
        "paper": paper.paper,
        "published": paper.published,
        "measured": [{k: _plain(v) for k, v in asdict(point).items()} for point in points],
        "tolerance": paper.tolerance,
        "status": paper.status(points, verdict),
    } | ({"claim": paper.claim, "verdict": verdict} if paper.decided else {})


def _decided(paper: Paper) -> tuple[str, list[Cell]] | None:
    """The verdict and the cells of what experiments of the claims found; None while one was not run."""
    if paper.claim:
        row = results.committed().get(paper.claim)
        return row and (row["verdict"], results.cells_of(row))
    found = [results.load(name, results.folder_of(results.COMMITTED)) for name in paper.experiments]
    if None in found:
        return None
    values = results.values_of(found)
    cells = [Cell.of(ask.name, ask.value(values)) for ask in paper.asks]
    return paper.judged(cells), cells


def _plain(value):
    return results.plain(value) if isinstance(value, float) else value


def points_of(row: Mapping) -> list[Point]:
    """The points of a kept row."""
    numbers = ("published", "measured", "low", "high")
    return [
        Point(**p | {key: p[key] if key == "published" else results.number(p[key]) for key in numbers})
        for p in row["measured"]
    ]


@cache
def committed() -> dict[str, dict]:
    """The rows that the page opens with, by name; what experiments of the claims decide follows those."""
    kept = json.loads(COMMITTED.read_text(encoding="utf-8")) if COMMITTED.exists() else []
    claimed = {name: run(name) for name in PAPERS if PAPERS[name].make.decided}
    return {row["id"]: row for row in kept} | claimed


# -------------------------------------------------------------------------------------------- measuring

ENDS, COUNTED = 5, 30
PLAIN = {"residual": "none", "layers": 1, "placement": "inner", "final_norm": False}


def rate(**settings) -> np.ndarray:
    """By how much the squared gradient of a plain network grows per layer towards the input, one a net."""
    e = Experiment(**PLAIN | {"depth": COUNTED + 2 * ENDS, "width": 512, "seeds": 8, "batch": 8} | settings)
    squares = 2 * np.log(probe(e)["grad_norm"].astype(float))
    return np.exp((squares[ENDS] - squares[-1 - ENDS]) / (len(squares) - 1 - 2 * ENDS))


def batchnorm(activation: str, published: Callable[[float], float], *batches: int) -> list[Point]:
    """Rates of plain BatchNorm networks, which a few layers settle."""
    settings = {"norm": "batch", "activation": activation, "depth": 20, "seeds": 4}
    name = ACTIVATIONS[activation].label
    return [
        Point.of(f"{name}, batch of {batch}", published(batch), rate(batch=batch, **settings))
        for batch in batches
    ]


def critical() -> list[Point]:
    """The variance of weights at which a tanh network's gradient neither grows nor shrinks."""
    variances = np.linspace(1.6, 1.95, 6)
    logs = np.log([
        rate(activation="tanh", norm="none", init="meanfield", sigma_w2=float(v), sigma_b2=0.05, depth=50)
        for v in variances
    ])  # fmt: skip
    zeros = [-offset / slope for slope, offset in (np.polyfit(variances, net, 1) for net in logs.T)]
    return [Point.of("critical σ_w² at σ_b² = 0.05", 1.76, zeros)]


def last_gradient() -> list[Point]:
    """How the last block's gradient depends on depth, per example: one example a net."""
    depths, points = np.array([2, 8, 24]), []
    for placement, exponent in theory.LAST_GRADIENT.items():
        sizes = [
            float((next(Run(Experiment(
                depth=depth, width=64, placement=placement, batch=1, seeds=64, final_norm=placement == "pre",
            )))[0]["weight_grad_norm"][0, -1] ** 2).mean() ** 0.5)
            for depth in depths.tolist()
        ]  # fmt: skip
        slope = np.polyfit(np.log(depths + 1), np.log(sizes), 1)[0]
        # What an exponent makes of a depth e times as large can be compared for 0, too.
        points.append(
            Point.of(f"{placement}: last gradient, depth e-fold", float(np.exp(exponent)), [np.exp(slope)])
        )
    return points


def scatter() -> list[Point]:
    """n times the variance of q(l+1)/q(l) over a thousand narrow ReLU networks, q the mean square."""
    ratios = []
    for first in range(0, 1024, 64):
        e = Experiment(**PLAIN, norm="none", init="he", depth=8, width=64, seeds=64, batch=1, seed=first)
        squares = probe(e)["act_rms"].astype(float) ** 2
        ratios.append((squares[2:] / squares[1:-1]).ravel())
    return [Point.of("n Var q(l+1)/q(l), n = 64", 5.0, [64 * np.var(np.concatenate(ratios))])]


def shrinking() -> list[Point]:
    """The branch's share of each state behind it, against one over the number of branches so far."""
    e = Experiment(norm="batch", placement="pre", depth=32, width=512, seeds=8, batch=256)
    squares = probe(e)["act_rms"].astype(float) ** 2
    added = np.diff(squares, axis=0) / squares[:-1]
    x = np.log(np.arange(1, len(added) + 1))
    slopes = [np.polyfit(x[2:], np.log(net[2:]) / 2, 1)[0] for net in added.T]
    return [Point.of("exponent of branch over skip against depth", -0.5, slopes)]


def exploding() -> list[Point]:
    """Growth per block of a stream without norm or scale, of its power and of its squared gradient."""
    told = probe(Experiment(norm="none", depth=24, width=512, seeds=8, batch=8))
    powers = 2 * np.log(told["act_rms"].astype(float))
    squares = 2 * np.log(told["grad_norm"].astype(float))
    return [
        Point.of("power per block", theory.bare_rate(), np.exp((powers[-1] - powers[0]) / 24)),
        Point.of("squared gradient per block", theory.bare_rate(), np.exp((squares[0] - squares[-1]) / 24)),
    ]


def started(residual: str, depth: int) -> float:
    """By how much a skip makes the inner weights of the first branch smaller at the start."""
    stds = [
        float(Run(Experiment(depth=depth, width=256, residual=skip, norm="none", seeds=1))
              .weights.named()["blocks.0.first.weight"][0].detach().std())
        for skip in (residual, "identity")
    ]  # fmt: skip
    return stds[0] / stds[1]


def deepnorm() -> list[Point]:
    """β of the branch's weights, at depths where they are drawn."""
    return [
        Point.of(f"β at {depth} blocks", theory.deepnorm(depth)[1], [started("deepnorm", depth)])
        for depth in (8, 64)
    ]


def fixup() -> list[Point]:
    """The factor of the branch's inner weights."""
    return [
        Point.of(f"factor at {depth} blocks", theory.fixup_scale(depth), [started("fixup", depth)])
        for depth in (9, 64)
    ]


def rezero() -> list[Point]:
    """What a gradient keeps on its way through all blocks at the start."""
    told = probe(Experiment(residual="rezero", norm="none", depth=64, width=64, seeds=4, batch=8))
    return [
        Point.of(
            "gradient at the input over that at the top", 1.0, told["grad_norm"][0] / told["grad_norm"][-1]
        )
    ]


def paths() -> list[Point]:
    """The share of all paths through 54 blocks that pass through 5 to 17 of them, in percent."""
    counts = theory.path_counts(54)
    return [Point.of("paths of length 5 to 17, percent", 0.45, [100 * sum(counts[5:18]) / sum(counts)])]


def critical_layernorm() -> list[Point]:
    """LayerNorm before the ReLU: the rate for weights of three sizes, without biases and with."""
    points = [
        Point.of(
            f"σ_w² = {v:g}, no biases", 1.0, rate(norm="layer", init="meanfield", sigma_w2=v, sigma_b2=0.0)
        )
        for v in (0.5, 2.0, 8.0)
    ]
    biased = rate(norm="layer", init="meanfield", sigma_w2=2.0, sigma_b2=0.5)
    return [*points, Point.of("σ_w² = 2, biases of variance 0.5", theory.layernorm_rate(2.0, 0.5), biased)]


# ------------------------------------------------------------------------------------------------- rows

_NUMBERS: dict[str, Paper] = {
    "yang-relu": Paper(
        "Yang et al. 2019, Theorem 8",
        "The gradient of plain BatchNorm ReLU networks grows per layer by J(B), "
        "towards π/(π − 1) for large batches",
        "rates of networks of width 512 at three batch sizes",
        0.03,
        lambda: batchnorm("relu", batchnorm_rate, 8, 32, 128),
    ),
    "yang-linear": Paper(
        "Yang et al. 2019, Theorem 8",
        "Without an activation it grows by (B − 2)/(B − 3)",
        "the same without an activation",
        0.03,
        lambda: batchnorm("identity", batchnorm_linear_rate, 8, 32, 128),
    ),
    "schoenholz": Paper(
        "Schoenholz et al. 2017",
        "tanh networks are critical at σ_w² about 1.76 for σ_b² = 0.05",
        "where the measured rate crosses one, by a line through six variances",
        0.03,
        critical,
    ),
    "xiong-gradient": Paper(
        "Xiong et al. 2020, Theorem 1",
        "The last layer's gradient shrinks as L^(−1/2) in pre-LN, not in post-LN",
        "how it changes with depth, one example a network, 64 networks",
        0.03,
        last_gradient,
    ),
    "veit-paths": Paper(
        "Veit et al. 2016",
        "In 54 blocks the paths that carry gradient, of 5 to 17 blocks, are 0.45 % of all",
        "the exact count",
        0.01,
        paths,
    ),
    "de-smith": Paper(
        "De & Smith 2020",
        "BatchNorm shrinks a branch beside its skip by about 1/√depth",
        "the exponent over 32 blocks at the start",
        0.06,
        shrinking,
    ),
    "hanin-rolnick": Paper(
        "Hanin & Rolnick 2018",
        "Sizes fluctuate by the sum of 1/n over the layers",
        "the factor that follows for a ReLU layer, 5, over a thousand networks of width 64",
        0.1,
        scatter,
    ),
    "hanin-exploding": Paper(
        "Hanin & Rolnick 2018",
        "Residual networks explode unless their branches are scaled: ×2 per block",
        "power and squared gradient per block, width 512",
        0.03,
        exploding,
    ),
    "doshi": Paper(
        "Doshi et al. 2021",
        "LayerNorm on pre-activations makes plain networks critical for any size of weights",
        "rates at three sizes of weights; with biases, the closed form C14",
        0.03,
        critical_layernorm,
    ),
    "deepnorm": Paper(
        "Wang et al. 2022",
        "Weights of a branch start smaller by β = (8N)^(−1/4)",
        "the spread of weights that were drawn",
        0.01,
        deepnorm,
    ),
    "fixup": Paper(
        "Zhang et al. 2019",
        "Inner weights of a branch start smaller by L^(−1/2), two layers a branch",
        "the spread of weights that were drawn",
        0.01,
        fixup,
    ),
    "rezero": Paper(
        "Bachlechner et al. 2020",
        "At the start the network is the identity: its Jacobian is 1",
        "the gradient through 64 blocks",
        0.0,
        rezero,
    ),
}


def accuracy(a: str, b: str, criterion=None) -> Ask:
    """The paired difference of two networks' accuracies."""
    return Ask(f"{a} − {b}", minus(f"{a} accuracy", f"{b} accuracy"), criterion, POINTS)


FAILS = 0.05
"""By how much accuracy is to be lower where a paper says that something fails."""
NEAR = 0.02
"""By how much it may be lower where a paper says that something does as well."""

# Where a claim asks what the paper says, its verdict decides; else cells of the row's own do, and each has to
# show it. Both were fixed before the experiments they read, but where ``hindsight`` says otherwise.
_KINDS: dict[str, Paper] = {
    "he-degradation": Paper(
        "He et al. 2015",
        "Plain networks get worse with depth, residual ones do not",
        "training accuracy per doubling of the depth, 2 to 64 blocks, with BatchNorm as in the paper: plain "
        "networks lose a point or more, residual ones at most half a point",
        asks=(
            Ask("plain BN, per doubling", slope("plain BN"), Below(POINT)),
            Ask("pre-BN, per doubling", slope("pre-BN"), AtLeast(-0.005)),
            Ask("plain none, per doubling", slope("plain none")),
        ),
        experiments=("E07c",),
    ),
    "yang-depth": Paper(
        "Yang et al. 2019, Figure 2",
        "Plain networks with BatchNorm cannot be trained beyond about 50 layers",
        "training accuracy of 64 layers: wholly below one half",
        asks=(
            Ask("64 layers", of("plain BN D=64 accuracy"), Whole(0.5), SHARE),
            *[Ask(f"{d} layers", of(f"plain BN D={d} accuracy"), None, SHARE) for d in DEPTHS[:-1]],
        ),
        experiments=("E07c",),
    ),
    "xiong-warmup": Paper(
        "Xiong et al. 2020",
        "Without warm-up post-LN fails (BLEU 8.45 on IWSLT), with it or pre-LN it trains",
        "transformers of 12 layers: post with warm-up, and pre without, each 5 points or more above post "
        "without",
        asks=(
            accuracy("post D=12 warm-up", "post D=12", Above(FAILS)),
            accuracy("pre D=12", "post D=12", Above(FAILS)),
            accuracy("pre D=12", "post D=12 warm-up"),
            accuracy("post D=4 warm-up", "post D=4"),
        ),
        experiments=("E13",),
    ),
    "deepnorm-stable": Paper(
        "Wang et al. 2022",
        "DeepNorm is post-LN with the stability of pre-LN",
        "48 blocks, and transformers of 12 layers: a point or more above post, at most 2 points below pre",
        asks=tuple(
            accuracy(f"DeepNorm {size}", f"{other} {size}", criterion)
            for size, pre, post in (("D=48", "pre-LN", "post-LN"), ("D=12", "pre", "post"))
            for other, criterion in ((post, Above(POINT)), (pre, AtLeast(-NEAR)))
        ),
        experiments=("E12", "E13"),
    ),
    "veit-energy": Paper(
        "Veit et al. 2016",
        "Gradient travels short paths",
        "claim K26: energy by path length, four schemes",
        claim="K26",
        kind=frozenset({SUPPORTED, DEPENDS}),
        hindsight=True,
    ),
    "wu-he": Paper(
        "Wu & He 2018",
        "BatchNorm fails at two examples a batch (GroupNorm: 10.6 % lower error)",
        "claim K18: BatchNorm at 64 against 2, MLPs",
        claim="K18",
        hindsight=True,
    ),
    "santurkar": Paper(
        "Santurkar et al. 2018",
        "BatchNorm need not lower the shift of gradients",
        "claim K14: drift and gradient shift at two rates",
        claim="K14",
        kind=frozenset({DEPENDS, REFUTED}),
        hindsight=True,
    ),
    "de-smith-scalar": Paper(
        "De & Smith 2020",
        "A scalar on the branch does what the norm does",
        "claim K68: LayerNorm and skip against scaled skips",
        claim="K68",
        kind=frozenset({DEPENDS, REFUTED}),
    ),
    "ba": Paper(
        "Ba, Kiros & Hinton 2016",
        "LayerNorm steadies recurrent networks",
        "claim K40: RNN and LSTM on rows, patches and pixels",
        claim="K40",
    ),
    "ba-conv": Paper(
        "Ba, Kiros & Hinton 2016",
        "In convnets BatchNorm does better than LayerNorm",
        "claim K43: small convnets, two batch sizes",
        claim="K43",
    ),
    "ba-speed": Paper(
        "Ba, Kiros & Hinton 2016",
        "LayerNorm shortens training",
        "claim K64: loss after 200 steps, two optimizers",
        claim="K64",
        hindsight=True,
    ),
    "ba-batches": Paper(
        "Ba, Kiros & Hinton 2016",
        "LayerNorm does not depend on the batch size",
        "claim K16: small batches against BatchNorm",
        claim="K16",
        hindsight=True,
    ),
    "cooijmans": Paper(
        "Cooijmans et al. 2017",
        "BatchNorm works in recurrent networks with statistics per step",
        "LSTMs over 8, 16 and 64 steps: BatchNorm with the statistics of each step is a point or "
        "more above none",
        asks=(
            *[accuracy(f"lstm T={T} BN each step", f"lstm T={T} none", Above(POINT)) for T in SEQUENCES],
            *[accuracy(f"lstm T={T} BN each step", f"lstm T={T} BN") for T in SEQUENCES],
        ),
        experiments=("E17",),
    ),
    "xu": Paper(
        "Xu et al. 2019",
        "LayerNorm does as well without its gain and bias",
        "claim K05: test accuracy with them, minus without",
        claim="K05",
        kind=frozenset({NO_EFFECT, REFUTED}),
    ),
    "zhang-sennrich": Paper(
        "Zhang & Sennrich 2019",
        "RMSNorm takes 7 to 64 % less time than LayerNorm",
        "time of a step, forward and backward, at three widths: at least 7 % less. It depends on the kernel",
        asks=tuple(
            Ask(
                f"RMSNorm over LayerNorm, width {w}",
                times(f"rms time w={w}", f"layer time w={w}"),
                Below(-math.log(1 - 0.07)),
                FACTOR,
            )
            for w in WIDTHS_TIMED
        ),
        experiments=("E26",),
        hindsight=True,
    ),
    "balduzzi": Paper(
        "Balduzzi et al. 2017",
        "Gradients of plain networks lose their correlation as 2^(−L)",
        "not measured here as a rate",
    ),
    "wan": Paper(
        "Wan et al. 2021",
        "Weights behind a norm turn by √(2ηλ) a step",
        "not simulated here",
    ),
    "li": Paper("Li et al. 2019", "Dropout before BatchNorm shifts the variance", "not measured here"),
    "dong": Paper(
        "Dong et al. 2021", "Attention without skips loses rank doubly exponentially", "not measured here"
    ),
}
for _name, _paper in (_NUMBERS | _KINDS).items():
    PAPERS.put(_name, _paper.paper, make=_paper, about=_paper.published)
