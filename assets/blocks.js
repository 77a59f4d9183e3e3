// A block that was clicked: what can be done to its two roads, from the next step on.

/** Which block of a chart is under the pointer, null beside it: { block, run } with the run of the tile. */
export function under(node, event, configs) {
  const box = node.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const { _size: size, ...layout } = node._fullLayout;
  if (y < size.t || y > box.height - size.b) return null;
  for (const [name, axis] of Object.entries(layout)) {
    if (!/^xaxis\d*$/.test(name) || axis.visible === false) continue;
    if (x < axis._offset || x > axis._offset + axis._length) continue;
    const tiles = Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key)).length > 1;
    const run = tiles ? Number(name.slice(5) || 1) - 1 : null;
    const depth = run === null ? Math.max(...configs.map((config) => config.depth)) : configs[run].depth;
    return { run, block: Math.min(depth, Math.max(1, Math.round(axis.p2d(x - axis._offset)))) };
  }
  return null;
}

/** What a knob of single blocks says, "5-0.5_9-2" or "5_9": each one's own value, by number. */
const read = (told) =>
  new Map(String(told).split("_").filter((part) => part !== "0").map((part) => {
    const [, block, , own = ""] = part.match(/^(\d+)(-(.*))?$/);
    return [Number(block), own];
  }));

const tell = (blocks) =>
  [...blocks].sort(([a], [b]) => a - b).map(([block, own]) => (own === "" ? block : `${block}-${own}`)).join("_") || "0";

/**
 * The menu of a block in a panel. `now(run, knob)` is the value of a live knob, `change(run, values)` sets some,
 * `h` makes elements, `shown` are the runs that can be meant.
 */
export function menu({ h, panel, at, block, configs, shown, now, change }) {
  panel.querySelector(".lnres-block")?.remove();
  const letter = h("select", { "aria-label": "Of which network" },
    ...shown.map((i) => h("option", { value: i }, configs[i].letter)));
  const run = () => Number(letter.value);
  const close = () => node.remove();
  const own = (knob) => read(now(run(), knob)).get(block);
  /** Give the block its own value of a knob, or none; the other blocks keep theirs. */
  const set = (knob, value) => {
    const blocks = read(now(run(), knob));
    if (value === undefined) blocks.delete(block);
    else blocks.set(block, value);
    change(run(), { [knob]: tell(blocks) });
  };
  const told = h("output");
  const slide = h("input", {
    type: "range", min: 0, max: 2, step: 0.05, "aria-label": `Factor on the skip of block ${block}`,
    oninput: () => (told.textContent = `× ${Number(slide.value)}`),
    onchange: () => set("skip_gains", Number(slide.value) === 1 ? undefined : slide.value),
  });
  const toggle = (knob, off, on) => {
    const node = h("button", { type: "button", onclick: () => {
      set(knob, own(knob) === undefined ? "" : undefined);
      close();
    } });
    node.show = () => (node.textContent = own(knob) === undefined ? off : on);
    return node;
  };
  const buttons = [toggle("cut", "Cut its skip", "Mend its skip"), toggle("drop_branch", "Drop its branch", "Put its branch back")];
  const place = h("select", { onchange: () => {
    set("placements", place.value === configs[run()].placement ? undefined : place.value);
    close();
  } });
  const move = h("label", {}, "its norm", place);
  const restore = h("button", { type: "button", onclick: () => {
    const blocks = ["cut", "drop_branch", "skip_gains", "placements"].filter((knob) => own(knob) !== undefined);
    const whole = blocks.map((knob) => {
      const others = read(now(run(), knob));
      others.delete(block);
      return [knob, tell(others)];
    });
    if (whole.length) change(run(), Object.fromEntries(whole));
    close();
  } }, "This block as it was");
  letter.onchange = () => show();
  const show = () => {
    const { placement, places } = configs[run()];
    buttons.forEach((button) => button.show());
    slide.value = own("skip_gains") ?? 1;
    told.textContent = `× ${Number(slide.value)}`;
    place.replaceChildren(...Object.entries(places).map(([name, label]) => h("option", { value: name }, label)));
    place.value = own("placements") ?? placement;
    move.hidden = Object.keys(places).length < 2;
  };
  const node = h(
    "div", { class: "lnres-block", role: "dialog", "aria-label": `Block ${block}` },
    h("header", {}, h("b", {}, `Block ${block}`), ...(shown.length > 1 ? [" of ", letter] : []),
      h("button", { type: "button", "aria-label": "Close", onclick: close }, "×")),
    ...buttons,
    h("label", {}, "its skip ", told, slide),
    move,
    restore,
  );
  node.onkeydown = (event) => {
    event.stopPropagation(); // keys of the player
    if (event.key === "Escape") close();
  };
  show();
  panel.append(node);
  const left = Math.min(at.x, panel.clientWidth - node.offsetWidth - 8);
  const top = Math.min(at.y, panel.clientHeight - node.offsetHeight - 8);
  Object.assign(node.style, { left: `${Math.max(8, left)}px`, top: `${Math.max(8, top)}px` });
  buttons[0].focus();
}
