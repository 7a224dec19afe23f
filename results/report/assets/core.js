"use strict";
// Loading of data, and helpers to build elements. Texts become text nodes: nothing of a run is parsed as HTML.
const simloop = {
  waiting: new Map(),

  // Called by the data files, which are scripts because a page opened from disk may not fetch files.
  put(name, value) {
    this.waiting.get(name)?.(value);
  },

  // The value of data/NAME.js, or of NAME.js itself if it has a folder; rejects if there is no such file.
  load(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      this.waiting.set(name, (value) => (value.problem ? reject(new Error(value.problem)) : resolve(value)));
      const fresh = this.served ? `?t=${Date.now()}` : "";
      script.src = `${name.includes("/") ? name : `data/${name}`}.js${fresh}`;
      script.onload = () => { script.remove(); reject(new Error(`${name} is empty`)); }; // Resolved before, as a rule.
      script.onerror = () => { script.remove(); reject(new Error(`${name} cannot be read`)); };
      document.head.append(script);
    });
  },

  get served() { return location.protocol !== "file:"; },
};

// An element: h("a.small", {href: "#"}, "text", child, ...). Functions become listeners.
function h(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) made.style.setProperty(key, v);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// An element of SVG.
function s(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (rate) => (rate === null ? "–" : (100 * rate).toFixed(1));
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : noun.endsWith("y") ? "" : "s"}`;
const short = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toString().replace("-", "−"));
const words = (name) => name.replaceAll("_", " ");
const range = (count) => Array.from({length: count}, (_, i) => i);

const OUTCOMES = ["success", "failure", "error"];

// A word with the mark of its outcome.
const badge = (outcome, text) => h("span.badge." + outcome, {}, h("i.cell." + outcome, {"aria-hidden": "true"}), text ?? outcome);

// A table from its data: rows of [main text, details below it, bold].
function table(grid) {
  const cell = ([main, below, bold], i) => h(i < grid.labels ? "th" : "td", i < grid.labels ? {scope: "row"} : {},
    bold ? h("strong", {}, main) : main, below ? h("br") : null, below ? h("small", {}, below) : null);
  const head = h("tr", {}, grid.columns.map((name) => h("th", {scope: "col"}, name)));
  const bodies = grid.groups.map((rows) => h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))));
  return h("div", {}, h("div.scroll", {}, h("table", {}, h("caption", {}, grid.title), h("thead", {}, head), bodies)),
    grid.notes.length ? h("ul.notes", {}, grid.notes.map((note) => h("li", {}, note))) : null);
}

// Address of a view within the page.
const address = (fields) => `#${new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== undefined))}`;
const here = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
