"""One block, three ways: as a drawing, as a formula and as PyTorch, all from the rows of the three dials."""

from html import escape

from lnres.blocks import PLACEMENTS
from lnres.experiment import Experiment
from lnres.export.script import Words
from lnres.layers import ACTIVATIONS
from lnres.norms import NORMS
from lnres.residuals import RESIDUALS

NORMED, SKIP, BRANCH, STEP = "#D55E00", 46, 190, 29
"""The hue of norms, where the two roads are drawn, and from one thing to the next, in px."""


def slots(e: Experiment) -> frozenset[str]:
    """Where norms of activations stand."""
    standing = NORMS[e.norm].make.over != "w" and e.norm != "none"
    return PLACEMENTS[e.placement].make if standing else frozenset()


def formula(e: Experiment) -> str:
    """The block's equation in LaTeX: N is the norm, f the activation."""
    there = slots(e)

    def at(slot: str, x: str) -> str:
        return f"N({x})" if slot in there else x

    inside = at("activated", f"f({at('inner', 'W_1' + at('before', 'x'))})")
    fx = at("branch", ("W_2" + inside) if e.layers == 2 else inside)
    equation, _, where = RESIDUALS[e.residual].formula.partition(",")
    lines = [f"y={at('after', equation.removeprefix('y='))}", where.removeprefix("\\ "), f"F(x)={fx}"]
    return r"\begin{gathered}" + r"\\".join(filter(None, lines)) + r"\end{gathered}"


def code(e: Experiment) -> str:
    """The block's forward pass in PyTorch, the lines that the exported script has."""
    words = Words(e.at(-1))
    lines = ["def forward(self, x):", *words.block()["lines"], "",
             "def branch(self, x):", f"return {words.branch()['out']}"]  # fmt: skip
    return "\n".join(line if line.startswith("def") or not line else f"    {line}" for line in lines)


def drawing(e: Experiment) -> str:
    """The block as an SVG, top to bottom: the skip on the left, the branch and its norms on the right."""
    there, norm = slots(e), NORMS[e.norm].label
    road = [("before", ""), ("", "W₁"), ("inner", ""), ("", ACTIVATIONS[e.activation].label),
            ("activated", ""), ("", "W₂" if e.layers == 2 else None), ("branch", "")]  # fmt: skip
    boxes = [(slot, norm if slot else said) for slot, said in road if slot in there or (not slot and said)]
    y, skipped = 2 * STEP, e.residual == "none"
    parts = [_line(f"M{SKIP} {STEP}H{BRANCH}V{y - 11}")]
    for slot, said in boxes:
        parts += [_box(BRANCH, y, said, bool(slot)), _line(f"M{BRANCH} {y + 11}v{STEP - 22}")]
        y += STEP
    joint, faint = y - 2, ' stroke-dasharray="3 4" opacity=".35"' if skipped else ""
    parts.append(_line(f"M{SKIP} {STEP}V{joint}H{BRANCH - 9}", faint))
    parts.append(_text(SKIP - 8, (STEP + joint) / 2, RESIDUALS[e.residual].label, turned=True))
    sign = "" if skipped else "+"
    parts.append(f'<circle cx="{BRANCH}" cy="{joint}" r="9" fill="none" stroke="currentColor"/>')
    parts.append(_text(BRANCH, joint + 5, sign))
    y = joint + STEP
    parts.append(_line(f"M{BRANCH} {joint + 9}V{y - 11}"))
    if "after" in there:
        parts += [_box(BRANCH, y, norm, True), _line(f"M{BRANCH} {y + 11}v{STEP - 22}")]
        y += STEP
    parts += [_text(SKIP, STEP - 8, "x"), _text(BRANCH, y + 4, "y")]
    said = f"A block: {RESIDUALS[e.residual].label}; branch of {', '.join(said for _, said in boxes)}"
    said += f"; {norm} on the sum." if "after" in there else "."
    return (
        f'<svg viewBox="0 0 300 {y + 12}" width="100%" style="max-height:{y + 12}px" role="img" '
        f'aria-label="{escape(said)}" font-family="inherit" font-size="13" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def _line(path: str, more: str = "") -> str:
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"{more}/>'


def _text(x: float, y: float, said: str, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x} {y})" opacity=".75"' if turned else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle"{turn}>{escape(said)}</text>'


def _box(x: float, y: float, said: str, normed: bool) -> str:
    hue = NORMED if normed else "currentColor"
    return (
        f'<rect x="{x - 70}" y="{y - 11}" width="140" height="22" rx="6" stroke="{hue}" '
        f'fill="{hue}" fill-opacity="{0.22 if normed else 0.07}"/>' + _text(x, y + 4.5, said)
    )
