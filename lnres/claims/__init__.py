"""What four articles say, and the experiments that decide it."""

from lnres.claims import exact, rows_what
from lnres.claims.bench import EXPERIMENTS
from lnres.claims.claim import CLAIMS

MODULES = exact, rows_what
"""Importing them fills the registries; experiments in the order in which they run, cheapest first."""
__all__ = ["CLAIMS", "EXPERIMENTS"]
