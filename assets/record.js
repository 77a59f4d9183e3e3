// What comes over the wire, and what is kept of it: the record of a run, as lnres.record in Python.

import { CLOCK_OF } from "./clocks.js";

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

export const clockOf = (name) => CLOCK_OF[name];

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
