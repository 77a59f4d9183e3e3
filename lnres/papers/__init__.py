"""What papers printed, beside what is measured here: each number with its tolerance, each status computed."""

from lnres.papers import rows  # noqa: F401  they register themselves
from lnres.papers.paper import (
    DIFFERS,
    IN_KIND,
    IN_PART,
    NOT_RUN,
    OPEN,
    PAPERS,
    REPLICATES,
    STATUSES,
    Paper,
    Point,
    committed,
    points_of,
    run,
)

__all__ = [
    "DIFFERS", "IN_KIND", "IN_PART", "NOT_RUN", "OPEN", "PAPERS", "REPLICATES", "STATUSES", "Paper", "Point",
    "committed", "points_of", "run",
]  # fmt: skip
