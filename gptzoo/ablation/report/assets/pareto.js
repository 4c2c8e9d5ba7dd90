// Loss against a cost, with the Pareto front.
function paretoSettings(figure) {
  const { 0: cost } = Object.keys(figure.costs);
  return { cost, axis: "linear" };
}

function paretoControls(figure, redraw) {
  const chosen = settings[figure.name];
  return [
    chooser("cost", Object.fromEntries(Object.keys(figure.costs).map((c) => [c, c])), chosen.cost, (value) => { chosen.cost = value; redraw(); }),
    chooser("axis", { linear: "linear", log: "log" }, chosen.axis, (value) => { chosen.axis = value; redraw(); }),
  ];
}

function drawPareto(figure, width) {
  const chosen = settings[figure.name], log = chosen.axis === "log";
  const points = figure.points[chosen.cost].filter((point) => point.cost > 0 || !log);
  const box = { left: 56, top: 22, right: width - 16, bottom: width < 620 ? 290 : 340 };
  const drawing = canvas(width, box.bottom + 40, figure.title);
  const costs = points.map((point) => point.cost);
  const x = scale(log ? [Math.min(...costs) / 1.1, Math.max(...costs) * 1.1] : extent(costs, 0.08), [box.left, box.right], log);
  const ends = points.flatMap(({ variant, loss }) => [loss, figure.intervals[variant].low ?? loss, figure.intervals[variant].high ?? loss]);
  const y = scale(extent(ends, 0.08), [box.bottom, box.top]);
  drawing.append(axes(box, x, y, figure.costs[chosen.cost], figure.axis));
  drawing.append(frontPath(points.filter((point) => point.on_front), x, y, box));
  for (const point of points) drawing.append(paretoPoint(point, figure, x, y, chosen.cost));
  drawing.append(paretoLabels(points, x, y, box, figure));
  return drawing;
}

function frontPath(front, x, y, box) {
  const steps = front.map((point, i) => `${i ? `L${x(point.cost)},${y(front[i - 1].loss)}L` : "M"}${x(point.cost)},${y(point.loss)}`);
  return svg("path", { class: "front", d: `${steps.join("")}L${box.right},${y(front.at(-1).loss)}`, fill: "none", stroke: "var(--quiet)",
    "stroke-dasharray": "2 3", "stroke-width": 1.5 });
}

function paretoPoint(point, figure, x, y, cost) {
  const { low, high } = figure.intervals[point.variant], colour = colourOf(point.variant);
  const details = `\n${cost} ${label(point.cost, point.cost / 1000)}\n${formatEstimate(point.loss, low, high)}\n${point.on_front ? "on the Pareto front" : "not on the Pareto front"}`;
  const group = svg("g", { onpointermove: (event) => showTooltip(event, make("b", {}, point.variant), details), onpointerleave: hideTooltip });
  if (low !== null) group.append(svg("line", { x1: x(point.cost), x2: x(point.cost), y1: y(low), y2: y(high), stroke: colour, "stroke-width": 1.5 }));
  group.append(svg("circle", { class: "point", "data-variant": point.variant, cx: x(point.cost), cy: y(point.loss), r: 5.5, stroke: colour,
    "stroke-width": 2, fill: point.on_front ? colour : "var(--panel)" }));
  return group;
}

// Place each name to the right, left, above or below its point where it is free. Names without a place are in tooltips only.
function paretoLabels(points, x, y, box, figure) {
  const group = svg("g"), taken = points.map((point) => boxAround(x(point.cost), y(point.loss), 14, 14));
  for (const { cost, variant } of points) {
    const { low, high } = figure.intervals[variant];
    if (low !== null) taken.push({ left: x(cost) - 2, right: x(cost) + 2, top: y(high), bottom: y(low) });
  }
  const front = points.filter((point) => point.on_front);
  front.forEach((point, i) => {
    const end = i + 1 < front.length ? x(front[i + 1].cost) : box.right;
    taken.push({ left: x(point.cost), right: end, top: y(point.loss) - 1, bottom: y(point.loss) + 1 });
    if (i) taken.push({ left: x(point.cost) - 1, right: x(point.cost) + 1, top: y(front[i - 1].loss), bottom: y(point.loss) });
  });
  for (const point of points) {
    const name = shortened(point.variant, 180), width = textWidth(name), px = x(point.cost), py = y(point.loss);
    const places = [[px + 10 + width / 2, py], [px - 10 - width / 2, py], [px + 10 + width / 2, py - 9], [px - 10 - width / 2, py - 9], [px + 10 + width / 2, py + 9], [px - 10 - width / 2, py + 9]];
    for (const away of [17, 31, 45]) for (const side of [-1, 1]) places.push([px, py + side * away], [px + width / 2 + 10, py + side * away], [px - width / 2 - 10, py + side * away]);
    const place = places.map(([cx, cy]) => boxAround(cx, cy, width, 13))
      .find((at) => at.left >= box.left && at.right <= box.right && at.top >= 0 && at.bottom <= box.bottom && !taken.some((other) => overlap(at, other)));
    if (!place) continue;
    taken.push(place);
    group.append(svg("text", { x: place.left, y: place.bottom - 2 }, name));
  }
  return group;
}
const boxAround = (cx, cy, width, height) => ({ left: cx - width / 2, right: cx + width / 2, top: cy - height / 2, bottom: cy + height / 2 });
const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
