"""Batch size, covariate shift, depth, skips and places: claims that training decides."""

import math

import numpy as np

from lnres.claims.batches import CAPS
from lnres.claims.claim import (
    FACTOR,
    NUMBER,
    POINTS,
    SHARE,
    Ask,
    Unit,
    Values,
    best,
    claim,
    lead,
    log_of,
    minus,
    of,
    points,
    spread,
    times,
)
from lnres.claims.depth import CARRIED, DEPTHS, PATHS, PLAIN, RESIDUAL
from lnres.claims.judge import (
    NO_EFFECT,
    NOT_SETTLED,
    POINT,
    RATE,
    REFUTED,
    SUPPORTED,
    TENTH,
    Above,
    AtLeast,
    Below,
    Bounds,
    Fall,
    Rate,
    Whole,
    Within,
    Words,
    Zero,
    anywhere,
    at_least,
    exact,
)
from lnres.claims.place import EXTRA, GAMMAS, SIX
from lnres.claims.shift import RATES_SHOWN

# ------------------------------------------------------------------------------------------------ batch size


SIZES = 1, 2, 4, 16, 64
COUNTED = {what: Unit(f"{what} until the loss is below 0.3", NUMBER.say) for what in ("steps", "examples")}


def loses(words: Words) -> str:
    """Refuted where small batches cost LN nothing and it is above BN; supported where they cost."""
    first, *others = words.values()
    if first == SUPPORTED:
        return SUPPORTED
    return REFUTED if first in (NO_EFFECT, REFUTED) and set(others) == {REFUTED} else NOT_SETTLED


def steady(words: Words) -> str:
    """Refuted by the ratio alone; supported where it is small and smaller than without a norm."""
    ratio, below = words.values()
    return REFUTED if ratio == REFUTED else SUPPORTED if ratio == below == SUPPORTED else NOT_SETTLED


claim(
    "K16", "S0 S1 S3", "batch", "LayerNorm does not depend on the batch size and works with tiny batches.",
    "Ba et al. 2016; Wu and He 2018: GroupNorm has a 10.6 % lower error than BatchNorm at batch 2.",
    "Supported if LayerNorm beats BatchNorm by a point at batch 2 and 4, and loses nothing (± 2 points) "
    "from 64 to 4.",
    Ask("LN − BN at batch 2", points("layer B=2", "batch B=2"), Above(POINT)),
    Ask("LN − BN at batch 4", points("layer B=4", "batch B=4"), Above(POINT)),
    Ask("LN at batch 4 − at 64", points("layer B=4", "layer B=64"), Within(0.02)),
    Ask("LN − none at batch 1", points("layer B=1", "none B=1")),
    experiments="E04", against=("K17",),
)  # fmt: skip
claim(
    "K17", "S0", "batch",
    "LayerNorm needs a suitable batch size; with small ones it is unstable or inferior.",
    "Contradicts K16, and the same article.",
    "Refuted if LayerNorm at batch 4 is within 2 points of its best and above BatchNorm at 2 and 4; "
    "supported if it loses 2 points there.",
    Ask("LN at its best batch − at 4",
        lambda v: best([f"layer B={b} accuracy" for b in SIZES])(v) - v["layer B=4 accuracy"], Above(0.02)),
    Ask("LN − BN at batch 2", points("layer B=2", "batch B=2"), Below(POINT)),
    Ask("LN − BN at batch 4", points("layer B=4", "batch B=4"), Below(POINT)),
    Ask("LN − BN at batch 16", points("layer B=16", "batch B=16")),
    Ask("LN − BN at batch 64", points("layer B=64", "batch B=64")),
    experiments="E04", rule=loses, against=("K16",),
)  # fmt: skip
claim(
    "K18", "S3", "batch", "BatchNorm suffers at very small batches and does well at large ones.",
    "Wu and He 2018.",
    "Supported if BatchNorm gains 5 points from batch 2 to 64, where it is not a point below no norm.",
    Ask("BN at batch 64 − at 2", points("batch B=64", "batch B=2"), Above(0.05)),
    Ask("BN − none at batch 64", points("batch B=64", "none B=64"), AtLeast(-POINT)),
    Ask("BN − none at batch 2", points("batch B=2", "none B=2")),
    experiments="E04",
)  # fmt: skip
claim(
    "K19", "S1", "batch", "LayerNorm trains at the same speed with every batch size.",
    "Speed in steps depends on the gradient's noise and on the learning rate.",
    "Most over fewest steps to a train loss of 0.3, batch 4 to 256, one rate of 0.05: supported if at "
    "most 1.2 and below no norm's, refuted if wholly above 1.2.",
    Ask("LN: most over fewest steps", log_of("layer most over fewest steps"), Whole(math.log(1.2)), FACTOR),
    Ask("LN over none", times("layer most over fewest steps",
    "none most over fewest steps"), Below(), FACTOR),
    Ask("BN: most over fewest steps", log_of("batch most over fewest steps"), None, FACTOR),
    *[Ask(f"LN: {what} at batch {b}", of(f"layer {what} B={b}"), None, unit)
      for what, unit in COUNTED.items() for b in CAPS],
    experiments="E30", rule=steady,
)  # fmt: skip

# --------------------------------------------------------------------------- covariate shift and smoothness

SHIFTS = "drift, before the norm", "drift, input", "gradient shift"


def lowers(norm: str) -> list[Ask]:
    """Drift and gradient shift against none, at both rates."""
    return [
        Ask(f"{what}, rate {lr:g}", times(f"{norm} lr {lr:g} {what}",
        f"none lr {lr:g} {what}"), Below(TENTH), FACTOR)
        for what in SHIFTS for lr in (0.02, 0.1)
    ]  # fmt: skip


claim(
    "K13", "S0 S2 S3", "shift", "LayerNorm lowers internal covariate shift, and so networks train better.",
    "Ioffe and Szegedy 2015 define it; Santurkar et al. 2018: BatchNorm need not lower it, and noise "
    "behind it does not hurt.",
    "Drift of unit means (before the norm, at the layer's input) and gradient shift, LN over none: "
    "supported if all fall by 10 % at both rates, depends if only one kind does.",
    *lowers("layer"), experiments="E05",
)  # fmt: skip
claim(
    "K14", "S3", "shift", "BatchNorm lowers internal covariate shift and thereby speeds up training.",
    "As K13. At the layer's input BatchNorm's unit means can move through β alone: there it falls by "
    "construction.",
    "As K13 for BN over none; “thereby” also needs a final loss lower by 10 %.",
    *lowers("batch"),
    *[Ask(f"final loss, rate {lr:g}", times(f"batch lr {lr:g} final loss", f"none lr {lr:g} final loss"),
          Below(TENTH), FACTOR) for lr in (0.02, 0.1)],
    *[Ask(f"with noise behind it: {what}, rate {lr:g}",
          times(f"batch + noise lr {lr:g} {what}", f"none lr {lr:g} {what}"), None, FACTOR)
      for what in ("drift, input", "final loss") for lr in (0.02, 0.1)],
    experiments="E05",
)  # fmt: skip
claim(
    "K15", "S0", "shift", "LayerNorm gives smoother and steadier loss curves.",
    "Santurkar et al. 2018 show it for BatchNorm.",
    "The share of the loss's moves that go uphill, LN − none: supported if below 0 at 3 of 4 rates and "
    "nowhere above.",
    *[Ask(f"rate {lr:g}", minus(f"layer lr {lr:g} uphill",
    f"none lr {lr:g} uphill"), Below()) for lr in RATES_SHOWN],
    Ask("each at its best rate", minus("layer best rate uphill", "none best rate uphill")),
    experiments="E06", rule=at_least(3),
)  # fmt: skip

# ------------------------------------------------------------------------------------------- depth and skips


def deep(a: str, b: str) -> object:
    """A difference in train accuracy of 32 blocks, E07."""
    return points(f"{a} best", f"{b} best")


def all_of(names: tuple[str, ...]) -> list[str]:
    """Their accuracies in E07."""
    return [f"{name} best accuracy" for name in names]


SIGMAS = 0.5, 2.0, 8.0
claim(
    "K21", "S0 S1 S2", "depth",
    "LayerNorm, or normalizing activations, prevents vanishing and exploding gradients.",
    "With zero biases LN→ReLU keeps the squared gradient at rate 1 for any weight scale, ReLU→LN lets it "
    "grow by π/(π−1) a layer; plain BatchNorm explodes (Yang et al. 2019).",
    "Norms: rate 1 ± 2 % at three weight scales (width 1024). Trainable: LN − none at least 5 points "
    "with 32 layers.",
    *[Ask(f"gradient rate at σ_w² = {s:g}, minus 1",
    lambda v, s=s: v[f"layer rate at σ_w²={s:g}"] - 1, Within(RATE),
          NUMBER) for s in SIGMAS],
    Ask("train accuracy, LN − none", deep("plain LN", "plain none"), Above(0.05)),
    *[Ask(f"without norm: rate over σ_w²/2 at {s:g}, minus 1",
          lambda v, s=s: v[f"none rate at σ_w²={s:g}"] / (s / 2) - 1, None, NUMBER) for s in SIGMAS],
    experiments="E07 E11",
)  # fmt: skip


def alone(words: Words) -> str:
    """Refuted where LN fails and a residual network does not; supported where LN trains, above none."""
    trains, almost, skip, gain = words.values()
    if (almost, skip) == (REFUTED, SUPPORTED):
        return REFUTED
    return SUPPORTED if trains == gain == SUPPORTED else NOT_SETTLED


claim(
    "K22", "S0", "depth", "LayerNorm alone makes deep networks possible.",
    "He et al. 2015: plain BatchNorm nets degrade; Yang et al. 2019: untrainable beyond about 50 layers.",
    "32 layers of width 32, train accuracy: refuted if plain LN stays below 90 % while a residual "
    "network is above 99 %; supported if plain LN reaches 95 %, 5 points above none.",
    Ask("plain LN reaches 95 %", of("plain LN best accuracy"), AtLeast(0.95), SHARE),
    Ask("plain LN reaches 90 %", of("plain LN best accuracy"), AtLeast(0.9), SHARE),
    Ask("best residual network reaches 99 %", best(all_of(RESIDUAL)), AtLeast(0.99), SHARE),
    Ask("plain LN − none", deep("plain LN", "plain none"), Above(0.05)),
    experiments="E07", rule=alone,
)  # fmt: skip
claim(
    "K23", "S0 S1", "depth", "Skip connections solve vanishing and exploding gradients.",
    "Without norm or scale, variance and squared gradient double with every unit block (Hanin and "
    "Rolnick 2018, De and Smith 2020).",
    "Vanishing: the gradient at the input is at least that at the output, 16 and 64 blocks. Exploding: "
    "refuted if both rates are 2 ± 2 %.",
    *[Ask(f"g₀/g_L, {d} blocks", log_of(f"bare D={d} g0/gL"), AtLeast(0.0), FACTOR) for d in (16, 64)],
    *[Ask(f"{what} rate, {d} blocks", of(f"bare D={d} {what} rate"), Rate(RATE), NUMBER)
      for what in ("gradient", "variance") for d in (16, 64)],
    Ask("diverged with 32 blocks at SGD 0.1", of("bare best diverged at sgd 0.1"), None, SHARE),
    experiments="E07 E11",
)  # fmt: skip


def slope(name: str) -> object:
    """Accuracy per doubling of the depth, one a seed."""

    def per_doubling(v: Values) -> np.ndarray:
        rows = np.stack([v[f"{name} D={d} accuracy"] for d in DEPTHS])
        return np.polyfit(np.log2(DEPTHS), rows, 1)[0]

    return per_doubling


claim(
    "K24", "S0 S1", "depth",
    "Residual networks go deeper without degradation, and perform better.", "He et al. 2015.",
    "Train accuracy per doubling of the depth, 2 to 64: the lower bound is at least −0.5 points for "
    "pre-LN, ReZero and "
    "scaled; with 32 blocks the best residual network is a point above the best plain one.",
    *[Ask(f"{name}, per doubling", slope(name), AtLeast(-0.005)) for name in ("pre-LN", "ReZero", "scaled")],
    Ask("best residual − best plain", lead(all_of(RESIDUAL), all_of(PLAIN)), Above(POINT)),
    *[Ask(f"{name}, per doubling", slope(name)) for name in ("bare", "post-LN", "plain LN")],
    experiments="E07 E07c",
)  # fmt: skip
claim(
    "K25", "S0", "depth", "Networks of hundreds or thousands of layers become trainable.",
    "ResNet-1202 trains but tests worse than 110 layers; DeepNet has 1000.",
    "Hundreds: with 512 layers a residual network's train accuracy is above 95 %. Thousands: the same "
    "with 2000.",
    Ask("512 layers, best", best([f"{n} 512 accuracy" for n in ("pre-LN", "ReZero", "scaled", "post-LN")]),
        AtLeast(0.95), SHARE),
    Ask("2000 layers, pre-LN", of("pre-LN 2000 accuracy"), AtLeast(0.95), SHARE),
    Ask("256 layers, plain LN", of("plain LN 256 accuracy"), None, SHARE),
    experiments="E08",
)  # fmt: skip
claim(
    "K26", "S1", "depth", "Skip connections shorten the gradient's way.",
    "Veit et al. 2016: in 54 blocks the effective paths pass 5 to 17 of them, 0.45 % of all paths.",
    "Mean number of branches the gradient's energy passes, over L: supported below 0.45, no effect from "
    "0.45 to 0.55; the shares beside the closed form.",
    *[Ask(name, of(f"{name} mean length over L"), Bounds(low=0.45, high=0.55), SHARE) for name in PATHS],
    *[Ask(f"{name}: distance from the closed form",
    of(f"{name} distance from theory"), None, SHARE) for name in PATHS],
    Ask("54 blocks: share of paths of 5 to 17", of("54 blocks, share of paths of 5 to 17"), None, NUMBER),
    experiments="E09",
)  # fmt: skip
claim(
    "K27", "S0 S1", "depth", "Residual blocks can learn the identity, so nothing is lost.",
    "He et al. 2015; Hardt and Ma 2017.",
    "Error of y = x on fresh inputs, over the plain network's: supported if a third or less, refuted if "
    "not smaller.",
    *[Ask(f"{name}, {d} block{'s' * (d > 1)}", times(f"{name} D={d} error",
    f"plain none D={d} error"), Fall(math.log(3)), FACTOR)
      for name in ("bare", "ReZero", "pre-LN", "post-LN") for d in (1, 4, 16)],
    experiments="E10",
)  # fmt: skip
claim(
    "K28", "S0", "depth", "A residual block learns the difference to the wanted output.",
    "That is its definition (He et al. 2015).",
    "Exact if block minus skip is the branch, at init and trained, to 1e-5 of the output.",
    *[Ask(f"block − skip − branch, {when}", of(f"block minus skip minus branch, {when}"), Zero(1e-5), NUMBER)
      for when in ("at init", "trained")],
    experiments="E07", rule=exact,
)  # fmt: skip
claim(
    "K29", "S1", "depth", "The signal is distorted or lost with depth.",
    "The cosine of two inputs goes to 1 (Schoenholz et al. 2017); gradients shatter (Balduzzi et al. 2017).",
    "Exact if the measured cosines are within 0.02 of the closed forms C04 (between inputs) and C24 "
    "(with the input).",
    *[Ask(f"{name}: cosine between inputs − C04", of(f"{name} cosine minus C04"), Zero(0.02), NUMBER)
      for name in ("none", "layer")],
    *[Ask(f"{name}: cosine with the input − C24", of(f"{name} cosine minus C24"), Zero(0.02), NUMBER)
      for name in CARRIED],
    experiments="E11", rule=exact,
)  # fmt: skip

# ------------------------------------------------------------------------------------ where the norm stands

claim(
    "K30", "S0", "place", "LayerNorm can damp the gradients on the skips.",
    "Post-LN with ReLU keeps the stream's gradient at init, but the input's share fades as 2^(−L/2); "
    "Xiong et al. 2020.",
    "Squared gradient at the input over that at the output, post-LN, 24 blocks: supported if below one "
    "half, refuted if 1 or more.",
    *[Ask(f"post-LN, {f}", log_of(f"post-LN {f} g0/gL"), Fall(math.log(2)), FACTOR) for f in ("relu",
    "tanh")],
    *[Ask(f"{s}, {f}", log_of(f"{s} {f} g0/gL"), None, FACTOR) for s in ("pre-LN",
    "bare") for f in ("relu", "tanh")],
    *[Ask(f"cosine with the input, {s}", of(f"{s} relu cosine"), None, NUMBER) for s in ("pre-LN",
    "post-LN")],
    experiments="E11",
)  # fmt: skip
claim(
    "K31", "S0", "place", "LayerNorm directly on the residual's output can disturb the flow.",
    "Keep the skip clean: He et al. 2016; Xiong et al. 2020.",
    "Supported if pre-LN keeps a larger cosine with its input than post-LN, and is a point more "
    "accurate, with 24 and 48 blocks.",
    *[Ask(f"cosine, pre − post, {d} blocks", minus(f"pre-LN D={d} cosine",
    f"post-LN D={d} cosine"), Above(), NUMBER)
      for d in (24, 48)],
    *[Ask(f"accuracy, pre − post, {d} blocks", points(f"pre-LN D={d}", f"post-LN D={d}"), Above(POINT))
      for d in (24, 48)],
    experiments="E11 E12", against=("K34",),
)  # fmt: skip
GRIDS = [(d, o) for d in (8, 32) for o in ("sgd", "adam")]
claim(
    "K32", "S0", "place",
    "Too much LayerNorm masks the benefit of the skip.", "Sandwich and Peri-LN often help.",
    "Each placement with more norms, minus pre: supported if each costs a point, depends if only some do.",
    *[Ask(f"{p}, {d} blocks, {o}", points(f"{p} D={d} {o}", f"pre D={d} {o}"), Below(POINT))
      for p in EXTRA for d, o in GRIDS],
    experiments="E14",
)  # fmt: skip
claim(
    "K34", "S0", "place", "Put LayerNorm right behind the addition.",
    "Vaswani et al. 2017 did; Xiong et al. 2020: pre-LN needs no warm-up; DeepNorm mends post-LN (Wang "
    "et al. 2022).",
    "Accuracy of pre − post, each at its best rate: refuted if a point or more with 24 and 48 blocks and 12 "
    "transformer layers, supported if −1 point or less.",
    *[Ask(f"pre − post, {d} blocks", points(f"pre-LN D={d}",
    f"post-LN D={d}"), Below(POINT)) for d in (24, 48)],
    Ask("pre − post, transformer of 12", points("pre D=12", "post D=12"), Below(POINT)),
    Ask("pre − post, 6 blocks", points("pre-LN D=6", "post-LN D=6")),
    Ask("pre − post, transformer of 4", points("pre D=4", "post D=4")),
    *[Ask(f"pre − {name}, {d} blocks", points(f"pre-LN D={d}", f"{arm} D={d}"))
      for name, arm in (("post with warm-up", "post-LN + warm-up"), ("DeepNorm",
      "DeepNorm")) for d in (24, 48)],
    Ask("pre − post with warm-up, transformer of 12", points("pre D=12", "post D=12 warm-up")),
    experiments="E12 E13", against=("K31",),
)  # fmt: skip
claim(
    "K35", "S0", "place", "LayerNorm before the activation converges better.",
    "Ba et al. 2016 put it there; the gradient's rates are 1 before and π/(π−1) behind it.",
    "Accuracy before − after: supported if a point or more in most networks of 8 and more blocks, and −1 "
    "point nowhere.",
    Ask("4 blocks", points("before D=4", "after D=4"), Above(POINT)),
    *[Ask(f"deep: {d} blocks", points(f"before D={d}",
    f"after D={d}"), Above(POINT)) for d in (8, 12, 16, 24)],
    *[Ask(f"{d} blocks, both at SGD 0.05",
          minus(f"before D={d} accuracy at sgd 0.05", f"after D={d} accuracy at sgd 0.05")) for d in (4, 24)],
    experiments="E15", rule=at_least(3, "deep"),
)  # fmt: skip
PLACED = "pre-LN", "post-LN"
claim(
    "K36", "S0", "place", "The placement matters.", "Xiong et al. 2020; Peri-LN.",
    "Best minus worst placement: supported if 5 points or more in some cell.",
    *[Ask(f"pre and post, {d} blocks", spread([f"{p} D={d} accuracy" for p in PLACED]), Above(0.05))
      for d in (6, 24, 48)],
    *[Ask(f"six places, {d} blocks, {o}", spread([f"{p} D={d} {o} accuracy" for p in SIX]), Above(0.05))
      for d, o in GRIDS],
    experiments="E12 E14", rule=anywhere,
)  # fmt: skip
claim(
    "K37", "S0 S2", "place", "The start values of γ and β matter; bad ones harm.",
    "They are learned, not tuned; a γ of zero on branches helps (Goyal et al. 2017).",
    "Accuracy with γ₀ minus that with 1: harmful where a point or more is lost; supported if some start is.",
    *[Ask(f"{net}, γ₀ = {g:g}", points(f"{net} γ={g:g}", f"{net} γ=1"), Below(POINT))
      for net in ("plain", "residual") for g in GAMMAS if g != 1],
    experiments="E16", rule=anywhere,
)  # fmt: skip
claim(
    "K38", "S0", "place", "Small changes in design make large differences.", "Nothing is cited.",
    "Best minus worst of six placements: supported if 5 points or more in every cell, no effect below 2.",
    *[Ask(f"{d} blocks, {o}", spread([f"{p} D={d} {o} accuracy" for p in SIX]), Above(0.05, nothing=0.02))
      for d, o in GRIDS],
    experiments="E14",
)  # fmt: skip
claim(
    "K05", "S0 S2 S3", "what", "The learned γ and β keep the capacity of the network.",
    "Xu et al. 2019: they can over-fit; LayerNorm without them is often as good.",
    "Supported if test accuracy with γ and β is at least 1 point above that without, each at its best rate.",
    Ask("with − without γ, β", points("affine", "no affine"), Above(POINT), POINTS), experiments="E16",
)  # fmt: skip
claim(
    "K68", "S0", "depth", "LayerNorm with skips beats skips alone.",
    "At init the norm shrinks the branch, and a number can do that too: De and Smith 2020.",
    "Train accuracy with 32 blocks, pre-LN minus bare, scaled and ReZero: a point or more each; depends "
    "if they differ.",
    *[Ask(f"pre-LN − {name}", deep("pre-LN", name), Above(POINT)) for name in ("bare", "scaled", "ReZero")],
    experiments="E07",
)  # fmt: skip
