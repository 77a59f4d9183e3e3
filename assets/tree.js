// The tree of forks: a lane for each network, which leaves its parent's lane at the step it was forked.

import { h } from "./page.js";

const [LANE, EDGE, BEND] = [16, 20, 16]; // px: height of a lane, beside the lanes, width of a curve between two

export class Tree {
  drawn = "";

  /** `look(step)` is called as a hand points at a step. */
  constructor(look) {
    this.look = look;
    const point = (event) => {
      if (event.buttons !== 1 || event.target.closest("button")) return;
      const share = (event.clientX - this.node.getBoundingClientRect().left - EDGE) / (this.width - 2 * EDGE);
      this.look(Math.round(Math.min(1, Math.max(0, share)) * this.end));
    };
    this.node = h("div", { class: "lnres-tree", role: "group", onpointerdown: point, onpointermove: point });
  }

  /** The lanes of these configurations; nothing is seen where none is a fork of another. */
  set(configs) {
    const forks = configs.filter(({ parent }) => parent);
    this.node.hidden = !forks.length;
    this.drawn = "";
    this.cursor = h("line", { class: "lnres-looked", y1: 0, y2: LANE * configs.length });
    this.lanes = configs.map(({ letter, colour, dash, parent }, i) => {
      const said = parent && `${letter} leaves ${configs[parent[0]].letter} at step ${parent[1].toLocaleString("en")}`;
      const tip = said && `${said}: look there`;
      return {
        parent, said,
        y: LANE * (i + 0.5),
        path: h("path", { stroke: colour, "stroke-dasharray": dash }),
        letter: h("text", { y: LANE * (i + 0.5) + 4 }, letter),
        step: h("text", { class: "lnres-forked" }, parent ? parent[1].toLocaleString("en") : ""),
        button: parent && h("button", {
          type: "button", class: "lnres-branch", style: `--hue: ${colour}`, title: tip, "aria-label": tip,
          onclick: () => this.look(parent[1]),
        }),
      };
    });
    const drawn = this.lanes.flatMap(({ path, letter, step }) => [path, letter, step]);
    this.svg = h("svg", { "aria-hidden": "true", height: LANE * configs.length }, this.cursor, ...drawn);
    this.node.replaceChildren(this.svg, ...this.lanes.map(({ button }) => button).filter(Boolean));
    this.node.setAttribute("aria-label", `Forks. ${this.lanes.map(({ said }) => said).filter(Boolean).join(". ")}`);
  }

  /** Draw how far each run is, of `end` steps in all, and which step is looked at. */
  draw(reached, end, at, hidden) {
    this.end = end;
    const asked = JSON.stringify([reached, end, at, [...hidden], this.width]);
    if (this.node.hidden || asked === this.drawn) return;
    this.drawn = asked;
    const x = (step) => EDGE + ((this.width - 2 * EDGE) * Math.max(0, step)) / Math.max(1, end);
    this.svg.setAttribute("width", this.width);
    this.cursor.setAttribute("x1", x(at));
    this.cursor.setAttribute("x2", x(at));
    this.lanes.forEach(({ parent, y, path, letter, step, button }, i) => {
      const from = x(parent?.[1] ?? 0);
      const start = this.lanes[parent?.[0] ?? i].y;
      const bend = parent ? BEND : 0;
      const end = Math.max(from + bend, x(reached[i]));
      path.setAttribute("d", `M${from} ${start}c${bend} 0 0 ${y - start} ${bend} ${y - start}H${end}`);
      for (const part of [path, letter, step]) part.classList.toggle("lnres-faint", hidden.has(i));
      letter.setAttribute("x", this.width - EDGE + 6);
      if (!parent) return;
      const left = from > 64; // in its own lane there is room before the fork
      step.setAttribute("x", left ? from - 8 : from + BEND + 2);
      step.setAttribute("y", left ? y + 4 : y - 2);
      step.setAttribute("text-anchor", left ? "end" : "start");
      button.style.left = `${from}px`;
      button.style.top = `${start}px`;
    });
  }
}
