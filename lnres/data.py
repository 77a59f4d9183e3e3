"""Real data, split and scaled per seed, and batches that depend on (seed, step) alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lnres.graph import Feed
from lnres.layers import generator
from lnres.record import PLANE_CLASSES
from lnres.registry import Registry

DATA = Registry("data")
SCALERS = Registry("scaler")
VIEWS = Registry("view")
STREAMS = Registry("stream")
SHIFTS = Registry("shift")


# What is to be learnt


class Classify:
    """Name the class: cross-entropy, and the share of right answers."""

    @staticmethod
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        """(S, B, classes) and classes (S, B) -> each member's mean cross-entropy (S,)."""
        return F.cross_entropy(outputs.flatten(0, 1), y.view(-1), reduction="none").view(y.shape).mean(1)

    @staticmethod
    def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
        """The share of right answers of each member, (S,)."""
        return (outputs.argmax(-1) == y).float().mean(1)


class Reproduce:
    """Give the input back: mean squared error; nothing is right or wrong."""

    @staticmethod
    def loss(outputs: Tensor, y: Tensor) -> Tensor:
        """Both (S, B, features) -> each member's mean squared error (S,)."""
        return (outputs - y).square().mean((1, 2))

    @staticmethod
    def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
        """NaN for each member: there are no right answers to count."""
        return outputs.new_full(outputs.shape[:1], torch.nan)


# Where the data come from


@dataclass(frozen=True)
class Table:
    """A data set before it is split: its shape, known before it is loaded, and how it is loaded.

    ``func`` returns x (examples, features) and the classes (examples,), or None where the input is its own
    target. ``slack`` is added to the std of each feature by the z-score. ``label`` is
    the column of the classes in a file of one's own.
    """

    name: str
    func: Callable[[], tuple[np.ndarray, np.ndarray | None]]
    features: int
    classes: int
    train: int
    test: int
    slack: float = 0.0
    label: str = ""

    @property
    def goal(self) -> type[Classify] | type[Reproduce]:
        """The loss and the accuracy."""
        return Classify if self.classes else Reproduce

    @property
    def outputs(self) -> int:
        """How many numbers a network has to give."""
        return self.classes or self.features

    @property
    def drawable(self) -> bool:
        """Whether it lies in the plane, with no more classes than there are colours."""
        return self.features == 2 and 0 < self.classes <= PLANE_CLASSES

    def __call__(self) -> tuple[np.ndarray, np.ndarray | None]:
        """What ``func`` returns, in float32; ``ValueError`` names the first number that is none."""
        x, y = self.func()
        x = x.astype(np.float32)
        if not (finite := np.isfinite(x)).all():
            row, column = np.argwhere(~finite)[0]
            raise ValueError(
                f"data={self.name!r}: feature {column + 1} of example {row + 1} is {x[row, column]}; "
                "every value must be a finite number"
            )
        return x, y


def table(name: str, label: str, paper: str = "", **shape) -> Callable:
    """Register the decorated function as a ``Table`` of DATA; its docstring is the description."""

    def register(func):
        DATA.put(name, label, make=Table(name, func, **shape), about=func.__doc__, paper=paper)
        return func

    return register


def shipped(name: str) -> Path:
    """A table that comes with scikit-learn; to import it for that would take a second of every start."""
    return Path(find_spec("sklearn").origin).parent / "datasets" / "data" / name


@table(
    "digits", "handwritten digits", "Alpaydin & Kaynak 1998",
    features=64, classes=10, train=1297, test=500, slack=0.01,
)  # fmt: skip
@lru_cache(1)
def digits():
    """1,797 real 8x8 images of the digits 0-9, as vectors of 64 pixels (0 to 16); 500 are for testing."""
    values = np.loadtxt(shipped("digits.csv.gz"), np.float32, delimiter=",")
    return values[:, :-1], values[:, -1]


@table("wine", "wine", "Forina et al. 1991", features=13, classes=3, train=120, test=58)
@lru_cache(1)
def wine():
    """178 wines of 3 growers, 13 measurements whose ranges differ a thousandfold; 58 are for testing."""
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)


@table("wine_km", "wine in km and nm", "Forina et al. 1991", features=13, classes=3, train=120, test=58)
def wine_km():
    """The same wines, the first column in a unit a thousand times larger, the second a million smaller."""
    x, y = wine()
    return x * ([1e-3, 1e6] + [1] * 11), y


@table("identity", "identity, y = x", "Hardt & Ma 2016", features=32, classes=0, train=4096, test=512)
@lru_cache(1)
def identity():
    """4,608 normal vectors in 32 dimensions to be given back as they are; 512 are for testing."""
    return np.random.default_rng(0).normal(size=(4608, 32)), None


PLANE = {"features": 2, "classes": 2, "train": 700, "test": 300}


@table("spirals", "spirals", "Lang & Witbrock 1988", **PLANE)
@lru_cache(1)
def spirals():
    """Two arms wound around each other, 1,000 points: only a network that bends the plane can part them."""
    rng, y = np.random.default_rng(0), np.arange(1000) % 2
    turn = np.sqrt(rng.uniform(0.02, 1, 1000)) * 3 * np.pi
    x = np.stack([np.cos(turn + np.pi * y), np.sin(turn + np.pi * y)], 1) * turn[:, None] / (3 * np.pi)
    return x + rng.normal(0, 0.02, x.shape), y


@table("moons", "moons", **PLANE)
@lru_cache(1)
def moons():
    """Two half moons that reach into each other, 1,000 points."""
    from sklearn.datasets import make_moons

    return make_moons(1000, noise=0.15, random_state=0)


@table("circles", "circles", **PLANE)
@lru_cache(1)
def circles():
    """A ring within a ring, 1,000 points."""
    from sklearn.datasets import make_circles

    return make_circles(1000, noise=0.08, factor=0.5, random_state=0)


@table("xor", "xor", "Minsky & Papert 1969", **PLANE)
@lru_cache(1)
def xor():
    """Four squares, equal across the diagonals, 1,000 points: no single line parts them."""
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    return x, (x[:, 0] > 0) != (x[:, 1] > 0)


# How features are scaled: ``make(train, x, slack)`` scales x (examples, features) by what it knows of train


@SCALERS.add("z", "z-score", r"(x-\mu_j)/\sigma_j", paper="LeCun et al. 1998")
def zscore(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Each feature to mean 0 and standard deviation 1 on the training set; constant ones become 0.

    The digits add 0.01 to every standard deviation, so that a pixel which is hardly ever inked stays small.
    """
    train, varies = train.astype(np.float64), train.min(0) < train.max(0)
    return np.where(varies, (x - train.mean(0)) / np.where(varies, train.std(0) + slack, 1), 0)


@SCALERS.add("unit", "by the largest", r"x/\max|x|")
def unit(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Everything divided by the largest training value: 16 for the digits, which so lie in [0, 1]."""
    return x / np.abs(train).max()


@SCALERS.add("minmax", "min-max", r"(x-\min_j)/(\max_j-\min_j)")
def minmax(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Each feature to [0, 1] by the training set's extremes; one outlier squeezes all others."""
    from sklearn.preprocessing import MinMaxScaler

    return MinMaxScaler().fit(train).transform(x)


@SCALERS.add("robust", "median and quartiles", r"(x-\mathrm{med}_j)/\mathrm{IQR}_j")
def robust(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Each feature by its median and interquartile range, which outliers do not move."""
    from sklearn.preprocessing import RobustScaler

    return RobustScaler().fit(train).transform(x)


@SCALERS.add("row", "each row to length 1", r"x/\lVert x\rVert")
def row(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Each example to unit length: the other axis, as LayerNorm's; large features still rule."""
    from sklearn.preprocessing import Normalizer

    return Normalizer().fit(train).transform(x)


@SCALERS.add("none", "as it is", "x")
def none(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """The raw numbers."""
    return x


# How a network looks at an example: the 64 pixels of an 8 x 8 image cut into positions with features each

VIEWS.put("auto", "the model's own", make=None, about="The first that the model can take.")


@VIEWS.add("vector", "one vector", r"x\in\mathbb{R}^n")
class Vector:
    """All features side by side, without any order."""

    positions = features = 0

    def __call__(self, x: Tensor) -> Tensor:
        return x


@VIEWS.add("image", "8 x 8 image", r"64\to(8\cdot8)\times1")
class Image:
    """Pixels in the plane, of one channel: neighbours left, right, above and below."""

    positions, features = 64, 1

    def __call__(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1)


@VIEWS.add("rows", "8 rows", r"64\to8\times8")
class Rows:
    """A sequence of 8 steps: the image line by line, 8 pixels at a time."""

    positions, features = 8, 8

    def __call__(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (8, 8))


@VIEWS.add("pixels", "64 pixels", r"64\to64\times1")
class Pixels:
    """A sequence of 64 steps: one pixel at a time, a long way for a gradient."""

    positions, features = 64, 1

    def __call__(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-1)


@VIEWS.add("patches", "16 patches", r"64\to16\times4", paper="Dosovitskiy et al. 2020")
class Patches:
    """Squares of 2 x 2 pixels, row by row: sixteen tokens of four numbers."""

    positions, features = 16, 4

    def __call__(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (4, 2, 4, 2)).transpose(-3, -2).flatten(-2).flatten(-3, -2)


# In which order examples come: ``pick(labels, seed, step, size)`` gives the indices of a member's batch


@STREAMS.add("random", "drawn at random", r"i_b\sim U\{1,\ldots,n\}")
class Random:
    """Every batch is drawn from the whole training split, with replacement."""

    online = False
    """Whether every batch is predicted, in evaluation mode, before it is learnt from."""
    gain: Callable[[int], float] | None = None
    """What the inputs of a step are multiplied by."""

    @staticmethod
    def pick(labels: Tensor, seed: int, step: int, size: int) -> Tensor:
        return torch.randint(len(labels), (size,), generator=generator(seed, "batch", step))


@STREAMS.add("epochs", "shuffled epochs", r"i=\pi_k(1),\ldots,\pi_k(n),\pi_{k+1}(1),\ldots")
class Epochs(Random):
    """Each example once in every pass, in a new order; a batch at a pass's end goes on into the next."""

    @staticmethod
    def pick(labels: Tensor, seed: int, step: int, size: int) -> Tensor:
        count, start = len(labels), step * size
        epochs = range(start // count, (start + size - 1) // count + 1)
        order = [torch.randperm(count, generator=generator(seed, "epoch", k)) for k in epochs]
        return torch.cat(order)[start % count :][:size]


@STREAMS.add("iid", "online, steady", r"\hat y_t\ \mathrm{before}\ \theta_{t+1}")
class Steady(Random):
    """Drawn at random, and predicted before it is learnt from, as examples that arrive one by one."""

    online = True


@STREAMS.add("drift", "online, drifting gain", r"x_t\,e^{1.5\sin(2\pi t/150)}")
class Drift(Steady):
    """The inputs grow and shrink by a factor of 4.5 in waves of 150 steps; the test inputs do not."""

    @staticmethod
    def gain(step: int) -> float:
        return math.exp(1.5 * math.sin(2 * math.pi * step / 150))


@STREAMS.add("sorted", "online, class by class", r"y_t=\lfloor t/4\rfloor\bmod 10")
class Sorted(Steady):
    """Four batches of one class, then four of the next: no batch looks like the whole."""

    @staticmethod
    def pick(labels: Tensor, seed: int, step: int, size: int) -> Tensor:
        there = labels.unique()
        members = (labels == there[step // 4 % len(there)]).nonzero()[:, 0]
        return members[Random.pick(members, seed, step, size)]


# Which inputs noise, contrast and brightness change

SHIFTS.put("train", "training inputs", make=("train",), about="What is learnt from; the test stays clean.")
SHIFTS.put("test", "test inputs", make=("test",), about="Learnt from clean inputs, tested on changed ones.")
SHIFTS.put("both", "all inputs", make=("train", "test"), about="Training and test inputs alike.")


def relabelled(seed: int, y: Tensor, classes: int, share: float) -> Tensor:
    """The classes (n,) of which about this share is drawn anew."""
    g = generator(seed, "label noise")
    wrong = torch.rand(len(y), generator=g) < share
    return torch.where(wrong, torch.randint(classes, (len(y),), generator=g), y)


@lru_cache(maxsize=32)  # every new run of a seed wants it again
def divided(table: Table, scale: Callable, seed: int) -> tuple[np.ndarray, ...]:
    """A seed's split, scaled by what its training set shows: x and y to train on, x and y to test on."""
    x, y = table()
    order = torch.randperm(len(x), generator=generator(seed, "split")).numpy()
    train, test = order[table.test :], order[: table.test]
    scaled = scale(x[train], x, table.slack).astype(np.float32)
    target = scaled if y is None else y.astype(np.int64)
    return scaled[train], target[train], scaled[test], target[test]


class Batches:
    """The splits of S members, and their minibatches: x (S, B, features) as viewed, y (S, B) or as x.

    Member k's split follows from its seed, its batch at a step from (seed, step): whatever else runs, and
    however many members there are, it sees the same examples. ``x``, ``y``, ``test_x`` and ``test_y`` are
    the splits as vectors, scaled.
    """

    def __init__(self, e, device: str = "cpu"):
        table = DATA[e.data].make
        splits = [divided(table, SCALERS[e.scaler].make, seed) for seed in e.member_seeds]
        x, y, *test = (torch.from_numpy(np.stack(part)) for part in zip(*splits, strict=True))
        self.seeds, self.view, self.stream = e.member_seeds, e.seen_as(), STREAMS[e.stream].make
        self.feed = Feed(device)
        self.features, self.outputs = self.view.features or table.features, table.outputs
        self.loss, self.accuracy = table.goal.loss, table.goal.accuracy
        if e.label_noise:
            again = zip(self.seeds, y, strict=True)
            y = torch.stack([relabelled(seed, of, table.classes, e.label_noise) for seed, of in again])
        self._labels = y  # by which examples are picked, on the host
        self.x, self.y, self.test_x, self.test_y = (part.to(device) for part in (x, y, *test))
        self._member = torch.arange(len(splits), device=device)[:, None]

    def __call__(self, step: int, size: int, noise: float = 0.0, **shift: float) -> tuple[Tensor, Tensor]:
        """``size`` training examples per member, in the order of the stream; ``shift`` as in ``shifted``."""

        def pick(t: int) -> Tensor:
            pairs = zip(self._labels, self.seeds, strict=True)
            return torch.stack([self.stream.pick(labels, seed, t, size) for labels, seed in pairs])

        picked = self.feed(step, pick)
        x, y = self.x[self._member, picked], self.y[self._member, picked]
        if self.stream.gain:
            x = x * self.feed(step, lambda t: torch.tensor(self.stream.gain(t)))
        return self.view(self.shifted(x, step, noise, **shift)), y

    def test(self, **shift: float) -> tuple[Tensor, Tensor]:
        """All test examples; what is random in a ``shift`` is the same each time."""
        return self.view(self.shifted(self.test_x, "test", **shift)), self.test_y

    def shifted(
        self, x: Tensor, key, noise: float = 0.0, contrast: float = 1.0, contrast_spread: float = 0.0,
        brightness: float = 0.0,
    ) -> Tensor:  # fmt: skip
        """x times contrast and each example times a lognormal factor of its own, plus brightness and noise.

        ``key`` is what the draws depend on besides the seed.
        """

        def normal(name: str, *shape: int) -> Tensor:
            def draw(k) -> Tensor:
                return torch.stack([torch.randn(shape, generator=generator(s, name, k)) for s in self.seeds])

            return self.feed(key, draw)

        if contrast != 1:
            x = x * contrast
        if contrast_spread:
            x = x * (contrast_spread * normal("contrast", x.shape[1], 1)).exp()
        if brightness:
            x = x + brightness
        return x + noise * normal("noise", *x.shape[1:]) if noise else x
