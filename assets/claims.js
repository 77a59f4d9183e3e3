// The list of sentences: a click opens one, and the list stays where it was scrolled to.

import { fetched, h } from "./page.js";

const drawn = new WeakMap(); // what a list shows

const badge = (verdict, colour) =>
  h("span", { class: "claim-badge", style: `color: var(--st-${colour}-text-color); background: var(--st-${colour}-background-color)` }, verdict);

/** Draw the list anew where it shows other sentences, else only mark the one that is open. */
export async function mount({ parentElement: parent, data, setTriggerValue: tell }) {
  const { groups, note, chosen, style } = data;
  await fetched(style, "link", { rel: "stylesheet", href: style });
  const now = JSON.stringify([groups, note]);
  if (drawn.get(parent) !== now) {
    drawn.set(parent, now);
    const item = ({ id, sentence, verdict, colour }) =>
      h("li", {}, h("button", { type: "button", "data-claim": id, onclick: () => tell("claim", id) },
        h("b", {}, id), ` ${sentence} `, badge(verdict, colour)));
    const lists = groups.map((group) => h("ul", {}, ...group.map(item)));
    parent.replaceChildren(h("nav", { class: "claims", "aria-label": "Sentences" }, ...(note ? [h("p", {}, note)] : []), ...lists));
    const nav = parent.firstChild;
    const open = nav.querySelector(`[data-claim="${chosen}"]`);
    if (open) nav.scrollTop = open.offsetTop - nav.offsetTop - nav.clientHeight / 3;
  }
  for (const button of parent.querySelectorAll("[data-claim]")) {
    if (button.dataset.claim === chosen) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}
