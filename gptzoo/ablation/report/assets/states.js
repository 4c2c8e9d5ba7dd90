// Accuracy against the size of the state: one point per seed, one task at a time.
function statesSettings(figure) {
  const { 0: task } = Object.keys(figure.panels);
  return { task };
}

function statesControls(figure, redraw) {
  const chosen = settings[figure.name];
  const legend = make("div", { class: "legend" });
  for (const model of figure.models) legend.append(make("span", {}, stateDot(model), model));
  return [
    chooser("task", Object.fromEntries(Object.keys(figure.panels).map((task) => [task, task])), chosen.task, (value) => { chosen.task = value; redraw(); }),
    legend,
  ];
}

function stateDot(model) {
  return svg("svg", { width: 12, height: 12, class: "swatch", "aria-hidden": "true" },
    svg("circle", { cx: 6, cy: 6, r: 4.5, stroke: colourOf(model), "stroke-width": 2, fill: dashOf(model) ? "none" : colourOf(model) }));
}

function drawStates(figure, width) {
  const { task } = settings[figure.name], points = figure.panels[task];
  const box = { left: 40, top: 22, right: width - 16, bottom: width < 620 ? 270 : 320 };
  const drawing = canvas(width, box.bottom + 40, `${figure.title}: ${task}`);
  const sizes = points.map((point) => point.state_bytes), logarithmic = Math.max(...sizes) > Math.min(...sizes);
  const x = logarithmic ? scale([Math.min(...sizes) / 1.3, Math.max(...sizes) * 1.3], [box.left, box.right], true)
    : scale(extent(sizes, 0.3), [box.left, box.right]);
  const y = scale([-0.03, 1.03], [box.bottom, box.top]);
  drawing.append(axes(box, x, y, figure.axis, `accuracy on ${task}`));
  const chance = figure.chance[task];
  drawing.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: y(chance), y2: y(chance), "stroke-dasharray": "5 4" }));
  for (const [index, point] of points.entries()) drawing.append(statePoint(points, index, x, y, task));
  return drawing;
}

// Points of the same size and about the same value are drawn side by side, so that every seed is visible.
function statePoint(points, index, x, y, task) {
  const point = points[index], at = (other) => other.state_bytes === point.state_bytes && Math.abs(y(other.value) - y(point.value)) < 11;
  const rank = points.slice(0, index).filter(at).length, gap = Math.min(12, 60 / points.filter(at).length);
  const shift = Math.ceil(rank / 2) * gap * (rank % 2 ? 1 : -1);
  const colour = colourOf(point.model);
  return svg("circle", { class: "point", "data-variant": point.model, cx: x(point.state_bytes) + shift, cy: y(point.value), r: 5, stroke: colour,
    "stroke-width": 2, fill: dashOf(point.model) ? "var(--panel)" : colour, "fill-opacity": 0.75,
    onpointermove: (event) => showTooltip(event, make("b", {}, point.model), `\nseed ${point.seed}: ${point.value.toFixed(4)} on ${task}\n${point.state_bytes.toLocaleString("en")} bytes`),
    onpointerleave: hideTooltip });
}
