"""What scaling the data does, beside norms in the network (E25)."""

import numpy as np

from lnres.claims.bench import (
    ADAM,
    EXPERIMENTS,
    FIRST,
    NORMS_COMPARED,
    SGD,
    Found,
    Steps,
    Trial,
    plain,
    rates,
    sweep,
)
from lnres.data import DATA, SCALERS, Table, divided, minmax, robust, wine, zscore
from lnres.train import Run

WINES = 13
COLUMNS = 30
"""Columns of noise beside the 13 measurements."""
SEEDS = 16
QUIET, LOUD = 0.05, 5.0


def noisy_wine() -> tuple[np.ndarray, np.ndarray]:
    """The wines beside 30 columns of standard normal noise."""
    x, y = wine()
    return np.hstack([x, np.random.default_rng(0).normal(size=(len(x), COLUMNS))]), y


DATA.put(
    "wine_noise", "wine and noise", listed=False, paper="Forina et al. 1991",
    make=Table("wine_noise", noisy_wine, WINES + COLUMNS, 3, 120, 58), about=noisy_wine.__doc__,
)  # fmt: skip


def beside(size: float):
    """A scaler: the measurements z-scored, the noise columns as loud as this."""

    def scale(train: np.ndarray, x: np.ndarray, slack: float = 0.0) -> np.ndarray:
        """Measurements to mean 0 and variance 1; noise stays noise."""
        return np.hstack([zscore(train[:, :WINES], x[:, :WINES]), size * x[:, WINES:]])

    return scale


for _name, _size in (("quiet", QUIET), ("loud", LOUD)):
    SCALERS.put(
        _name, f"noise of std {_size:g}", listed=False, make=beside(_size),
        about=f"Measurements z-scored, columns of noise with a standard deviation of {_size:g}.",
    )  # fmt: skip


class Outlier:
    """Puts data in place of a run's: one training row is multiplied by 1000, then all are scaled."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, run: Run) -> None:
        """The test rows are the same; only what the scaler saw is not."""
        e = run.experiment
        for k, seed in enumerate(e.member_seeds):
            train, _, test, _ = divided(DATA["wine"].make, SCALERS["none"].make, seed)
            train = train.astype(float)
            train[0] *= 1000
            for there, rows in ((run.batches.x, train), (run.batches.test_x, test)):
                there[k] = there.new_tensor(self.scale(train, rows))


SCALINGS = {
    "raw": ("wine", "none"), "row": ("wine", "row"), "min-max": ("wine", "minmax"), "z": ("wine", "z"),
    "km/nm": ("wine_km", "none"), "km/nm min-max": ("wine_km", "minmax"),
}  # fmt: skip
GRIDS = rates(SGD, 1e-6, 1e-4, 1e-2, 1e-1), rates(ADAM, 1e-3, 1e-2)
OUTLIERS = {"min-max": minmax, "z": zscore, "median-IQR": robust}


def fitted(trial: Trial) -> dict[str, np.ndarray]:
    """Test accuracy and final train loss; that of a guess where it diverged."""
    guess = -np.log(trial.chance)
    return {
        "accuracy": trial.test_accuracy(),
        "final loss": np.where(np.isfinite(trial.loss), trial.loss, guess),
    }


def network(first: int, norm: str, data: str, scaler: str):
    """One hidden layer of 32 units on wine."""
    return plain(
        norm=norm, data=data, scaler=scaler, depth=1, width=32, batch=32, steps=300, seed=first, seeds=SEEDS
    )


@EXPERIMENTS.add("E25", "Scaling the data")
def scaling(first: int = FIRST) -> Steps:
    """Wine through one hidden layer, 300 steps: raw, scaled, with columns of noise, with an outlier."""
    found = Found()
    for grid in GRIDS:
        for norm in NORMS_COMPARED:
            arms = {
                f"{name} {norm} {grid[0][0]}": network(first, norm, *kind) for name, kind in SCALINGS.items()
            }
            yield from sweep(found, arms, grid, fitted)
    for norm in NORMS_COMPARED:
        arms = {
            f"{name} noise {norm} {how}": network(first, norm, "wine_noise", scaler)
            for name in ("quiet", "loud") for how, scaler in (("as is", name), ("z", "z"))
        }  # fmt: skip
        yield from sweep(found, arms, rates(SGD, 0.01, 0.1, 0.5), fitted)
    for name, scale in OUTLIERS.items():
        arm = {f"outlier {name}": network(first, "none", "wine", "none")}
        yield from sweep(found, arm, GRIDS[0], fitted, prepare=Outlier(scale))
    arm = {"clean median-IQR": network(first, "none", "wine", "robust")}
    yield from sweep(found, arm, GRIDS[0], fitted)
    for name, kind in SCALINGS.items():
        run = Run(network(first, "none", *kind))
        found.put(f"{name} condition number", [np.linalg.cond(np.cov(x.numpy().T)) for x in run.batches.x])
        x, y = run.batches(0, 120)
        run.weights.backward(run.batches.loss(run.model(x), y).sum())
        power = run.weights.named()["stem.weight"][1].square().sum(2)
        found.put(f"{name} gradient of the largest column", (power.max(1).values / power.sum(1)).numpy())
        yield f"gradient, {name}"
    return found
