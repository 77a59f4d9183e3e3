"""What a norm computes: claims that algebra, single layers and documents settle."""

from lnres.claims.claim import NUMBER, SHARE, Ask, Unit, beside, claim, of
from lnres.claims.judge import REFUTED, SUPPORTED, AtLeast, NotZero, Words, Zero, exact, opposed

NAMES = {"layer": "LayerNorm", "batch": "BatchNorm"}
MOVED = Unit("largest change of the output", NUMBER.say)
OTHERS = "others replaced", "order permuted", "batch of 4", "batch of 1"


def still(norm: str, *names: str) -> list[Ask]:
    """An output that must not move at all."""
    return [Ask(f"{NAMES[norm]}: {name}", of(f"{norm} {name}"), Zero(0.0), MOVED) for name in names]


def moving(norm: str, *names: str) -> list[Ask]:
    """An output that must move."""
    return [Ask(f"{NAMES[norm]}: {name}", of(f"{norm} {name}"), NotZero(0.0), MOVED) for name in names]


def small(names: dict[str, float]) -> list[Ask]:
    """Errors and their tolerances."""
    return [Ask(name, of(name), Zero(tolerance), NUMBER) for name, tolerance in names.items()]


def undone(words: Words) -> str:
    """Refuted where statistics are 0 and 1 before the affine and no longer behind it."""
    before = {word for name, word in words.items() if name.startswith("before")}
    after = {word for name, word in words.items() if name.startswith("after")}
    return REFUTED if before == {SUPPORTED} and after == {SUPPORTED} else SUPPORTED


claim(
    "K01", "S0 S1 S2 S3", "what",
    "LayerNorm takes mean and variance over the features of one example, then applies γ and β.",
    "Ba, Kiros and Hinton 2016 define it so.",
    "Exact if LayerNorm's output of one example does not change at all when the others do, and "
    "BatchNorm's does.",
    *still("layer", *OTHERS), *moving("batch", "others replaced", "batch of 4", "batch of 1"),
    experiments="E01", rule=exact, against=("K02",),
)  # fmt: skip
claim(
    "K02", "S0", "what",
    "LayerNorm normalizes across the batch dimension.",
    "Against Ba, Kiros and Hinton 2016, and against the article's own mechanics.",
    "Refuted if nothing that happens to the other examples of the batch changes LayerNorm's output.",
    *[Ask(f"LayerNorm: {name}", of(f"layer {name}"), NotZero(0.0), MOVED) for name in OTHERS],
    Ask("BatchNorm: others replaced", of("batch others replaced"), None, MOVED),
    experiments="E01", rule=opposed, against=("K01",),
)  # fmt: skip
claim(
    "K03", "S0", "what",
    "LayerNorm divides by the biased standard deviation (1/n), with ε inside the root.",
    "torch does so, with ε = 1e-5; Keras's default is 1e-3.",
    "Exact if the written-out equation and the library agree to 1e-6 in single and 1e-12 in double "
    "precision.",
    *small({"own minus library float32": 1e-6, "own minus library float64": 1e-12}),
    experiments="E02", rule=exact,
)  # fmt: skip
claim(
    "K04", "S0", "what",
    "LayerNorm is (x − μ)/σ in the introduction, (x − μ)/√(σ² + ε) in the mechanics.",
    "They differ where inputs are tiny: with ε the output's power is s²/(s²+ε), so that LayerNorm is no "
    "longer blind to their scale s.",
    "Exact if output power and gradient follow s²/(s²+ε) and ε/(s²+ε)^1.5 over nine decades of scale.",
    *small({"output power minus s²/(s²+ε)": 1e-12,
            "√(s²+ε) times (gradient along x̂ minus ε/(s²+ε)^1.5)": 1e-12,
            "output of a constant row": 1e-12}),
    experiments="E02", rule=exact, version=2,
    revised="Version 1 measured the error of the gradient relative to an eigenvalue up to eleven decades "
    "smaller than "
    "the Jacobian's entries, which double precision cannot resolve; version 2 measures it relative to "
    "1/√(s²+ε).",
)  # fmt: skip
claim(
    "K06", "S2", "what",
    "The gain γ and the bias β do the rescaling.",
    "The reverse: the division by σ rescales; gain and bias let the network undo it.",
    "Refuted if each example's mean and variance are 0 and 1 (to 0.001) before γ and β of a trained network, "
    "and no longer behind them.",
    *[Ask(f"{where} γ, β: {what}", of(f"{where} γ, β: {what}"), kind(0.001), NUMBER)
      for where, kind in (("before", Zero), ("after", NotZero)) for what in ("mean", "variance minus 1")],
    experiments="E02", rule=undone, version=2,
    revised="Version 1 called everything within 0.01 zero, a thousand times what ε and rounding explain; "
    "version 2 calls 0.001 so.",
)  # fmt: skip
claim(
    "K07", "S2", "what",
    "BatchNorm normalizes activations, LayerNorm the inputs of a layer.",
    "Both norms can stand at either place; what differs is which numbers share a mean.",
    "A fact: the placement is a choice of its own, for every norm.",
    settled="not so: the lab's placement switch puts either norm before or after the activation",
)  # fmt: skip
claim(
    "K08", "S1 S3", "what",
    "BatchNorm normalizes each feature over the batch, LayerNorm each example over its features.",
    "Ioffe and Szegedy 2015; Ba, Kiros and Hinton 2016.",
    "Exact if GroupNorm with one group is LayerNorm over (C, H, W) and with C groups InstanceNorm, to 1e-6.",
    *small({"GroupNorm(1) minus LayerNorm(C,H,W)": 1e-6, "GroupNorm(C) minus InstanceNorm": 1e-6}),
    experiments="E02", rule=exact,
)  # fmt: skip
claim(
    "K09", "S0", "what",
    "Through LayerNorm gradients stay stable, and activations in a consistent range.",
    "Its Jacobian removes two directions and multiplies all others by 1/σ: it re-scales, amplifying "
    "where σ < 1 and damping where σ > 1. Every normalized entry is at most √(d-1).",
    "Exact if d-2 singular values are 1/σ, two are 0, and no entry exceeds √(d-1).",
    *small({"62 singular values times σ, minus 1": 1e-9, "2 singular values times σ": 1e-9,
            "largest entry over √(d-1), minus 1": 1e-9}),
    experiments="E02", rule=exact,
)  # fmt: skip
claim(
    "K10", "S0", "shift",
    "LayerNorm reduces “covariance shift”.",
    "The word is covariate shift: a change in the distribution of inputs, not of a covariance.",
    "A fact about words.", settled="a slip of the pen: covariate shift is meant",
)  # fmt: skip
claim(
    "K11", "S2", "what",
    "LayerNorm was introduced by Ba, Kiros and Hinton in 2016.",
    "arXiv 1607.06450, Layer Normalization.", "A fact.", settled="correct",
)  # fmt: skip
claim(
    "K12", "S3", "what",
    "LayerNorm treats all features of an example alike and works for a single example.",
    "Follows from what it computes.",
    "Exact if an example alone, in training or evaluation mode, gives the same output as within a batch.",
    *still("layer", "batch of 1", "evaluation mode"), experiments="E01", rule=exact,
)  # fmt: skip
claim(
    "K20", "S1 S3", "what",
    "LayerNorm computes the same in training and in testing.",
    "Ba, Kiros and Hinton 2016.",
    "Exact if switching to evaluation mode after 20 updates changes nothing for LayerNorm and something for "
    "BatchNorm.",
    *still("layer", "evaluation mode"), *moving("batch", "evaluation mode"), experiments="E01", rule=exact,
)  # fmt: skip
claim(
    "K33", "S1", "depth",
    "A tensor and its convolution can be added: that is a residual connection.",
    "Only with equal channels; otherwise a 1 × 1 projection stands in the skip (He et al. 2015).",
    "Exact if shapes with equal channels add, unequal ones do not, and a projection mends it. A map of "
    "one channel is added to all channels without a word.",
    Ask("16 + 16 channels", of("16 + 16 channels add"), AtLeast(1.0), SHARE),
    Ask("16 + 32 channels do not", lambda v: 1 - v["16 + 32 channels add"], AtLeast(1.0), SHARE),
    Ask("16 + projected 32 channels", of("16 + projected 32 channels add"), AtLeast(1.0), SHARE),
    *beside("16 + 1 channels add", unit=SHARE), experiments="E02", rule=exact,
)  # fmt: skip


def broken(words: Words) -> str:
    """Supported where every variant breaks the invariance, refuted where none does, depends otherwise."""
    found = set(words.values())
    return found.pop() if len(found) == 1 else "depends"


SHIFTED = ("LayerNorm(C)", "LayerNorm(C,H,W), one γ a channel", "LayerNorm(C,H,W), one γ a position")
claim(
    "K44", "S0", "nets",
    "LayerNorm breaks the spatial invariance that BatchNorm keeps.",
    "Statistics over channels or whole images commute with circular shifts; a γ for each position does not.",
    "Each variant exactly: broken if shifting the input by (2, 3) pixels and shifting the output differ "
    "by more than 1e-5; depends if the variants differ.",
    *[Ask(name, of(f"{name} shift error"), NotZero(1e-5), NUMBER) for name in SHIFTED],
    *[Ask(name, of(f"{name} shift error"), None, NUMBER) for name in ("BatchNorm", "InstanceNorm")],
    experiments="E02", rule=broken,
)  # fmt: skip
claim(
    "K46", "S2 S0", "nets", "ResNet used LayerNorm.", "ResNet uses BatchNorm (He et al. 2015).", "A fact.",
    settled="not so: it used BatchNorm",
)  # fmt: skip
claim(
    "K47", "S0", "nets", "LayerNorm is of use in reinforcement learning.",
    "LayerNorm stands in many critics.",
    "No honest reinforcement-learning experiment runs in minutes on two cores.", testable=False,
)  # fmt: skip
claim(
    "K54", "S2", "nets", "LayerNorm makes models more interpretable.", "No evidence is known.",
    "The word has no agreed measure, so there is nothing to measure.", testable=False,
)  # fmt: skip
claim(
    "K61", "S2", "data", "There are two forms of normalization: of data and of activations.",
    "Weights are normalized too: weight normalization (Salimans and Kingma 2016), spectral normalization.",
    "A fact about words.", settled="incomplete: norms of weights are left out",
)  # fmt: skip
claim(
    "K69", "S0", "what", "A “pivotal study” has shown the benefits of LayerNorm.",
    "The article does not name it.",
    "No source given, so it cannot be checked.", settled="no source given",
)  # fmt: skip
