"""Networks whose trouble is known because they were built to have it, and what the verdict says of them."""

import collections
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from lnres.experiment import Experiment
from lnres.record import Record
from lnres.train import Run
from lnres.verdict import VERDICTS, verdict
from tests.bench import BENCHES

CHOSEN, JUDGED = 0, 200
"""First seed of those on which the thresholds were chosen, and of those on which they are judged."""
SMALL = {"width": 32, "batch": 32, "steps": 60}
"""Settings of all cases, where they name no others."""


def deaf(bias: float) -> Callable[[Run], None]:
    """Units whose bias holds them on the flat side of their activation, whatever comes."""

    def spoil(run: Run) -> None:
        with torch.no_grad():
            for name, (value, _) in run.weights.named().items():
                if name.startswith("blocks") and name.endswith("first.bias"):
                    value.fill_(bias)

    return spoil


@dataclass(frozen=True)
class Case:
    """A network built to have one trouble, by settings and, where these cannot, by what ``spoil`` does."""

    kind: str
    name: str
    settings: str
    spoil: Callable[[Run], None] = lambda run: None

    def record(self, seed: int, seeds: int, **changes) -> Record:
        """Train the networks of these seeds, all at once; ``changes`` are other settings to try."""
        settings = SMALL | dict(word.split("=") for word in self.settings.split()) | changes
        e = Experiment.parse(settings | {"seed": seed, "seeds": seeds})
        run, record = Run(e), Record({"experiment": e.link()})
        self.spoil(run)
        for _ in range(e.steps):
            record.extend(*next(run))
        return record

    def __str__(self):
        return f"{self.kind}: {self.name}"


CASES = [
    Case("diverged", "SGD, steps of 100", "depth=8 lr=100"),
    Case("diverged", "no norm", "norm=none residual=scaled depth=6 lr=3"),
    Case("diverged", "BatchNorm, tanh", "depth=8 norm=batch activation=tanh lr=50"),
    Case("diverged", "bare skips, He twice", "norm=none depth=32 init=he lr=0.05"),
    Case("dead", "biases of -10", "norm=none residual=none depth=8 lr=0.01", deaf(-10)),
    Case("dead", "biases of -6 behind a norm", "depth=8 steps=100", deaf(-6)),
    Case("dead", "BatchNorm with a shift of -5", "norm=batch placement=inner beta=-5 depth=6"),
    Case("dead", "LayerNorm with a shift of -6, GELU",
         "placement=inner beta=-6 depth=6 activation=gelu optimizer=adam lr=0.001"),
    Case("dead", "SiLU, biases of -14", "depth=12 activation=silu width=16", deaf(-14)),
    Case("dead", "wine, biases of -20", "data=wine depth=20 width=48", deaf(-20)),
    Case("saturated", "tanh, weights 6 times",
         "norm=none residual=none gain=6 layers=1 depth=4 activation=tanh lr=0.01"),
    Case("saturated", "tanh, weights 5 times, deep",
         "norm=none residual=none gain=5 layers=1 depth=16 activation=tanh lr=0.01"),
    Case("saturated", "erf, weights 8 times",
         "norm=none residual=none gain=8 depth=4 activation=erf lr=0.01 width=16"),
    Case("saturated", "LayerNorm with a gain of 10", "placement=inner gamma=10 depth=8 activation=tanh"),
    Case("saturated", "sigmoid, weights 10 times", "gain=10 depth=8 activation=sigmoid lr=0.01"),
    Case("exploding", "weights twice He's", "norm=none residual=none gain=2 layers=1 depth=16 lr=1e-09"),
    Case("exploding", "SELU, weights three times",
         "norm=none residual=none gain=3 layers=1 depth=10 activation=selu steps=1"),
    Case("exploding", "GELU, weights 2.5 times",
         "norm=none residual=none gain=2.5 depth=12 activation=gelu steps=1 width=16"),
    Case("exploding", "60 layers of BatchNorm",
         "residual=none placement=inner layers=1 norm=batch depth=60 width=64 batch=64 lr=1e-07 steps=10"),
    Case("exploding", "bare skips", "norm=none depth=32 lr=1e-09"),
    Case("exploding", "bare skips, at the first step", "norm=none depth=24 width=64 steps=1"),
    Case("vanishing", "ReLU, LeCun", "norm=none residual=none init=lecun depth=32"),
    Case("vanishing", "tanh, torch's default", "norm=none residual=none init=torch depth=16 activation=tanh"),
    Case("vanishing", "sigmoid", "norm=none residual=none depth=10 activation=sigmoid"),
    Case("vanishing", "half of He", "norm=none residual=none gain=0.5 layers=1 depth=16 lr=0.01"),
    Case("vanishing", "erf, ordered phase",
         "norm=none residual=none init=meanfield sigma_w2=0.4 layers=1 depth=24 activation=erf width=64"),
    Case("vanishing", "GELU, Adam",
         "norm=none residual=none init=torch depth=24 activation=gelu optimizer=adam lr=0.001"),
    Case("vanishing", "wine", "norm=none residual=none init=lecun depth=40 width=16 data=wine"),
    Case("collapsed", "100 layers of LayerNorm",
         "residual=none placement=inner layers=1 norm=layer depth=100 lr=0.001 steps=30"),
    Case("collapsed", "60 layers of LayerNorm, wider",
         "residual=none placement=inner layers=1 norm=layer depth=60 lr=0.001 width=64 steps=30"),
    Case("collapsed", "60 layers of RMSNorm",
         "residual=none placement=inner layers=1 norm=rms depth=60 width=64 lr=0.001"),
    Case("collapsed", "80 layers of LayerNorm, Adam",
         "residual=none placement=inner layers=1 norm=layer depth=80 optimizer=adam lr=0.0001"),
    Case("collapsed", "80 layers of He, wide",
         "norm=none residual=none layers=1 depth=80 width=192 lr=0.0001 steps=10"),
    Case("too_high", "SGD", "placement=post depth=6 lr=0.3 steps=80"),
    Case("too_high", "SGD, BatchNorm", "norm=batch depth=8 lr=1 steps=80"),
    Case("too_high", "Adam", "depth=8 optimizer=adam lr=0.3"),
    Case("too_high", "Adam, post-LN", "placement=post depth=12 optimizer=adam lr=0.1"),
    Case("too_high", "Adam, tanh", "norm=none residual=scaled activation=tanh depth=8 optimizer=adam lr=0.3"),
    Case("too_high", "Adam, GELU, BatchNorm", "norm=batch activation=gelu depth=12 optimizer=adam lr=0.5"),
    Case("too_high", "RMSprop", "depth=12 optimizer=rmsprop lr=0.01 activation=leaky"),
    Case("too_high", "Lion", "depth=8 optimizer=lion lr=0.3 norm=rms"),
    Case("too_low", "SGD", "depth=8 lr=1e-06 steps=100"),
    Case("too_low", "Adam", "depth=8 optimizer=adam lr=1e-07 steps=100"),
    Case("too_low", "BatchNorm, tanh", "norm=batch depth=8 lr=1e-05 activation=tanh steps=100"),
    Case("too_low", "shallow, no norm", "norm=none residual=none depth=3 lr=1e-06 steps=100"),
    Case("too_low", "GELU, scaled skips", "norm=none residual=scaled depth=16 lr=1e-05 activation=gelu"),
    Case("stale", "nothing remembered", "norm=batch norm_momentum=0 depth=6 steps=101"),
    Case("stale", "momentum 0.001", "norm=batch norm_momentum=0.001 depth=8 lr=0.02 steps=101"),
    Case("stale", "post, Adam",
         "norm=batch placement=post norm_momentum=0 depth=8 optimizer=adam lr=0.003 steps=101"),
    Case("stale", "behind a sigmoid",
         "norm=batch placement=activated norm_momentum=0 depth=5 activation=sigmoid steps=101"),
    Case("stale", "brighter tests",
         "residual=none placement=inner layers=1 norm=batch depth=3 steps=101 brightness=3 shift=test"),
    Case("overfitting", "wine, half the labels drawn",
         "data=wine label_noise=0.5 depth=4 width=64 optimizer=adam lr=0.003 steps=301"),
    Case("overfitting", "wine, tanh",
         "data=wine label_noise=0.6 depth=6 width=64 optimizer=adam lr=0.003 activation=tanh steps=301"),
    Case("overfitting", "wine, BatchNorm", "data=wine label_noise=0.6 norm=batch depth=4 width=64 steps=601"),
    Case("overfitting", "digits",
         "label_noise=0.4 depth=4 width=128 optimizer=adam lr=0.003 batch=64 steps=701"),
    Case("not_learning", "random labels", "label_noise=1 depth=8 lr=0.01 steps=100"),
    Case("not_learning", "drowned in noise", "noise=50 depth=8 lr=0.05 steps=100"),
    Case("not_learning", "drowned in noise, tanh",
         "noise=50 depth=6 norm=batch activation=tanh steps=100 optimizer=adam lr=0.001"),
    Case("not_learning", "random labels, tanh",
         "norm=none label_noise=1 depth=4 lr=0.02 activation=tanh steps=100"),
    Case("not_learning", "random labels, circles", "data=circles label_noise=1 depth=4 lr=0.01 steps=100"),
    Case("healthy", "pre-LN", "depth=16 steps=101"),
    Case("healthy", "pre-LN, Adam", "depth=32 steps=101 optimizer=adam lr=0.001"),
    Case("healthy", "BatchNorm", "depth=8 norm=batch steps=101"),
    Case("healthy", "ReZero, tanh", "depth=16 norm=none residual=rezero activation=tanh steps=101"),
    Case("healthy", "shallow, GELU", "norm=none residual=none depth=3 activation=gelu lr=0.01 steps=201"),
    Case("healthy", "DeepNorm",
         "depth=12 residual=deepnorm placement=post steps=201 optimizer=adam lr=0.001"),
    Case("healthy", "scaled skips", "depth=16 residual=scaled norm=none lr=0.01 steps=201"),
    Case("healthy", "wine", "data=wine depth=4 optimizer=adam lr=0.003 steps=101"),
    Case("healthy", "moons, RMSNorm", "data=moons depth=6 norm=rms optimizer=adam lr=0.003 steps=201"),
    Case("healthy", "batches of four", "depth=8 batch=4 lr=0.01 steps=401"),
    Case("healthy", "still learning", "depth=12 lr=0.02 steps=40"),
    Case("healthy", "just begun", "depth=24 activation=silu steps=3"),
]  # fmt: skip


def judged(seed: int = JUDGED, seeds: int = 20, kinds=None) -> Iterator[tuple[Case, list[str]]]:
    """Every case with what is said of each of its networks."""
    for case in CASES:
        if kinds is None or case.kind in kinds:
            record = case.record(seed, seeds)
            yield case, [verdict(record, member=k).kind for k in range(seeds)]


@BENCHES.add("verdict", "what the verdict says of networks whose trouble is known")
def confusion(seed: int = JUDGED, seeds: int = 20) -> dict:
    """Per kind: networks judged, share judged rightly, what else was said of how many."""
    told = {name: collections.Counter() for name in VERDICTS}
    for case, said in judged(seed, seeds):
        told[case.kind].update(said)
    return {
        name: {"networks": sum(said.values()), "right": round(said[name] / sum(said.values()), 3),
               "else": {other: n for other, n in said.items() if other != name}}
        for name, said in told.items()
    }  # fmt: skip
