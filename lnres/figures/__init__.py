"""A figure is a view: a Plotly spec whose arrays are references by name, filled here or in the browser."""

from lnres.figures import curves, flow, maps, profiles  # noqa: F401  whose rows are FIGURES
from lnres.figures.base import COLOURS, DASHES, FIGURES, GREY, THEMES, VANISHED, Config
from lnres.figures.grammar import HISTOGRAMS, fill, filled, gridded, shade, spans, thinned
from lnres.figures.maps import CLASSES

__all__ = [
    "CLASSES", "COLOURS", "DASHES", "FIGURES", "GREY", "HISTOGRAMS", "THEMES", "VANISHED", "Config",
    "fill", "filled", "gridded", "shade", "spans", "thinned",
]  # fmt: skip
