// The board: controls, and panels that the server fills for their values; mounted once, redrawn in place.

import { draw } from "./draw.js";
import { fill } from "./grammar.js";
import { address, fetched, h, icon, light, saving } from "./page.js";

const GAP = 10; // px between panels
const PATIENCE = 10_000; // ms after which a question that was not answered is asked again
const NOTICED = 400; // ms after which one sees that an answer is still to come
const STEPS = 1000; // of a slider that has none of its own

// ---------------------------------------------------------------------------------------------- controls

const written = (v) => (typeof v !== "number" || v === 0 ? String(v) : String(Number(v.toPrecision(3))));

/** The place of a value on its slider, and the value of a place. */
const scale = ({ low, high, step, log }) => {
  if (step && !log) return { min: low, max: high, step, place: (v) => v, value: (p) => Number(p) };
  const [from, to] = log ? [Math.log(low), Math.log(high)] : [low, high];
  const value = (p) => {
    const v = from + (p / STEPS) * (to - from);
    return Math.min(high, Math.max(low, Number((log ? Math.exp(v) : v).toPrecision(3))));
  };
  const place = (v) => Math.round((STEPS * ((log ? Math.log(v) : v) - from)) / (to - from));
  return { min: 0, max: STEPS, step: 1, place, value };
};

/** A control's element, and how it shows a value; fields without a row here are changed in panels. */
const CONTROLS = {
  slider(field, set) {
    const { min, max, step, place, value } = scale(field);
    const input = h("input", { type: "range", min, max, step, "aria-label": field.label, oninput: () => set(value(input.value)) });
    const told = h("output");
    const head = h("span", {}, field.label, told);
    const node = h("label", { class: "board-slider", title: field.about }, head, input);
    const show = (v) => {
      input.value = place(v);
      input.style.setProperty("--share", `${(100 * (input.value - min)) / (max - min)}%`);
      input.setAttribute("aria-valuetext", written(v));
      told.textContent = written(v);
    };
    if (!field.play) return { node, show };
    const walk = h("button", { type: "button", class: "board-play", "aria-label": `Play ${field.label}` }, icon("play"));
    let timer;
    const stop = () => {
      clearInterval(timer);
      timer = undefined;
      walk.replaceChildren(icon("play"));
    };
    const next = () => {
      const ahead = Number(input.value) + (field.step && !field.log ? field.step : STEPS / 40);
      if (ahead > Number(input.max)) return stop();
      set(value(ahead));
    };
    walk.onclick = () => {
      if (timer !== undefined) return stop();
      if (Number(input.value) >= Number(input.max)) set(field.low);
      else next();
      timer = setInterval(next, field.play);
      walk.replaceChildren(icon("pause"));
    };
    input.addEventListener("pointerdown", stop);
    return { node: h("div", { class: "board-walk" }, walk, node), show, stop };
  },
  toggle(field, set) {
    const input = h("input", { type: "checkbox", onchange: () => set(input.checked) });
    const node = h("label", { class: "board-toggle", title: field.about }, input, field.label);
    return { node, show: (v) => (input.checked = v) };
  },
  pick(field, set) {
    const options = Object.entries(field.options).map(([value, text]) => h("option", { value }, text));
    const input = h("select", { "aria-label": field.label, onchange: () => set(input.value) }, ...options);
    const node = h("label", { class: "board-pick", title: field.about }, h("span", {}, field.label), input);
    return { node, show: (v) => (input.value = v) };
  },
};

// ------------------------------------------------------------------------------------------------ panels

const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** A chart; Plotly is asked to change it in place. */
class Figure {
  held = new Set();
  zoom = 0;

  constructor(board) {
    this.board = board;
    this.node = h("div", { class: "lnres-chart", role: "img" });
  }

  show(panel) {
    this.panel = panel;
    if (!window.Plotly || !this.node.clientHeight) return;
    const { clientWidth: width, clientHeight: height } = this.node;
    const { data, layout } = fill(panel.figure, [], { theme: this.board.theme });
    const template = this.board.theme.template;
    for (const axis of this.held) layout[axis] = { ...layout[axis], range: this.node.layout[axis].range };
    const dragmode = panel.drags ? false : (layout.dragmode ?? "zoom");
    layout.margin ??= { l: 52, r: 14, t: 8, b: 38 };
    Object.assign(layout, { template, width, height, dragmode, uirevision: `${panel.name} ${this.zoom}` });
    draw(this.node, data, layout, { displayModeBar: false, doubleClick: false });
    if (!this.mounted) this.listen();
    if (panel.drags) this.place();
  }

  listen() {
    this.mounted = true;
    // What a hand has set is to stay, whatever range the answer has.
    this.node.on("plotly_relayout", (change) => {
      for (const key of Object.keys(change)) if (key.includes(".range")) this.held.add(key.split(".")[0]);
    });
    this.node.on("plotly_doubleclick", () => {
      this.held.clear();
      this.zoom++;
      this.show(this.panel);
    });
    this.node.on("plotly_click", ({ points: [point] }) => {
      if (this.panel.clicks) this.board.set(this.panel.clicks, [point.customdata ?? point.pointIndex ?? point.pointNumber].flat());
    });
    this.node.on("plotly_hover", ({ points: [point] }) => {
      const { pictures, columns } = this.panel.figure.layout.meta ?? {};
      if (pictures) this.compare(pictures[point.pointNumber[0]], pictures[columns[point.pointNumber[1]]]);
    });
    if (this.panel.drags) this.handle();
  }

  /** Beside the title stand pictures of what is compared at the pointer. */
  compare(...pictures) {
    const head = this.node.parentNode.querySelector(".lnres-title");
    this.compared ??= head.insertBefore(h("span", { class: "board-pictures" }), head.lastChild);
    this.compared.replaceChildren(...pictures.map((pixels) => {
      const side = Math.sqrt(pixels.length);
      const node = h("canvas", { width: side, height: side });
      const image = new ImageData(side, side);
      pixels.forEach((ink, k) => (image.data[4 * k + 3] = 255 * ink)); // black as it is, on paper
      node.getContext("2d").putImageData(image, 0, 0);
      return node;
    }));
  }

  /** What is dragged: a ring over the chart, moved by the pointer or the arrow keys. */
  handle() {
    const { drags } = this.panel;
    const { label } = this.board.field(drags);
    this.ring = h("button", { type: "button", class: "board-handle", "aria-label": label, title: label });
    this.node.parentNode.append(this.ring);
    const move = ({ clientX, clientY }) => {
      const { left, top } = this.node.getBoundingClientRect();
      const { xaxis, yaxis } = this.node._fullLayout;
      this.drag([xaxis.p2d(clientX - left - xaxis._offset), yaxis.p2d(clientY - top - yaxis._offset)]);
    };
    this.ring.onpointerdown = (event) => {
      this.ring.setPointerCapture(event.pointerId);
      this.ring.onpointermove = move;
    };
    this.ring.onpointerup = () => (this.ring.onpointermove = null);
    this.ring.onkeydown = (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      const { low, high } = this.board.field(drags);
      this.drag(this.board.values[drags].map((v, i) => v + (way[i] * (high[i] - low[i])) / 100));
    };
  }

  drag(to) {
    const { low, high } = this.board.field(this.panel.drags);
    this.board.set(this.panel.drags, to.map((v, i) => Math.min(high[i], Math.max(low[i], v))));
    this.place();
  }

  place() {
    const { xaxis, yaxis } = this.node._fullLayout;
    const [x, y] = this.board.values[this.panel.drags];
    this.ring.style.left = `${this.node.offsetLeft + xaxis._offset + xaxis.d2p(x)}px`;
    this.ring.style.top = `${this.node.offsetTop + yaxis._offset + yaxis.d2p(y)}px`;
  }

  drop() {
    if (this.mounted) window.Plotly.purge(this.node);
  }
}

/** Words and formulas, written by the server. */
class Words {
  node = h("div", { class: "board-words" });

  show({ html }) {
    if (this.html !== html) this.node.innerHTML = this.html = html;
  }

  drop() {}
}

/** Numbers in cells, tinted by what they share, that can be written over. */
class Table {
  node = h("div", { class: "board-table" });

  constructor(board) {
    this.board = board;
  }

  show(panel) {
    const { rows = [], columns = [], values, breaks = [] } = panel.table;
    this.panel = panel;
    const shape = JSON.stringify([values.map((row) => row.length), rows, columns, breaks]);
    if (shape !== this.shape) this.lay(rows, columns, values, breaks);
    this.shape = shape;
    const { hues = [], marked = [], digits = 2 } = panel.table;
    const many = Math.max(0, ...hues.flat().filter((hue) => hue !== null)) + 1;
    const at = (list, i, j) => list.some(([a, b]) => a === i && b === j);
    values.forEach((row, i) => row.forEach((value, j) => {
      const cell = this.cells[i][j];
      const hue = hues[i]?.[j] ?? null;
      cell.className = hue === null ? "" : "board-tinted";
      cell.style.setProperty("--hue", hue === null ? "none" : `hsl(${(210 + (360 * hue) / many) % 360} 70% 52%)`);
      const same = (a, b) => (hues[a]?.[b] ?? null) === hue;
      for (const [edge, a, b] of [["top", i - 1, j], ["bottom", i + 1, j], ["left", i, j - 1], ["right", i, j + 1]]) {
        cell.classList.toggle(`board-${edge}`, hue !== null && !(same(a, b) && hues[a]?.[b] !== undefined));
      }
      cell.classList.toggle("board-marked", at(marked, i, j));
      const input = cell.firstChild;
      if (input !== document.activeElement || !input.dataset.dirty) input.value = value.toFixed(digits);
    }));
    if (marked.length) this.reveal(marked[0]);
  }

  /** Where there are more rows than fit, what is marked comes into sight; the page stays where it is. */
  reveal([i, j]) {
    if (this.revealed === `${i} ${j}`) return;
    this.revealed = `${i} ${j}`;
    const { offsetTop, offsetHeight } = this.cells[i][j];
    this.node.scrollTop = Math.min(offsetTop, Math.max(this.node.scrollTop, offsetTop + offsetHeight - this.node.clientHeight));
  }

  lay(rows, columns, values, breaks) {
    const { edits, clicks } = this.panel;
    this.cells = values.map((row, i) => row.map((_, j) => {
      const input = h("input", { type: "text", inputmode: "decimal", readonly: !edits, "aria-label": `${rows[i] ?? i}, ${columns[j] ?? j}` });
      input.onfocus = () => {
        if (clicks) this.board.set(clicks, [i, j]);
        if (edits) input.select();
      };
      input.oninput = () => (input.dataset.dirty = "1");
      input.onblur = () => delete input.dataset.dirty;
      input.onchange = () => this.write(i, j, input);
      input.onkeydown = ({ key }) => {
        const to = { ArrowDown: [i + 1, j], ArrowUp: [i - 1, j] }[key];
        if (key === "Enter") input.blur();
        if (to) this.cells[to[0]]?.[to[1]]?.firstChild.focus();
      };
      return h("td", {}, input);
    }));
    const head = columns.length ? [h("tr", {}, h("td"), ...columns.map((text) => h("th", { scope: "col" }, text)))] : [];
    const body = this.cells.map((cells, i) =>
      h("tr", { class: breaks.includes(i) && "board-break" }, h("th", { scope: "row" }, rows[i] ?? ""), ...cells));
    this.node.replaceChildren(h("table", {}, ...head, ...body));
  }

  write(i, j, input) {
    delete input.dataset.dirty;
    const { edits } = this.panel;
    const { low, high } = this.board.field(edits);
    const value = Number(input.value.replace(",", "."));
    if (!Number.isFinite(value) || input.value.trim() === "") return this.show(this.panel);
    const others = this.board.values[edits].filter(([a, b]) => a !== i || b !== j);
    this.board.set(edits, [...others, [i, j, Math.min(high, Math.max(low, value))]]);
    this.show(this.panel);
  }

  drop() {}
}

const KINDS = [["figure", Figure], ["table", Table], ["html", Words]];

// ----------------------------------------------------------------------------------------------- the board

const kept = {}; // by key: the values of boards that were left for another page

class Board {
  panels = {}; // by name: { node, body, told }
  paints = []; // { number, waited, cost } of the last answers drawn, in ms
  counts = { painted: 0, asked: 0, mounts: 0 };
  controls = {};
  asked = null; // { number, since } of the question under way
  since = null; // when a hand first moved after it was asked

  constructor(parent, told, tell) {
    this.tell = tell;
    this.path = location.pathname;
    this.live = told.live;
    this.bar = h("div", { class: "board-bar", role: "group", "aria-label": "Controls" });
    this.said = h("p", { class: "board-said", "aria-live": "polite" });
    this.onward = h("a", { class: "board-onward", hidden: true });
    this.grid = h("div", { class: "lnres-grid" });
    this.root = h("section", { class: "lnres lnres-board board-fresh" }, this.bar, this.said, this.onward, this.grid);
    parent.append(this.root);
    this.key = told.key;
    // What is out of sight is drawn when it comes into it.
    this.eyes = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const there = Object.values(this.panels).find(({ node }) => node === target);
        if (there) there.seen = isIntersecting;
      }
      this.draw();
    }, { rootMargin: "80px" });
    if (this.live) this.connect();
    this.take(told);
    this.watch = new ResizeObserver(() => this.size());
    this.watch.observe(this.root);
    this.onsize = () => this.size();
    window.addEventListener("resize", this.onsize);
    (window.lnresBoards ??= {})[told.key] = () => ({
      ...this.counts, values: this.values, number: this.number, paints: [...this.paints], waiting: this.asked !== null,
    });
  }

  /** What the page says: at first, and after each of its reruns. */
  take(told) {
    const fields = JSON.stringify(told.fields);
    const themes = told.themes;
    this.themes = themes;
    if (fields !== this.known) {
      Object.assign(this, { known: fields, fields: told.fields, first: told.first, values: told.values, number: told.number });
      this.asked = null;
      const before = this.live && kept[told.key];
      const fresh = JSON.stringify(told.values) === JSON.stringify(told.first); // the address says nothing else
      if (before && fresh) this.values = before;
      this.lay();
      if (told.answer) this.hear(told.number, told.answer);
      else this.said.textContent = "Measuring networks …";
      if (!told.answer || this.values === before) this.ask();
    } else if (!this.live) this.hear(told.number, told.answer);
    else this.draw(); // perhaps the theme is another
    this.write();
  }

  field(name) {
    return this.fields.find((field) => field.name === name);
  }

  lay() {
    Object.values(this.controls).forEach(({ stop }) => stop?.());
    this.controls = {};
    for (const field of this.fields) {
      const make = CONTROLS[field.kind];
      if (make) this.controls[field.name] = make(field, (value) => this.set(field.name, value));
    }
    const reset = h("button", { type: "button", class: "board-reset", title: "Everything as at first", "aria-label": "Everything as at first", onclick: () => this.reset() }, icon("reset"));
    this.laid = (this.laid ?? 0) + 1;
    this.bar.replaceChildren(...this.above(""), ...(this.fields.length ? [reset] : []));
    for (const [name, { show }] of Object.entries(this.controls)) show(this.values[name]);
  }

  /** The controls that stand above a panel, or above all of them. */
  above(panel) {
    return this.fields.filter((field) => field.panel === panel && this.controls[field.name])
      .map(({ name }) => this.controls[name].node);
  }

  // -------------------------------------------------------------------------------------------- asking

  set(name, value) {
    if (JSON.stringify(this.values[name]) === JSON.stringify(value)) return;
    this.values = { ...this.values, [name]: value };
    this.controls[name]?.show(value);
    this.ask();
    this.write();
  }

  reset() {
    this.values = { ...this.first };
    for (const [name, { show, stop }] of Object.entries(this.controls)) {
      stop?.();
      show(this.values[name]);
    }
    this.ask();
    this.write();
  }

  /** Ask for the panels of the values, one question at a time: what changes meanwhile is asked together. */
  ask() {
    this.since ??= performance.now();
    if (this.asked !== null) return;
    const question = { number: ++this.number, values: this.values };
    if (this.live && this.socket.readyState !== WebSocket.OPEN) return; // asked when it opens
    this.asked = { number: this.number, since: this.since };
    this.since = null;
    this.counts.asked++;
    this.wait(!this.answer?.more);
    clearTimeout(this.late);
    this.late = setTimeout(() => {
      this.asked = null;
      this.ask();
    }, PATIENCE);
    if (this.live) this.socket.send(JSON.stringify(question));
    else this.tell("question", question);
  }

  /** What takes long enough to be noticed is seen to be under way. */
  wait(on) {
    clearTimeout(this.noticed);
    this.root.classList.remove("board-asking");
    this.root.classList.toggle("board-fresh", on && !this.answer);
    if (on) this.noticed = setTimeout(() => this.root.classList.add("board-asking"), NOTICED);
  }

  hear(number, answer) {
    const waited = this.asked?.number === number ? this.asked : null;
    if (this.asked !== null && !waited) return; // an answer that a newer question has overtaken
    this.wait(false);
    clearTimeout(this.late);
    this.asked = null;
    this.answer = answer;
    requestAnimationFrame(() => {
      const start = performance.now();
      this.draw();
      const end = performance.now();
      this.counts.painted++;
      if (waited) this.paints.push({ number, waited: end - waited.since, cost: end - start });
      if (this.paints.length > 1000) this.paints.splice(0, 500);
    });
    if (this.since !== null || answer.more) this.ask();
  }

  connect() {
    const url = new URL(this.live, location.origin);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.onopen = () => {
      this.tries = 0;
      this.asked = null;
      if (this.since !== null) this.ask();
    };
    this.socket.onmessage = ({ data }) => {
      const { number, answer, error } = JSON.parse(data);
      if (!error) return this.hear(number, answer);
      clearTimeout(this.late);
      this.asked = null;
      this.wait(false);
      this.said.textContent = error;
    };
    this.socket.onclose = () => {
      if (this.closed) return;
      this.asked = null;
      this.tries = (this.tries ?? 0) + 1;
      this.retry = setTimeout(() => this.connect(), Math.min(5000, 250 * 2 ** this.tries));
    };
  }

  /** Write into the address what is not as at first, so that a link or a reload shows the same. */
  write() {
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      if (location.pathname !== this.path) return; // left: the address is another page's already
      const words = {};
      for (const { name, kind } of this.fields) {
        const same = JSON.stringify(this.values[name]) === JSON.stringify(this.first[name]);
        words[name] = same ? null : kind === "pick" ? this.values[name] : JSON.stringify(this.values[name]);
      }
      const here = address(words);
      if (here !== location.href) history.replaceState(history.state, "", here);
    }, 300);
  }

  // -------------------------------------------------------------------------------------------- drawing

  draw() {
    if (!this.root.isConnected || !this.answer) return;
    const name = light(this.root) ? "light" : "dark";
    this.theme = this.themes[name];
    const { panels, idle, said, onward } = this.answer;
    if (this.said.textContent !== said) this.said.textContent = said;
    this.onward.hidden = !onward;
    if (onward) [this.onward.textContent, this.onward.href] = onward;
    for (const [field, { node }] of Object.entries(this.controls)) node.classList.toggle("board-idle", idle.includes(field));
    const names = panels.map((panel) => panel.name);
    for (const gone of Object.keys(this.panels).filter((panel) => !names.includes(panel))) {
      this.panels[gone].body.drop();
      this.panels[gone].node.remove();
      delete this.panels[gone];
    }
    let fresh = false;
    for (const panel of panels) {
      fresh ||= !this.panels[panel.name];
      this.panels[panel.name] ??= this.panel(panel);
    }
    const order = names.join("\n");
    if (this.order !== order) names.forEach((panel) => this.grid.append(this.panels[panel].node));
    this.order = order;
    if (fresh) this.size(false);
    for (const panel of panels) {
      const there = this.panels[panel.name];
      if (there.laid !== this.laid) there.bar.replaceChildren(...this.above(panel.name));
      there.laid = this.laid;
      there.body.node.setAttribute("aria-label", panel.alt);
      const { clientWidth, clientHeight } = there.body.node;
      const state = JSON.stringify([panel, name, clientWidth, clientHeight, Boolean(window.Plotly)]);
      if (!there.seen || there.state === state) continue;
      there.state = state;
      there.title.textContent = panel.title;
      there.body.show(panel);
    }
  }

  panel(panel) {
    const [, Kind] = KINDS.find(([kind]) => kind in panel);
    const body = new Kind(this);
    const title = h("b", { class: "board-title" }, panel.title);
    const menu = h(
      "details", { class: "lnres-menu" },
      h("summary", { title: "Save", "aria-label": `Save ${panel.title}` }, icon("more")),
      h("div", {}, ...saving(body.node, () => panel.name)),
    );
    const head = h("div", { class: "lnres-title" }, title, ...(panel.figure ? [menu] : []));
    const bar = h("div", { class: "board-bar", role: "group", "aria-label": panel.title });
    const node = h("figure", { class: "lnres-panel" }, head, bar, body.node);
    this.counts.mounts++;
    this.eyes.observe(node);
    return { node, body, title, bar };
  }

  /** As many columns as fit; the rows share the height that the window leaves. */
  size(draw = true) {
    if (!this.root.isConnected || !this.answer) return;
    const { panels } = this.answer;
    const width = this.grid.clientWidth;
    const units = panels.reduce((sum, { wide }) => sum + wide, 0);
    const most = units < 4 ? units : units === 4 ? 2 : 3;
    const columns = Math.max(1, Math.min(most, Math.floor((width + GAP) / 330)));
    let rows = 1;
    let taken = 0;
    for (const { wide } of panels) {
      const span = Math.min(wide, columns);
      if (taken + span > columns) {
        rows++;
        taken = 0;
      }
      taken += span;
    }
    const scroll = this.root.closest('[data-testid="stMain"]')?.scrollTop ?? 0;
    const room = (window.innerHeight - this.grid.getBoundingClientRect().top - scroll - 18 - GAP * (rows - 1)) / rows;
    const height = Math.floor(Math.min(560, Math.max(260, room)));
    this.grid.style.setProperty("--columns", columns);
    for (const panel of panels) {
      const node = this.panels[panel.name]?.node;
      const tall = (panel.height || (columns === 1 ? 300 : height)) * panel.tall + GAP * (panel.tall - 1);
      node?.style.setProperty("--panel", `${tall}px`);
      node?.style.setProperty("grid-column", `span ${Math.min(panel.wide, columns)}`);
      node?.style.setProperty("grid-row", `span ${columns === 1 ? 1 : panel.tall}`);
    }
    if (draw) this.draw();
  }

  close() {
    this.closed = true;
    kept[this.key] = this.values;
    Object.values(this.controls).forEach(({ stop }) => stop?.());
    for (const timer of [this.writing, this.late, this.retry, this.noticed]) clearTimeout(timer);
    this.socket?.close();
    this.watch.disconnect();
    this.eyes.disconnect();
    window.removeEventListener("resize", this.onsize);
    Object.values(this.panels).forEach(({ body }) => body.drop());
    delete window.lnresBoards[this.key];
    this.root.remove();
  }
}

// ---------------------------------------------------------------------------------------------- mounting

const boards = new WeakMap();

/** Put a board into an element, or tell the one that is there; what is returned takes it away. */
export async function mount({ parentElement: parent, data, setStateValue: tell }) {
  const told = JSON.parse(data.told);
  const there = boards.get(parent);
  if (there && there.live === told.live && there.key === told.key) {
    Object.assign(there, { tell, path: location.pathname });
    there.take(told);
  } else {
    there?.close();
    document.head.append(h("link", { rel: "preload", as: "script", href: data.plotly }));
    await Promise.all(data.styles.map((href) => fetched(href, "link", { rel: "stylesheet", href })));
    const board = new Board(parent, told, tell);
    boards.set(parent, board);
    // Plotly takes a second to begin: controls and tables stand first.
    requestAnimationFrame(() => setTimeout(() => fetched(data.plotly, "script", { src: data.plotly }).then(() => board.draw()), 50));
  }
  return () => {
    if (parent.isConnected) return; // Streamlit also calls this for a rerun that overtook another
    boards.get(parent)?.close();
    boards.delete(parent);
  };
}
