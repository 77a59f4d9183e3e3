// The player: holds the whole record in the browser, asks for what is new when it has painted, and draws it.

import { draw, mark } from "./draw.js";
import { Tree } from "./tree.js";

// ---------------------------------------------------------------------------------------------- the wire

const TYPES = { F32: Float32Array, I32: Int32Array, U8: Uint8Array };

/** A safetensors message: its arrays by name, clocks first, and the header that lnres puts into the metadata. */
export function decode(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const { __metadata__, ...tensors } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const arrays = {};
  const clock = (name) => name.split("/").at(-1) === clockOf(name.split("/").at(-1));
  const names = Object.keys(tensors).sort((a, b) => clock(b) - clock(a)); // rows stand on their clock's
  for (const name of names) {
    const { dtype, shape, data_offsets: [from, to] } = tensors[name];
    arrays[name] = { shape, values: new TYPES[dtype](buffer.slice(8 + size + from, 8 + size + to)) };
  }
  const header = JSON.parse(__metadata__.lnres);
  for (const [name, shape] of Object.entries(header.spans)) arrays[name] = spread(arrays[name].values, shape);
  return { arrays, header };
}

/** Histograms with the empty bins that lnres.figures.spans left out. */
function spread(told, shape) {
  const bins = shape.at(-1);
  const values = new Uint8Array(shape.reduce((a, b) => a * b, 1));
  for (let from = 0, row = 0; from < told.length; row += bins) {
    const [first, count] = told.subarray(from, (from += 2));
    values.set(told.subarray(from, (from += count)), row + first);
  }
  return { shape, values };
}

const clockOf = (name) =>
  name === "step" || /^(loss|acc)_(train|online)$|^lr$/.test(name) ? "step"
  : name === "test_step" || /^(loss|acc)_(test|batch)$|^regions$/.test(name) ? "test_step"
  : /^(plane|point)_/.test(name) ? "plane_step"
  : name.startsWith("river") ? "river_step"
  : "probe_step";

const MOST_BYTES = 4 << 20; // of the arrays on one clock of one run, unless that is fewer than these rows
const [LEAST_ROWS, FIRST_ROWS] = [256, 32];

/**
 * What was seen of one run: arrays that grow by rows, as lnres.record.Record in Python.
 *
 * A page may stay open for hours: where a clock's arrays have become too large, every second row goes, the
 * first ones excepted, so that the past is told the more coarsely the longer ago it is. `kept` has, for each
 * clock, which of the rows that came are still there; all arrays of a clock have the first of these rows.
 */
export class Record {
  arrays = {};
  events = [];
  kept = {};
  past = new WeakMap(); // rows worked out, by the record that they are combined with

  rows(name) {
    return this.arrays[name]?.rows ?? 0;
  }

  /** Append rows that start at row `have` of the array; how many are missing in between is returned. */
  extend(name, { shape, values }, have = this.arrays[name]?.came ?? 0) {
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    const mine = (this.arrays[name] ??= {
      rows: 0, came: 0, width, shape: shape.slice(1), values: new values.constructor(64 * width),
    });
    if (have > mine.came) return have - mine.came; // the next pull asks for what is missing
    const clock = clockOf(name);
    const end = have + values.length / width;
    const kept = (this.kept[clock] ??= []);
    if (name === clock) for (let row = mine.came; row < end; row++) kept.push(row);
    let rows = mine.rows;
    while (rows < kept.length && kept[rows] < end) rows++;
    if (rows * width > mine.values.length) {
      const grown = new values.constructor(Math.ceil(1.5 * rows) * width);
      grown.set(mine.values.subarray(0, mine.rows * width));
      mine.values = grown;
    }
    for (let row = mine.rows; row < rows; row++) {
      const from = (kept[row] - have) * width;
      mine.values.set(values.subarray(from, from + width), row * width);
    }
    Object.assign(mine, { rows, came: Math.max(mine.came, end) });
    return 0;
  }

  /** Make room: of each clock whose arrays have become too large, every second row goes. */
  thin() {
    for (const [clock, kept] of Object.entries(this.kept)) {
      const arrays = Object.entries(this.arrays).filter(([name]) => clockOf(name) === clock).map(([, array]) => array);
      const bytes = arrays.reduce((sum, { rows, width, values }) => sum + rows * width * values.BYTES_PER_ELEMENT, 0);
      if (bytes <= MOST_BYTES || kept.length < LEAST_ROWS) continue;
      const stays = (row) => row < FIRST_ROWS || row % 2 === 1 || row === kept.length - 1;
      for (const array of arrays) {
        let to = 0;
        for (let row = 0; row < array.rows; row++) {
          if (stays(row)) array.values.copyWithin(array.width * to++, array.width * row, array.width * (row + 1));
        }
        array.rows = to;
      }
      this.kept[clock] = kept.filter((_, row) => stays(row));
    }
  }

  /** An array as plain numbers and its shape. */
  copy(name) {
    const { rows = 0, width = 0, shape = [], values = [] } = this.arrays[name] ?? {};
    return { shape: [rows, ...shape], values: Array.from(values.slice(0, rows * width)) };
  }

  /** The row of the last tick at or before a step, -1 if there is none. */
  last(clock, step) {
    const ticks = this.arrays[clock];
    let low = 0;
    let high = ticks?.rows ?? 0;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ticks.values[middle] <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  get lastStep() {
    return this.rows("step") ? this.arrays.step.values[this.rows("step") - 1] : -1;
  }

  /** How many rows of each array, and how many events, have come. */
  get have() {
    const counts = Object.entries(this.arrays).map(([name, { came }]) => [name, came]);
    return { ...Object.fromEntries(counts), events: this.events.length };
  }
}

// ---------------------------------------------------------------------------------------------- the grammar
// The same as lnres/figures/grammar.py: a node {ref}, {say}, {range} ... becomes what it names.

/** Of the first `n` entries of `cells`, all finite. */
const OVER = {
  mean: (cells, n) => sum(cells, n) / n,
  gmean: (cells, n) => Math.exp(sum(cells, n, Math.log) / n),
  low: (cells, n) => cells.subarray(0, n).reduce((a, b) => Math.min(a, b)),
  high: (cells, n) => cells.subarray(0, n).reduce((a, b) => Math.max(a, b)),
  below: (cells, n, t) => OVER.mean(cells, n) - reach(cells, n, t),
  above: (cells, n, t) => OVER.mean(cells, n) + reach(cells, n, t),
};
const OPS = { less: (a, b) => a - b, per: (a, b) => a / b, times: (a, b) => a * b };
const EDGES = { band: ["low", "high"], interval: ["below", "above"] };

function sum(cells, n, of = (v) => v) {
  let total = 0;
  for (let i = 0; i < n; i++) total += of(cells[i]);
  return total;
}

/** How far the interval of a mean reaches to each side: Student's t times its standard error. */
function reach(cells, n, t) {
  const mean = OVER.mean(cells, n);
  return t[n - 2] * Math.sqrt(sum(cells, n, (v) => (v - mean) ** 2) / (n - 1) / n);
}

function thinned(rows, most) {
  let stride = 1;
  while (rows > most * stride) stride *= 2;
  const kept = [];
  for (let row = 0; row < rows; row += stride) kept.push(row);
  if (rows && kept.at(-1) !== rows - 1) kept.push(rows - 1);
  return kept;
}

function gridded(last, most) {
  let stride = 1;
  while (last >= most * stride) stride *= 2;
  return Array.from({ length: Math.floor(last / stride) + 1 }, (_, i) => i * stride);
}

const scratch = new Float64Array(1024); // more than there are members

/** One row of an array, member by member, as the reference treats each on its own. */
function cellsOf(ref, array, row) {
  const { values, width } = array;
  const from = row * width;
  const cells = Float64Array.from(values.subarray(from, from + width));
  if (ref.ref.endsWith("_hist")) {
    for (let i = 0; i < width; i++) cells[i] = (cells[i] / 255) ** 2;
    return cells;
  }
  if (ref.recent > 1) {
    for (let i = 0; i < width; i++) {
      let n = 0;
      for (let k = Math.max(0, row + 1 - ref.recent); k <= row; k++) {
        if (Number.isFinite(values[k * width + i])) scratch[n++] = values[k * width + i];
      }
      cells[i] = n ? OVER.mean(scratch, n) : NaN;
    }
  }
  if ("floor" in ref) for (let i = 0; i < width; i++) if (cells[i] < ref.floor) cells[i] = ref.floor;
  return ref.log ? cells.map(Math.log10) : cells;
}

/** One row of an array, combined with its operand and reduced over the members as the reference says. */
function rowOf(ref, records, row) {
  const record = records[ref.run];
  const array = record.arrays[ref.ref];
  let cells = cellsOf(ref, array, row);
  const members = array.shape.at(-1) ?? 1;
  if (ref.with) {
    const operand = { run: ref.run, power: 1, ...ref.with };
    const other = records[operand.run];
    const there = other.arrays[operand.ref];
    const at = there ? other.last(clockOf(operand.ref), record.arrays[clockOf(ref.ref)].values[row]) : -1;
    const theirs = at < 0 || at >= there.rows ? [NaN] : cellsOf(operand, there, at);
    const mine = cells;
    cells = Float64Array.from({ length: Math.max(mine.length, theirs.length) }, (_, i) =>
      OPS[operand.op](mine[i % mine.length], theirs[i % theirs.length] ** operand.power));
  }
  if ("scale" in ref) cells = cells.map((v) => v * ref.scale);
  if (!ref.over || ref.over === "each") return cells;
  const out = new Float64Array(cells.length / members);
  for (let i = 0; i < out.length; i++) {
    let n = 0;
    for (let j = i * members; j < (i + 1) * members; j++) if (Number.isFinite(cells[j])) scratch[n++] = cells[j];
    out[i] = n ? OVER[ref.over](scratch, n, ref.t) : NaN;
  }
  return out;
}

/** Rows of the past, each worked out once: it stays what it was, though it may get another number. */
function remembered(ref, records, kept) {
  const ticks = records[ref.run].arrays[clockOf(ref.ref)].values;
  const operand = { run: ref.run, ref: ref.ref, ...ref.with };
  const { past } = records[ref.run];
  const other = records[operand.run]; // in another comparison it may be another one
  if (!past.has(other)) past.set(other, {});
  const known = past.get(other);
  const name = JSON.stringify({ ...ref, run: 0, with: ref.with && { ...ref.with, run: 0 } });
  if (!(known[name]?.size < 4 * kept.length)) known[name] = new Map();
  const clock = other.arrays[clockOf(operand.ref)];
  const whole = other.rows(operand.ref) && other.rows(operand.ref) === clock.rows;
  const settled = whole ? clock.values[clock.rows - 1] : -1; // beyond it the operand may still come
  return kept.map((row) => {
    const there = known[name].get(ticks[row]);
    if (there) return there;
    const fresh = rowOf(ref, records, row);
    if (ticks[row] <= settled) known[name].set(ticks[row], fresh);
    return fresh;
  });
}

/** Rows of `width` cells as columns: what Plotly calls z. */
function transposed(rows, width) {
  return Array.from({ length: width }, (_, i) => Float64Array.from(rows, (row) => row[i]));
}

/** Columns of rows one after another, with a gap behind each. */
function apart(rows) {
  return Array.from(rows[0] ?? [], (_, i) => [...rows.map((row) => row[i]), NaN]).flat();
}

/** The lower edge of the k-th of stacked bands, and back along its upper edge. */
function outline(bands, k) {
  const own = Array.from(bands[k] ?? []);
  const under = own.map((value, i) => {
    const side = value < -1e-6 ? Math.min : Math.max; // less is rounding
    return bands.slice(0, k).reduce((height, band) => height + side(band[i], 0), 0);
  });
  return [...under, ...under.map((height, i) => height + own[i]).reverse()];
}

function arrayOf(ref, records, step) {
  if (EDGES[ref.over]) {
    const [low, high] = EDGES[ref.over].map((over) => arrayOf({ ...ref, over }, records, step));
    return [...low, ...high.reverse()];
  }
  if ("stack" in ref) {
    const { stack, ...whole } = ref;
    return outline(arrayOf(whole, records, step), stack);
  }
  if (ref.loop) {
    const there = [...arrayOf({ ...ref, loop: false }, records, step)];
    return [...there, ...there.reverse()];
  }
  if (ref.each) {
    const there = arrayOf({ ...ref, each: 0 }, records, step);
    return there.length ? Array.from({ length: ref.each }, () => [...there, NaN]).flat() : [];
  }
  const record = records[ref.run];
  const array = record.arrays[ref.ref];
  const clock = clockOf(ref.ref);
  if (!array?.rows || array.rows < record.rows(clock)) return []; // a panel just opened waits for its past
  if (ref.at === "frame") {
    const row = record.last(clock, step);
    if (row < 0) return [];
    const cells = rowOf(ref, records, row);
    const shape = OVER[ref.over] ? array.shape.slice(0, -1) : array.shape;
    if (shape.length < 2 && ref.over !== "each") return cells;
    const wide = shape.at(-1);
    const blocks = Array.from({ length: cells.length / wide }, (_, i) => cells.subarray(i * wide, (i + 1) * wide));
    return ref.over === "each" ? apart(blocks) : transposed(blocks, wide);
  }
  let kept = thinned(array.rows, ref.thin ?? array.rows);
  if (ref.grid) {
    const ticks = gridded(record.arrays[clock].values[array.rows - 1], ref.grid);
    if (ref.ref === clock) return ticks;
    kept = ticks.map((tick) => Math.max(0, record.last(clock, tick)));
  }
  if (ref.ref === clock) return Float64Array.from(kept, (row) => array.values[row]);
  const rows = remembered(ref, records, kept);
  if (ref.over === "each") return apart(rows);
  return array.shape.length > 1 ? transposed(rows, rows[0].length) : Float64Array.from(rows, ([v]) => v);
}

/** What the interval of a mean at the step looked at says; nothing where there is none. */
function realOf(ref, records, step) {
  const ends = arrayOf({ ...ref, at: "frame", over: "interval" }, records, step);
  if (!ends.length || !ends.every(Number.isFinite)) return "";
  return ends.every((end) => end > 0) || ends.every((end) => end < 0) ? "real" : "not shown";
}

function rangeOf(ask, traces, before) {
  const values = [];
  const take = (cells) => {
    for (const cell of cells) {
      if (typeof cell === "object") take(cell);
      else if (!ask.log) Number.isFinite(cell) && values.push(cell);
      else if (cell > (ask.above ?? 0) && cell < Infinity) values.push(Math.log10(cell));
    }
  };
  for (const trace of traces) if (trace.visible && trace[ask.range]) take(trace[ask.range]);
  if (!values.length) return [-ask.least, 0];
  const sorted = Float64Array.from(values).sort();
  const last = sorted.length - 1;
  const [from, to] = ask.quantiles;
  const low = Math.min(sorted[Math.floor(from * last)], ask.around ?? Infinity);
  const high = Math.max(sorted[Math.ceil(to * last)], ask.around ?? -Infinity);
  const snap = ask.snap ?? 10 ** Math.floor(Math.log10(Math.max(high - low, ask.least))) / 2;
  const bottom = Math.floor(low / snap) * snap;
  const top = Math.ceil(high / snap) * snap;
  const range = [Math.min(bottom, top - ask.least), top];
  // A range that was a little wider stays, so that the axis does not jitter with every frame.
  const slack = before ? before[1] - before[0] - (range[1] - range[0]) : Infinity;
  return before && before[0] <= range[0] && range[1] <= before[1] && slack <= snap ? before : range;
}

/** From 0 to the last step, rounded up. */
function untilOf(parts, end) {
  const last = Math.max(end, parts);
  const tens = 10 ** Math.floor(Math.log10(last / parts) + 1e-9);
  const unit = [5, 2, 1].map((lead) => lead * tens).find((unit) => unit * parts <= last);
  return [0, Math.ceil(last / unit) * unit];
}

/**
 * Data and layout of a spec at a step (null: the latest), for the configurations shown.
 * `memory` keeps ranges from one filling to the next.
 */
export function fill(spec, records, { step = null, shown = null, theme, memory = {} }) {
  const now = step ?? Math.max(-1, ...records.map((record) => record.lastStep));
  const seen = shown ?? records.map((_, i) => i);
  const data = [];
  const ranges = {};
  const resolve = (node) => {
    if (node === null || typeof node !== "object") return node;
    if (Array.isArray(node)) return node.map(resolve);
    if ("ref" in node) return arrayOf(node, records, now);
    if ("number" in node) {
      const [value = NaN] = arrayOf(node.number, records, now);
      return Number.isFinite(value) ? value : null;
    }
    if ("real" in node) return realOf(node.real, records, now);
    if ("say" in node) return records[node.run].events.map((event) => event[node.say]);
    if (typeof node.range === "string") {
      const both = (ranges[node.range] ??= rangeOf(node, data, memory[node.range]));
      return "end" in node ? both[node.end] : node.flip ? [...both].reverse() : [...both];
    }
    if ("until" in node) return untilOf(node.until, Math.max(-1, ...records.map((record) => record.lastStep)));
    if ("now" in node) return now;
    if ("past" in node) return step !== null;
    if ("shown" in node) {
      return seen.includes(node.shown) && (!node.eventful || records[node.shown].events.length > 0);
    }
    if ("tile" in node) {
      const [gap, many] = [0.035, Math.max(seen.length, 1)];
      const wide = (1 - gap * (many - 1)) / many;
      const left = Math.max(0, seen.indexOf(node.tile)) * (wide + gap);
      return [left, left + wide];
    }
    if ("ramp" in node) {
      const ramp = theme.ramp.slice(node.from);
      return ramp.map((colour, i) => [(i / (ramp.length - 1)) ** node.ramp, colour]);
    }
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolve(value)]));
  };
  for (const trace of spec.data) data.push(resolve(trace));
  const layout = { template: theme.template, ...resolve(spec.layout) };
  Object.assign(memory, ranges);
  return { data, layout };
}

/** The names of all arrays that a spec refers to. */
function namesIn(node, names = new Set()) {
  if (node === null || typeof node !== "object") return names;
  if (node.ref) names.add(node.ref);
  Object.values(node).forEach((value) => namesIn(value, names));
  return names;
}

// ---------------------------------------------------------------------------------------------- the page

const PERIOD = 100; // ms between two paints
const [SLOT, FIRST] = [95, 40]; // ms that a paint may take, and the first one of new runs
const CHIPS = ["step", "acc_train", "acc_test"]; // what is shown whatever the panels are
const MOST = 8; // panels
const LATE = 20; // steps behind the others that are told
const REPLAYS = [5, 20, 100, 500]; // recorded steps shown per second
const SPEEDS = [["1 step/s", 1], ["5 steps/s", 5], ["20 steps/s", 20], ["max", 0]];
const DASHES = { solid: "", dash: "7 4", dot: "1.5 3.5", dashdot: "7 3 1.5 3" };
const ICONS = {
  play: "M7 4.5v15l12.5-7.5z",
  pause: "M6 4.5h4.5v15H6zM13.5 4.5H18v15h-4.5z",
  step: "M5 4.5v15L14.5 12zM16 4.5h3.5v15H16z",
  fork: "M7 3a3 3 0 0 1 1 5.8v6.4a3 3 0 1 1-2 0V8.8A3 3 0 0 1 7 3zm10 0a3 3 0 0 1 1 5.8V10a4 4 0 0 1-4 4H9v-2h5a2 2 0 0 0 2-2V8.8A3 3 0 0 1 17 3z",
  add: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  link: "M10 13a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.7-5.7l-1.6 1.6 1.4 1.4 1.6-1.6a2 2 0 0 1 2.9 2.9l-3 3a2 2 0 0 1-3-.2zM14 11a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 5.7 5.7l1.6-1.6-1.4-1.4-1.6 1.6a2 2 0 0 1-2.9-2.9l3-3a2 2 0 0 1 3 .2z",
  replay: "M4 5l9 7-9 7zM13 5l7 7-7 7z",
  big: "M4 4h7v2H7.4l4 4L10 11.4l-4-4V11H4zM20 20h-7v-2h3.6l-4-4 1.4-1.4 4 4V13h2z",
  more: "M5 10.5h3v3H5zM10.5 10.5h3v3h-3zM16 10.5h3v3h-3z",
  reset: "M12 5a7 7 0 1 1-6.6 4.7l1.9.7A5 5 0 1 0 12 7v3.2L7.2 6.1 12 2z",
};

/** An element with attributes, properties and children: h("button", { class: "x", onclick: f }, "text"). */
export function h(tag, attributes = {}, ...children) {
  const kind = ["svg", "path", "line", "text", "g"].includes(tag) ? "2000/svg" : "1999/xhtml";
  const node = document.createElementNS(`http://www.w3.org/${kind}`, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node[key] = value;
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const drawing = (viewBox, shape) => h("svg", { viewBox, "aria-hidden": "true" }, shape);
export const icon = (name) => drawing("0 0 24 24", h("path", { d: ICONS[name] }));
/** What the address of the page says for a name, and the address with other such words. */
const asked = (name) => new URLSearchParams(location.search).get(name);
export function address(words) {
  // By hand: URLSearchParams would spell every other parameter anew.
  const others = location.search.slice(1).split("&").filter((pair) => pair && !(pair.split("=")[0] in words));
  const said = Object.entries(words).filter(([, value]) => value !== null);
  const query = [...others, ...said.map(([name, value]) => `${name}=${encodeURIComponent(value)}`)].join("&");
  return `${location.origin}${location.pathname}${query && `?${query}`}${location.hash}`;
}

/** Light or dark by the page's own background, so that a change of theme is followed at once. */
export function light(root) {
  const [r, g, b] = getComputedStyle(root).backgroundColor.match(/[\d.]+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 128;
}

/** The buttons of a menu that saves a chart as a picture. */
export const saving = (node, filename) =>
  ["png", "svg"].map((format) =>
    h("button", { type: "button", onclick: ({ target }) => {
      target.closest("details").open = false;
      const { clientWidth: width, clientHeight: height } = node;
      window.Plotly.downloadImage(node, { format, width, height, scale: 2, filename: filename() });
    } }, `Save as ${format.toUpperCase()}`));

const percent = (value) => (Number.isFinite(value) ? `${Math.round(100 * value)} %` : "–");
const once = {};
export const fetched = (url, tag, attributes) =>
  (once[url] ??= new Promise((done, failed) => {
    document.head.append(h(tag, { ...attributes, onload: done, onerror: failed }));
  }));

const left = new Map(); // what pages that were left had been looking at, by the address of their runs

class Player {
  runs = []; // { id, name, said: [sentence, what could be tried], replayed, record }, in the order of the scene
  scene = null;
  version = null;
  state = { playing: false, speed: 0, notice: "" };
  at = null; // the step looked at, null for the latest
  hidden = new Set();
  chosen = asked("panels")?.split("-").slice(0, MOST) ?? null; // figures, null for the usual ones
  big = null; // the chart that has all the room
  bigger = asked("big"); // its figure, while there are no charts yet
  awaiting = /^\d{1,9}$/.test(asked("at") ?? "") ? Number(asked("at")) : null; // the step to look at, once recorded
  loop = [null, null]; // what a replay stays between
  charts = []; // { figure, names, frames, node, panel, memory, seen, size, zoom, held, drawn, at, since, cost }
  counts = { painted: 0, asked: 0, bytes: 0, frames: 0, lost: 0, mounts: 0, reconnects: 0, turns: 0 };
  paints = []; // { at, cost, version, step, waiting } of the last paints, in ms of performance.now()
  due = 0; // when the next paint may be
  room = SLOT; // ms that the next paint may take
  tries = 0;

  constructor(parent, data, refresh) {
    this.data = data;
    this.refresh = refresh;
    Object.assign(this, left.get(data.live));
    this.build(parent);
    this.connect();
    window.lnres = {
      stats: () => ({ ...this.counts, paints: [...this.paints], charts: this.charts.map(({ figure, cost }) => [figure, cost]) }),
      state: () => this.told(),
      array: (run, name) => this.runs[run].record.copy(name),
    };
  }

  // -------------------------------------------------------------------------------------------- asking

  connect() {
    const url = new URL(this.data.live, location.origin);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.awaited = false;
      this.say("");
      this.ask();
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") return this.hear(JSON.parse(data));
      this.receive(data);
    };
    socket.onclose = ({ code }) => {
      if (this.closed) return;
      this.counts.reconnects++;
      this.say(code === 4404 ? "this session has ended: reload the page" : "reconnecting …");
      this.retry = setTimeout(() => this.connect(), Math.min(5000, 250 * 2 ** this.tries++));
    };
  }

  /** Ask for what is new, one pull at a time; whoever does not look does not ask, and training rests. */
  ask() {
    if (this.socket.readyState !== WebSocket.OPEN || this.awaited || document.hidden) return;
    this.awaited = true;
    const have = Object.fromEntries(this.runs.map((run) => [run.id, run.record.have]));
    this.counts.asked++;
    this.socket.send(JSON.stringify({ have, version: this.version, names: this.names ?? [] }));
  }

  tell(what, value) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ do: what, value }));
  }

  /** An answer in words: what is wrong with a command, or what is to be said of a step of the past. */
  hear({ error, step, said }) {
    if (error) return this.say(error);
    this.past = { step, said };
    this.spoken = 0; // a hand asked for it
    this.controls();
  }

  receive(buffer) {
    this.awaited = false;
    const { arrays, header } = decode(buffer);
    this.counts.bytes += buffer.byteLength;
    const fresh = Object.keys(arrays).length > 0;
    this.counts.frames += fresh;
    const known = Object.fromEntries(this.runs.map((run) => [run.id, run.record]));
    const again = this.runs.map(({ replayed }) => replayed);
    this.runs = header.runs.map(({ id, name, said, replayed, have, events }) => {
      const record = known[id] ?? new Record();
      record.events.push(...events.slice(record.events.length - have.events));
      return { id, name, said, replayed, record, have };
    });
    for (const [name, array] of Object.entries(arrays)) {
      const [index, key] = name.split("/");
      const { record, have } = this.runs[index];
      this.counts.lost += record.extend(key, array, have[key]);
    }
    for (const { record } of this.runs) record.thin();
    const changed = ({ id, events }) => known[id] && events.some(({ kind }) => kind === "change");
    if (header.runs.some(changed)) {
      clearTimeout(this.settling); // the page writes into its address at which step it was
      this.settling = setTimeout(() => this.refresh("shown", header.version), 3 * PERIOD);
    }
    if (this.hasty) header.playing = this.state.playing;
    this.hasty = false;
    const moved = this.runs.some(({ replayed }, i) => replayed !== again[i]);
    const different = fresh || moved || header.playing !== this.state.playing;
    this.state = header;
    if (header.scene) this.set(header.scene, header.version);
    this.say(header.notice);
    if (this.awaiting !== null && this.end > this.awaiting) this.look(this.awaiting);
    if (fresh && !this.begun) {
      this.begun = true;
      this.room = FIRST;
      this.hurry(); // the first frame of new runs answers a hand
    } else if (different && !header.scene) this.schedule();
    this.ask(); // the server keeps the pace, so what comes next is on its way while this is painted
  }

  /** Paint in the next free slot. */
  schedule() {
    if (this.waiting) return;
    this.waiting = true;
    const now = performance.now();
    this.due = Math.max(this.due + PERIOD, now - PERIOD / 2);
    const paint = () => {
      this.waiting = false;
      this.paint();
    };
    setTimeout(() => requestAnimationFrame(paint), this.due - now - 8);
  }

  /** Paint at once: what a hand does must not wait for a slot. */
  hurry() {
    this.hurried ??= requestAnimationFrame(() => {
      this.hurried = null;
      this.paint();
    });
  }

  // -------------------------------------------------------------------------------------------- drawing

  set(scene, version) {
    const again = this.scene !== null;
    this.scene = scene;
    this.version = version;
    this.begun = false;
    const wrong = this.chosen?.find((name) => !scene.known.includes(name));
    if (wrong !== undefined) {
      this.chosen = null;
      this.flash(`panels: ${JSON.stringify(wrong)} is none of them, so the usual ones are shown`, 30_000);
    }
    if (again) {
      this.stop();
      Object.assign(this, { at: null, loop: [null, null] });
    }
    this.awaiting ??= scene.at;
    if (this.branching) this.refresh("shown", version); // the page draws its controls for the new one
    this.branching = false;
    this.fork.hidden = true;
    this.lay();
    this.chips();
    this.tree.set(scene.configs.map((config) => ({ ...config, dash: DASHES[config.dash] })));
    this.size();
  }

  paint() {
    if (this.closed) return;
    const start = performance.now();
    this.theme = light(this.root) ? "light" : "dark";
    if (this.searched !== location.search) this.write(); // a rerun of the page writes what it knew
    this.controls();
    // New runs leave the last picture until they have something to show.
    const ready = (chart) => chart.seen && (this.end >= 0 || !chart.mounted) && this.stale(chart);
    const due = window.Plotly ? this.charts.filter(ready) : [];
    due.forEach((chart) => (chart.since ??= start));
    due.sort((a, b) => a.since - b.since || a.cost - b.cost);
    // Those that have waited longest, and of them the cheapest first, as many as fit: buttons must answer.
    let { room } = this;
    const mine = due.filter((chart, i) => (room -= chart.cost) >= 0 || i === 0);
    mine.forEach((chart) => this.draw(chart));
    if (mine.length) this.count(start, due.length - mine.length);
    if (mine.length < due.length) this.room === FIRST ? this.hurry() : this.schedule();
    this.room = SLOT;
  }

  count(start, waiting) {
    const cost = performance.now() - start;
    this.counts.painted++;
    this.counts.turns += waiting > 0;
    this.paints.push({ at: start, cost, version: this.version, step: this.end, waiting });
    if (this.paints.length > 2000) this.paints.splice(0, 1000);
  }

  /** Whether a chart would look different if it were drawn now. */
  stale(chart) {
    const spec = this.scene.figures[chart.figure];
    const rows = this.runs.map(({ record }) => chart.names.map((name) => record.rows(name)));
    const hidden = [...this.hidden].sort();
    const { figure, size, zoom } = chart;
    chart.next = JSON.stringify([this.version, figure, rows, hidden, this.theme, size, zoom]);
    return chart.next !== chart.drawn || this.at !== chart.at;
  }

  draw(chart) {
    const start = performance.now();
    const { mounted } = chart;
    this.fill(chart);
    chart.since = null;
    const cost = performance.now() - start;
    if (mounted) chart.cost += (chart.cost ? 0.2 : 1) * (cost - chart.cost); // the first time also mounts
  }

  fill(chart) {
    const records = this.runs.map((run) => run.record);
    const shown = records.map((_, i) => i).filter((i) => !this.hidden.has(i));
    const theme = this.scene.themes[this.theme];
    const spec = this.scene.figures[chart.figure];
    const options = { step: this.at, shown, theme, memory: chart.memory };
    const same = chart.next === chart.drawn;
    Object.assign(chart, { drawn: chart.next, at: this.at });
    if (same && !chart.frames) {
      // The data stay, and only the line at the step looked at and the words there move: cheap.
      const { shapes = [], annotations = [] } = spec.layout;
      return mark(chart.node, fill({ data: [], layout: { shapes, annotations } }, records, options).layout);
    }
    const { data, layout } = fill(spec, records, options);
    const uirevision = `${this.version} ${chart.figure} ${chart.zoom}`;
    if (chart.revision !== uirevision) Object.assign(chart, { revision: uirevision, held: new Set() });
    for (const axis of chart.held) layout[axis] = { ...layout[axis], range: chart.node.layout[axis].range };
    Object.assign(layout, chart.size, { uirevision });
    draw(chart.node, data, layout, { displayModeBar: false, doubleClick: false });
    if (chart.mounted) return;
    chart.mounted = true;
    this.counts.mounts++;
    // Plotly gives up a zoom when the range of the data moves; what a hand has set is to stay.
    chart.node.on("plotly_relayout", (change) => {
      for (const key of Object.keys(change)) if (key.includes(".range")) chart.held.add(key.split(".")[0]);
    });
    // Plotly would go back to the range of its first paint; a new revision follows the data again.
    chart.node.on("plotly_doubleclick", () => {
      chart.zoom++;
      this.hurry();
    });
  }

  // -------------------------------------------------------------------------------------------- elements

  build(parent) {
    const button = (name, label, title, onclick) => {
      const attributes = { class: `lnres-${name}`, type: "button", title, "aria-label": title, onclick };
      return h("button", attributes, icon(name), label);
    };
    this.play = button("play", h("span", {}, "Play"), "Play or pause (space)", () => this.toggle());
    this.clock = h("output", { class: "lnres-clock" }, "step –");
    this.range = h("input", {
      type: "range", min: 0, max: 0, step: 1, value: 0, "aria-label": "Step looked at",
      oninput: () => this.look(Number(this.range.value)),
    });
    const now = { class: "lnres-live", type: "button", title: "Back to now", onclick: () => this.look(null) };
    this.live = h("button", now, "live");
    this.pace = h(
      "select",
      { "aria-label": "Speed", title: "Speed", onchange: () => this.tell("speed", Number(this.pace.value)) },
      ...SPEEDS.map(([text, value]) => h("option", { value }, text)),
    );
    const labelled = (name, label, title, onclick) => button(name, h("span", {}, label), title, onclick);
    this.rate = h(
      "select", { "aria-label": "Rate of the replay", title: "Rate of the replay" },
      ...REPLAYS.map((rate) => h("option", { value: rate, selected: rate === 20 }, `${rate} steps/s`)),
    );
    this.again = labelled("replay", "Replay", "Play the recording from here", () => this.replay());
    const edges = ["[", "]"].map((key, i) => {
      const title = i ? "Replay up to here, then again (])" : "Replay from here on ([)";
      return h("button", { class: "lnres-edge", type: "button", title, "aria-label": title, onclick: () => this.edge(i) }, key);
    });
    this.edges = edges;
    this.tape = h("span", { class: "lnres-replaying" }, this.again, this.rate, ...edges);
    this.status = h("span", { class: "lnres-status", role: "status" });
    const bar = h(
      "div", { class: "lnres-bar", role: "toolbar", "aria-label": "Player" },
      this.play,
      button("step", "Step", "One minibatch (arrow right)", () => this.tell("step")),
      button("reset", "Reset", "Start again, same weights (Home or Shift+R)", () => this.tell("reset")),
      button("fork", "Fork", "Fork: go on differently from here (F)", () => this.forks({ toggle: true })),
      this.pace, this.clock, this.range, this.tape, this.live, this.status,
      button("add", "", "Add a panel", () => this.add()),
      button("link", "", "Copy the link to what is shown", () => this.copy()),
    );
    this.forked = {
      run: h("select", { "aria-label": "Fork which", onchange: () => this.forks({ knob: true }) }),
      knob: h("select", { "aria-label": "What to change", onchange: () => this.forks({ knob: true }) }),
      to: h("input", { type: "number", step: "any", required: true, "aria-label": "To which value" }),
      step: h("b", {}),
    };
    this.fork = h(
      "form", { class: "lnres-fork-form", hidden: true, onsubmit: (event) => this.branch(event) },
      "Beside ", this.forked.run, " one more, the same but for ", this.forked.knob, " = ", this.forked.to,
      this.forked.step, h("button", { type: "submit" }, "Go"),
    );
    this.legend = h("div", { class: "lnres-chips" });
    this.tree = new Tree((step) => this.look(step));
    this.grid = h("div", { class: "lnres-grid" });
    this.root = h("section", { class: "lnres", "aria-label": "Live networks" }, bar, this.fork, this.legend, this.tree.node, this.grid);
    // A button that was clicked with the mouse gives the keyboard back to the player.
    this.root.onpointerup = ({ target }) => setTimeout(() => target.closest("button")?.blur());
    parent.append(this.root);
    this.onkey = (event) => this.key(event);
    this.onsize = () => this.size();
    document.addEventListener("keydown", this.onkey);
    this.onlook = () => this.ask();
    document.addEventListener("visibilitychange", this.onlook);
    window.addEventListener("resize", this.onsize);
    this.watch = new ResizeObserver(this.onsize);
    this.watch.observe(this.root);
    this.eyes = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const chart = this.charts.find(({ panel }) => panel === target);
        if (chart) chart.seen = isIntersecting;
      }
      this.schedule();
    });
  }

  /** The panels that were chosen, as far as they apply, else the usual ones; charts that are there stay. */
  lay() {
    const { figures, panels } = this.scene;
    const chosen = this.chosen?.filter((name) => figures[name]) ?? [];
    const usual = this.data.panels?.filter((name) => figures[name]) ?? panels;
    const names = chosen.length ? chosen : usual;
    this.usual = usual.join();
    this.charts.splice(names.length).forEach((chart) => this.drop(chart));
    names.forEach((figure, i) => {
      const chart = (this.charts[i] ??= this.chart());
      if (chart.figure !== figure) Object.assign(chart, { figure, memory: {} });
      chart.names = [...namesIn(figures[figure].data)];
      chart.frames = JSON.stringify(figures[figure].data).includes('"frame"');
      this.caption(chart);
    });
    const before = this.names;
    this.names = [...new Set([...CHIPS, ...this.charts.flatMap(({ names }) => names)])];
    if (this.awaited && this.names.some((name) => !before.includes(name))) this.tell("wake");
    if (this.laid === undefined) this.big = this.charts.find(({ figure }) => figure === this.bigger) ?? null;
    this.laid = names;
    for (const chart of this.charts) {
      chart.panel.classList.toggle("lnres-behind", this.big !== null && this.big !== chart);
      chart.grow.setAttribute("aria-pressed", String(this.big === chart));
    }
    this.ask();
  }

  /** What a hand did to the panels. */
  arrange(names = this.charts.map(({ figure }) => figure)) {
    this.chosen = names.join() === this.usual ? null : names;
    this.lay();
    this.size();
    this.write();
  }

  chart() {
    const chart = { memory: {}, seen: true, zoom: 0, cost: 0, held: new Set() };
    chart.title = h("div", { class: "lnres-title", ondblclick: ({ target }) => target === chart.title && this.enlarge(chart) });
    chart.node = h("div", { class: "lnres-chart", role: "img" });
    chart.panel = h("figure", { class: "lnres-panel" }, chart.title, chart.node);
    chart.node.addEventListener("pointerdown", (down) => {
      if (!this.scene.figures[chart.figure].blocks || down.button) return;
      const up = (event) => Math.hypot(event.x - down.x, event.y - down.y) < 4 && this.operate(chart, event);
      window.addEventListener("pointerup", up, { once: true, capture: true }); // Plotly covers the page
    }, { capture: true });
    const change = () => this.arrange(this.charts.map((each) => (each === chart ? chart.pick.value : each.figure)));
    chart.pick = h("select", { class: "lnres-pick", "aria-label": "What this panel shows", onchange: change });
    chart.said = h("span", { class: "lnres-measured" });
    const title = "Enlarge this panel, or not (double click, Esc)";
    chart.grow = h("button", { type: "button", title, "aria-label": title, onclick: () => this.enlarge(chart) }, icon("big"));
    chart.menu = h(
      "details", { class: "lnres-menu" },
      h("summary", { title: "More", "aria-label": "More to do with this panel" }, icon("more")),
      h("div", {}, ...saving(chart.node, () => chart.figure),
        h("button", { type: "button", onclick: () => this.remove(chart) }, "Remove panel")),
    );
    chart.title.append(chart.pick, chart.said, chart.grow, chart.menu);
    this.grid.append(chart.panel);
    this.eyes.observe(chart.panel);
    return chart;
  }

  drop(chart) {
    if (this.big === chart) this.big = null;
    this.eyes.unobserve(chart.panel);
    window.Plotly?.purge(chart.node);
    chart.panel.remove();
  }

  /** One more panel, with the first figure that is not shown yet. */
  add() {
    if (this.charts.length >= MOST) return this.flash(`${MOST} panels are as many as fit`);
    const shown = this.charts.map(({ figure }) => figure);
    const next = Object.keys(this.scene.figures).find((name) => !shown.includes(name)) ?? shown[0];
    this.big = null;
    this.arrange([...shown, next]);
    this.charts.at(-1).pick.focus();
  }

  remove(chart) {
    if (this.charts.length < 2) return this.flash("one panel has to stay");
    this.charts.splice(this.charts.indexOf(chart), 1);
    this.drop(chart);
    this.arrange();
  }

  enlarge(chart) {
    this.big = this.big === chart ? null : chart;
    this.arrange();
  }

  caption(chart) {
    const { label, about, summary, key } = this.scene.figures[chart.figure];
    const groups = Object.groupBy(Object.entries(this.scene.figures), ([, { group }]) => group);
    const options = Object.entries(groups).map(([group, rows]) =>
      h("optgroup", { label: group }, ...rows.map(([name, row]) => h("option", { value: name }, row.label))));
    chart.pick.replaceChildren(...options);
    chart.pick.value = chart.figure;
    chart.pick.title = about;
    chart.said.title = `${key}\n${about}`;
    chart.said.textContent = `measured · ${key}`;
    chart.node.classList.toggle("lnres-blocks", Boolean(this.scene.figures[chart.figure].blocks));
    chart.node.setAttribute("aria-label", `${label}. ${summary}`);
  }

  chips() {
    this.cards = this.scene.configs.map(({ letter, label, colour, dash, parent, steps }, i) => {
      const stroke = { stroke: colour, "stroke-width": 3, "stroke-dasharray": DASHES[dash] };
      const line = h("line", { x1: 1, x2: 33, y1: 5, y2: 5, ...stroke });
      const card = {
        from: parent ? `fork of ${"ABCD"[parent[0]]} at ${parent[1]}` : "",
        steps,
        note: h("small"),
        train: h("b"),
        test: h("b"),
        sentence: h("p", { "aria-live": "polite" }),
        attempt: h("button", { class: "lnres-try", type: "button", onclick: () => this.attempt(i) }),
      };
      const title = `Show or hide ${letter} (${i + 1})`;
      const pressed = { "aria-label": title, "aria-pressed": String(!this.hidden.has(i)) };
      card.node = h(
        "div", { class: "lnres-chip", style: `--hue: ${colour}` },
        h(
          "button", { type: "button", title, ...pressed, onclick: () => this.show(i) },
          h("b", {}, letter), drawing("0 0 34 10", line),
          h("span", { class: "lnres-name", title: label }, label), card.note,
        ),
        h(
          "div", { class: "lnres-accuracy" },
          h("span", {}, "accuracy: "), "train ", card.train, " test ", card.test,
        ),
        card.attempt,
        card.sentence,
      );
      return card;
    });
    this.legend.replaceChildren(...this.cards.map(({ node }) => node));
    this.spoken = 0;
  }

  /** Everything that is not a chart. */
  controls() {
    const { playing, speed } = this.state;
    const end = this.end;
    const step = this.at ?? end;
    if (this.play.dataset.now !== String(playing)) {
      this.play.dataset.now = String(playing);
      this.play.replaceChildren(icon(playing ? "pause" : "play"), h("span", {}, playing ? "Pause" : "Play"));
    }
    if (document.activeElement !== this.pace) this.pace.value = String(speed);
    this.clock.textContent = end < 0 ? "step –" : `step ${step.toLocaleString("en")}`;
    this.range.max = Math.max(end, 0);
    this.range.value = Math.max(step, 0);
    this.range.style.setProperty("--share", `${end > 0 ? (100 * step) / end : 100}%`);
    this.range.setAttribute("aria-valuetext", `step ${step} of ${end}`);
    const share = (at, otherwise) => `${at === null ? otherwise : Math.min(100, (100 * at) / Math.max(end, 1))}%`;
    this.range.style.setProperty("--from", share(this.loop[0], 0));
    this.range.style.setProperty("--to", share(this.loop[1], this.loop[0] === null ? 0 : 100));
    this.tape.hidden = this.at === null;
    this.edges.forEach((edge, i) => edge.setAttribute("aria-pressed", String(this.loop[i] !== null)));
    this.again.setAttribute("aria-pressed", String(this.replaying !== undefined));
    this.live.classList.toggle("lnres-past", this.at !== null);
    this.live.disabled = this.at === null;
    const speak = performance.now() - (this.spoken ?? 0) > 2000; // a screen reader must be able to finish
    const records = this.runs.map((run) => run.record);
    const reached = this.runs.map(({ replayed, record }) => replayed ?? record.lastStep);
    if (this.cards) this.tree.draw(reached, end, step, this.hidden);
    this.cards?.forEach((card, i) => {
      const { record } = this.runs[i];
      const goal = Math.min(end, card.steps - 1);
      const late = reached[i] < goal - LATE;
      const note = late ? `catching up: ${Math.max(0, reached[i])} of ${goal}` : card.from;
      if (card.note.textContent !== note) card.note.textContent = note;
      const accuracy = (ref, recent) =>
        percent(arrayOf({ ref, run: i, at: "frame", over: "mean", recent }, records, step)[0]);
      card.train.textContent = accuracy("acc_train", 10); // one minibatch may be two examples
      card.test.textContent = accuracy("acc_test", 1);
      card.node.classList.toggle("lnres-off", this.hidden.has(i));
      const [sentence, attempt] = (this.at !== null && this.past?.said[this.runs[i].id]) || this.runs[i].said;
      if (card.attempt.dataset.to !== attempt) {
        card.attempt.dataset.to = attempt;
        card.attempt.textContent = `Try ${attempt}`;
        card.attempt.title = `Fork ${"ABCD"[i]} with ${attempt}, or put a new network beside it`;
        card.attempt.hidden = !attempt;
      }
      if ((speak || !card.told) && card.sentence.textContent !== sentence) {
        card.sentence.textContent = card.sentence.title = sentence;
        card.told = record.lastStep >= 0;
      }
    });
    if (speak) this.spoken = performance.now();
  }

  /** The panels share the height that the window leaves; on a phone they stand in one column. */
  size() {
    if (!this.scene || this.closed) return;
    const narrow = window.innerWidth < 640;
    const scroll = this.root.closest('[data-testid="stMain"]')?.scrollTop ?? 0;
    const top = this.grid.getBoundingClientRect().top + scroll;
    const count = this.big ? 1 : this.charts.length;
    const columns = narrow || count < 2 ? 1 : count > 4 && this.grid.clientWidth > 900 ? 3 : 2;
    const rows = Math.ceil(count / columns);
    this.grid.style.setProperty("--columns", columns);
    this.tree.width = this.grid.clientWidth;
    const room = (window.innerHeight - top - 18 - 10 * (rows - 1)) / rows;
    this.grid.style.setProperty("--panel", `${narrow && !this.big ? 260 : Math.max(210, Math.floor(room))}px`);
    for (const chart of this.charts) {
      const { clientWidth: width, clientHeight: height } = chart.node;
      chart.size = { width, height };
    }
    this.schedule();
  }

  say(text = "") {
    const flashed = performance.now() < (this.flashed ?? 0);
    if (!flashed && this.status.textContent !== text) this.status.textContent = text;
  }

  /** A sentence that stays for a while, whatever the server says meanwhile. */
  flash(text, ms = 2500) {
    this.flashed = 0;
    this.say(text);
    this.flashed = performance.now() + ms;
    setTimeout(() => this.say(this.state.notice), ms + 50);
  }

  /** Write into the address which panels are shown and which step is looked at. */
  write() {
    this.searched = location.search;
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      history.replaceState(history.state, "", this.here);
      this.searched = location.search;
    }, 300);
  }

  get here() {
    const panels = this.chosen?.join("-") ?? null;
    return address({ panels, big: this.big?.figure ?? null, at: this.at ?? this.awaiting });
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.here);
      this.flash("link copied");
    } catch {
      history.replaceState(history.state, "", this.here);
      this.flash("this page may not copy: the link is in the address bar");
    }
  }

  // -------------------------------------------------------------------------------------------- acting

  get end() {
    return Math.max(-1, ...this.runs.map(({ record }) => record.lastStep));
  }

  toggle() {
    this.state.playing = !this.state.playing;
    this.hasty = true; // the answer under way may still say what was
    this.tell(this.state.playing ? "play" : "pause");
    this.controls();
  }

  look(step, hand = true) {
    if (hand) this.stop();
    this.awaiting = null;
    this.at = step === null || step >= this.end ? null : Math.max(0, step);
    clearTimeout(this.asked);
    if (this.at === null) this.past = null;
    else this.asked = setTimeout(() => this.tell("judge", this.at), 120); // once the hand rests
    if (!this.fork.hidden) this.forks();
    this.write();
    this.room = FIRST; // the charts that have waited longest follow the hand, the others as soon as they can
    this.hurry();
  }

  /** What the verdict on a network suggests, from the step looked at on. */
  attempt(i) {
    this.branching = true;
    this.tell("attempt", { run: i, step: this.at ?? this.end });
  }

  /** The form that asks what a fork is to do differently: as many choices as there are live knobs. */
  forks(change = {}) {
    const { configs, knobs } = this.scene;
    if (change.toggle) {
      this.fork.hidden = !this.fork.hidden;
      this.size();
      if (this.fork.hidden) return;
      const options = (rows) => rows.map(([value, text]) => h("option", { value }, text));
      this.forked.run.replaceChildren(...options(configs.map(({ letter }, i) => [i, letter])));
      this.forked.knob.replaceChildren(...options(knobs.map(({ name, label }) => [name, label])));
      this.forked.knob.value = "lr";
    }
    const knob = knobs.find(({ name }) => name === this.forked.knob.value);
    if (change.toggle || change.knob) {
      const { low, high, about } = knob;
      Object.assign(this.forked.to, { min: low, max: high, title: about, value: this.now(knob.name) });
    }
    this.forked.step.textContent = `from step ${(this.at ?? this.end + 1).toLocaleString("en")} on`;
  }

  /** The value of a live knob in the network that is to be forked. */
  now(knob, run = Number(this.forked.run.value)) {
    const changes = this.runs[run].record.events.filter(({ kind, name }) => kind === "change" && name === knob);
    const last = changes.filter(({ step }) => step <= (this.at ?? this.end)).at(-1);
    return last?.value ?? this.scene.configs[run].now[knob];
  }

  /** Ask what is to be done with the block under the pointer; what is done shows at the next step. */
  async operate(chart, event) {
    const { under, menu } = await import(new URL("./blocks.js", import.meta.url));
    const { configs } = this.scene;
    const found = under(chart.node, event, configs);
    chart.panel.querySelector(".lnres-block")?.remove();
    if (!found) return;
    const visible = configs.map((_, i) => i).filter((i) => !this.hidden.has(i));
    const box = chart.panel.getBoundingClientRect();
    const change = (run, values) => {
      this.look(null);
      this.tell("change", { run, values });
      if (!this.state.playing) this.tell("step");
    };
    menu({
      h, configs, change, panel: chart.panel, block: found.block,
      at: { x: event.clientX - box.left + 12, y: event.clientY - box.top + 12 },
      shown: found.run === null ? visible : [found.run], now: (run, knob) => this.now(knob, run),
    });
  }

  branch(event) {
    event.preventDefault();
    const { run, knob, to } = this.forked;
    const step = this.at ?? this.end + 1;
    this.branching = true;
    this.tell("fork", { run: Number(run.value), step, knob: knob.value, to: Number(to.value) });
  }

  /** Play the recording from the step looked at, or stop doing so. */
  replay() {
    if (this.replaying !== undefined) return this.stop();
    let step = this.at ?? 0;
    let last = performance.now();
    this.replaying = setInterval(() => {
      const now = performance.now();
      step += ((now - last) / 1000) * Number(this.rate.value);
      last = now;
      const [from, to] = this.loop;
      if (to !== null && step > to) step = from ?? 0;
      if (step >= this.end && from !== null) step = from;
      if (step >= this.end) return this.look(null);
      this.look(Math.floor(step), false);
    }, PERIOD);
    this.controls();
  }

  stop() {
    clearInterval(this.replaying);
    this.replaying = undefined;
  }

  /** The step looked at becomes the start (0) or the end (1) of what is replayed; a second time, no longer. */
  edge(i) {
    const here = this.at ?? this.end;
    this.loop[i] = this.loop[i] === null ? here : null;
    const [from, to] = this.loop;
    if (from !== null && to !== null && from >= to) this.loop[1 - i] = null;
    this.controls();
  }

  show(i) {
    if (i >= this.runs.length) return;
    if (!this.hidden.delete(i)) this.hidden.add(i);
    this.cards[i].node.querySelector("button").setAttribute("aria-pressed", String(!this.hidden.has(i)));
    this.hurry();
  }

  /** The next (+1) or previous (-1) step at which the inside of a network was measured. */
  beside(direction) {
    const record = this.runs[0]?.record;
    if (!record?.rows("probe_step")) return null;
    const ticks = record.arrays.probe_step;
    const here = record.last("probe_step", this.at ?? this.end);
    const past = direction < 0 && ticks.values[here] < (this.at ?? this.end);
    return ticks.values[Math.max(0, past ? here : here + direction)] ?? null;
  }

  key(event) {
    const { key, target } = event;
    const typing = "input, select, textarea, [contenteditable], [role=slider], [role=combobox]";
    const busy = target.closest?.(typing);
    if (busy || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === " " && target.closest?.("button, a, summary")) return;
    const ahead = () => {
      if (this.at === null) return this.state.playing || this.tell("step");
      const next = this.beside(1);
      this.look(next !== null && next > this.at ? next : null);
    };
    const act = {
      " ": () => this.toggle(),
      ArrowRight: ahead,
      ArrowLeft: () => this.look(this.beside(-1)),
      Escape: () => this.big && this.enlarge(this.big),
      "[": () => this.edge(0),
      "]": () => this.edge(1),
      Home: () => this.tell("reset"),
      f: () => this.forks({ toggle: true }),
      R: () => event.shiftKey && this.tell("reset"),
      ...Object.fromEntries([0, 1, 2, 3].map((i) => [String(i + 1), () => this.show(i)])),
    }[key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  told() {
    const runs = this.runs.map(({ id, name, record }, i) => ({
      id, name, shown: !this.hidden.has(i), step: record.lastStep, rows: record.have, events: record.events,
    }));
    const { playing, speed } = this.state;
    const panels = this.charts.map(({ figure }) => figure);
    return { step: this.end, playing, speed, at: this.at, version: this.version, runs, panels };
  }

  close() {
    this.closed = true;
    const { runs, chosen, hidden, loop } = this;
    left.set(this.data.live, { runs, chosen, hidden, loop, awaiting: this.at ?? this.awaiting, bigger: this.big?.figure ?? null });
    this.stop();
    clearTimeout(this.writing);
    clearTimeout(this.settling);
    clearTimeout(this.retry);
    this.socket.close();
    this.watch.disconnect();
    this.eyes.disconnect();
    document.removeEventListener("keydown", this.onkey);
    document.removeEventListener("visibilitychange", this.onlook);
    window.removeEventListener("resize", this.onsize);
    this.charts.forEach(({ node }) => window.Plotly?.purge(node));
    this.root.remove();
  }
}

// ---------------------------------------------------------------------------------------------- mounting

const players = new WeakMap();

/** Put a player into an element, or leave the one that is there alone; what is returned takes it away. */
export async function mount(parent, data, refresh) {
  const there = players.get(parent);
  if (there) there.refresh = refresh;
  if (there?.data.live === data.live) there.schedule(); // a rerun of the page, or a new theme
  else {
    there?.close();
    // Plotly takes a second to begin: what can be read and pressed without it stands first.
    document.head.append(h("link", { rel: "preload", as: "script", href: data.plotly }));
    await fetched(data.style, "link", { rel: "stylesheet", href: data.style });
    const player = new Player(parent, data, refresh);
    players.set(parent, player);
    const plotly = () => fetched(data.plotly, "script", { src: data.plotly }).then(() => player.schedule());
    requestAnimationFrame(() => setTimeout(plotly, PERIOD));
  }
  return () => {
    if (parent.isConnected) return; // Streamlit also calls this for a rerun that overtook another
    players.get(parent)?.close();
    players.delete(parent);
  };
}
