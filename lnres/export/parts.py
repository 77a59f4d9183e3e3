"""What each row of a registry is in plain ``torch.nn``: the words that a stand-alone script says for it.

``PARTS[field][name]`` belongs to the row ``name`` of the registry that the field picks from; a row without
its part fails a test. Texts are Jinja templates that see the experiment as ``e``; the functions and classes
that they mention stand in ``train.py.jinja``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Norm:
    """The module that ``norm(features)`` returns.

    ``axis`` is where torch wants the features: 1, or -1 (last). Class names of torch that end in the number
    of axes say ``{{ dims }}d``. Where weights are normalized, ``code`` is the line of ``normed(layer)`` that
    does it and ``gain`` the parameter that it adds.
    """

    code: str
    axis: int = -1
    gain: str = ""


@dataclass(frozen=True)
class Residual:
    """How the stream x and the branch's output FX become one.

    ``own`` are lines of the block's constructor; ``inner`` and ``last`` are factors on the std of the
    branch's first (of attention: the values') and last weights.
    """

    code: str
    own: str = ""
    inner: str = ""
    last: str = ""


@dataclass(frozen=True)
class Init:
    """The std of a branch's weights: ``spread(takes)`` returns ``code``; ``bias`` is that of its biases."""

    takes: str
    code: str
    bias: str = ""


@dataclass(frozen=True)
class Model:
    """A model: ``code`` leads from the VIEW into the stream, ``blocks`` along it, the head reads ``pool``.

    ``own`` are lines of the net's constructor. ``branch`` is the class of the blocks' branches; ``layer``
    makes their layers, whose fan-in is ``reach`` times the features, with ``hidden`` times as many inside.
    Features stand on ``axis``, and there are ``dims`` axes of positions. ``count`` is how many blocks there
    are. A dropout mask of shape ``mask`` is turned into the stream's by ``unmask``.

    A recurrent layer has ``gates``. Norms inside it stand on ``cell`` and, where Wx + Uh is normalized as
    one, on ``sums``: names and features. The head has ``seen``, of all h.
    """

    code: str
    own: str
    pool: str = "h"
    blocks: str = 'Block(f"blocks.{i}") for i in range(DEPTH)'
    layer: str = "linear"
    reach: str = ""
    hidden: str = ""
    axis: int = -1
    dims: int = 1
    branch: str = "Branch"
    seen: str = ""
    gates: int = 1
    sums: tuple[tuple[str, str], ...] = ()
    cell: tuple[tuple[str, str], ...] = ()
    count: str = "DEPTH"
    mask: str = "x.shape"
    unmask: str = ""


MODEL = {
    "mlp": Model(
        "self.stem(VIEW)", 'self.stem = linear("stem", FEATURES, WIDTH, std=1 / math.sqrt(FEATURES))', axis=0
    ),
    "conv": Model(
        "self.stem(VIEW)",
        'self.stem = conv("stem", {{ channels }}, WIDTH, std=1 / math.sqrt(9 * {{ channels }}))',
        pool="h.mean((2, 3))",
        layer="conv",
        reach="9 * ",
        axis=1,
        dims=2,
        mask="len(x), x[0, 0].numel(), x.shape[1]",
        unmask=".mT.view_as(x)",
    ),
    "transformer": Model(
        "self.stem(VIEW) + self.position",
        'self.stem = linear("stem", {{ channels }}, WIDTH, std=1 / math.sqrt({{ channels }}))\n'
        'self.position = nn.Parameter(normal(generator(SEED, "position"), {{ positions }}, WIDTH, std=0.5))',
        pool="h.mean(1)",
        blocks='Block(f"blocks.{i}", Branch if i % 2 else Attention) for i in range(2 * DEPTH)',
        hidden="2 * ",
        branch="branch",
        count="2 * DEPTH",
    ),
}

RECURRENT = {
    "code": "self.stem(VIEW)",
    "own": 'self.stem = linear("stem", {{ channels }}, WIDTH, std=1 / math.sqrt({{ channels }}))',
    "seen": "h[:, -1]  # the last time step",
}
MODEL |= {
    "rnn": Model(**RECURRENT, branch="RNN", sums=(("inner", "WIDTH"),)),
    "gru": Model(**RECURRENT, branch="GRU", gates=3, sums=(("inner", "2 * WIDTH"), ("candidate", "WIDTH"))),
    "lstm": Model(
        **RECURRENT, branch="LSTM", gates=4, sums=(("inner", "4 * WIDTH"),), cell=(("cell", "WIDTH"),)
    ),
}

AFFINE = "{{ ', elementwise_affine=False' if not e.affine }}"
NORM = {
    "none": Norm("nn.Identity()"),
    "layer": Norm("nn.LayerNorm(features, eps={{ e.eps }}" + AFFINE + ")"),
    "rms": Norm("nn.RMSNorm(features, eps={{ e.eps }}" + AFFINE + ")"),
    "batch": Norm(
        "nn.BatchNorm{{ dims }}d(features, eps={{ e.eps }}, momentum={{ e.norm_momentum }}"
        "{{ ', affine=False' if not e.affine }}{{ ', track_running_stats=False' if not e.running }})",
        axis=1,
    ),
    "group": Norm(
        "nn.GroupNorm({{ e.groups }}, features, eps={{ e.eps }}{{ ', affine=False' if not e.affine }})",
        axis=1,
    ),
    "instance": Norm(
        "nn.InstanceNorm{{ dims }}d(features, eps={{ e.eps }}{{ ', affine=True' if e.affine }})", axis=1
    ),
    "scale": Norm("ScaleNorm(features)"),
    "dyt": Norm("DynamicTanh(features)"),
    "derf": Norm("DynamicErf(features)"),
    "weight": Norm(
        "nn.utils.parametrizations.weight_norm(layer)", gain="layer.parametrizations.weight.original0"
    ),
    "standardized": Norm(
        'nn.utils.parametrize.register_parametrization(layer, "weight", Standardized(layer.weight.data))',
        gain="layer.parametrizations.weight[0].gain",
    ),
}

# The name of a function; nothing where nothing happens.
ACTIVATION = {
    "relu": "torch.relu",
    "tanh": "torch.tanh",
    "gelu": "F.gelu",
    "leaky": "F.leaky_relu",
    "silu": "F.silu",
    "sigmoid": "torch.sigmoid",
    "selu": "F.selu",
    "erf": "torch.erf",
    "identity": "",
}

RESIDUAL = {
    "none": Residual("FX"),
    "identity": Residual("x + FX"),
    "scaled": Residual("x + {{ e.alpha or '1 / math.sqrt(%s)' % blocks }} * FX"),
    "rezero": Residual("x + self.alpha * FX", "self.alpha = nn.Parameter(torch.tensor(0.0))"),
    "skipinit": Residual("x + self.alpha * FX", "self.alpha = nn.Parameter(torch.tensor({{ e.alpha }}))"),
    "layerscale": Residual(
        "x + self.scale * FX",
        "self.scale = nn.Parameter(torch.full({{ per_feature }}, "
        "{{ e.alpha or (0.1 if e.depth <= 18 else 1e-5 if e.depth <= 24 else 1e-6) }}))",
    ),
    "highway": Residual(
        "torch.lerp(x, FX, torch.sigmoid({{ gate }}))",
        'self.gate = linear(f"{name}.gate", {{ wide }}, {{ wide }}, std=1 / math.sqrt({{ wide }}))\n'
        "nn.init.constant_(self.gate.bias, -2.0)  # close to the skip",
    ),
    "deepnorm": Residual(
        "{{ e.alpha or '(2 * DEPTH) ** 0.25' }} * x + FX",
        inner=" * (8 * DEPTH) ** -0.25",
        last=" * (8 * DEPTH) ** -0.25",
    ),
    "fixup": Residual(
        "x + self.factor * FX + self.offset",
        "self.factor = nn.Parameter(torch.tensor(1.0))\nself.offset = nn.Parameter(torch.tensor(0.0))",
        inner=" / math.sqrt({{ blocks }})",
        last=" * 0.0",
    ),
}

INIT = {
    "unit": Init("n_in, power", "1 / math.sqrt(n_in * power)"),
    "he": Init("n_in", "math.sqrt(2 / n_in)"),
    "xavier": Init("n_in, n_out", "math.sqrt(2 / (n_in + n_out))"),
    "lecun": Init("n_in", "1 / math.sqrt(n_in)"),
    "torch": Init("n_in", "1 / math.sqrt(3 * n_in)", bias="spread({n_in})"),
    "meanfield": Init("n_in", "math.sqrt({{ e.sigma_w2 }} / n_in)", bias="math.sqrt({{ e.sigma_b2 }})"),
    "orthogonal": Init("n_in, n_out, power", "1 / math.sqrt(max(n_in, n_out) * power)"),
}

MOMENTUM = "{{ ', momentum=MOMENTUM' if e.momentum }}"
NESTEROV = "{{ ', momentum=MOMENTUM, nesterov=True' if e.momentum }}"
DECAY = "{{ ', weight_decay=WEIGHT_DECAY' if e.weight_decay }}"
OPTIMIZER = {
    "sgd": "torch.optim.SGD(net.parameters(), lr=LR" + MOMENTUM + DECAY + ")",
    "adam": "torch.optim.Adam(net.parameters(), lr=LR" + DECAY + ")",
    "adamw": "torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)",
    "nesterov": "torch.optim.SGD(net.parameters(), lr=LR" + NESTEROV + DECAY + ")",
    "rmsprop": "torch.optim.RMSprop(net.parameters(), lr=LR" + MOMENTUM + DECAY + ")",
    "lion": "Lion(net.parameters(), lr=LR" + DECAY + ")",
    "muon": "Muon(net, lr=LR, momentum=MOMENTUM" + DECAY + ")",
}

# The factor on the learning rate of a step; nothing where it stays.
SCHEDULE = {
    "constant": "",
    "cosine": " * (1 + math.cos(math.pi * step / STEPS)) / 2",
    "step": " * 0.1 ** ((2 * step >= STEPS) + (4 * step >= 3 * STEPS))",
}

# What x and y are.
DATA = {
    "digits": "x, y = load_digits(return_X_y=True)",
    "wine": "x, y = load_wine(return_X_y=True)",
    "wine_km": "x, y = load_wine(return_X_y=True)\nx = x * ([1e-3, 1e6] + [1] * 11)",
    "identity": "x = np.random.default_rng(0).normal(size=(4608, 32))",
    "spirals": "x, y = spirals()",
    "moons": "x, y = make_moons(1000, noise=0.15, random_state=0)",
    "circles": "x, y = make_circles(1000, noise=0.08, factor=0.5, random_state=0)",
    "xor": "x, y = xor()",
}

OWN = """\
table = pd.read_csv("table.csv", sep=None, engine="python", skipinitialspace=True)  # yours
y = np.unique(table.pop({{ label }}).to_numpy(), return_inverse=True)[1]
x = table.to_numpy()"""
"""The same of a table of one's own, which is no row that a list shows."""

# What becomes of x, by what its rows for training say.
SCALER = {
    "z": "seen = x[train].astype(np.float64)\n"
    "x = np.where(seen.min(0) < seen.max(0), (x - seen.mean(0)) / (seen.std(0){{ slack }}), 0)",
    "unit": "x = x / np.abs(x[train]).max()",
    "minmax": "x = MinMaxScaler().fit(x[train]).transform(x)",
    "robust": "x = RobustScaler().fit(x[train]).transform(x)",
    "row": "x = normalize(x)",
    "none": "",
}

# How images (batch, features, height, width) or sequences (batch, position, features) are made of vectors x.
VIEW = {
    "auto": "",
    "vector": "x",
    "image": "x.view(-1, 1, 8, 8)",
    "rows": "x.view(-1, 8, 8)",
    "pixels": "x.view(-1, 64, 1)",
    "patches": "{{ 'F.pixel_unshuffle(x.view(-1, 1, 8, 8), 2)' if images else "
    "'F.unfold(x.view(-1, 1, 8, 8), 2, stride=2).mT' }}",
}


@dataclass(frozen=True)
class Stream:
    """The lines of ``pick(y, step)``, and the gain of a step's inputs."""

    code: str
    gain: str = ""


AT_RANDOM = 'return torch.randint(len(y), (BATCH,), generator=generator(SEED, "batch", step))'
STREAM = {
    "random": Stream(AT_RANDOM),
    "epochs": Stream(
        "start, stop = step * BATCH, (step + 1) * BATCH\n"
        "epochs = range(start // len(y), (stop - 1) // len(y) + 1)\n"
        'orders = [torch.randperm(len(y), generator=generator(SEED, "epoch", k)) for k in epochs]\n'
        "return torch.cat(orders)[start % len(y) :][:BATCH]"
    ),
    "iid": Stream(AT_RANDOM),
    "drift": Stream(AT_RANDOM, " * math.exp(1.5 * math.sin(2 * math.pi * step / 150))"),
    "sorted": Stream(
        "there = y.unique()\n"
        "members = (y == there[step // 4 % len(there)]).nonzero()[:, 0]\n"
        'return members[torch.randint(len(members), (BATCH,), generator=generator(SEED, "batch", step))]'
    ),
}

PARTS = {
    "model": MODEL,
    "norm": NORM,
    "residual": RESIDUAL,
    "activation": ACTIVATION,
    "init": INIT,
    "optimizer": OPTIMIZER,
    "schedule": SCHEDULE,
    "data": DATA,
    "scaler": SCALER,
    "view": VIEW,
    "stream": STREAM,
}
