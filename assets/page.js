// Elements of a page: made by hand, with icons, an address, and files fetched once.

const ICONS = {
  play: "M7 4.5v15l12.5-7.5z",
  pause: "M6 4.5h4.5v15H6zM13.5 4.5H18v15h-4.5z",
  step: "M5 4.5v15L14.5 12zM16 4.5h3.5v15H16z",
  fork: "M7 3a3 3 0 0 1 1 5.8v6.4a3 3 0 1 1-2 0V8.8A3 3 0 0 1 7 3zm10 0a3 3 0 0 1 1 5.8V10a4 4 0 0 1-4 4H9v-2h5a2 2 0 0 0 2-2V8.8A3 3 0 0 1 17 3z",
  add: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  link: "M10 13a4 4 0 0 0 6 .5l3-3a4 4 0 0 0-5.7-5.7l-1.6 1.6 1.4 1.4 1.6-1.6a2 2 0 0 1 2.9 2.9l-3 3a2 2 0 0 1-3-.2zM14 11a4 4 0 0 0-6-.5l-3 3a4 4 0 0 0 5.7 5.7l1.6-1.6-1.4-1.4-1.6 1.6a2 2 0 0 1-2.9-2.9l3-3a2 2 0 0 1 3 .2z",
  replay: "M4 5l9 7-9 7zM13 5l7 7-7 7z",
  big: "M4 4h7v2H7.4l4 4L10 11.4l-4-4V11H4zM20 20h-7v-2h3.6l-4-4 1.4-1.4 4 4V13h2z",
  more: "M5 10.5h3v3H5zM10.5 10.5h3v3h-3zM16 10.5h3v3h-3z",
  reset: "M12 5a7 7 0 1 1-6.6 4.7l1.9.7A5 5 0 1 0 12 7v3.2L7.2 6.1 12 2z",
};

/** An element with attributes, properties and children: h("button", { class: "x", onclick: f }, "text"). */
export function h(tag, attributes = {}, ...children) {
  const kind = ["svg", "path", "line", "text", "g"].includes(tag) ? "2000/svg" : "1999/xhtml";
  const node = document.createElementNS(`http://www.w3.org/${kind}`, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node[key] = value;
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export const drawing = (viewBox, shape) => h("svg", { viewBox, "aria-hidden": "true" }, shape);
export const icon = (name) => drawing("0 0 24 24", h("path", { d: ICONS[name] }));
/** What the address of the page says for a name, and the address with other such words. */
export const asked = (name) => new URLSearchParams(location.search).get(name);
export function address(words) {
  // By hand: URLSearchParams would spell every other parameter anew.
  const others = location.search.slice(1).split("&").filter((pair) => pair && !(pair.split("=")[0] in words));
  const said = Object.entries(words).filter(([, value]) => value !== null);
  const query = [...others, ...said.map(([name, value]) => `${name}=${encodeURIComponent(value)}`)].join("&");
  return `${location.origin}${location.pathname}${query && `?${query}`}${location.hash}`;
}

// Streamlit makes every change of an address's query a page to go back to: Back would be pressed once for each.
const { pushState } = history;
history.pushState = function (state, title, url) {
  const same = new URL(url, location).pathname === location.pathname;
  (same ? history.replaceState : pushState).call(history, state, title, url);
};

/** Light or dark by the page's own background, so that a change of theme is followed at once. */
export function light(root) {
  const [r, g, b] = getComputedStyle(root).backgroundColor.match(/[\d.]+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 128;
}

/** The buttons of a menu that saves a chart as a picture. */
export const saving = (node, filename) =>
  ["png", "svg"].map((format) =>
    h("button", { type: "button", onclick: ({ target }) => {
      target.closest("details").open = false;
      const { clientWidth: width, clientHeight: height } = node;
      window.Plotly.downloadImage(node, { format, width, height, scale: 2, filename: filename() });
    } }, `Save as ${format.toUpperCase()}`));

export const percent = (value) => (Number.isFinite(value) ? `${Math.round(100 * value)} %` : "–");
const once = {};
export const fetched = (url, tag, attributes) =>
  (once[url] ??= new Promise((done, failed) => {
    document.head.append(h(tag, { ...attributes, onload: done, onerror: failed }));
  }));
