"use strict";
let data = JSON.parse(document.getElementById("data").textContent);
const settings = {}; // the reader's selections by figure, kept when the page of a running ablation is updated

function element(namespace, tag, attributes, children) {
  const node = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children); // strings become text nodes, never markup
  return node;
}
const svg = (tag, attributes = {}, ...children) => element("http://www.w3.org/2000/svg", tag, attributes, children);
const make = (tag, attributes = {}, ...children) => element("http://www.w3.org/1999/xhtml", tag, attributes, children);

const pen = document.createElement("canvas").getContext("2d");
function textWidth(text) {
  pen.font = "12px system-ui, sans-serif";
  return pen.measureText(text).width;
}
function shortened(text, width) {
  if (textWidth(text) <= width) return text;
  let kept = text.length;
  while (kept > 1 && textWidth(text.slice(0, kept) + "…") > width) kept -= 1;
  return text.slice(0, kept) + "…";
}

// Return a function that maps values to pixels, linearly or logarithmically.
function scale([low, high], [start, end], log = false) {
  const f = log ? Math.log10 : (value) => value;
  const slope = (end - start) / (f(high) - f(low) || 1);
  const to = (value) => start + (f(value) - f(low)) * slope;
  to.ticks = (n) => (log ? logTicks(low, high, n) : ticks(low, high, n));
  to.from = (pixel) => { const v = f(low) + (pixel - start) / slope; return log ? 10 ** v : v; };
  return to;
}
function ticks(low, high, n) {
  const rough = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(i * step);
  return values.map((value) => [value, label(value, step)]);
}
function logTicks(low, high, n) {
  const decades = Math.log10(high / low), values = [];
  if (decades < 0.7) return ticks(low, high, n);
  const every = Math.ceil(decades / n);
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
    for (const factor of decades > n / 2 ? (e % every ? [] : [1]) : [1, 2, 5])
      if (factor * 10 ** e >= low * 0.999 && factor * 10 ** e <= high * 1.001) values.push(factor * 10 ** e);
  return values.map((value) => [value, label(value, value)]);
}
const UNITS = { 18: "E", 15: "P", 12: "T", 9: "G", 6: "M", 3: "k", "-3": "m", "-6": "µ", "-9": "n", "-12": "p" };
function label(value, step) {
  if (Math.abs(value) < step * 1e-6) return "0";
  const size = Math.abs(value);
  if (size < 10000 && size >= 0.001)
    return value.toFixed(Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))).replace("-", "−");
  const exponent = Math.max(-12, Math.min(18, 3 * Math.floor(Math.log10(size) / 3 + 1e-9)));
  const digits = Math.max(0, exponent - Math.floor(Math.log10(step) + 1e-9));
  return (value / 10 ** exponent).toFixed(Math.min(digits, 3)).replace("-", "−") + " " + (UNITS[exponent] ?? "");
}
// Format a value to the second significant digit of the interval's half-width, with the interval.
function formatEstimate(value, low, high) {
  const halfWidth = low === null ? 0 : (high - low) / 2;
  const digits = halfWidth > 0 ? Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(halfWidth)))) : 4;
  const text = (number) => number.toFixed(digits).replace("-", "−");
  return low === null ? text(value) : `${text(value)} (${text(low)} to ${text(high)})`;
}
function extent(values, share = 0.05, log = false) {
  const low = Math.min(...values), high = Math.max(...values);
  if (log) return [low, high === low ? low * 10 : high];
  const pad = (high - low) * share || Math.abs(high) * share || 1;
  return [low - pad, high + pad];
}

function colourOf(name) {
  const style = data.styles[name];
  return !style || style.colour === null ? "var(--ink)" : `var(--c${style.colour})`;
}
const dashOf = (name) => data.styles[name]?.dash || null;
function swatch(name) {
  return svg("svg", { width: 26, height: 10, class: "swatch", "aria-hidden": "true" }, swatchLine(name));
}
function swatchLine(name) {
  return svg("line", { x1: 1, x2: 25, y1: 5, y2: 5, stroke: colourOf(name), "stroke-width": 2.5, "stroke-dasharray": dashOf(name) });
}

// Draw the grid, ticks and titles of a plot. `box` has the plot's left, top, right and bottom.
function axes(box, x, y, xTitle, yTitle) {
  const group = svg("g"), width = box.right - box.left;
  const nTicks = Math.max(4, Math.floor(width / 90));
  for (const [value, text] of x.ticks(nTicks)) {
    group.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: box.top, y2: box.bottom }),
      svg("text", { class: "quiet", x: x(value), y: box.bottom + 16, "text-anchor": "middle" }, text));
  }
  if (y) for (const [value, text] of y.ticks(6)) {
    group.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "quiet", x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  group.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 34, "text-anchor": "middle" }, xTitle));
  if (y) group.append(svg("text", { x: 0, y: 11 }, yTitle));
  return group;
}
function canvas(width, height, title) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
}

function showTooltip(event, ...children) {
  const box = document.getElementById("tip");
  box.replaceChildren(...children);
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect(), gap = 14;
  const left = event.clientX + gap + width > innerWidth ? event.clientX - gap - width : event.clientX + gap;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + gap, innerHeight - height - 4))}px`;
}
function hideTooltip() {
  document.getElementById("tip").hidden = true;
}
function chooser(name, options, chosen, change) {
  const select = make("select", { onchange: () => change(select.value) });
  for (const [value, text] of Object.entries(options)) select.append(make("option", { value }, text));
  select.value = chosen;
  return make("label", {}, name, select);
}
