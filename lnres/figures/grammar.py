"""The grammar of a spec, and filling it: numbers from records take the place of their names.

Filling replaces these nodes of a spec; everything else is Plotly's own.

``{"ref": name, "run": i, "at": "past" | "frame"}``
    rows of a record's array: all, or the last at or before the step looked at. Each row is the mean of the
    ``recent`` last ones, where so many are asked for; ``floor`` lifts what vanished, ``log`` takes the
    logarithm. ``with`` combines it with an operand: another such reference, looked up at the same step by its
    own clock and raised to a ``power``, with ``op`` ``less``, ``per`` or ``times``; a row of one number a
    member stands for all blocks. ``scale`` multiplies.
    ``over`` reduces the members (``mean``, ``gmean``), goes along their lowest and back along their highest
    (``band``) or along the 95 % interval of their mean (``interval``, Student's t for n = 2, 3 ... in ``t``),
    or puts them one after another with gaps between (``each``).
    Of a clock, ``loop`` goes there and back again, and ``each`` repeats it so often with gaps between.
    ``thin`` keeps about so many rows and the last, ``grid`` what holds at so many evenly spaced steps.
    Two axes become a ``z``; of a row of bands, ``stack`` is the outline of one, which lies on those before
    it, below zero if it is negative: along its lower edge, and back along the upper one.
``{"real": reference, "of": a}``  whether the interval of that mean excludes 0: "a real" or "a not shown".
``{"say": key, "run": i}``        the steps or texts of a run's events.
``{"range": "y" | "z", ...}``     a robust range of what is visible, snapped outwards, with ``around`` inside;
                                  of logarithms only those ``above``; ``end`` picks one side, and with
                                  ``flip`` it runs downwards.
``{"until": k}``                  from 0 to the last step of all runs, at least ``DENSE``, rounded up to a
                                  multiple of the largest of 1, 2, 5, 10, 20 ... that is at most a k-th of it:
                                  what stands still for a while is cheap to draw.
``{"now": true}``, ``{"past": true}`` the step looked at, and whether it is not simply the latest.
``{"shown": i}``, ``{"tile": i}`` whether a configuration is shown (``eventful``: and has events), and its
    share of the width.
``{"ramp": power, "from": k}``    the theme's magnitude scale from its k-th colour, stretched by ``power``.

``assets/grammar.js`` implements the same grammar, and a test holds the two equal.
"""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from lnres.figures.base import THEMES
from lnres.record import CLOCK_OF, DENSE, Record

HISTOGRAMS = "act_hist", "grad_hist"
"""Arrays that travel, and are drawn, as shares of all members."""

OPS = {"less": np.subtract, "per": np.divide, "times": np.multiply}
EDGES = {"band": ("low", "high"), "interval": ("below", "above")}


def shade(counts: np.ndarray) -> np.ndarray:
    """Histogram counts (rows, L+1, S, bins) as bytes for the wire: the root of the share over all members.

    The square root keeps shares down to one in a quarter million above zero.
    """
    pooled = counts.sum(axis=2, dtype=np.float64)
    whole = pooled.sum(axis=-1, keepdims=True)
    return np.round(255 * np.sqrt(pooled / np.maximum(whole, 1))).astype(np.uint8)


def spans(shades: np.ndarray) -> np.ndarray:
    """Histograms (..., bins) as one row of bytes, without the empty bins at both ends of each.

    Each is written as its first bin that is not empty, how many follow up to the last such, and these: less
    than half as long, and nothing is lost. ``record.js`` knows the shape and reads it back.
    """
    flat = shades.reshape(-1, shades.shape[-1])
    seen, bins = flat > 0, np.arange(flat.shape[1])
    first = seen.argmax(1)
    end = np.where(seen.any(1), flat.shape[1] - seen[:, ::-1].argmax(1), first)
    inside = (bins >= first[:, None]) & (bins < end[:, None])
    told = np.column_stack([first, end - first])
    return np.hstack([told, flat])[np.hstack([np.ones_like(told, bool), inside])].astype(np.uint8)


def thinned(rows: int, most: int) -> np.ndarray:
    """Indices of about ``most`` rows and the last; strides double, so that curves do not shimmer."""
    stride = 1
    while rows > most * stride:
        stride *= 2
    kept = np.arange(0, rows, stride)
    return kept if not rows or kept[-1] == rows - 1 else np.append(kept, rows - 1)


def gridded(steps: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` evenly spaced steps up to the last: even columns are what Plotly draws fast."""
    stride = 1
    while steps[-1] >= most * stride:
        stride *= 2
    return np.arange(0, steps[-1] + 1, stride)


def _over(values: np.ndarray, how: str, t: Sequence[float] = ()) -> np.ndarray:
    """Reduce the last axis over its finite entries; NaN where there are none, or too few for an interval."""
    finite = np.isfinite(values)
    count = finite.sum(axis=-1)
    if how in ("low", "high"):
        worst, pick = (np.inf, np.min) if how == "low" else (-np.inf, np.max)
        return np.where(count, pick(np.where(finite, values, worst), axis=-1), np.nan)
    kept = np.where(finite, values, 1)
    total = np.where(finite, np.log(kept) if how == "gmean" else kept, 0).sum(axis=-1) / np.maximum(count, 1)
    middle = np.where(count, np.exp(total) if how == "gmean" else total, np.nan)
    if how in ("mean", "gmean"):
        return middle
    squares = np.where(finite, (kept - middle[..., None]) ** 2, 0).sum(axis=-1)
    error = np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1))
    times = np.array([np.nan, np.nan, *t])[count]
    return middle + (1 if how == "above" else -1) * times * error


def _last(steps: np.ndarray, step: float) -> int:
    """The row of the last tick at or before the step, -1 if there is none."""
    return int(np.searchsorted(steps, step, "right")) - 1


def _cells(ref: dict, record: Record, rows: Sequence[int]) -> np.ndarray:
    """Some rows of an array, member by member, as the reference treats each on its own."""
    array, recent = record[ref["ref"]], ref.get("recent", 1)
    if ref["ref"] in HISTOGRAMS:
        return (shade(array[rows]) / 255) ** 2
    values = array[rows].astype(np.float64)
    if recent > 1:
        lately = (array[max(0, row + 1 - recent) : row + 1].astype(np.float64) for row in rows)
        values = np.stack([_over(np.moveaxis(several, 0, -1), "mean") for several in lately])
    if "floor" in ref:
        values = np.where(values < ref["floor"], ref["floor"], values)
    return np.log10(values) if ref.get("log") else values


def _rows(ref: dict, records: Sequence[Record], rows: Sequence[int]) -> np.ndarray:
    """Some rows of an array, combined and reduced as the reference says."""
    record = records[ref["run"]]
    values = _cells(ref, record, rows)
    if operand := ref.get("with"):
        ticks = record[CLOCK_OF[ref["ref"]]][rows]
        other = _looked_up({"run": ref["run"]} | operand, records, ticks)
        many = max(values.ndim, other.ndim)
        values, other = (a.reshape(len(a), *[1] * (many - a.ndim), *a.shape[1:]) for a in (values, other))
        with np.errstate(all="ignore"):
            values = OPS[operand["op"]](values, other ** operand.get("power", 1))
    values = values * ref["scale"] if "scale" in ref else values
    return values if ref.get("over", "each") == "each" else _over(values, ref["over"], ref.get("t", ()))


def _looked_up(operand: dict, records: Sequence[Record], ticks: np.ndarray) -> np.ndarray:
    """An operand's rows at these steps, NaN where it has none."""
    record, clock = records[operand["run"]], CLOCK_OF[operand["ref"]]
    if operand["ref"] not in record or not record.rows(clock):
        return np.full((len(ticks), 1), np.nan)
    at = np.searchsorted(record[clock], ticks, "right") - 1
    values = _cells(operand, record, np.maximum(at, 0))
    values[at < 0] = np.nan
    return values


def _apart(columns: np.ndarray) -> np.ndarray:
    """Columns one after another, with a gap behind each."""
    return np.vstack([columns, np.full((1, columns.shape[1]), np.nan)]).T.ravel()


def _outline(bands: np.ndarray, k: int) -> np.ndarray:
    """The lower edge of the k-th of stacked bands (K, n), and back along its upper edge.

    What is below zero by rounding alone stays with those above.
    """
    own = bands[k]
    under = np.where(own < -1e-6, np.minimum(bands[:k], 0).sum(0), np.maximum(bands[:k], 0).sum(0))
    return np.append(under, (under + own)[::-1])


def _array(ref: dict, records: Sequence[Record], step: float) -> np.ndarray:
    if ref.get("over") in EDGES:
        low, high = (_array(ref | {"over": edge}, records, step) for edge in EDGES[ref["over"]])
        return np.append(low, high[::-1])
    if "stack" in ref:
        bands = _array({key: value for key, value in ref.items() if key != "stack"}, records, step)
        return _outline(bands, ref["stack"]) if len(bands) else bands
    if ref.get("loop"):
        there = _array(ref | {"loop": False}, records, step)
        return np.append(there, there[::-1])
    if ref.get("each"):
        there = _array(ref | {"each": 0}, records, step)
        return _apart(np.tile(there[:, None].astype(float), ref["each"])) if len(there) else there
    name, record = ref["ref"], records[ref["run"]]
    clock, each = CLOCK_OF[name], ref.get("over") == "each"
    if name not in record or not record.rows(clock):
        return np.empty(0)
    steps = record[clock]
    if ref["at"] == "frame":
        row = _last(steps, step)
        if row < 0:
            return np.empty(0)
        values = _rows(ref, records, [row])[0]
        return _apart(values) if each else np.atleast_1d(values.T)
    if "grid" in ref:
        ticks = gridded(steps, ref["grid"])
        if name == clock:
            return ticks
        return _rows(ref, records, [max(0, _last(steps, tick)) for tick in ticks]).T
    values = _rows(ref, records, thinned(len(steps), ref.get("thin", len(steps))))
    return _apart(values) if each else values.T


def _range(ask: dict, traces: list[dict]) -> list[float]:
    """Quantiles of every visible value, snapped outwards to whole multiples of ``snap``, else of half the
    largest power of ten in their span."""
    seen = [np.asarray(t[ask["range"]], float).ravel() for t in traces if t["visible"] and ask["range"] in t]
    values = np.concatenate([np.empty(0), *seen])
    if ask.get("log"):
        values = np.log10(values[values > ask.get("above", 0)])
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return [-ask["least"], 0]
    last = len(values) - 1
    low, high = ask["quantiles"]
    low, high = values[int(np.floor(low * last))], values[int(np.ceil(high * last))]
    if "around" in ask:
        low, high = min(low, ask["around"]), max(high, ask["around"])
    snap = ask.get("snap") or 10 ** np.floor(np.log10(max(high - low, ask["least"]))) / 2
    bottom, top = np.floor(low / snap) * snap, np.ceil(high / snap) * snap
    return [float(min(bottom, top - ask["least"])), float(top)]


def _until(parts: int, last: int) -> list[float]:
    """From 0 to the last step, rounded up; at the start, to where steps are no longer probed one by one."""
    last = max(last, DENSE)
    exponent = math.floor(math.log10(last / parts) + 1e-9)
    unit = max(lead * 10**exponent for lead in (1, 2, 5) if lead * 10**exponent * parts <= last)
    return [0, math.ceil(last / unit) * unit]


def _real(ref: dict, what: str, records: Sequence[Record], step: float) -> str:
    """What the interval of a mean at the step looked at says; nothing where there is none."""
    ends = _array(ref | {"at": "frame", "over": "interval"}, records, step)
    if not len(ends) or not np.isfinite(ends).all():
        return ""
    return f"{what} real" if (ends > 0).all() or (ends < 0).all() else f"{what} not shown"


def fill(
    spec: dict,
    records: Sequence[Record],
    step: int | None = None,
    shown: Sequence[int] | None = None,
    theme: str = "light",
) -> go.Figure:
    """The figure of a spec at a step (``None``: the latest), of all configurations or those shown."""
    import pandas  # noqa: F401  plotly takes one that another thread is still importing for whole

    figure = filled(spec, records, step, shown, theme)
    return go.Figure(figure["data"], {"template": THEMES[theme]["template"]} | figure["layout"])


def filled(
    spec: dict,
    records: Sequence[Record],
    step: int | None = None,
    shown: Sequence[int] | None = None,
    theme: str | None = None,
) -> dict:
    """Data and layout of a spec at a step; without a theme, ramps are left to a browser that knows it."""
    now = max((record.last_step for record in records), default=-1) if step is None else step
    shown = list(range(len(records))) if shown is None else list(shown)
    data: list[dict] = []

    def resolve(node):
        match node:
            case {"ref": _, "run": _}:
                return _array(node, records, now)
            case {"real": ref, "of": what}:
                return _real(ref, what, records, now)
            case {"say": key, "run": run}:
                return [event[key] for event in records[run].events]
            case {"range": str()}:
                both = _range(node, data)
                return both[node["end"]] if "end" in node else both[::-1] if node.get("flip") else both
            case {"until": parts}:
                return _until(parts, max((record.last_step for record in records), default=-1))
            case {"now": _}:
                return now
            case {"past": _}:
                return step is not None
            case {"shown": run}:
                return run in shown and bool(not node.get("eventful") or records[run].events)
            case {"tile": run}:
                gap, many = 0.035, max(len(shown), 1)
                wide = (1 - gap * (many - 1)) / many
                left = shown.index(run) * (wide + gap) if run in shown else 0
                return [left, left + wide]
            case {"ramp": power, "from": first} if theme:
                ramp = THEMES[theme]["ramp"][first:]
                return [[(i / (len(ramp) - 1)) ** power, colour] for i, colour in enumerate(ramp)]
            case dict():
                return {key: resolve(value) for key, value in node.items()}
            case list():
                return [resolve(value) for value in node]
        return node

    for trace in spec["data"]:
        data.append(resolve(trace))
    return {"data": data, "layout": resolve(spec["layout"])}
