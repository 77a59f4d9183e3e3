"""The rows: who printed what, what is measured against it, and what counts as the same."""

import math
from collections.abc import Callable

import numpy as np

from lnres import theory
from lnres.claims.claim import FACTOR, NUMBER, POINTS, SHARE, Ask, Values, log_of, minus, of, times
from lnres.claims.depth import DEPTHS
from lnres.claims.judge import (
    DEPENDS,
    NO_EFFECT,
    POINT,
    REFUTED,
    SUPPORTED,
    TENTH,
    Above,
    AtLeast,
    Below,
    Whole,
    Within,
)
from lnres.claims.nets import SEQUENCES
from lnres.claims.rows_depth import slope
from lnres.claims.shift import RATES_SHOWN
from lnres.claims.speed import WIDTHS_TIMED
from lnres.papers import measured
from lnres.papers.paper import PAPERS, Paper

_NUMBERS: dict[str, Paper] = {
    "yang-relu": Paper(
        "Yang et al. 2019, Theorem 8",
        "The gradient of plain BatchNorm ReLU networks grows per layer by J(B), "
        "towards π/(π − 1) for large batches",
        "rates of networks of width 512 at three batch sizes",
        0.03,
        lambda: measured.batchnorm("relu", theory.batchnorm_rate, 8, 32, 128),
    ),
    "yang-linear": Paper(
        "Yang et al. 2019, Theorem 8",
        "Without an activation it grows by (B − 2)/(B − 3)",
        "the same without an activation",
        0.03,
        lambda: measured.batchnorm("identity", theory.batchnorm_linear_rate, 8, 32, 128),
    ),
    "schoenholz": Paper(
        "Schoenholz et al. 2017",
        "tanh networks are critical at σ_w² about 1.76 for σ_b² = 0.05",
        "where the measured rate crosses one, by a line through six variances",
        0.03,
        measured.critical,
    ),
    "xiong-gradient": Paper(
        "Xiong et al. 2020, Theorem 1",
        "The last layer's gradient shrinks as L^(−1/2) in pre-LN, not in post-LN",
        "how it changes with depth, one example a network, 64 networks",
        0.03,
        measured.last_gradient,
    ),
    "veit-paths": Paper(
        "Veit et al. 2016",
        "In 54 blocks the paths that carry gradient, of 5 to 17 blocks, are 0.45 % of all",
        "the exact count",
        0.01,
        measured.paths,
    ),
    "de-smith": Paper(
        "De & Smith 2020",
        "BatchNorm shrinks a branch beside its skip by about 1/√depth",
        "the exponent over 32 blocks at the start",
        0.06,
        measured.shrinking,
    ),
    "hanin-rolnick": Paper(
        "Hanin & Rolnick 2018",
        "Sizes fluctuate by the sum of 1/n over the layers",
        "the factor that follows for a ReLU layer, 5, over a thousand networks of width 64",
        0.1,
        measured.scatter,
    ),
    "hanin-exploding": Paper(
        "Hanin & Rolnick 2018",
        "Residual networks explode unless their branches are scaled: ×2 per block",
        "power and squared gradient per block, width 512",
        0.03,
        measured.exploding,
    ),
    "doshi": Paper(
        "Doshi et al. 2021",
        "LayerNorm on pre-activations makes plain networks critical for any size of weights",
        "rates at three sizes of weights; with biases, the closed form C14",
        0.03,
        measured.critical_layernorm,
    ),
    "deepnorm": Paper(
        "Wang et al. 2022",
        "Weights of a branch start smaller by β = (8N)^(−1/4)",
        "the spread of weights that were drawn",
        0.01,
        measured.deepnorm,
    ),
    "fixup": Paper(
        "Zhang et al. 2019",
        "Inner weights of a branch start smaller by L^(−1/2), two layers a branch",
        "the spread of weights that were drawn",
        0.01,
        measured.fixup,
    ),
    "rezero": Paper(
        "Bachlechner et al. 2020",
        "At the start the network is the identity: its Jacobian is 1",
        "the gradient through 64 blocks",
        0.0,
        measured.rezero,
    ),
    "xiong-sum": Paper(
        "Xiong et al. 2020, Lemma 2",
        "In post-LN the sum in front of the second norm has a mean square of 3/2",
        "6 layers of width 256, uniform attention",
        0.03,
        measured.summed,
    ),
    "wan": Paper(
        "Wan et al. 2021",
        "Weights behind a norm turn by √(2ηλ) a step once they are in balance with their decay",
        "the angle while plain LayerNorm networks learn digits with plain SGD",
        0.03,
        measured.rotations,
    ),
    "li": Paper(
        "Li et al. 2019",
        "Dropout in front of BatchNorm: testing meets a smaller variance than training remembered",
        "variance in testing over the one remembered, behind a ReLU, against the closed form C31",
        0.03,
        measured.dropped,
    ),
    "balduzzi": Paper(
        "Balduzzi et al. 2017",
        "Gradients at two inputs lose their likeness as 2^(−L) in plain networks and (3/4)^L in residual "
        "ones, if a quarter of all units is active for both",
        "the cosine of the gradients of independent inputs, 8 layers of width 512; ReLU makes inputs more "
        "alike in every layer, so more units are active for both",
        0.03,
        measured.turned,
    ),
}


def accuracy(a: str, b: str, criterion=None) -> Ask:
    """The paired difference of two networks' accuracies."""
    return Ask(f"{a} − {b}", minus(f"{a} accuracy", f"{b} accuracy"), criterion, POINTS)


def power_of(layer: int) -> Callable[[Values], np.ndarray]:
    """The power of what was left by which a layer of attention without skips takes it further down."""
    return lambda v: np.log(v[f"alone, layer {layer}"]) / np.log(v[f"alone, layer {layer - 1}"])


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
        "BatchNorm need not lower the shift of gradients; it makes the loss smoother",
        "plain networks of 8 blocks: the gradient's shift does not fall by 10 % at either of two rates, and "
        "at four a smaller share of the loss's moves goes uphill",
        asks=(
            *[
                Ask(
                    f"gradient shift, BN over none, rate {lr:g}",
                    times(f"batch lr {lr:g} gradient shift", f"none lr {lr:g} gradient shift"),
                    AtLeast(-TENTH),
                    FACTOR,
                )
                for lr in (0.02, 0.1)
            ],
            *[
                Ask(
                    f"uphill share, BN − none, rate {lr:g}",
                    minus(f"batch lr {lr:g} uphill", f"none lr {lr:g} uphill"),
                    Below(),
                )
                for lr in RATES_SHOWN
            ],
        ),
        experiments=("E05", "E06"),
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
    "xiong-slope": Paper(
        "Xiong et al. 2020, Lemma 2",
        "In pre-LN every layer adds between 1/2 and 3/2 to the mean square of the stream",
        "what a layer adds on average, 6 layers of width 256, uniform attention",
        asks=(
            Ask("at least 1/2", of("added by a layer"), AtLeast(theory.PRE_SLOPE[0]), NUMBER),
            Ask("at most 3/2", of("added by a layer"), Whole(theory.PRE_SLOPE[1]), NUMBER),
        ),
        find=measured.steepness,
    ),
    "wan-units": Paper(
        "Wan et al. 2021",
        "The weights of each unit behind BatchNorm turn by √(2ηλ) a step",
        "the same angle, over all units, at two decays: within 10 % of it. It is less where weights became "
        "so small that ε counts beside their variance: one cell more with a smaller ε",
        asks=(
            *[
                Ask(f"angle over √(2ηλ), {name}", log_of(name), Within(TENTH), FACTOR)
                for name in measured.DECAYS
            ],
            Ask("the same, ε = 1e-8", log_of("ηλ = 0.005, ε = 1e-8"), None, FACTOR),
        ),
        find=measured.rotations_of_units,
    ),
    "dong": Paper(
        "Dong et al. 2021",
        "Attention without skips loses rank doubly exponentially, with them it does not",
        "what tokens keep of their differences: without skips each layer takes at least the square of what "
        "the one before left; with skips a tenth is left after 6 layers",
        asks=(
            Ask("power of the 3rd layer", power_of(3), AtLeast(2.0), NUMBER),
            Ask("power of the 4th layer", power_of(4), AtLeast(2.0), NUMBER),
            Ask("left behind layer 6, with skips", of("with skips, layer 6"), AtLeast(0.1), SHARE),
            *[
                Ask(f"left behind layer {i}, alone", of(f"alone, layer {i}"), None, NUMBER)
                for i in (1, 2, 3, 4)
            ],
        ),
        find=measured.ranks,
    ),
}
for _name, _paper in (_NUMBERS | _KINDS).items():
    PAPERS.put(_name, _paper.paper, make=_paper, about=_paper.published)
