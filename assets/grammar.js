// The grammar of figures, the same as lnres/figures/grammar.py: a node {ref}, {say}, {range} ... becomes what it names.

import { DENSE } from "./clocks.js";
import { clockOf } from "./record.js";

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

export function arrayOf(ref, records, step) {
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
function realOf({ real, of }, records, step) {
  const ends = arrayOf({ ...real, at: "frame", over: "interval" }, records, step);
  if (!ends.length || !ends.every(Number.isFinite)) return "";
  return ends.every((end) => end > 0) || ends.every((end) => end < 0) ? `${of} real` : `${of} not shown`;
}

function rangeOf(ask, traces, before, past) {
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
  // A range that was a little wider stays, so that the axis does not jitter with every frame; while the past is
  // looked at, any that was wider: steps are compared on one scale, and a new one draws the chart as a whole.
  const slack = before ? before[1] - before[0] - (range[1] - range[0]) : Infinity;
  return before && before[0] <= range[0] && range[1] <= before[1] && (past || slack <= snap) ? before : range;
}

/** From 0 to the last step, rounded up; at the start, to where steps are no longer probed one by one. */
function untilOf(parts, end) {
  const last = Math.max(end, DENSE);
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
    if ("real" in node) return realOf(node, records, now);
    if ("say" in node) return records[node.run].events.map((event) => event[node.say]);
    if (typeof node.range === "string") {
      const both = (ranges[node.range] ??= rangeOf(node, data, memory[node.range], step !== null));
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
export function namesIn(node, names = new Set()) {
  if (node === null || typeof node !== "object") return names;
  if (node.ref) names.add(node.ref);
  Object.values(node).forEach((value) => namesIn(value, names));
  return names;
}
