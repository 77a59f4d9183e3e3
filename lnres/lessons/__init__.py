"""A lesson asks first: a guess, then the live run that answers it, and only numbers just measured."""

from lnres.lessons import rows  # noqa: F401  they register themselves
from lnres.lessons.lesson import (
    FIRST,
    LESSONS,
    MORE,
    NUMBER,
    OPEN,
    Runs,
    handout,
    interval,
    prose,
    question,
    said,
    told,
)

__all__ = [
    "FIRST", "LESSONS", "MORE", "NUMBER", "OPEN", "Runs", "handout", "interval", "prose", "question",
    "said", "told",
]  # fmt: skip
