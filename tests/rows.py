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
SOMETIMES |= {"time_grad_norm", "regions", "plane_step", *CLOCKS["plane_step"]}
"""Arrays of a record that only some runs have."""


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
