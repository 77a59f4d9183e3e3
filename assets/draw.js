// Drawing: what Plotly.react draws, several times cheaper where nothing is new but numbers.

// The coordinates of a trace that can be renewed, and where the bounds of what they are drawn against stand.
const axis = (letter) => (trace, layout) => layout[(trace[`${letter}axis`] ?? letter).replace(letter, `${letter}axis`)]?.range;
const colours = (trace, layout) => layout[trace.coloraxis]?.cmin ?? trace.zmin;
const BOUNDS = {
  scatter: { x: axis("x"), y: axis("y") },
  heatmap: { x: axis("x"), y: axis("y"), z: colours },
};
const MARKS = ["shapes", "annotations"];
const PLACES = ["x", "y", "x0", "x1", "text"]; // where marks stand, and what they say

/** The coordinates whose numbers decide nothing else: bounds are given, and nothing hangs on single points. */
function free(trace, layout) {
  const bounds = trace.error_y ? {} : BOUNDS[trace.type] ?? {};
  return Object.keys(bounds).filter((key) => trace[key] && bounds[key](trace, layout) !== undefined);
}

const without = (keys, object) => Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));

/** What a figure looks like, whatever its free numbers are and wherever its marks stand. */
function look(data, layout) {
  const traces = data.map((trace) => without(free(trace, layout), trace));
  const marks = MARKS.map((key) => layout[key]?.map((mark) => without(PLACES, mark)));
  return JSON.stringify([traces, marks, without(MARKS, layout)]);
}

/** Plotly takes a trace without numbers for an invisible one, and prepares nothing for it. */
const filled = (trace) => trace.visible !== false && ["x", "y", "z"].every((key) => trace[key]?.length !== 0);

const looks = new WeakMap(); // of what was drawn last into a node

/** Draw a figure into a node, as Plotly.react does; the data are Plotly's own from then on. */
export function draw(node, data, layout, config) {
  const before = looks.get(node);
  const now = look(data, layout);
  looks.set(node, now);
  const ready = (trace, i) => (node._fullData[i].visible === true) === filled(trace);
  if (before !== now || !node._fullData || !data.every(ready)) return window.Plotly.react(node, data, layout, config);
  renew(node, data, layout);
  move(node, layout);
}

/** New numbers for traces that are drawn: Plotly's last steps, without defaults, axes, margins and legends. */
function renew(node, data, layout) {
  data.forEach((given, i) => {
    const trace = node._fullData[i];
    trace._input = node.data[i] = given;
    const fresh = filled(given) ? free(given, layout) : [];
    if (!fresh.length) return;
    for (const key of fresh) trace[key] = given[key];
    if (given.type === "scatter") trace._length = Math.min(given.x.length, given.y.length);
    const points = trace._module.calc(node, trace);
    points[0].trace = trace;
    points[0].t ??= {};
    node.calcdata[i] = points;
  });
  for (const plane of node._fullLayout._basePlotModules) plane.plot(node);
  for (const { style } of node._fullLayout._visibleModules) style?.(node);
  node._fullLayout._rehover?.(); // what the pointer rests on says its new numbers
}

/** New places for shapes and annotations that are drawn. */
function move(node, layout) {
  let moved = false;
  for (const key of MARKS) {
    (layout[key] ?? []).forEach((mark, i) => {
      const drawn = node._fullLayout[key][i];
      for (const place of PLACES) {
        if ((mark[place] ?? null) === null || mark[place] === drawn[place]) continue;
        drawn[place] = mark[place];
        moved ||= drawn.visible;
      }
    });
    node.layout[key] = layout[key];
  }
  if (moved) for (const plane of node._fullLayout._basePlotModules) plane.transitionAxes(node, []);
}

/** The data stay, and only what is said of them, and where, is new. */
export function mark(node, marks) {
  const there = (key) => marks[key].every((mark, i) => (mark.visible !== false) === node._fullLayout[key][i].visible);
  if (MARKS.every(there)) return move(node, marks);
  looks.delete(node);
  window.Plotly.relayout(node, marks);
}
