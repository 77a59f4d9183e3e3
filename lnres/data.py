"""Real data, split and scaled per seed, and batches that depend on (seed, step) alone."""

from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lnres.layers import generator
from lnres.registry import Registry

DATA = Registry("data")
SCALERS = Registry("scaler")


def _shipped(name: str) -> Path:
    """A table that comes with scikit-learn; to import it for that would take a second of every start."""
    return Path(find_spec("sklearn").origin).parent / "datasets" / "data" / name


@DATA.add("digits", "handwritten digits", paper="Alpaydin & Kaynak 1998")
@lru_cache(1)
def digits() -> tuple[np.ndarray, np.ndarray, int]:
    """1,797 real 8x8 images of the digits 0-9, as vectors of 64 pixels (0 to 16); 500 are for testing."""
    table = np.loadtxt(_shipped("digits.csv.gz"), np.float32, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64), 500


@lru_cache(1)
def _wine() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return x.astype(np.float32), y.astype(np.int64)


@DATA.add("wine", "wine", paper="Forina et al. 1991")
def wine() -> tuple[np.ndarray, np.ndarray, int]:
    """178 wines of 3 growers, 13 measurements whose ranges differ a thousandfold; 58 are for testing."""
    return *_wine(), 58


@DATA.add("wine_km", "wine in km and nm", paper="Forina et al. 1991")
def wine_km() -> tuple[np.ndarray, np.ndarray, int]:
    """The same wines, the first column in a unit a thousand times larger, the second a million smaller."""
    x, y = _wine()
    return x * np.float32([1e-3, 1e6] + [1] * 11), y, 58


@lru_cache(8)
def _plane(name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """1,000 points in the plane in two classes, 300 of them for testing."""
    from sklearn.datasets import make_circles, make_moons

    rng = np.random.default_rng(0)
    if name == "moons":
        x, y = make_moons(1000, noise=0.15, random_state=0)
    elif name == "circles":
        x, y = make_circles(1000, noise=0.08, factor=0.5, random_state=0)
    elif name == "xor":
        x = rng.uniform(-1, 1, (1000, 2))
        y = (x[:, 0] > 0) != (x[:, 1] > 0)
    else:
        y = np.arange(1000) % 2
        turn = np.sqrt(rng.uniform(0.02, 1, 1000)) * 3 * np.pi
        x = np.stack([np.cos(turn + np.pi * y), np.sin(turn + np.pi * y)], 1) * turn[:, None] / (3 * np.pi)
        x += rng.normal(0, 0.02, x.shape)
    return x.astype(np.float32), y.astype(np.int64), 300


for _name, _about in {
    "spirals": "Two arms wound around each other: only a network that bends space can part them.",
    "moons": "Two half moons that reach into each other.",
    "circles": "A ring within a ring.",
    "xor": "Four squares, equal across the diagonals: no single line parts them.",
}.items():
    DATA.put(
        _name,
        _name,
        make=partial(_plane, _name),
        about=f"1,000 points of the plane, 300 for testing. {_about}",
    )


@SCALERS.add("z", "z-score", r"(x-\mu_j)/(\sigma_j+0.01)", paper="LeCun et al. 1998")
def zscore(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each feature to mean 0 and standard deviation 1 on the training set; constant ones become 0."""
    return (x - train.mean(0)) / (train.std(0) + 0.01)


@SCALERS.add("unit", "to [0, 1]", r"x/\max x")
def unit(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Everything divided by the largest training value: 16 for the digits."""
    return x / train.max()


@SCALERS.add("minmax", "min-max", r"(x-\min_j)/(\max_j-\min_j)")
def minmax(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each feature to [0, 1] by the training set's extremes; one outlier squeezes all others."""
    from sklearn.preprocessing import MinMaxScaler

    return MinMaxScaler().fit(train).transform(x)


@SCALERS.add("robust", "median and quartiles", r"(x-\mathrm{med}_j)/\mathrm{IQR}_j")
def robust(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each feature by its median and interquartile range, which outliers do not move."""
    from sklearn.preprocessing import RobustScaler

    return RobustScaler().fit(train).transform(x)


@SCALERS.add("row", "each row to length 1", r"x/\lVert x\rVert")
def row(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each example to unit length: the other axis, as LayerNorm's; large features still rule."""
    from sklearn.preprocessing import Normalizer

    return Normalizer().fit(train).transform(x)


@SCALERS.add("none", "as it is", "x")
def none(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The raw numbers."""
    return x


class Batches:
    """The splits of S members, and their minibatches: x (S, B, features), y (S, B).

    Member k's split follows from its seed, its batch at a step from (seed, step): whatever else runs, and
    however many members there are, it sees the same examples.
    """

    def __init__(self, e, device: str = "cpu"):
        x, y, held_out = DATA[e.data].make()
        scale, splits = SCALERS[e.scaler].make, []
        for seed in e.member_seeds:
            order = torch.randperm(len(x), generator=generator(seed, "split")).numpy()
            train, test = order[held_out:], order[:held_out]
            scaled = scale(x[train], x).astype(np.float32)
            splits.append((scaled[train], y[train], scaled[test], y[test]))
        self.x, self.y, self.test_x, self.test_y = (
            torch.from_numpy(np.stack(part)).to(device) for part in zip(*splits, strict=True)
        )
        self.name, count = e.data, self.x.shape[1]
        self.suffice(e.batch)
        if e.label_noise:
            self.y = self.y.clone()
            for k, seed in enumerate(e.member_seeds):
                g = generator(seed, "label noise")
                wrong = torch.rand(count, generator=g) < e.label_noise
                self.y[k] = torch.where(
                    wrong, torch.randint(int(y.max()) + 1, (count,), generator=g), self.y[k].cpu()
                )
        self.seeds, self.features, self.classes = e.member_seeds, x.shape[1], int(y.max()) + 1
        self._member = torch.arange(len(splits), device=device)[:, None]

    def suffice(self, batch: int) -> None:
        """Raise ``ValueError`` where a batch is larger than the training split."""
        if batch > (count := self.x.shape[1]):
            raise ValueError(
                f"batch={batch}: {self.name} has {count} training examples; choose at most {count}"
            )

    def __call__(self, step: int, size: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        """``size`` training examples per member, drawn with replacement, with Gaussian noise of this std."""
        count = self.x.shape[1]
        picked = torch.stack(
            [torch.randint(count, (size,), generator=generator(seed, "batch", step)) for seed in self.seeds]
        ).to(self.x.device)
        x, y = self.x[self._member, picked], self.y[self._member, picked]
        if noise:
            shape = x.shape[1:]
            added = torch.stack(
                [torch.randn(shape, generator=generator(s, "noise", step)) for s in self.seeds]
            )
            x = x + noise * added.to(x.device)
        return x, y
