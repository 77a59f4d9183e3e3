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
  const gain = () => ([0, block].includes(now(run(), "gain_block")) ? now(run(), "skip_gain") : 1);
  const told = h("output");
  const slide = h("input", {
    type: "range", min: 0, max: 2, step: 0.05, "aria-label": `Factor on the skip of block ${block}`,
    oninput: () => (told.textContent = `× ${Number(slide.value)}`),
    onchange: () => change(run(), { gain_block: block, skip_gain: Number(slide.value) }),
  });
  const toggle = (knob, off, on) => {
    const node = h("button", { type: "button", onclick: () => {
      change(run(), { [knob]: now(run(), knob) === block ? 0 : block });
      close();
    } });
    node.show = () => (node.textContent = now(run(), knob) === block ? on : off);
    return node;
  };
  const buttons = [toggle("cut", "Cut its skip", "Mend its skip"), toggle("drop_branch", "Drop its branch", "Put its branch back")];
  const restore = h("button", { type: "button", onclick: () => {
    const whole = Object.entries({ cut: 0, drop_branch: 0, gain_block: 0, skip_gain: 1 });
    const other = whole.filter(([knob, value]) => now(run(), knob) !== value);
    if (other.length) change(run(), Object.fromEntries(other));
    close();
  } }, "Everything as it was");
  letter.onchange = () => show();
  const show = () => {
    buttons.forEach((button) => button.show());
    slide.value = gain();
    told.textContent = `× ${gain()}`;
  };
  const node = h(
    "div", { class: "lnres-block", role: "dialog", "aria-label": `Block ${block}` },
    h("header", {}, h("b", {}, `Block ${block}`), ...(shown.length > 1 ? [" of ", letter] : []),
      h("button", { type: "button", "aria-label": "Close", onclick: close }, "×")),
    ...buttons,
    h("label", {}, "its skip ", told, slide),
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
