"""Formulas with numbers in them, as MathML, which every browser draws without help."""

import math

ROUNDING = 1e-15
"""What is smaller is what rounding left of 0, and is said to be that."""


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, and a power of ten where there would be many zeros."""
    value = float(value)
    if abs(value) < ROUNDING:
        return "<mn>0</mn>"
    if not math.isfinite(value):
        return f"<mn>{value:g}</mn>"
    sign = "<mo form='prefix'>−</mo>" if value < 0 else ""
    size, exponent = abs(value), math.floor(math.log10(abs(value)))
    if -3 <= exponent < 5:
        return (
            f"{sign}<mn>{float(f'{size:.{digits}g}'):.10g}</mn>"
            if exponent < 3
            else f"{sign}<mn>{size:.0f}</mn>"
        )
    mantissa, power = f"{size:.{digits - 1}e}".split("e")
    short = "" if float(mantissa) == 1 else f"<mn>{float(mantissa):g}</mn><mo>·</mo>"
    raised = f"<mo form='prefix'>−</mo><mn>{-int(power)}</mn>" if int(power) < 0 else f"<mn>{int(power)}</mn>"
    return f"{sign}{short}<msup><mn>10</mn><mrow>{raised}</mrow></msup>"


def bracketed(value: float) -> str:
    """A number behind an operator: a negative one in brackets."""
    return number(value) if value > -ROUNDING else row("(", number(value), ")")


def row(*parts: str) -> str:
    """Parts one after another: tags stay, single operators and brackets become some, words become names."""
    return f"<mrow>{''.join(map(_part, parts))}</mrow>"


def _part(text: str) -> str:
    if text.startswith("<"):
        return text
    return f"<mo>{text}</mo>" if text in _OPERATORS else f"<mi>{text}</mi>"


_OPERATORS = {"=", "+", "−", "·", "(", ")", "…", "/", "≈", ",", "max"}


def over(top: str, bottom: str) -> str:
    """A fraction."""
    return f"<mfrac>{row(top)}{row(bottom)}</mfrac>"


def root(*parts: str) -> str:
    """A square root."""
    return f"<msqrt>{row(*parts)}</msqrt>"


def squared(*parts: str) -> str:
    """The square of what stands there."""
    return f"<msup>{row(*parts)}<mn>2</mn></msup>"


def hat(name: str) -> str:
    """A name with a hat."""
    return f"<mover accent='true'><mi>{name}</mi><mo>^</mo></mover>"


def total(terms: list[str], most: int = 3) -> str:
    """Terms with plus signs between; of many, the first and the last."""
    shown = terms if len(terms) <= most else [*terms[: most - 1], "…", terms[-1]]
    parts = [part for term in shown for part in ("+", term)][1:]
    return row(*parts)


def formula(*parts: str) -> str:
    """The whole of it, in a line of its own."""
    return f"<math display='block'>{row(*parts)}</math>"
