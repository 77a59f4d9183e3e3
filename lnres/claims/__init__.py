"""What four articles say, and the experiments that decide it."""

from lnres.claims import (
    batches,
    depth,
    exact,
    nets,
    place,
    robust,
    rows_depth,
    rows_nets,
    rows_what,
    scaling,
    shift,
    speed,
)
from lnres.claims.bench import EXPERIMENTS
from lnres.claims.claim import CLAIMS

MODULES = exact, robust, speed, batches, shift, scaling, place, depth, nets, rows_what, rows_depth, rows_nets
"""Importing them fills the registries; so this is the order in which experiments run."""
__all__ = ["CLAIMS", "EXPERIMENTS"]
