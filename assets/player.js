// The player: holds the whole record in the browser, asks for what is new when it has painted, and draws it.

import { draw, mark } from "./draw.js";
import { arrayOf, fill, namesIn } from "./grammar.js";
import { address, asked, drawing, fetched, h, icon, light, percent, saving } from "./page.js";
import { decode, Record } from "./record.js";
import { Tree } from "./tree.js";

const PERIOD = 100; // ms between two paints
const [SLOT, HAND] = [95, 40]; // ms that a paint may take, and one that follows a hand
const CHIPS = ["step", "acc_train", "acc_test"]; // what is shown whatever the panels are
const MOST = 8; // panels
const LATE = 20; // steps behind the others that are told
const REPLAYS = [5, 20, 100, 500]; // recorded steps shown per second
const SPEEDS = [["1 step/s", 1], ["5 steps/s", 5], ["20 steps/s", 20], ["max", 0]];
const DASHES = { solid: "", dash: "7 4", dot: "1.5 3.5", dashdot: "7 3 1.5 3" };
const left = new Map(); // what pages that were left had been looking at, by the address of their runs

class Player {
  runs = []; // { id, name, said: [sentence, what could be tried, the last good step], replayed, record }, in the scene's order
  scene = null;
  specs = {}; // of the figures that were shown, each with the version of the runs it was made for
  version = null;
  state = { playing: false, speed: 0, notice: "" };
  at = null; // the step looked at, null for the latest
  hidden = new Set();
  chosen = asked("panels")?.split("-").slice(0, MOST) ?? null; // figures, null for the usual ones
  big = null; // the chart that has all the room
  bigger = asked("big"); // its figure, while there are no charts yet
  wishes = {}; // what live knobs were asked to be, by run and knob, until the change is recorded
  awaiting = /^\d{1,9}$/.test(asked("at") ?? "") ? Number(asked("at")) : null; // the step to look at, once recorded
  loop = [null, null]; // what a replay stays between
  charts = []; // { figure, spec, names, frames, node, panel, memory, seen, size, zoom, held, drawn, at, since, cost, whole }
  counts = { painted: 0, asked: 0, bytes: 0, frames: 0, lost: 0, mounts: 0, reconnects: 0, turns: 0 };
  paints = []; // { at, cost, version, step, waiting } of the last paints, in ms of performance.now()
  due = 0; // when the next paint may be
  room = SLOT; // ms that the next paint may take
  tries = 0;

  constructor(parent, data, refresh) {
    this.data = data;
    this.path = location.pathname;
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
    const shown = this.scene ? this.charts.map(({ figure }) => figure) : (this.chosen ?? []);
    const figures = Object.fromEntries(shown.map((name) => [name, this.specs[name]?.version ?? null]));
    this.counts.asked++;
    this.socket.send(JSON.stringify({ have, version: this.version, names: this.names ?? [], figures }));
  }

  tell(what, value) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ do: what, value }));
  }

  /** An answer in words: what is wrong with a command, or what is to be said of a step of the past. */
  hear({ error, step, said }) {
    if (error) {
      this.wishes = {};
      return this.flash(error, 6000);
    }
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
    for (const [name, spec] of Object.entries(header.specs ?? {})) this.specs[name] = { ...spec, version: header.version };
    if (header.scene) this.set(header.scene, header.version);
    else if (header.specs) this.lay();
    this.say(header.notice);
    if (this.awaiting !== null && this.end > this.awaiting) this.look(this.awaiting);
    if (fresh && !this.begun) {
      this.begun = true;
      this.room = 0; // the first frame of new runs answers a hand: one chart, and then the others
      this.hurry();
    } else if ((different || header.specs) && !header.scene) this.schedule();
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
    this.root.querySelector(".lnres-block")?.remove(); // its network may be gone
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
    const ready = (chart) => chart.spec && chart.seen && (this.end >= 0 || !chart.mounted) && this.stale(chart);
    const due = window.Plotly ? this.charts.filter(ready) : [];
    due.forEach((chart) => (chart.since ??= start));
    due.sort((a, b) => a.since - b.since || this.costs(a) - this.costs(b));
    // Those that have waited longest, and of them the cheapest first, as many as fit: buttons must answer.
    let { room } = this;
    const mine = due.filter((chart, i) => (room -= this.costs(chart)) >= 0 || i === 0);
    mine.forEach((chart) => this.draw(chart));
    if (mine.length) this.count(start, due.length - mine.length);
    if (mine.length < due.length) this.room < SLOT ? this.hurry() : this.schedule();
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
    const rows = this.runs.map(({ record }) => chart.names.map((name) => record.rows(name)));
    const hidden = [...this.hidden].sort();
    const { figure, size, zoom } = chart;
    chart.next = JSON.stringify([this.version, figure, rows, hidden, this.theme, size, zoom]);
    return chart.next !== chart.drawn || this.at !== chart.at;
  }

  draw(chart) {
    const start = performance.now();
    const whole = chart.revision !== this.revision(chart);
    this.fill(chart);
    chart.since = null;
    const cost = performance.now() - start;
    if (whole) chart.whole = cost;
    else chart.cost += (chart.cost ? 0.2 : 1) * (cost - chart.cost);
  }

  /** What a chart shows beside numbers; what is new in that has to be drawn as a whole. */
  revision(chart) {
    return `${this.version} ${chart.figure} ${chart.zoom}`;
  }

  /** The ms that drawing a chart will take, as far as the last time tells. */
  costs(chart) {
    return chart.revision === this.revision(chart) ? chart.cost : chart.whole;
  }

  fill(chart) {
    const records = this.runs.map((run) => run.record);
    const shown = records.map((_, i) => i).filter((i) => !this.hidden.has(i));
    const theme = this.scene.themes[this.theme];
    const { spec } = chart;
    const options = { step: this.at, shown, theme, memory: chart.memory };
    const same = chart.next === chart.drawn;
    Object.assign(chart, { drawn: chart.next, at: this.at });
    if (same && !chart.frames) {
      // The data stay, and only the line at the step looked at and the words there move: cheap.
      const { shapes = [], annotations = [] } = spec.layout;
      return mark(chart.node, fill({ data: [], layout: { shapes, annotations } }, records, options).layout);
    }
    const { data, layout } = fill(spec, records, options);
    const uirevision = this.revision(chart);
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
    this.again = labelled("replay", "Replay", "Replay the recording from here", () => this.replay());
    const edges = ["[", "]"].map((key, i) => {
      const title = i ? "Replay up to here, then again (])" : "Replay from here on ([)";
      return h("button", { class: "lnres-edge", type: "button", title, "aria-label": title, onclick: () => this.edge(i) }, key);
    });
    this.edges = edges;
    this.tape = h("span", { class: "lnres-replaying" }, this.again, this.rate, ...edges);
    this.drive = h(
      "span", {},
      button("step", "Step", "Step: one minibatch (arrow right)", () => this.tell("step")),
      button("reset", "Reset", "Reset: start again, same weights (Home or Shift+R)", () => this.tell("reset")),
      this.pace,
    );
    this.status = h("span", { class: "lnres-status", role: "status" });
    const bar = h(
      "div", { class: "lnres-bar", role: "toolbar", "aria-label": "Player" },
      this.play,
      // What runs the training and what runs the recording take turns in one place: nothing may move under a hand.
      h("span", { class: "lnres-deck" }, this.drive, this.tape),
      button("fork", "Fork", "Fork: go on differently from here (F)", () => this.forks({ toggle: true })),
      this.clock, this.range, this.live, this.status,
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
    // What was clicked, dragged or chosen with the mouse gives the keyboard back to the player.
    this.root.onpointerup = ({ target }) => setTimeout(() => target.closest("button")?.blur());
    this.root.onchange = ({ target }) => target.matches(":focus-visible") || target.blur();
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
      chart.spec = this.specs[figure]?.version === this.version ? this.specs[figure] : null; // it may be on its way
      chart.names = [...namesIn(chart.spec?.data ?? [])];
      chart.frames = JSON.stringify(chart.spec?.data ?? []).includes('"frame"');
      this.caption(chart);
    });
    const before = this.names ?? [];
    this.names = [...new Set([...CHIPS, ...this.charts.flatMap(({ names }) => names)])];
    const wanting = this.charts.some(({ spec }) => !spec) || this.names.some((name) => !before.includes(name));
    if (this.awaited && wanting) this.tell("wake");
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
    const chart = { memory: {}, seen: true, zoom: 0, cost: 0, whole: 0, held: new Set() };
    chart.title = h("div", { class: "lnres-title", ondblclick: ({ target }) => target === chart.title && this.enlarge(chart) });
    chart.node = h("div", { class: "lnres-chart", role: "img" });
    chart.panel = h("figure", { class: "lnres-panel" }, chart.title, chart.node);
    chart.node.addEventListener("pointerdown", (down) => {
      if (!chart.spec?.blocks || down.button) return;
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
    const { label, about } = this.scene.figures[chart.figure];
    const { summary = "", key = "", blocks = false } = chart.spec ?? {};
    const groups = Object.groupBy(Object.entries(this.scene.figures), ([, { group }]) => group);
    const options = Object.entries(groups).map(([group, rows]) =>
      h("optgroup", { label: group }, ...rows.map(([name, row]) => h("option", { value: name }, row.label))));
    chart.pick.replaceChildren(...options);
    chart.pick.value = chart.figure;
    chart.pick.title = about;
    chart.said.title = `${key}\n${about}`;
    chart.said.textContent = `measured · ${key}`;
    chart.node.classList.toggle("lnres-blocks", Boolean(blocks));
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
        attempt: h("button", { class: "lnres-try lnres-attempt", type: "button", onclick: () => this.attempt(i) }),
        rewind: h("button", { class: "lnres-try lnres-rewind", type: "button", hidden: true, onclick: () => this.look(card.good) }),
        more: h("button", { class: "lnres-unfold", type: "button", "aria-expanded": "false", "aria-label": `More about ${letter}`, onclick: () => this.unfold(i) }),
        good: null,
      };
      const title = `Show or hide ${letter} (${i + 1})`;
      const pressed = { "aria-pressed": String(!this.hidden.has(i)) };
      card.node = h(
        "div", { class: "lnres-chip", style: `--hue: ${colour}` },
        h(
          "button", { type: "button", title, ...pressed, onclick: () => this.show(i) },
          h("b", {}, letter), drawing("0 0 34 10", line),
          h("span", { class: "lnres-name", title: label }, label), card.note,
        ),
        h(
          "div", { class: "lnres-accuracy" },
          h("span", {}, "accuracy: "), h("span", {}, "train ", card.train), " test ", card.test,
        ),
        h("div", { class: "lnres-remedies" }, card.rewind, card.attempt),
        card.sentence, card.more,
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
    this.clock.style.minWidth = `${`step ${end.toLocaleString("en")}`.length}ch`;
    this.drive.style.visibility = this.at === null ? "" : "hidden";
    this.tape.style.visibility = this.at === null ? "hidden" : "";
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
      const [sentence, attempt, good] = (this.at !== null && this.past?.said[this.runs[i].id]) || this.runs[i].said;
      if (card.attempt.dataset.to !== attempt) {
        card.attempt.dataset.to = attempt;
        card.attempt.textContent = `Try ${attempt}`;
        card.attempt.title = `Fork ${"ABCD"[i]} with ${attempt}, or put a new network beside it`;
        card.attempt.hidden = !attempt;
      }
      if (card.good !== good) {
        card.good = good;
        card.rewind.textContent = `Back to ${good}`;
        card.rewind.title = `Back to step ${good}, the last before it diverged`;
        card.rewind.hidden = good === null;
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
      if (location.pathname !== this.path) return; // left: the address is another page's already
      history.replaceState(history.state, "", this.here);
      this.searched = location.search;
      const said = Object.entries(this.view).filter(([, word]) => word !== null);
      this.tell("view", Object.fromEntries(said.map(([name, word]) => [name, String(word)])));
    }, 300);
  }

  /** What is shown, in words of an address. */
  get view() {
    return { panels: this.chosen?.join("-") ?? null, big: this.big?.figure ?? null, at: this.at ?? this.awaiting };
  }

  get here() {
    return address(this.view);
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
    this.room = HAND; // the charts that have waited longest follow the hand, the others as soon as they can
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
      const type = low === undefined ? "text" : "number"; // what single blocks are set to is written
      Object.assign(this.forked.to, { type, min: low, max: high, title: about, value: this.now(knob.name) });
    }
    this.forked.step.textContent = `from step ${(this.at ?? this.end + 1).toLocaleString("en")} on`;
  }

  /** The value of a live knob in a network, the one that is to be forked: of what was asked last, if it is to come. */
  now(knob, run = Number(this.forked.run.value)) {
    const changes = this.runs[run].record.events.filter(({ kind, name }) => kind === "change" && name === knob);
    const wish = this.at === null && this.wishes[`${this.runs[run].id} ${knob}`];
    if (wish && wish.before === changes.length) return wish.value;
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
    this.look(null); // what is done is done at the next step
    const visible = configs.map((_, i) => i).filter((i) => !this.hidden.has(i));
    const box = chart.panel.getBoundingClientRect();
    const change = (run, values) => {
      for (const [knob, value] of Object.entries(values)) {
        const before = this.runs[run].record.events.filter(({ kind, name }) => kind === "change" && name === knob).length;
        this.wishes[`${this.runs[run].id} ${knob}`] = { value, before };
      }
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
    this.tell("fork", { run: Number(run.value), step, knob: knob.value, to: to.type === "text" ? to.value : Number(to.value) });
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

  /** On a phone a card shows all that is said of its network, or again only how it begins. */
  unfold(i) {
    const { node, more } = this.cards[i];
    more.setAttribute("aria-expanded", String(node.classList.toggle("lnres-whole")));
    this.size();
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
export async function mount({ parentElement: parent, data, setTriggerValue: refresh }) {
  const there = players.get(parent);
  if (there) Object.assign(there, { refresh, path: location.pathname });
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
