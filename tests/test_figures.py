"""Both players of a figure, Python's and the browser's, must show the same numbers."""

import base64
import dataclasses
import json
import shutil
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from scipy import stats

from lnres.experiment import Experiment
from lnres.figures import (
    CLASSES,
    COLOURS,
    DASHES,
    FIGURES,
    HISTOGRAMS,
    THEMES,
    VANISHED,
    Config,
    fill,
    gridded,
    shade,
    spans,
    thinned,
)
from lnres.record import HIST_BINS, PLANE_CLASSES, PLANE_LEVELS, Record, pack, written
from lnres.train import Run
from lnres.ui import server

SEEDS, DEPTHS = 3, (5, 2)
CONFIGS = [
    Config(
        i,
        f"depth {depth}",
        depth,
        SEEDS,
        times=6 * i,
        plane=True,
        online=True,
        invariant=bool(i),
        source=(1.0, 0.5, 0.25) * i,
    )
    for i, depth in enumerate(DEPTHS)
]
BLOCKS = (
    "saturated", "dead", "skip_grad_norm", "branch_grad_norm", "skip_branch_cosine",
    "weight_norm", "weight_grad_norm", "update_ratio",
)  # fmt: skip
VIEWS = {
    "latest": {},
    "scrubbed": {"step": 47},
    "before the first": {"step": -1},
    "one hidden, dark": {"shown": [1], "theme": "dark"},
    "none shown": {"shown": []},
}


def recorded(run: int, steps: int = 700) -> Record:
    """A run with everything that is hard to draw: vanished, infinite and missing values, and an event."""
    rng, depth = np.random.default_rng(run), DEPTHS[run]
    record, ticks = Record(), np.unique(np.r_[np.arange(10), np.arange(0, steps, 7)]).astype(np.int32)

    def drawn(*shape):
        return np.exp(3 * rng.normal(size=shape)).astype(np.float32)

    arrays = {
        "step": np.arange(steps, dtype=np.int32),
        "test_step": np.arange(0, steps, 20, dtype=np.int32),
        "probe_step": ticks,
        "grad_norm": drawn(len(ticks), depth + 1, SEEDS) ** 4,
        "act_hist": rng.poisson(0.7, (len(ticks), depth + 1, SEEDS, HIST_BINS + 2)).astype(np.uint16),
    }
    arrays |= {"grad_hist": rng.poisson(0.7, arrays["act_hist"].shape).astype(np.uint16)}
    for name in ("act_std", "act_mean", "cosine"):
        arrays[name] = drawn(len(ticks), depth + 1, SEEDS)
    arrays["river"] = rng.normal(size=(len(ticks), depth + 1, len(written(depth)) + 2, SEEDS)).astype(
        np.float32
    )
    for name in BLOCKS:
        arrays[name] = drawn(len(ticks), depth, SEEDS)
    arrays |= {"lr": drawn(steps, SEEDS), "acc_online": drawn(steps, SEEDS) % 1}
    ends = np.linspace(-1, 1, 5, dtype=np.float32)
    arrays |= {
        "plane_step": np.zeros(1, np.int32),
        "plane_x": ends[None],
        "plane_y": 2 * ends[None, :4],
        "regions": rng.integers(0, 250, (len(arrays["test_step"]), 5, 4)).astype(np.uint8),
        "point_x": drawn(1, 7),
        "point_y": drawn(1, 7),
        "point_class": rng.integers(0, 10, (1, 7)).astype(np.uint8),
    }
    for kind in ("train", "test"):
        rows = len(arrays["step" if kind == "train" else "test_step"])
        arrays |= {f"loss_{kind}": drawn(rows, SEEDS), f"acc_{kind}": drawn(rows, SEEDS) % 1}
    arrays["grad_norm"][:, 0] = 0
    arrays["grad_norm"][3, :, 0] = np.inf
    arrays["act_hist"][:, 1] = 0
    arrays["loss_train"][100:, 1] = np.nan
    if run:  # a recurrent network
        arrays["time_grad_norm"] = drawn(len(ticks), CONFIGS[run].times, SEEDS) ** 5
        arrays["loss_train"][400:] = np.nan
        arrays["grad_norm"][ticks >= 400] = np.nan
    record.extend(
        arrays, {"events": [{"step": 400, "kind": "divergence", "text": "block 1 <overflowed>"}] * run}
    )
    return record


RECORDS = [recorded(run) for run in range(len(DEPTHS))]


def plain(node):
    """A figure as nested lists and plain values, NaN as None, for comparing."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items() if key != "template"}
    if isinstance(node, list | tuple | np.ndarray):
        return [plain(value) for value in node]
    if isinstance(node, np.generic):
        node = node.item()
    return None if isinstance(node, float) and not np.isfinite(node) else node


def assert_close(ours, theirs, where="figure"):
    if isinstance(ours, dict):
        assert isinstance(theirs, dict), where
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_close(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(a, b, f"{where}[{i}]")
    elif isinstance(ours, float) and theirs is not None:
        assert theirs == pytest.approx(ours, rel=1e-6, abs=1e-6), where
    else:
        assert ours == theirs, where


ASSETS = Path(__file__).parents[1] / "assets"
PLOTLY = files("plotly") / "package_data/plotly.min.js"
ANEW = """async (told) => {
  const { data, layout } = fill(...told);
  const { draw } = await import("./draw.js");
  // Fewer points, lower values and the marks elsewhere: what a chart may have shown a moment ago.
  const fewer = (cells) => cells.slice(0, Math.ceil(0.7 * cells.length));
  const lower = (cell) => (cell?.map ? fewer(cell.map(lower)) : 0.7 * cell);
  const earlier = data.map(({ ...trace }) => {
    if (trace.error_y) return trace; // an event stays where it is
    if (trace.x) trace.x = fewer(trace.x);
    if (trace.z) trace.z = trace.z.map(lower);
    else trace.y = lower(trace.y);
    return trace;
  });
  const moved = (marks) => marks?.map(({ ...mark }) => {
    if (mark.x0 === mark.x1) mark.x0 = mark.x1 = 3;
    if (mark.text?.endsWith(" real")) mark.text = mark.text.replace("real", "not shown");
    return mark;
  });
  const marks = { shapes: moved(layout.shapes), annotations: moved(layout.annotations) };
  const [twice, once] = [0, 1].map(() => document.body.appendChild(document.createElement("div")));
  const sized = (layout) => structuredClone({ ...layout, width: 600, height: 300 });
  let anew = 0;
  const { react } = Plotly;
  Plotly.react = (...all) => (anew++, react(...all));
  draw(twice, structuredClone(earlier), sized({ ...layout, ...marks }));
  const before = picture(twice);
  draw(twice, structuredClone(data), sized(layout));
  Plotly.react = react;
  react(once, structuredClone(earlier), sized({ ...layout, ...marks }));
  react(once, structuredClone(data), sized(layout));
  const pictures = [before, ...[twice, once].map(picture)];
  for (const node of [twice, once]) Plotly.purge(node), node.remove();
  return [anew, ...pictures];

  function picture(node) {
    // In names of classes and clips only: a mark of six digits may well be among those of a coordinate.
    const marks = [node._fullLayout._uid, ...node._fullData.map(({ uid }) => uid)];
    const own = new RegExp(`(?<=[a-z-])(?:${marks.join("|")})`, "g");
    return [...node.querySelectorAll("svg")].map((svg) => svg.outerHTML.replace(own, "")).join("\\n");
  }
}"""


@pytest.fixture(scope="module")
def player():
    """A page with the player's modules and Plotly, and the records as the WebSocket would bring them."""
    sync_api = pytest.importorskip("playwright.sync_api")
    blobs = []
    for record in RECORDS:
        shades = {name: shade(record[name]) for name in HISTOGRAMS}
        arrays = {name: record[name] for name in record}
        arrays |= {name: spans(shade) for name, shade in shades.items()}
        header = {"events": record.events, "spans": {name: shade.shape for name, shade in shades.items()}}
        blobs.append(base64.b64encode(pack(arrays, header)).decode())
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = chromium.new_page()
        page.route("**", lambda route: route.fulfill(path=ASSETS / urlsplit(route.request.url).path[1:]))
        made = {"body": server.MADE["clocks.js"], "content_type": "text/javascript"}
        page.route("**/clocks.js", lambda route: route.fulfill(**made))
        page.route("**/empty", lambda route: route.fulfill(body="<body>", content_type="text/html"))
        page.goto("http://player.test/empty")
        page.add_script_tag(path=PLOTLY)
        page.evaluate(
            """async (blobs) => {
                const { decode, Record } = await import("./record.js");
                const { fill } = await import("./grammar.js");
                const records = blobs.map((blob) => {
                    const bytes = Uint8Array.from(atob(blob), (c) => c.charCodeAt(0));
                    const { arrays, header } = decode(bytes.buffer);
                    const record = new Record();
                    record.events = header.events;
                    for (const [name, array] of Object.entries(arrays)) record.extend(name, array);
                    return record;
                });
                window.fill = (spec, options) => fill(spec, records, options);
                // Piece by piece, so that what is known of the first half is still there with the second,
                // and the second run a while after the first.
                const part = (array, from, to) => {
                    const rows = [from, to].map((share) => Math.floor(share * array.rows));
                    const values = array.values.subarray(...rows.map((row) => row * array.width));
                    return { shape: [rows[1] - rows[0], ...array.shape], values };
                };
                window.grown = (spec, options) => {
                    const young = records.map(() => new Record());
                    for (const [i, from, to] of [[0, 0, 0.5], [1, 0, 0.3], [0, 0.5, 1], [1, 0.3, 1]]) {
                        const arrays = Object.entries(records[i].arrays);
                        for (const [name, array] of arrays) young[i].extend(name, part(array, from, to));
                        young[i].events = records[i].events;
                        window.last = fill(spec, young, options);
                    }
                    return window.last;
                };
            }""",
            blobs,
        )

        def told(spec, theme="light", **options):
            return [spec, options | {"theme": THEMES[theme]}]

        yield lambda code, spec, **view: page.evaluate(code, told(spec, **view))
        chromium.close()


LISTS = "(_, v) => (ArrayBuffer.isView(v) ? Array.from(v) : v)"


@pytest.mark.browser
@pytest.mark.parametrize(("how", "view"), [*(("fill", view) for view in VIEWS), ("grown", "latest")])
@pytest.mark.parametrize("name", FIGURES)
def test_browser_and_python_fill_alike(player, name, view, how):
    spec = FIGURES[name].make(CONFIGS)
    ours = fill(spec, RECORDS, **VIEWS[view])
    code = f"(told) => JSON.stringify({how}(...told), {LISTS})"
    theirs = json.loads(player(code, spec, **VIEWS[view]))
    # Through plotly's own reading, so that both have its spelling; its validation is part of the test.
    theirs = type(ours)(theirs["data"], theirs["layout"])
    assert_close(plain(listed(ours)), plain(listed(theirs)))


@pytest.mark.browser
@pytest.mark.parametrize("view", ["latest", "scrubbed"])
@pytest.mark.parametrize("name", FIGURES)
def test_new_numbers_are_drawn_as_plotly_itself_would(player, name, view):
    anew, before, renewed, fresh = player(ANEW, FIGURES[name].make(CONFIGS), **VIEWS[view])
    assert anew == 1 + (name == "boundary")  # whose axes follow its points
    assert renewed == fresh != before


def listed(figure) -> dict:
    """The figure without plotly's base64 packing."""
    return {"data": [trace._props for trace in figure.data], "layout": figure.layout._props}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_json_and_describe_themselves(name):
    spec = FIGURES[name].make(CONFIGS)
    assert json.loads(json.dumps(spec)) == spec
    assert spec["summary"].endswith(".")
    assert spec["summary"].count(".") == 1
    for config in CONFIGS:
        assert config.label in spec["summary"]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_can_be_made_of_nothing(name):
    """A link that asks for too much is refused, and the page stands without a network."""
    fill(FIGURES[name].make([]), [])


@pytest.mark.parametrize("name", FIGURES)
def test_figures_open_before_anything_is_recorded(name):
    fill(FIGURES[name].make(CONFIGS), [Record(), Record()])


def test_the_first_spike_does_not_lock_the_axis():
    record = Record()
    grads = np.ones((50, 6, SEEDS), np.float32)
    grads[0] = 1e20
    record.extend({"probe_step": np.arange(50, dtype=np.int32), "grad_norm": grads})
    spec = FIGURES["gradients"].make(CONFIGS[:1])
    assert fill(spec, [record], step=0).layout.yaxis.range[1] >= 20
    assert fill(spec, [record], step=10).layout.yaxis.range[1] <= 1


def test_what_vanished_lies_on_the_floor():
    figure = fill(FIGURES["gradients"].make(CONFIGS), RECORDS)
    line = next(trace for trace in figure.data if trace.name == "A")
    assert line.y[0] == pytest.approx(VANISHED)
    assert np.isfinite(line.y).all()


def test_a_diverged_run_ends_with_a_mark():
    figure = fill(FIGURES["loss"].make(CONFIGS), RECORDS)
    mark = next(trace for trace in figure.data if trace.name == "B event")
    assert list(mark.x) == [400]
    assert mark.text == ("block 1 <overflowed>",)


def test_shades_are_shares_of_all_members():
    counts = np.zeros((1, 1, 2, 4), np.uint16)
    counts[0, 0, :, 1] = 300, 100
    counts[0, 0, 0, 2] = 400
    assert ((shade(counts) / 255) ** 2)[0, 0] == pytest.approx([0, 0.5, 0.5, 0], abs=0.005)


@pytest.mark.parametrize("rows", [0, 1, 5, 100, 101, 12345])
def test_thinning_keeps_the_last_row_and_few_others(rows):
    kept = thinned(rows, 100)
    assert len(kept) <= 101
    assert list(kept[-1:]) == list(range(rows))[-1:]


@pytest.mark.parametrize("last", [0, 99, 100, 54321])
def test_a_grid_is_even_and_short(last):
    ticks = gridded(np.array([0, last]), 100)
    assert len(ticks) <= 100
    assert len(set(np.diff(ticks))) <= 1


@pytest.mark.parametrize("theme", THEMES)
def test_colours_stand_out_in_both_themes(theme):
    def luminance(colour):
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    for colour in COLOURS:
        dark, light = sorted([luminance(colour), luminance(THEMES[theme]["paper"])])
        assert (light + 0.05) / (dark + 0.05) >= 3, colour
    assert len(set(DASHES)) == len(COLOURS)


def test_each_class_has_its_hue_in_the_plane():
    """From pale at a draw to full at certainty, and no other class's in between."""
    record = RECORDS[0]
    figure = fill(FIGURES["boundary"].make(CONFIGS[:1]), [record])
    axis, scale = figure.layout.coloraxis, figure.layout.coloraxis.colorscale
    for i, colour in enumerate(CLASSES):
        hue = "rgba({},{},{},".format(*(int(colour[k : k + 2], 16) for k in (1, 3, 5)))
        (start, pale), (end, full) = scale[2 * i : 2 * i + 2]
        assert start * axis.cmax == pytest.approx(i * PLANE_LEVELS)
        assert (i + 1) * PLANE_LEVELS - 1 <= round(end * axis.cmax, 3) <= (i + 1) * PLANE_LEVELS
        assert pale.startswith(hue)
        assert full.startswith(hue)
    assert (axis.cmin, axis.cmax) == (0, PLANE_CLASSES * PLANE_LEVELS)
    heat, dots = figure.data
    np.testing.assert_array_equal(heat.z, record["regions"][-1].T)  # y by x
    assert len(dots.x) == len(dots.marker.color) == 7


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def two(first, second, **more) -> tuple[dict, list[Record]]:
    """Records of test accuracies (steps, S), and the configurations they are of."""
    records = []
    for values in (first, second):
        values = np.asarray(values, np.float32)
        steps = np.arange(len(values), dtype=np.int32)
        record = Record()
        record.extend({"step": steps, "test_step": steps, "acc_test": values})
        records.append(record)
    seeds = records[0]["acc_test"].shape[1]
    return [Config(i, "ab"[i], 2, seeds, **more) for i in range(2)], records


def test_a_difference_is_the_paired_one_with_students_interval():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(size=(2, 6, 5))
    configs, records = two(first, second)
    figure = fill(FIGURES["accuracy_difference"].make(configs), records)
    points = 100 * (first - second)
    low, high = stats.ttest_rel(100 * first, 100 * second, axis=1).confidence_interval(0.95)
    np.testing.assert_allclose(trace(figure, "A−B").y, points.mean(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(figure.data[0].y, [*low, *high[::-1]], rtol=1e-4, atol=1e-3)
    lines = np.asarray(figure.data[1].y).reshape(5, 7)  # a line a seed, with a gap behind each
    np.testing.assert_allclose(lines[:, :6], points.T, rtol=1e-4, atol=1e-4)
    assert np.isnan(lines[:, 6]).all()


@pytest.mark.parametrize(
    ("first", "word"),
    [
        ([[0.9, 0.8, 0.85]], "A−B real"),
        ([[0.1, 0.2, 0.1]], "A−B real"),
        ([[0.1, 0.9, 0.5]], "A−B not shown"),
        ([[0.9, np.nan, np.nan]], ""),
    ],
)
def test_a_difference_is_real_where_its_interval_leaves_zero_out(first, word):
    configs, records = two(first, [[0.5, 0.45, 0.5]])
    figure = fill(FIGURES["accuracy_difference"].make(configs), records)
    note = figure.layout.annotations[0]
    assert (note.name, note.text) == ("A−B now", word)


def test_a_profile_says_for_whom_there_is_no_theory_and_why():
    configs = [Config.of(i, "", Experiment(model=model)) for i, model in enumerate(("mlp", "gru"))]
    keys = [FIGURES[name].make(configs)["key"] for name in ("act_std", "dead")]
    assert ["theory of step 0 · B: no closed form is known for a GRU" in key for key in keys] == [True, False]


@pytest.mark.parametrize("name", ["loss_difference", "accuracy_difference"])
def test_what_is_not_paired_is_said_and_not_drawn(name):
    configs, records = two([[0.9, 0.8]], [[0.5, 0.4]])
    other = dataclasses.replace(configs[1], pairing="wine")
    figure = fill(FIGURES[name].make([configs[0], other]), records)
    assert [t.name for t in figure.data] == ["A event", "B event"]
    assert "no pairs" in figure.layout.annotations[0].text
    alone = fill(FIGURES[name].make(configs[:1]), records[:1])
    assert "add a configuration" in alone.layout.annotations[0].text


def test_the_gap_is_test_loss_minus_the_last_ten_minibatches():
    figure = fill(FIGURES["gap"].make(CONFIGS), RECORDS)
    train, test = (RECORDS[0][f"loss_{kind}"].astype(float) for kind in ("train", "test"))
    expected = [(test[i] - np.nanmean(train[max(0, 20 * i - 9) : 20 * i + 1], axis=0)) for i in range(6)]
    np.testing.assert_allclose(trace(figure, "A").y[:5], np.mean(expected, axis=1)[:5], rtol=1e-5)


@pytest.mark.parametrize("name", ["loss", "accuracy", "gap", "loss_difference", "gradient_map"])
def test_events_are_marked_on_every_time_axis(name):
    figure = fill(FIGURES[name].make(CONFIGS), RECORDS)
    mark = trace(figure, "B event")
    assert list(mark.x) == [400]
    assert figure.layout[mark.yaxis.replace("y", "yaxis")].overlaying == "y"


def test_the_effective_learning_rate_is_that_of_weights_behind_which_a_norm_stands():
    figure = fill(FIGURES["effective_lr"].make(CONFIGS), RECORDS)
    assert {t.name for t in figure.data if t.name} == {"B"}
    record = RECORDS[1]
    rates = record["lr"][-1].astype(float) / record["weight_norm"][-1].astype(float) ** 2
    np.testing.assert_allclose(trace(figure, "B").y, np.exp(np.log(rates).mean(-1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "invariant"),
    [
        ({"layers": 1, "placement": "inner"}, True),
        ({"layers": 1, "placement": "pre"}, False),
        ({"placement": "inner"}, False),
        ({"placement": "every", "norm": "batch"}, True),
        ({"layers": 1, "placement": "inner", "norm": "none"}, False),
        ({"layers": 1, "placement": "inner", "norm": "dyt"}, False),
        ({"layers": 1, "placement": "inner", "model": "transformer"}, False),
    ],
)
def test_a_run_does_not_feel_the_size_of_scale_invariant_weights(settings, invariant):
    """Three times the branch weights, biases at zero: the same loss, where the experiment says so."""
    e = Experiment(**{"depth": 2, "width": 8, "seeds": 1, "batch": 16, "dropout": 0, **settings})
    assert e.scale_invariant == invariant
    small, large = Run(e), Run(e)
    with torch.no_grad():
        for name, (weight, _) in large.weights.named().items():
            if name.startswith("block") and name.endswith("weight"):
                weight.mul_(3)
    first, second = (next(run)[0]["loss_train"].item() for run in (small, large))
    assert (first == pytest.approx(second, abs=1e-4)) == invariant
