// The course: which lessons there are and what this browser remembers of them, and the guess that comes first.

import { fetched, h } from "./page.js";

const KEPT = "lnres.lessons"; // { lesson: { guess, answer } }, in this browser only
const [WIDE, HIGH] = [640, 310]; // the sketch, in its own units
const EDGE = { left: 52, right: 14, top: 14, bottom: 40 };
const states = new WeakMap();

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {}; // storage is shut, or holds something else
  }
}

function remember({ lesson, ...outcome }) {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ ...remembered(), [lesson]: outcome }));
  } catch {
    // nothing is kept where the browser does not allow it
  }
}

/** The row of lessons: done ones are ticked, and a click opens one. */
function course(parent, data, tell) {
  if (data.outcome) remember(data.outcome);
  const done = remembered();
  const mark = (name) => {
    if (!done[name]) return ["", "to do"];
    return done[name].guess === done[name].answer ? ["✓", "done, guessed right"] : ["✓", "done"];
  };
  const item = ({ name, title, about }, i) => {
    const [sign, word] = mark(name);
    const current = name === data.chosen;
    return h(
      "li", {},
      h(
        "button",
        {
          type: "button", title: `${about}${word && ` (${word})`}`, class: sign && "lesson-done",
          "aria-current": current && "step", onclick: () => tell("lesson", name),
        },
        h("b", {}, sign || `${i + 1}`), h("span", {}, title),
      ),
    );
  };
  const list = h("ol", { class: "lesson-course", "aria-label": "Lessons" }, ...data.lessons.map(item));
  const papers = data.handouts.map(({ name, title }) =>
    h(
      "button",
      { type: "button", "aria-current": name === data.chosen && "page", onclick: () => tell("lesson", name) },
      title,
    ));
  parent.replaceChildren(h("nav", { class: "lesson" }, list, h("p", {}, "For teachers: ", ...papers)));
  list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

/** Where a value stands on the sketch, and which value stands there. */
function scales({ low, high, log, end }) {
  const [from, to] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const inner = { wide: WIDE - EDGE.left - EDGE.right, high: HIGH - EDGE.top - EDGE.bottom };
  const share = (y) => ((log ? Math.log10(y) : y) - from) / (to - from);
  return {
    share,
    x: (x) => EDGE.left + (inner.wide * x) / end,
    y: (y) => EDGE.top + inner.high * (1 - Math.min(1, Math.max(0, share(y)))),
    place: (px) => Math.min(1, Math.max(0, (px - EDGE.left) / inner.wide)),
    value: (py) => {
      const at = from + (to - from) * Math.min(1, Math.max(0, 1 - (py - EDGE.top) / inner.high));
      return log ? 10 ** at : at;
    },
    ticks: log
      ? Array.from({ length: 5 }, (_, i) => 10 ** Math.round(from + ((to - from) * i) / 4))
      : Array.from({ length: 5 }, (_, i) => low + ((high - low) * i) / 4),
  };
}

/** The guesses, and the empty chart: choosing one draws it, drawing one chooses the nearest. */
function ask(parent, data, tell) {
  const state = states.get(parent);
  if (state?.lesson === data.lesson) return;
  const guess = { lesson: data.lesson, option: null, curve: null };
  states.set(parent, guess);
  const { sketch, options } = data;
  const to = scales(sketch ?? { low: 0, high: 1, end: 1 });
  const path = (y) => `M${y.map((v, i) => `${to.x(options[0].x[i]).toFixed(1)} ${to.y(v).toFixed(1)}`).join("L")}`;
  const tick = (v) =>
    sketch.log ? `10${String(Math.round(Math.log10(v))).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`
    : `${Math.round(100 * v)} %`;
  const text = (x, y, said, anchor = "middle") => h("text", { x, y, "text-anchor": anchor }, said);
  const drawn = h("path", { class: "lesson-guess", d: "" });
  const hint = text((WIDE + EDGE.left) / 2, HIGH / 2, "choose, or draw your guess here");
  hint.classList.add("lesson-hint");
  const chart = sketch && h(
    "svg",
    { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "lesson-sketch marks", role: "img", "aria-label": `Your guess: ${sketch.about}` },
    ...to.ticks.flatMap((v) => [
      h("line", { x1: EDGE.left, x2: WIDE - EDGE.right, y1: to.y(v), y2: to.y(v) }),
      text(EDGE.left - 8, to.y(v) + 4, tick(v), "end"),
    ]),
    text(EDGE.left, HIGH - 20, "0"), text(WIDE - EDGE.right, HIGH - 20, sketch.end.toLocaleString("en"), "end"),
    text((WIDE + EDGE.left) / 2, HIGH - 6, sketch.along), drawn, hint,
  );
  const go = h(
    "button", { type: "button", class: "lesson-go", disabled: true, onclick: () => tell("guess", guess) },
    "Guess first, then play",
  );
  let reach = null; // from where to where a hand has drawn; where an option was chosen first, all of it
  const choose = (i, curve = options[i].y ?? []) => {
    Object.assign(guess, { option: i, curve });
    if (sketch) drawn.setAttribute("d", path(curve));
    hint.remove();
    buttons.forEach((button, k) => button.setAttribute("aria-checked", String(k === i)));
    buttons.forEach((button, k) => button.setAttribute("tabindex", k === i ? 0 : -1));
    go.disabled = false;
    go.textContent = "This is my guess: play";
  };
  const pick = (i) => {
    reach = null;
    choose(i);
  };
  const turn = (event, i) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (i + step + options.length) % options.length;
    pick(next);
    buttons[next].focus();
  };
  const buttons = options.map(({ text: said }, i) =>
    h(
      "button",
      {
        type: "button", role: "radio", "aria-checked": "false", tabindex: i ? -1 : 0,
        onclick: () => pick(i), onkeydown: (event) => turn(event, i),
      },
      h("b", {}, "abcdef"[i]), h("span", {}, said),
    ));
  // Drawing: the line under the finger replaces what was there, and the nearest option is chosen. Where no hand
  // has been yet the line goes on level, so that one that stops short of the edge does not fall off there.
  const nearest = (curve) => {
    const far = options.map(({ y }) => y.reduce((sum, v, i) => sum + Math.abs(to.share(v) - to.share(curve[i])), 0));
    return far.indexOf(Math.min(...far));
  };
  let last = null;
  const draw = (event) => {
    const box = chart.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * WIDE;
    const py = ((event.clientY - box.top) / box.height) * HIGH;
    const count = options[0].y.length - 1;
    const here = [Math.round(to.place(px) * count), to.value(py)];
    const from = last ?? here;
    const curve = [...(guess.curve ?? Array(count + 1).fill(here[1]))];
    const span = Math.max(1, Math.abs(here[0] - from[0]));
    for (let k = 0; k <= span; k++) {
      const way = k / span;
      const between = sketch.log ? from[1] ** (1 - way) * here[1] ** way : from[1] + way * (here[1] - from[1]);
      curve[Math.round(from[0] + way * (here[0] - from[0]))] = between;
    }
    last = here;
    const [low, high] = reach ?? (guess.curve ? [0, count] : [from[0], from[0]]);
    reach = [Math.min(low, here[0], from[0]), Math.max(high, here[0], from[0])];
    curve.fill(curve[reach[0]], 0, reach[0]).fill(curve[reach[1]], reach[1]);
    choose(nearest(curve), curve);
  };
  if (sketch) {
    chart.onpointerdown = (event) => {
      chart.setPointerCapture(event.pointerId);
      last = null;
      draw(event);
    };
    chart.onpointermove = (event) => event.buttons && draw(event);
  }
  const group = h("div", { role: "radiogroup", "aria-label": "Your guess", class: "lesson-options" }, ...buttons);
  const figure = sketch ? [h("figure", {}, h("figcaption", {}, sketch.about), chart)] : [];
  parent.replaceChildren(h("section", { class: "lesson lesson-ask" }, h("div", {}, group, go), ...figure));
}

/** A button that opens the browser's print dialog. */
function print(parent, data) {
  const attributes = { type: "button", class: "lesson-go", onclick: () => window.print() };
  parent.replaceChildren(h("div", { class: "lesson lesson-print" }, h("button", attributes, data.label)));
}

const PARTS = { course, ask, print };

/** Draw one part of the course into an element. */
export async function mount({ parentElement: parent, data, setTriggerValue: tell }) {
  await fetched(data.style, "link", { rel: "stylesheet", href: data.style });
  PARTS[data.part](parent, data, tell);
}
