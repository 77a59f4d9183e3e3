"""Which rows of the registries go together, and how much of a large cross product the suite takes."""

import math

from lnres.models import MODELS
from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS
from lnres.record import CLOCKS

RATES = {"sgd": 0.05, "nesterov": 0.05, "lion": 1e-4}
PAIRS = [(o, n) for o in OPTIMIZERS for n in NORMS if o in ("sgd", "adam") or n in ("layer", "batch")]
"""Every optimizer with two norms, every norm with two optimizers."""

SOMETIMES = {"loss_online", "acc_online", "loss_batch", "acc_batch"}
SOMETIMES |= {"time_grad_norm", "regions"} | {
    name for clock in ("plane_step", "theory_step") for name in (clock, *CLOCKS[clock])
}
"""Arrays of a record that only some runs have."""


WITHIN = ("inner", "activated", "every")
"""Where a norm stands within a recurrence, and sees one time step alone, which has no positions."""


def fitting(settings: dict, width: int = 64) -> dict:
    """The settings, with what a view, InstanceNorm (positions) and GroupNorm (groups) need."""
    added = {}
    if settings.get("view", "auto") != "auto":
        added["model"] = next(model for model in MODELS if settings["view"] in MODELS[model].make.views)
    if settings.get("norm") == "instance":
        added["model"] = "conv"
    if settings.get("norm") == "group":
        added["groups"] = math.gcd(2, settings.get("width", width))
    return added | settings


REFUSED = {
    "a depth over the limit": ({"depth": "1001"}, "depth='1001': choose a whole number from 1 to 1000"),
    "a width that groups do not divide": (
        {"norm": "group", "width": "2"},
        "groups=4: width=2 has no 4 equal parts; choose one of 1, 2",
    ),
    "a width that heads do not divide": (
        {"model": "transformer", "heads": "8", "width": "4"},
        "heads=8: width=4 has no 8 equal parts; choose one of 1, 2, 4",
    ),
    "a batch larger than the data": (
        {"data": "wine", "batch": "128"},
        "batch=128: wine has 120 training examples; choose at most 120",
    ),
    "InstanceNorm without positions": (
        {"norm": "instance"},
        "norm='instance': model=mlp has no positions to normalize over; "
        "choose model=conv or model=transformer, or norm=layer",
    ),
    "BatchNorm over one example": (
        {"norm": "batch", "batch": "1"},
        "batch=1: BatchNorm needs more than one example for a variance; "
        "choose batch=2 or more, or norm=layer",
    ),
}
"""Settings that cannot be, and the sentence that the page and the command line say about them."""
