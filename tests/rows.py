"""Which rows of the registries go together, and how much of a large cross product the suite takes."""

import math

from lnres.norms import NORMS
from lnres.optim import OPTIMIZERS

RATES = {"sgd": 0.05, "nesterov": 0.05, "lion": 1e-4}
PAIRS = [(o, n) for o in OPTIMIZERS for n in NORMS if o in ("sgd", "adam") or n in ("layer", "batch")]
"""Every optimizer with two norms, every norm with two optimizers."""


def fitting(settings: dict, width: int = 64) -> dict:
    """The settings, with the positions that InstanceNorm and the groups that GroupNorm needs."""
    added = {}
    if settings.get("norm") == "instance":
        added["model"] = "conv"
    if settings.get("norm") == "group":
        added["groups"] = math.gcd(2, settings.get("width", width))
    return added | settings
