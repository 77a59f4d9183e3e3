"""Pages that answer a hand at once: controls, and a pure function from their values to panels."""

from lnres.boards import chaos, microscope, profiles, shape, theory  # noqa: F401  whose rows are BOARDS
from lnres.boards.base import (
    BOARDS,
    Answer,
    Board,
    Cells,
    Field,
    Index,
    Panel,
    Pick,
    Point,
    Slider,
    Toggle,
)

PICTURES = "profiles", "waterfall", "carpet", "chaos", "exponents", "batches"
"""The boards of the theory page, in its order."""

__all__ = [
    "BOARDS", "PICTURES", "Answer", "Board", "Cells", "Field", "Index", "Panel", "Pick", "Point", "Slider",
    "Toggle",
]  # fmt: skip
