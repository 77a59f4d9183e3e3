"""Pages that answer a hand at once: controls, and a pure function from their values to panels."""

from lnres.boards import microscope, shape, theory  # noqa: F401  whose rows are BOARDS
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

__all__ = [
    "BOARDS", "Answer", "Board", "Cells", "Field", "Index", "Panel", "Pick", "Point", "Slider", "Toggle",
]  # fmt: skip
