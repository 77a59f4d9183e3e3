// Drawing: what Plotly.react draws, several times cheaper where nothing is new but numbers.

const COORDINATES = ["x", "y", "z"];
const PLACES = ["x", "y", "x0", "x1", "text"]; // of shapes and annotations

/** What a figure looks like, whatever its numbers are and wherever its marks stand. */
function look(data, { shapes = [], annotations = [], ...layout }) {
  const still = ({ x, y, z, ...trace }) => ("y0" in trace ? { x, ...trace } : trace); // an event is no number
  const unplaced = ({ x, y, x0, x1, text, ...mark }) => mark;
  return JSON.stringify([data.map(still), shapes.map(unplaced), annotations.map(unplaced), layout]);
}

/** Plotly takes a trace without numbers for an invisible one, and prepares nothing for it. */
const filled = (trace) => trace.visible !== false && COORDINATES.every((key) => trace[key]?.length !== 0);

const looks = new WeakMap(); // of what was drawn last into a node

/** Draw a figure into a node; the data are Plotly's own from then on. */
export function draw(node, data, layout, config) {
  const before = looks.get(node);
  looks.set(node, look(data, layout));
  const ready = (trace, i) => (node._fullData[i].visible === true) === filled(trace);
  if (before !== looks.get(node) || !data.every(ready)) return window.Plotly.react(node, data, layout, config);
  renew(node, data);
  move(node, layout);
}

/** New numbers for traces that are drawn: what Plotly does last, without defaults, axes, ranges and legends. */
function renew(node, data) {
  data.forEach((given, i) => {
    const trace = node._fullData[i];
    trace._input = node.data[i] = given;
    if (!filled(given) || "y0" in given) return;
    for (const key of COORDINATES) if (given[key]) trace[key] = given[key];
    if (!given.z) trace._length = Math.min(given.x.length, given.y.length);
    const points = trace._module.calc(node, trace);
    points[0].trace = trace;
    points[0].t ??= {};
    node.calcdata[i] = points;
  });
  for (const plane of node._fullLayout._basePlotModules) plane.plot(node);
}

/** New places for shapes and annotations that are drawn. */
function move(node, layout) {
  let moved = false;
  for (const key of ["shapes", "annotations"]) {
    (layout[key] ?? []).forEach((mark, i) => {
      const drawn = node._fullLayout[key][i];
      for (const place of PLACES) {
        if ((mark[place] ?? null) === null || mark[place] === drawn[place]) continue;
        drawn[place] = mark[place];
        moved ||= mark.visible !== false;
      }
    });
    node.layout[key] = layout[key];
  }
  if (moved) for (const plane of node._fullLayout._basePlotModules) plane.transitionAxes(node, []);
}
