"""What can be known of a deep network before it is built: closed forms, each with its paper and conditions.

Common to all rows: initialization, independent Gaussian weights, zero biases, γ = 1, β = 0, ε negligible, and
wide. n is the width, L the number of layers or blocks, B the batch size, q a mean square over features, c a
cosine between two examples. A *rate* is the growth per layer, counted towards the input, of the squared norm
of one example's gradient. A *unit branch* keeps its input's mean square.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from lnres.registry import Registry

THEORIES = Registry("theory")

SHORT_BATCH = 5
"""With fewer examples the rates of BatchNorm have no finite mean, or scatter wildly about it."""


# ----------------------------------------------------------------------------------- averages over Gaussians


@lru_cache
def nodes(many: int = 99) -> tuple[np.ndarray, np.ndarray]:
    """Where a normal variable is looked at, and how likely each is."""
    z, weight = np.polynomial.hermite_e.hermegauss(many)
    return z, weight / weight.sum()


def gaussian_mean(f: Callable):
    """E f(z) of a standard normal z, for a smooth f; f may return (..., nodes)."""
    z, weight = nodes()
    return f(z) @ weight


def joint_mean(f: Callable, q, c, many: int = 99):
    """E f(a) f(b) of two normal variables of variance q and correlation c, for a smooth f; also of arrays."""
    z, weight = nodes(many)
    size, c = np.sqrt(q)[..., None, None], np.asarray(c)[..., None, None]
    a, b = z[:, None], c * z[:, None] + np.sqrt(np.maximum(0.0, 1 - c * c)) * z
    return (f(size * a) * f(size * b)) @ weight @ weight


def bisection(f: Callable, low, high, times: int = 60):
    """Where f, positive at ``low`` and negative at ``high``, changes its sign; also of arrays."""
    for _ in range(times):
        middle = (low + high) / 2
        positive = f(middle) > 0
        low, high = np.where(positive, middle, low), np.where(positive, high, middle)
    return (low + high) / 2


def tanh_slope(z):
    """The derivative of tanh, sech²."""
    return np.cosh(np.clip(z, -300, 300)) ** -2


# -------------------------------------------------------------------------------------------- plain networks


@THEORIES.add(
    "C01", "He's variance keeps a ReLU layer's power", r"\sigma_w^2=2/n:\ \mathrm{E}[q_{l+1}/q_l]=1",
    about="The mean over hundreds of narrow networks: its tail is heavy.", paper="He et al. 2015",
)  # fmt: skip
def relu_power(sigma_w2: float = 2.0) -> float:
    """The factor of the power per layer, with weights of variance σ_w²/n."""
    return sigma_w2 / 2


@THEORIES.add(
    "C02", "How much one network differs from the next", r"n\,\mathrm{Var}[q_{l+1}/q_l]=5",
    about="Behind a ReLU, over hundreds of networks; the logarithm of grad² then varies by about 5L/n.",
    paper="Hanin & Rolnick 2018",
)  # fmt: skip
def relu_scatter(width: int, layers: int) -> float:
    """The standard deviation of one plain ReLU network's log rate, counted over so many layers."""
    return math.sqrt(5 / (width * layers))


@THEORIES.add(
    "C03", "Xavier's variance halves it", r"\sigma_w^2=1/n:\ q_{l+1}/q_l=1/2", about="Plain ReLU networks.",
    paper="Glorot & Bengio 2010",
)  # fmt: skip
def xavier_power() -> float:
    """The factor of the power per layer."""
    return relu_power(1.0)


@THEORIES.add(
    "C04", "ReLU draws all inputs together",
    r"c\mapsto\kappa_1(c)=\frac{\sqrt{1-c^2}+c\,(\pi-\arccos c)}{\pi}",
    about="Plain He or LayerNorm, then ReLU; from every measured pair, then averaged.",
    paper="Cho & Saul 2009",
)  # fmt: skip
def kappa1(c):
    """The cosine of two inputs of cosine c behind one ReLU layer."""
    c = np.clip(c, -1.0, 1.0)
    return (np.sqrt(1 - c**2) + c * (math.pi - np.arccos(c))) / math.pi


def kappa0(c):
    """How likely the second of two inputs of cosine c passes a ReLU that the first passes."""
    return (math.pi - np.arccos(np.clip(c, -1.0, 1.0))) / math.pi


@THEORIES.add(
    "C05", "Gradients of different inputs turn apart",
    r"\prod_l\kappa_0(c_l);\ \prod_l\tfrac{1+\kappa_0(c_l)}{2};\ \prod_l\tfrac{l+1+\kappa_0(c_l)}{l+2}",
    about="Plain, rescaled skip and pre-LN; the same cotangent for both inputs, unit branches with ReLU.",
)  # fmt: skip
def gradient_cosine(c, skips: Sequence[float]):
    """The cosine of two inputs' gradients: ``skips`` is each block's ratio of stream to branch power."""
    found = 1.0
    for skip in skips:
        found = found * (skip + kappa0(c)) / (skip + 1)
        c = (skip * c + kappa1(c)) / (skip + 1)
    return found


@THEORIES.add(
    "C07", "The size at which a tanh network settles",
    r"q^*=\sigma_w^2\,\mathrm{E}\tanh^2(\sqrt{q^*}z)+\sigma_b^2",
    about="Mean square of the pre-activations, from any start.", paper="Poole et al. 2016",
)  # fmt: skip
def q_star(sigma_w2, sigma_b2):
    """The fixed point, by bisection: the map less its argument falls through zero once. Also of arrays."""

    def excess(q):
        return sigma_w2 * gaussian_mean(lambda z: np.tanh(np.sqrt(q)[..., None] * z) ** 2) + sigma_b2 - q

    return bisection(excess, np.where(np.asarray(sigma_w2) <= 1, 0.0, 1e-9), sigma_w2 + sigma_b2)


@THEORIES.add(
    "C08", "Order and chaos have a rate", r"\chi_1=\sigma_w^2\,\mathrm{E}\,\mathrm{sech}^4(\sqrt{q^*}z)",
    about="Plain tanh, once the size has settled.", paper="Schoenholz et al. 2017",
)  # fmt: skip
def chi1(sigma_w2, sigma_b2):
    """The rate of grad² per tanh layer; also of arrays."""
    size = np.sqrt(q_star(sigma_w2, sigma_b2))[..., None]
    return sigma_w2 * gaussian_mean(lambda z: tanh_slope(size * z) ** 2)


@THEORIES.add(
    "C06", "The critical line", r"\chi_1(\sigma_w^2,\sigma_b^2)=1",
    about="Plain tanh; near σ_w² = 1.76 where σ_b² = 0.05.", paper="Poole et al. 2016",
)  # fmt: skip
def critical_sigma_w2(sigma_b2):
    """The σ_w² at which gradients neither vanish nor explode; also of arrays."""
    return bisection(lambda sigma_w2: 1 - chi1(sigma_w2, sigma_b2), np.ones_like(sigma_b2, float), 100.0, 40)


@THEORIES.add(
    "C09", "How far a gradient reaches", r"\xi_1=1/\lvert\log\chi_1\rvert", about="Plain tanh, in layers.",
    paper="Schoenholz et al. 2017",
)  # fmt: skip
def xi1(sigma_w2: float, sigma_b2: float) -> float:
    """The depth scale of the gradient."""
    return depth_scale(chi1(sigma_w2, sigma_b2))


def depth_scale(rate):
    """The layers over which something that grows at a rate changes by a factor of e."""
    with np.errstate(divide="ignore"):
        return 1 / np.abs(np.log(rate))


@THEORIES.add(
    "C10", "How far two inputs stay apart",
    r"c\mapsto(\sigma_w^2\,\mathrm{E}[\tanh a\tanh b]+\sigma_b^2)/q^*,\ \xi_c=-1/\log f'(c^*)",
    about="Plain tanh; a and b normal of variance q* and correlation c. Trainable up to about 6 ξ_c.",
    paper="Schoenholz et al. 2017",
)  # fmt: skip
def xi_c(sigma_w2, sigma_b2, many: int = 99):
    """The depth scale of the correlation of two inputs; also of arrays, by ``many`` nodes."""
    q, c = q_star(sigma_w2, sigma_b2), c_star(sigma_w2, sigma_b2, many)
    return depth_scale(sigma_w2 * joint_mean(tanh_slope, q, c, many))


def correlation_map(c, sigma_w2, sigma_b2, q, many: int = 99):
    """The correlation of two inputs behind one more tanh layer."""
    return (sigma_w2 * joint_mean(np.tanh, q, c, many) + sigma_b2) / q


def c_star(sigma_w2, sigma_b2, many: int = 99):
    """The correlation at which all inputs end: 1 in the ordered phase."""
    q = np.maximum(q_star(sigma_w2, sigma_b2), 1e-12)
    low = np.full_like(q, -1e-9)
    found = bisection(lambda c: correlation_map(c, sigma_w2, sigma_b2, q, many) - c, low, 1 - 1e-9, 40)
    return np.where(chi1(sigma_w2, sigma_b2) <= 1, 1.0, found)


# -------------------------------------------------------------------------------------------- norms, no skip


@THEORIES.add(
    "C11", "BatchNorm makes gradients explode",
    r"\frac{\kappa_0(c)+B-1}{(B-3)(1-\kappa_1(c))}-\frac{1}{B-3},\ c=-\frac{1}{B-1}\ \to\ \frac{\pi}{\pi-1}",
    about="Plain, BatchNorm then ReLU, any weight scale, B ≥ 5; squares summed over the batch.",
    paper="Yang et al. 2019",
)  # fmt: skip
def batchnorm_rate(batch: float) -> float:
    """The rate of grad² per layer."""
    c = -1 / (batch - 1)
    return float((kappa0(c) + batch - 1) / ((batch - 3) * (1 - kappa1(c))) - 1 / (batch - 3))


@THEORIES.add(
    "C12", "... without any nonlinearity too", r"\frac{B-2}{B-3}",
    about="Plain, BatchNorm between linear layers, B ≥ 5.", paper="Yang et al. 2019",
)  # fmt: skip
def batchnorm_linear_rate(batch: float) -> float:
    """The rate of grad² per layer."""
    return (batch - 2) / (batch - 3)


@THEORIES.add(
    "C13", "How deep a BatchNorm network without a skip can be", r"16/\log(\mathrm{rate})",
    about="A rule of thumb for plain BatchNorm then ReLU.", paper="Yang et al. 2019",
)  # fmt: skip
def batchnorm_depth(batch: float) -> float:
    """The trainable depth in layers."""
    return 16 / math.log(batchnorm_rate(batch))


@THEORIES.add(
    "C14", "LayerNorm then ReLU keeps the gradient", r"\frac{\sigma_w^2}{\sigma_w^2+2\sigma_b^2}",
    about="Plain; 1 for any weight scale where there are no biases.", paper="Doshi et al. 2021",
)  # fmt: skip
def layernorm_rate(sigma_w2: float = 1.0, sigma_b2: float = 0.0) -> float:
    """The rate of grad² per layer."""
    return sigma_w2 / (sigma_w2 + 2 * sigma_b2)


@THEORIES.add(
    "C15", "ReLU then LayerNorm lets it grow", r"\frac{\pi}{\pi-1}",
    about="Plain, any weight scale: without its mean a ReLU's output loses 1/π of its power.",
)  # fmt: skip
def relu_layernorm_rate() -> float:
    """The rate of grad² per layer."""
    return math.pi / (math.pi - 1)


@THEORIES.add(
    "C16", "LayerNorm then tanh",
    r"\frac{\sigma_w^2A}{\sigma_w^2T+\sigma_b^2},\ A=\mathrm{E}\,\mathrm{sech}^4z,\ T=\mathrm{E}\tanh^2z",
    about="Plain; only the ratio of the two variances counts.",
)  # fmt: skip
def layernorm_tanh_rate(sigma_w2: float, sigma_b2: float) -> float:
    """The rate of grad² per layer."""
    a, t = gaussian_mean(lambda z: tanh_slope(z) ** 2), gaussian_mean(lambda z: np.tanh(z) ** 2)
    return sigma_w2 * a / (sigma_w2 * t + sigma_b2)


# --------------------------------------------------------------------------------------------------- skips


@THEORIES.add(
    "C17", "A bare skip doubles variance and gradient", r"2^L",
    about="Unit branch; three times per block where both matrices have variance 2/n.",
    paper="Hanin & Rolnick 2018",
)  # fmt: skip
def bare_rate(branch: float = 1.0) -> float:
    """The factor of power and of grad² per block, with a branch of this power gain."""
    return 1 + branch


@THEORIES.add(
    "C18", "A branch times 1/√L stays bounded", r"(1+1/L)^L\to e", about="Unit branch; of power and grad².",
    paper="Hayou et al. 2021",
)  # fmt: skip
def scaled_total(blocks: int) -> float:
    """The factor of power and of grad² of the whole network."""
    return (1 + 1 / blocks) ** blocks


@THEORIES.add(
    "C19", "Pre-LayerNorm grows evenly",
    r"\mathrm{Var}\,x_l=v_0+l,\ \frac{g_l}{g_L}=\frac{v_0+L}{v_0+l}",
    about="Unit branch; v₀ is the variance the stream starts with.", paper="De & Smith 2020",
)  # fmt: skip
def prelayernorm_gradient(blocks: int, v0: float = 1.0) -> np.ndarray:
    """grad² at every state of the stream, (L+1,), relative to the last."""
    return (v0 + blocks) / prelayernorm_power(blocks, v0)


def prelayernorm_power(blocks: int, v0: float = 1.0) -> np.ndarray:
    """The variance of every state of the stream, (L+1,)."""
    return v0 + np.arange(blocks + 1.0)


@THEORIES.add(
    "C20", "Pre-BatchNorm's gradients grow faster",
    r"\frac{g_0}{g_L}=\prod_{l<L}\frac{2+al}{1+al},\ a=1-\tfrac1\pi;\quad \mathrm{Var}\,x_l=1+l",
    about="Unit branch with ReLU, a large batch: about L to the power of π/(π−1).",
)  # fmt: skip
def prebatchnorm_gradient(blocks: int) -> np.ndarray:
    """grad² at every state of the stream, (L+1,), relative to the last."""
    below = (1 - 1 / math.pi) * np.arange(blocks)
    return np.append(np.cumprod(((2 + below) / (1 + below))[::-1])[::-1], 1.0)


@THEORIES.add(
    "C21", "Post-LayerNorm keeps the stream's gradient", r"g_l/g_{l+1}=1",
    about="Unit branch with ReLU, from a normalized start.",
)  # fmt: skip
def postlayernorm_rate() -> float:
    """The rate of grad² per block."""
    return 1.0


LAST_GRADIENT = {"pre": -0.5, "post": 0.0}
THEORIES.put(
    "C22", "The last block's gradient",
    r"\lVert\nabla W_2\rVert\propto(L+1)^{-1/2}\ \text{pre},\ L^0\ \text{post}",
    make=LAST_GRADIENT, about="Of one example, with a final LayerNorm for pre.", paper="Xiong et al. 2020",
)  # fmt: skip


def last_gradient(scheme: str, blocks: int) -> float:
    """How it goes with depth, but for a constant: of ``pre``, ``post``, or DeepNorm's small weights."""
    if scheme in LAST_GRADIENT:
        return (blocks + 1) ** LAST_GRADIENT[scheme]
    alpha, beta = deepnorm(blocks)
    return beta / math.sqrt(alpha**2 + beta**4)


POST_SUM, PRE_SLOPE = 3 / 2, (1 / 2, 3 / 2)
THEORIES.put(
    "C23", "What a layer of a transformer adds",
    r"\mathrm{E}\lVert x_{\mathrm{post},5}\rVert^2/d=\tfrac32,\ \tfrac12\le\text{slope of pre}\le\tfrac32",
    make=(POST_SUM, PRE_SLOPE), about="Uniform attention, all variances 1/d, ReLU in the MLP.",
    paper="Xiong et al. 2020",
)  # fmt: skip

WRITTEN = {
    "bare": lambda blocks: np.full(blocks, 1 / 2),
    "post": lambda blocks: np.full(blocks, 1 / 2),
    "pre": lambda blocks: 1 / np.arange(2.0, blocks + 2),
    "scaled": lambda blocks: np.full(blocks, 1 / (blocks + 1)),
    "deepnorm": lambda blocks: np.full(blocks, 1 / (1 + 4 * blocks * math.sqrt(blocks) * 2**1.5)),
}
"""The share of each state's power that its own block wrote, for unit branches and v₀ = 1."""


SCHEMES = {
    "bare": {"norm": "none", "residual": "identity"},
    "scaled": {"norm": "none", "residual": "scaled"},
    "pre": {"norm": "layer", "placement": "pre", "residual": "identity"},
    "post": {"norm": "layer", "placement": "post", "residual": "identity"},
    "deepnorm": {"norm": "layer", "placement": "post", "residual": "deepnorm"},
}
"""Settings of an experiment that make it a row of ``WRITTEN``, all else being ``UNIT``."""
UNIT = {
    "model": "mlp",
    "layers": 2,
    "init": "unit",
    "gain": 1.0,
    "alpha": 0.0,
    "gamma": 1.0,
    "zero_last": False,
}


def source_shares(e) -> np.ndarray | None:
    """The source's share of every state of an experiment's stream, (L+1,); None without a closed form."""
    for name, settings in SCHEMES.items():
        if all(getattr(e, field) == value for field, value in (UNIT | settings).items()):
            return np.append(1.0, np.cumprod(1 - WRITTEN[name](e.blocks)))
    return None


def stream_shares(written: np.ndarray) -> np.ndarray:
    """Whose power the last state is, (L+1,): the source's, then each block's; they sum to 1."""
    kept = np.append(np.cumprod((1 - written)[::-1])[::-1], 1.0)
    return kept * np.append(1.0, written)


@THEORIES.add(
    "C24", "How much of its input a stream still carries",
    r"\cos(x_0,x_L)=2^{-L/2}\ \text{bare, post},\ (L+1)^{-1/2}\ \text{pre},"
    r"\ (1+\tfrac1L)^{-L/2}\ \text{scaled},\ (1+\tfrac{\beta^4}{\alpha^2})^{-L/2}\ \text{DeepNorm}",
    about="Unit branch, v₀ = 1; the source's share of the power is the square.",
)  # fmt: skip
def input_cosine(scheme: str, blocks: int) -> float:
    """The cosine of the last state with the first, for a row of ``WRITTEN``."""
    return math.sqrt(stream_shares(WRITTEN[scheme](blocks))[0])


@THEORIES.add(
    "C25", "DeepNorm's constants",
    r"\alpha=(2N)^{1/4},\ \beta=(8N)^{-1/4};\ \text{encoder}\ .81(N^4M)^{1/16},\ .87(N^4M)^{-1/16},"
    r"\ \text{decoder}\ (3M)^{1/4},\ (12M)^{-1/4}",
    about="One stack of N layers; or an encoder of N and a decoder of M.", paper="Wang et al. 2022",
)  # fmt: skip
def deepnorm(layers: int) -> tuple[float, float]:
    """(α, β) of one stack."""
    return (2 * layers) ** 0.25, (8 * layers) ** -0.25


def deepnorm_pair(encoder: int, decoder: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(α, β) of an encoder and of the decoder behind it."""
    both = (encoder**4 * decoder) ** (1 / 16)
    return (0.81 * both, 0.87 / both), ((3 * decoder) ** 0.25, (12 * decoder) ** -0.25)


@THEORIES.add(
    "C26", "Fixup's scale", r"L^{-1/(2m-2)}", about="m layers a branch.", paper="Zhang et al. 2019",
)  # fmt: skip
def fixup_scale(blocks: int, layers: int = 2) -> float:
    """What the inner weights of every branch are multiplied by."""
    return blocks ** (-1 / (2 * layers - 2))


@THEORIES.add(
    "C27", "A residual network is many paths",
    r"\mathrm{Bin}(L,\tfrac12)\ \text{by number},\ \mathrm{Bin}(L,\tfrac{a}{1+a})\ \text{by energy}",
    about="a is the branch's power gain; of pre-LN step l is taken with probability 1/(l+2).",
    paper="Veit et al. 2016",
)  # fmt: skip
def path_shares(taken: Sequence[float]) -> np.ndarray:
    """The share of paths through k branches, (L+1,), where branch l is taken with these probabilities."""
    share = np.ones(1)
    for p in taken:
        share = np.convolve(share, [1 - p, p])
    return share


def path_counts(blocks: int) -> list[int]:
    """How many paths pass through k branches, exactly."""
    return [math.comb(blocks, k) for k in range(blocks + 1)]


# ------------------------------------------------------------------------------------------ a layer by itself


@THEORIES.add(
    "C28", "What LayerNorm's derivative takes away",
    r"\tfrac1\sigma(I-\tfrac{\mathbf{1}\mathbf{1}^\top}{d}-\tfrac{\hat x\hat x^\top}{d})",
    about="Two directions of d, so that (d−2)/d of grad² survive; of RMSNorm one.",
)  # fmt: skip
def layernorm_jacobian(x: np.ndarray, eps: float = 0.0) -> np.ndarray:
    """The (d, d) derivative of a LayerNorm at x, ε included."""
    d, centred = len(x), x - x.mean()
    sigma = math.sqrt(float(centred @ centred) / d + eps)
    unit = centred / sigma
    return (np.eye(d) - 1 / d - np.outer(unit, unit) / d) / sigma


def layernorm_power(s2: float, eps: float) -> tuple[float, float]:
    """Output power, and the derivative along x̂, of a row of variance s²."""
    return s2 / (s2 + eps), eps / (s2 + eps) ** 1.5


@THEORIES.add(
    "C29", "A batch of two",
    r"\hat x=\pm1,\ \partial\hat x/\partial x=0;\quad \mathrm{E}[s_B^2]=\tfrac{B-1}{B}\sigma^2",
    about="BatchNorm at batch 2, LayerNorm at width 2; at batch 1 BatchNorm puts out β.",
)  # fmt: skip
def batch_variance(batch: int) -> float:
    """The mean of the biased variance of a batch, in units of the true one."""
    return (batch - 1) / batch


@THEORIES.add(
    "C30", "Weights before a norm only turn", r"f(aW)=f(W),\ \langle W,\nabla\rangle=0;\ \sqrt{2\eta\lambda}",
    about="Rotation per step at equilibrium, of SGD without momentum where noise dominates the gradient.",
    paper="van Laarhoven 2017; Wan et al. 2021",
)  # fmt: skip
def rotation(lr: float, weight_decay: float) -> float:
    """The root mean square angle per step, in radians."""
    return math.sqrt(2 * lr * weight_decay)


@THEORIES.add(
    "C31", "Dropout before BatchNorm misleads its statistics",
    r"\frac{1/2-1/2\pi}{(1/2)/(1-p)-1/2\pi}",
    about="ReLU of a standard normal; kept values are multiplied by 1/(1−p).", paper="Li et al. 2019",
)  # fmt: skip
def dropout_shift(p: float) -> float:
    """The variance at test time over that in training."""
    return (0.5 - 0.5 / math.pi) / (0.5 / (1 - p) - 0.5 / math.pi)


@THEORIES.add(
    "C32", "BatchNorm keeps inputs apart", r"\kappa_1(-\tfrac{1}{B-1})\to\tfrac1\pi",
    about="Mean cosine of pairs behind BatchNorm and ReLU, at every depth.", paper="Yang et al. 2019",
)  # fmt: skip
def batchnorm_cosine(batch: int) -> float:
    """The mean pairwise cosine behind the activation."""
    return float(kappa1(-1 / (batch - 1)))


THEORIES.put(
    "C33", "Norms that are special cases of another",
    r"\mathrm{GN}(1)=\mathrm{LN}(C,H,W),\ \mathrm{GN}(C)=\mathrm{IN}", make=None,
    about="Shifting an image around shifts their output, unless γ and β differ from pixel to pixel.",
)  # fmt: skip
THEORIES.put(
    "C34", "ReZero starts as the identity",
    r"J=I,\ \partial\mathcal L/\partial W=0,\ \partial\mathcal L/\partial\alpha\ne0", make=None,
    about="Exact, at the first step.", paper="Bachlechner et al. 2020",
)  # fmt: skip
THEORIES.put(
    "C35", "Attention without a skip forgets who is who",
    r"\lVert H-\mathbf{1}\bar h^\top\rVert/\lVert H\rVert\to0\ \text{doubly exponentially}", make=None,
    about="Per layer; with a skip slowly.", paper="Dong et al. 2021",
)  # fmt: skip


@THEORIES.add(
    "C36", "A linear recurrence multiplies", r"\lVert g_{t-1}\rVert/\lVert g_t\rVert=\rho",
    about="Gaussian recurrent weights of spectral radius ρ, the same at every step, wide.",
)  # fmt: skip
def recurrent_rate(radius: float) -> float:
    """The ratio of the gradient's norm per time step."""
    return radius


THEORIES.put(
    "MF", "Mean-field theory, block by block",
    r"(q,c)_{l+1}=f_{\mathrm{block}}\big((q,c)_l\big),\quad g_l=\chi_l\,g_{l+1}", make=None,
    about="Every wide network of these parts; gradients as if the weights that send them back were others.",
    paper="Schoenholz et al. 2017; Yang et al. 2019",
)  # fmt: skip
