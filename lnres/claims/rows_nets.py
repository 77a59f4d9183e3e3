"""Architectures, robustness, data and speed: claims that training decides."""

import math

from lnres.claims.claim import (
    FACTOR,
    NUMBER,
    SHARE,
    Ask,
    best,
    claim,
    decades,
    log_of,
    minus,
    of,
    points,
    times,
)
from lnres.claims.judge import (
    DEPENDS,
    NO_EFFECT,
    NOT_SETTLED,
    POINT,
    REFUTED,
    SUPPORTED,
    TENTH,
    Above,
    AtLeast,
    Below,
    Differs,
    Harm,
    NotBelow,
    Same,
    Whole,
    Words,
    nowhere,
)
from lnres.claims.nets import CELLS, SEQUENCES, WITHOUT
from lnres.claims.speed import WIDTHS

# ------------------------------------------------------------------------------------------- architectures

OVER_TIME = decades("gradient at the first time step over that at the last")
CONDITION = decades("condition number of the inputs")
WALKS = [(cell, T) for cell in CELLS for T in SEQUENCES]
claim(
    "K40", "S0 S2 S3", "nets", "LayerNorm stabilizes RNNs and LSTMs and prevents vanishing gradients there.",
    "Ba et al. 2016: very effective on the dynamics of hidden states. But where a state hardly varies, as "
    "before the first ink of a digit read pixel by pixel, LayerNorm multiplies gradients by up to 1/√ε a "
    "step: at init they explode over time, and do not with a large ε.",
    "LN − none a point or more for both cells, 8, 16 and 64 time steps, on the joint sum and on its parts.",
    *[Ask(f"{c}, {T} steps, {form}", points(f"{c} T={T} {form}", f"{c} T={T} none"), Above(POINT))
      for c, T in WALKS for form in ("LN", "LN apart")],
    *[Ask(f"at init: {c}, {T} steps, {form}",
          log_of(f"{c} T={T} {form} gradient over time at init"), None, OVER_TIME)
      for c, T in WALKS for form in ("none", "LN")],
    experiments="E17",
)  # fmt: skip
claim(
    "K41", "S1 S3", "nets", "BatchNorm is unsuited to recurrent networks.",
    "Ba et al. 2016; Cooijmans et al. 2017 make it work with statistics for every time step.",
    "LN − BN a point or more in every cell. Tested with the statistics of each step, BN shows whether "
    "the norm or the sharing of one running statistic is at fault.",
    *[Ask(f"{c}, {T} steps{form}", points(f"{c} T={T} LN{form}", f"{c} T={T} BN{form}"), Above(POINT))
      for c, T in WALKS for form in ("", " apart")],
    *[Ask(f"{c}, {T} steps, LN − BN of each step", points(f"{c} T={T} LN", f"{c} T={T} BN each step"))
      for c, T in WALKS],
    experiments="E17",
)  # fmt: skip
claim(
    "K42", "S0 S2 S3", "nets", "LayerNorm is crucial in transformers.",
    "Vaswani et al. 2017; Fixup, T-Fixup, ReZero and DynamicTanh (Zhu et al. 2025) do without.",
    "Helps: pre − none a point or more with 4 and 12 layers. Crucial: refuted if a network without "
    "statistics is within a point of pre with 12.",
    *[Ask(f"pre − none, {d} layers", points(f"pre D={d}", f"none D={d}"), Above(POINT)) for d in (4, 12)],
    Ask("best without statistics − pre, 12 layers",
        lambda v: best([f"{arm} D=12 accuracy" for arm in WITHOUT])(v) - v["pre D=12 accuracy"], Harm(POINT)),
    *[Ask(f"{arm} − pre, {d} layers", points(f"{arm} D={d}", f"pre D={d}"))
      for arm in ("ReZero", "DynamicTanh") for d in (4, 12)],
    experiments="E13",
)  # fmt: skip
CONVS = "3 layers B=64", "3 layers B=4", "6 layers B=64"
claim(
    "K43", "S1 S3", "nets", "BatchNorm is for convnets; LayerNorm is weaker there.",
    "Ba et al. 2016 say so themselves; ConvNeXt (2022) uses LayerNorm.",
    "BN minus LN(C), and minus LN(C, H, W), a point or more at batch 64 and 4. Small nets (8 channels), "
    "12 seeds.",
    *[Ask(f"BN − {norm}, {net}", points(f"BN {net}", f"{norm} {net}"), Above(POINT))
      for norm in ("LN(C)", "LN(C,H,W)") for net in CONVS],
    *[Ask(f"BN − {norm}, {net}", points(f"BN {net}", f"{norm} {net}")) for norm in ("GN(4)",
    "none") for net in CONVS],
    experiments="E18",
)  # fmt: skip
LN_IN = "LN in G", "LN in D", "LN in both"
claim(
    "K45", "S0", "nets",
    "LayerNorm improves GANs.", "WGAN-GP has it in the critic; elsewhere findings are mixed.",
    "Share of good samples 5 points or more above none, and not fewer modes; opposite moves: depends.",
    *[Ask(f"{arm}: good samples", minus(f"{arm} quality", "none quality"), Above(0.05)) for arm in LN_IN],
    *[Ask(f"{arm}: modes", minus(f"{arm} modes", "none modes"), NotBelow(), NUMBER) for arm in LN_IN],
    *[Ask(f"{arm}: good samples", minus(f"{arm} quality", "none quality")) for arm in ("BN in G",
    "BN in both")],
    experiments="E19",
)  # fmt: skip

# --------------------------------------------------------------------------- over-fitting, noise and shift

LABELS = {"clean labels": "labels 0", "20 % label noise": "labels 0.2"}
claim(
    "K48", "S1 S2 S0", "robust", "LayerNorm generalizes better: less over-fitting through less noise.",
    "There is little that regularizes in it; Xu et al. 2019.",
    "Test accuracy from 200 digits, LN − none without dropout: a point or more with clean and with noisy "
    "labels.",
    *[Ask(said, points(f"layer {name} dropout 0", f"none {name} dropout 0"), Above(POINT))
      for said, name in LABELS.items()],
    *[Ask(f"train − test, LN − none, {said}", minus(f"layer {name} dropout 0 gap",
    f"none {name} dropout 0 gap"))
      for said, name in LABELS.items()],
    experiments="E20", against=("K52", "K53"),
)  # fmt: skip


def gain(norm: str, labels: str) -> object:
    """What dropout of 0.2 brings."""
    return points(f"{norm} {labels} dropout 0.2", f"{norm} {labels} dropout 0")


claim(
    "K49", "S3", "robust", "BatchNorm regularizes, so less dropout is needed.",
    "Ioffe and Szegedy 2015; Luo et al. 2019.",
    "The gain of dropout (0.2 − 0), BN's minus none's: −1 point or less at both levels of label noise.",
    *[Ask(said, lambda v, n=name: gain("batch", n)(v) - gain("none", n)(v), Below(POINT))
      for said, name in LABELS.items()],
    experiments="E20",
)  # fmt: skip
claim(
    "K50", "S2", "robust", "Dropout works well together with LayerNorm.",
    "Yes; of BatchNorm the variance shifts between training and testing (Li et al. 2019).",
    "With LN, dropout of 0.2 brings a point or more.",
    *[Ask(said, gain("layer", name), Above(POINT)) for said, name in LABELS.items()],
    *[Ask(f"BN, {said}", gain("batch", name)) for said, name in LABELS.items()], experiments="E20",
)  # fmt: skip
claim(
    "K51", "S0 S2", "robust", "LayerNorm makes networks robust to noise.", "Findings are mixed.",
    "Accuracy LN − none a point or more under test noise of 0.3 and 0.6, and after training with noise "
    "of 1, 2 and 4.",
    *[Ask(f"test noise {s}", minus(f"layer noise {s}", f"none noise {s}"), Above(POINT)) for s in ("0.3",
    "0.6")],
    *[Ask(f"training noise {s}", points(f"layer noise {s}",
    f"none noise {s}"), Above(POINT)) for s in ("1", "2", "4")],
    experiments="E21 E22", against=("K52", "K53"),
)  # fmt: skip
CHANGES = "own contrast", "contrast × 5", "contrast × 0.2", "brightness + 0.5"
claim(
    "K52", "S0", "robust", "LayerNorm does poorly under variable or shifted inputs.",
    "LayerNorm behind a linear layer cancels an example's own gain, up to the bias.",
    "Accuracy LN − none for each shift: supported at −1 point or less, refuted once the lower bound is "
    "above that.",
    *[Ask(name, minus(f"layer {name}", f"none {name}"), Harm(POINT)) for name in CHANGES],
    *[Ask(f"BN − none, {name}", minus(f"batch {name}", f"none {name}")) for name in CHANGES],
    experiments="E21", against=("K51", "K48"),
)  # fmt: skip
claim(
    "K53", "S2", "robust", "LayerNorm is problematic online and where data are not stationary.",
    "It keeps no running statistics, so theory expects no special harm.",
    "Predict-then-learn accuracy under a drifting gain and class by class: refuted if LN − BN and LN − "
    "none have lower bounds above −1 point, supported if LN is a point or more below none.",
    *[Ask(f"LN − {said}, {kind}", points(f"layer {kind}", f"{norm} {kind}"), Harm(POINT))
      for said, norm in (("none", "none"), ("BN", "batch")) for kind in ("drift", "sorted")],
    Ask("LN − none, steady", points("layer iid", "none iid")),
    experiments="E23", against=("K51", "K48"),
)  # fmt: skip
claim(
    "K39", "S2", "robust",
    "γ and β adapt to a changing distribution of the inputs.", "Only by gradient steps.",
    "Under a drifting offset and gain of every pixel, trained γ, β minus frozen ones: a point or more.",
    Ask("trained − frozen", points("γ, β trained", "γ, β frozen"), Above(POINT)), experiments="E23",
)  # fmt: skip
claim(
    "K55", "S1", "what", "LayerNorm makes all units contribute equally.",
    "LayerNorm equalizes examples, BatchNorm units.",
    "Spread of the units' standard deviations (CV), LN over none, before and after γ, β: refuted unless "
    "below a half.",
    *[Ask(f"units, {w} γ, β", times(f"layer CV of units {w}",
    f"none CV of units {w}"), Whole(math.log(0.5)), FACTOR)
      for w in ("before", "after")],
    Ask("units, BN over none", times("batch CV of units after", "none CV of units after"), None, FACTOR),
    Ask("examples, LN over none", times("layer CV of examples after",
    "none CV of examples after"), None, FACTOR),
    experiments="E24",
)  # fmt: skip

# ---------------------------------------------------------------------------------------- scaling the data

claim(
    "K56", "S1", "data", "Inputs in units of different scale make learning hard.",
    "The condition number of the inputs: LeCun et al. 1998.",
    "Final train loss over that with z-scored inputs, SGD: more than 10 % higher, raw and with km and nm.",
    *[Ask(f"{name} over z", times(f"{name} none sgd final loss",
    "z none sgd final loss"), Above(TENTH), FACTOR)
      for name in ("raw", "km/nm")],
    *[Ask(name, log_of(f"{name} condition number"), None, CONDITION) for name in ("raw", "z", "km/nm")],
    experiments="E25",
)  # fmt: skip
claim(
    "K57", "S2", "data",
    "Kilometres and nanometres: min-max scaling cures it, training is faster and stabler.",
    "LeCun et al. 1998.",
    "Test accuracy on wine, min-max − unscaled: 5 points or more with SGD and Adam, raw and with km and nm.",
    *[Ask(f"{said}, {o}", points(f"{after} none {o}", f"{before} none {o}"), Above(0.05))
      for said, before, after in (("raw", "raw", "min-max"), ("km and nm", "km/nm", "km/nm min-max"))
      for o in ("sgd", "adam")],
    *[Ask(f"{said} in the network instead, {o}", points(f"raw {norm} {o}", f"raw none {o}"))
      for said, norm in (("LN", "layer"), ("BN", "batch")) for o in ("sgd", "adam")],
    experiments="E25",
)  # fmt: skip
claim(
    "K58", "S2", "data", "Features of a large range dominate learning.",
    "True of SGD; normalizing rows acts on the other axis.",
    "The largest column owns 90 % of the first layer's squared gradient; min-max beats scaling by rows "
    "by 5 points.",
    Ask("the largest column's share, raw", of("raw gradient of the largest column"), AtLeast(0.9), SHARE),
    Ask("min-max − rows", points("min-max none sgd", "row none sgd"), Above(0.05)),
    Ask("the largest column's share, z",
    of("z gradient of the largest column"), None, SHARE), experiments="E25",
)  # fmt: skip


def loudness(words: Words) -> str:
    """Both at least harmless and one helps; or the quiet one harms and the loud one does not help."""
    quiet, loud = words.values()
    if {quiet, loud} == {SUPPORTED, REFUTED}:
        return DEPENDS
    if NOT_SETTLED in (quiet, loud):
        return NOT_SETTLED
    if SUPPORTED in (quiet, loud):
        return SUPPORTED
    return REFUTED if quiet == REFUTED else NO_EFFECT if quiet == loud else NOT_SETTLED


claim(
    "K59", "S2", "data", "Normalizing the data reduces over-fitting because it reduces noise.",
    "z-scoring a column changes its weight in either direction.",
    "z − as is, with 30 columns of quiet noise and of loud noise, ± 2 points: supported if neither harms "
    "and one "
    "helps, refuted if the quiet one harms and the loud one does not help, depends if they are opposed.",
    *[Ask(f"{n} noise", points(f"{n} noise none z",
    f"{n} noise none as is"), Above(0.02)) for n in ("quiet", "loud")],
    *[Ask(f"{n} noise, {norm}", points(f"{n} noise {norm} z", f"{n} noise {norm} as is"))
      for n in ("quiet", "loud") for norm in ("layer", "batch")],
    experiments="E25", rule=loudness,
)  # fmt: skip
claim(
    "K60", "S2", "data", "The same range, or the same mean and variance: the two are alternatives.",
    "Min-max is sensitive to outliers.",
    "z − min-max, clean and with one training row times 1000: no effect if inside ± 2 points.",
    Ask("clean", points("z none sgd", "min-max none sgd"), Same(0.02)),
    Ask("with an outlier", points("outlier z", "outlier min-max"), Same(0.02)),
    Ask("with an outlier, median-IQR − min-max", points("outlier median-IQR",
    "outlier min-max")), experiments="E25",
)  # fmt: skip

# ------------------------------------------------------------------------------------- speed, cost and width


def cheap(words: Words) -> str:
    """Refuted where the ratio falls with width and ends small; supported where it rises and ends large."""
    rises, large = words.values()
    return rises if rises == large else NOT_SETTLED


claim(
    "K62", "S2 S3", "speed", "LayerNorm is costly, above all in large models.",
    "It costs O(d) beside O(d²); RMSNorm is 7 to 64 % faster (Zhang and Sennrich 2019).",
    "Time of a step over that without norm, on this machine's CPU: refuted if it falls from width 64 to "
    "1024 and is below 1.1 there. A GPU is not measured.",
    Ask("width 1024 over width 64", times("layer time w=1024", "layer time w=64"), Above(), FACTOR),
    Ask("ratio at width 1024", log_of("layer time w=1024"), AtLeast(TENTH), FACTOR),
    *[Ask(f"{said} at width {w}", log_of(f"{norm} time w={w}"), None, FACTOR)
      for said, norm in (("LN", "layer"), ("RMSNorm", "rms"), ("BN", "batch")) for w in (64, 256, 1024)],
    experiments="E26", rule=cheap, against=("K63",),
)  # fmt: skip
claim(
    "K63", "S2", "speed", "LayerNorm helps on edge hardware.", "Stands against K62, in the same article.",
    "There is no edge hardware here; what it costs is K62, what it does to narrow nets K67.", testable=False,
    against=("K62",),
)  # fmt: skip
claim(
    "K64", "S0 S2", "speed", "LayerNorm converges faster.", "Ba et al. 2016.",
    "Train loss after 200 steps, LN over none, each at its best rate: 10 % lower with SGD and with Adam.",
    *[Ask(o, times(f"layer {o} final loss", f"none {o} final loss"), Below(TENTH), FACTOR) for o in ("sgd",
    "adam")],
    experiments="E27",
)  # fmt: skip
claim(
    "K65", "S0", "speed",
    "What LayerNorm brings may differ under adaptive learning rates.", "A question of the article.",
    "LN over none with SGD, over the same with Adam: supported if they differ by 10 % or more.",
    Ask("SGD over Adam", lambda v: times("layer sgd final loss", "none sgd final loss")(v)
        - times("layer adam final loss", "none adam final loss")(v), Differs(TENTH), FACTOR),
    experiments="E27",
)  # fmt: skip
claim(
    "K66", "S3", "speed",
    "BatchNorm converges faster.", "Through larger learning rates: Ioffe and Szegedy 2015.",
    "Train loss after 200 steps 10 % lower with both optimizers, and the largest rate that still trains "
    "ten times larger, BN over none.",
    *[Ask(o, times(f"batch {o} final loss", f"none {o} final loss"), Below(TENTH), FACTOR) for o in ("sgd",
    "adam")],
    Ask("largest usable rate", times("batch largest rate above 0.95", "none largest rate above 0.95"),
        Above(math.log(10)), FACTOR),
    *[Ask(f"largest usable rate, {said}", times(f"{norm} largest rate above 0.95",
    "none largest rate above 0.95"),
          None, FACTOR) for said, norm in (("LN", "layer"), ("RMSNorm", "rms"))],
    experiments="E27 E28",
)  # fmt: skip
claim(
    "K67", "S0", "speed",
    "The benefits hold over widths and depths.", "LN of width 2 gives ± 1, and a gradient of 0.",
    "Test accuracy LN − none at every width: refuted if −1 point or less at some.",
    *[Ask(f"width {w}", points(f"layer w={w}", f"none w={w}"), Above(POINT)) for w in WIDTHS],
    *[Ask(f"{said} − none, width {w}", points(f"{norm} w={w}", f"none w={w}"))
      for said, norm in (("RMSNorm", "rms"), ("BN", "batch")) for w in WIDTHS],
    experiments="E29", rule=nowhere,
)  # fmt: skip
