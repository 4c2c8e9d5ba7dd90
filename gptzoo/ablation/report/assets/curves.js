// Learning curves: the mean and band of each selected variant.
const PARTS = { 1: "whole training", 0.5: "last half", 0.1: "last tenth" };

function curvesSettings(figure) {
  const hidden = figure.bands.map((band) => band.variant).filter((name) => !figure.initially_shown.includes(name));
  const { 0: metric } = Object.keys(figure.metrics), { 0: cost } = Object.keys(figure.costs);
  // The scale of the whole training would hide the differences at its end, which are compared.
  return { metric, cost, axes: "linear", part: null, hidden: new Set(hidden) }; // null: the last half, if it has enough points
}

// Return the parts of the training whose curves have enough points to be shown alone, by share.
function partsOf(figure, chosen) {
  const bands = figure.bands.filter((b) => b.metric === chosen.metric && b.against === chosen.cost);
  const last = Math.max(...bands.map((band) => band.x.at(-1))), first = Math.min(...bands.map((band) => band.x[0]));
  const points = (part) => Math.max(...bands.map((band) => band.x.filter((at) => at >= last - part * (last - first)).length));
  return Object.fromEntries(Object.entries(PARTS).filter(([part]) => part === "1" || points(Number(part)) >= figure.min_part_points));
}
function partShown(figure, chosen) {
  const parts = partsOf(figure, chosen);
  return [chosen.part, "0.5", "1"].find((part) => part in parts);
}

function curvesControls(figure, redraw) {
  const chosen = settings[figure.name];
  const part = () => chooser("show", partsOf(figure, chosen), partShown(figure, chosen), set("part"));
  const set = (name) => (value) => {
    chosen[name] = value;
    if (name !== "part") shown.replaceWith((shown = part())); // another metric has other parts
    redraw();
  };
  let shown = part();
  const controls = [];
  if (Object.keys(figure.metrics).length > 1) controls.push(chooser("metric", Object.fromEntries(Object.keys(figure.metrics).map((m) => [m, m])), chosen.metric, set("metric")));
  controls.push(chooser("against", figure.costs, chosen.cost, set("cost")),
    chooser("axes", { linear: "linear", x: "log x", both: "log x and y" }, chosen.axes, set("axes")),
    shown);
  const legend = make("div", { class: "legend", role: "group", "aria-label": "Variants" });
  for (const name of Object.keys(data.styles)) {
    if (!figure.bands.some((band) => band.variant === name)) continue;
    const button = make("button", { type: "button", "aria-pressed": !chosen.hidden.has(name), onclick: () => {
      if (!chosen.hidden.delete(name)) chosen.hidden.add(name);
      button.setAttribute("aria-pressed", !chosen.hidden.has(name));
      redraw();
    } }, swatch(name), name);
    legend.append(button);
  }
  return [...controls, legend];
}

// Return the points of a band from x = `from` on, as [x, mean, low, high].
function pointsOf(band, from, logX) {
  return band.x.map((x, i) => [x, band.mean[i], band.low[i], band.high[i]]).filter(([x]) => x >= from && (x > 0 || !logX));
}

function drawCurves(figure, width) {
  const chosen = settings[figure.name], logX = chosen.axes !== "linear", logY = chosen.axes === "both";
  const bands = figure.bands.filter((b) => b.metric === chosen.metric && b.against === chosen.cost && !chosen.hidden.has(b.variant));
  const labelled = width >= 620, names = bands.map((band) => band.variant);
  const gutter = labelled ? Math.min(190, Math.max(60, ...names.map(textWidth)) + 26) : 10;
  const box = { left: 48, top: 22, right: width - gutter, bottom: width < 620 ? 300 : 380 };
  const drawing = canvas(width, box.bottom + 40, figure.title);
  const every = bands.flatMap((band) => band.x), last = Math.max(...every);
  const part = partShown(figure, chosen), first = Math.min(...every);
  const from = part === "1" ? first : last - Number(part) * (last - first);
  const lines = bands.map((band) => ({ name: band.variant, points: pointsOf(band, from, logX) })).filter((line) => line.points.length);
  if (!lines.length) {
    drawing.append(svg("text", { class: "quiet", x: width / 2, y: 150, "text-anchor": "middle" }, "no variant is selected"));
    return drawing;
  }
  const all = lines.flatMap((line) => line.points);
  const x = scale(extent(all.map(([at]) => at), 0, logX), [box.left, box.right], logX);
  // Clip the bands: early ones may be many times as wide as the rest, and must not set the scale.
  const means = all.map(([, mean]) => mean), spread = Math.max(...means) - Math.min(...means) || 1;
  const within = (value) => Math.max(Math.min(...means) - spread / 4, Math.min(Math.max(...means) + spread / 4, value));
  const heights = all.flatMap(([, mean, low, high]) => (low === null ? [mean] : [mean, within(low), within(high)])).filter((v) => !logY || v > 0);
  const y = scale(extent(heights, 0.04, logY), [box.bottom, box.top], logY);
  const clip = `clip-${figure.name}`;
  drawing.append(svg("clipPath", { id: clip }, svg("rect", { x: box.left - 2, y: box.top - 2, width: box.right - box.left + 4, height: box.bottom - box.top + 4 })),
    axes(box, x, y, figure.costs[chosen.cost], figure.metrics[chosen.metric]));
  const marks = svg("g", { "clip-path": `url(#${clip})` });
  for (const { name, points } of lines) marks.append(bandPath(name, points, x, y, logY));
  for (const { name, points } of lines) marks.append(linePath(name, points, x, y));
  drawing.append(marks);
  if (labelled) drawing.append(endLabels(lines, x, y, box, gutter));
  drawing.append(readingOf(drawing, lines, x, box, figure));
  return drawing;
}

const round = (value) => value.toFixed(1);
function bandPath(name, points, x, y, logY) {
  const known = points.filter(([, , low]) => low !== null && (low > 0 || !logY));
  const upper = known.map(([at, , , high]) => `${round(x(at))},${round(y(high))}`);
  const lower = known.map(([at, , low]) => `${round(x(at))},${round(y(low))}`).reverse();
  return svg("path", { class: "band", d: known.length > 1 ? `M${[...upper, ...lower].join("L")}Z` : "", fill: colourOf(name), "fill-opacity": 0.16 });
}
function linePath(name, points, x, y) {
  const d = `M${points.map(([at, mean]) => `${round(x(at))},${round(y(mean))}`).join("L")}`;
  if (points.length === 1) return svg("circle", { class: "line", "data-variant": name, cx: x(points[0][0]), cy: y(points[0][1]), r: 3, fill: colourOf(name) });
  return svg("path", { class: "line", "data-variant": name, d, fill: "none", stroke: colourOf(name), "stroke-width": 2,
    "stroke-linejoin": "round", "stroke-dasharray": dashOf(name) });
}

// Write names next to the ends of their curves, moved apart so that they do not overlap.
function endLabels(lines, x, y, box, gutter) {
  const group = svg("g"), gap = 14;
  const labels = lines.map(({ name, points }) => ({ name, end: points.at(-1) })).map((entry) => ({ ...entry, at: y(entry.end[1]), curveAt: y(entry.end[1]) }));
  labels.sort((a, b) => a.at - b.at);
  labels.forEach((entry, i) => { if (i) entry.at = Math.max(entry.at, labels[i - 1].at + gap); });
  let limit = box.bottom;
  for (const entry of [...labels].reverse()) { entry.at = Math.min(entry.at, limit); limit = entry.at - gap; }
  for (const { name, end, at, curveAt } of labels) {
    group.append(svg("path", { d: `M${x(end[0]) + 2},${curveAt}L${box.right + 8},${at}`, stroke: colourOf(name), fill: "none", "stroke-opacity": 0.6 }),
      svg("text", { x: box.right + 12, y: at + 4 }, shortened(name, gutter - 14)));
  }
  return group;
}

// Show the values under the pointer, or at the position reached with the arrow keys.
function readingOf(drawing, lines, x, box, figure) {
  const rule = svg("line", { y1: box.top, y2: box.bottom, class: "axis", visibility: "hidden" });
  const stops = [...new Set(lines.flatMap((line) => line.points.map(([at]) => at)))].sort((a, b) => a - b);
  const nearest = (points, at) => points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
  let stop = stops.length - 1;
  const show = (index, event) => {
    stop = index;
    const at = stops[index];
    rule.setAttribute("x1", x(at)); rule.setAttribute("x2", x(at)); rule.setAttribute("visibility", "visible");
    const nearestPoints = lines.map(({ name, points }) => ({ name, point: nearest(points, at) })).sort((a, b) => a.point[1] - b.point[1]);
    const rows = nearestPoints.map(({ name, point }) => make("tr", {}, make("td", {}, swatch(name)), make("td", {}, name), make("td", {}, formatEstimate(...point.slice(1)))));
    showTooltip(event, `${figure.costs[settings[figure.name].cost]} ${label(at, at / 100 || 1)}`, make("table", {}, make("tbody", {}, ...rows)));
  };
  const hide = () => { rule.setAttribute("visibility", "hidden"); hideTooltip(); };
  drawing.addEventListener("pointermove", (event) => {
    const frame = drawing.getBoundingClientRect(), pixel = ((event.clientX - frame.left) / frame.width) * drawing.viewBox.baseVal.width;
    const at = x.from(Math.max(box.left, Math.min(box.right, pixel)));
    show(stops.indexOf(nearest(stops.map((value) => [value]), at)[0]), event);
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.addEventListener("blur", hide);
  drawing.setAttribute("tabindex", "0");
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const frame = drawing.getBoundingClientRect(), next = Math.max(0, Math.min(stops.length - 1, stop + step));
    show(next, { clientX: frame.left + x(stops[next]), clientY: frame.top + box.top });
  });
  return rule;
}
