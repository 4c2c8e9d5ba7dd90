// A quantity against training compute: points with intervals, and fitted laws with bands.
function drawScaling(figure, width) {
  const marks = figure.series.flatMap((series) => series.marks), curves = figure.series.flatMap((series) => series.curve);
  const box = { left: 56, top: 22 + 18 * legendRows(figure, width), right: width - 16, bottom: width < 620 ? 320 : 380 };
  const drawing = canvas(width, box.bottom + 40, figure.title);
  const xs = [...marks.map((mark) => mark.x), ...curves.map(([x]) => x)];
  const x = scale([Math.min(...xs) / 1.15, Math.max(...xs) * 1.15], [box.left, box.right], true);
  const y = scale(scalingExtent(figure, marks, curves), [box.bottom, box.top], figure.log_y);
  const clip = `clip-${figure.name}`;
  drawing.append(svg("clipPath", { id: clip }, svg("rect", { x: box.left - 2, y: box.top - 2, width: box.right - box.left + 4, height: box.bottom - box.top + 4 })),
    axes(box, x, y, figure.x_axis, figure.axis), scalingLegend(figure, width));
  if (figure.reference !== null)
    drawing.append(svg("line", { x1: box.left, x2: box.right, y1: y(figure.reference), y2: y(figure.reference), stroke: "var(--quiet)", "stroke-width": 1.5 }));
  const inside = svg("g", { "clip-path": `url(#${clip})` });
  for (const { variant, curve } of figure.series) if (curve.length) inside.append(bandPath(variant, curve, x, y, figure.log_y), linePath(variant, curve, x, y));
  // Marks of several variants at one size stand side by side.
  figure.series.forEach((series, i) => inside.append(scalingMarks(series, figure, x, y, curves.length ? 0 : 9 * (i - (figure.series.length - 1) / 2))));
  drawing.append(inside);
  return drawing;
}

// The ends of wide intervals do not set the scale: they are clipped.
function scalingExtent(figure, marks, curves) {
  const f = figure.log_y ? Math.log : (value) => value, back = figure.log_y ? Math.exp : (value) => value;
  const centres = [...marks.map((mark) => mark.y), ...curves.map(([, at]) => at)].map(f);
  if (figure.reference !== null) centres.push(f(figure.reference));
  const low = Math.min(...centres), high = Math.max(...centres), room = 2 * Math.max(high - low, Math.abs(high) * 1e-3, 1e-6);
  const ends = [...marks.map((mark) => [mark.low, mark.high]), ...curves.map(([, , a, b]) => [a, b])].flat().filter((end) => end !== null && (end > 0 || !figure.log_y)).map(f);
  const within = ends.map((end) => Math.max(low - room, Math.min(high + room, end)));
  const all = [...centres, ...within], pad = 0.04 * (Math.max(...all) - Math.min(...all) || room);
  return [back(Math.min(...all) - pad), back(Math.max(...all) + pad)];
}

function scalingMarks({ variant, marks }, figure, x, y, shift) {
  const colour = colourOf(variant), group = svg("g");
  for (const mark of marks) {
    const at = x(mark.x) + shift;
    const point = svg("g", { onpointermove: (event) => showTooltip(event, make("b", {}, variant), `\n${mark.tooltip}`), onpointerleave: hideTooltip });
    if (mark.low !== null) {
      const end = (value) => (value === null || (figure.log_y && value <= 0) ? 1e4 : y(value));
      const high = mark.high === null ? -1e4 : y(mark.high);
      point.append(svg("line", { class: "interval", x1: at, x2: at, y1: end(mark.low), y2: high, stroke: colour, "stroke-width": 1.8 }));
    }
    point.append(svg("circle", { class: "point", "data-variant": variant, cx: at, cy: y(mark.y), r: mark.is_ring ? 5 : 3.6, stroke: colour,
      "stroke-width": 2, fill: mark.is_ring ? "var(--panel)" : colour }));
    group.append(point);
  }
  return group;
}

function scalingLegendPlaces(figure, width) {
  const places = [];
  let left = 56, row = 0;
  for (const { variant } of figure.series) {
    const name = shortened(variant, width - 100), needed = 34 + textWidth(name) + 16;
    if (left + needed > width && left > 56) { left = 56; row += 1; }
    places.push({ variant, name, left, row });
    left += needed;
  }
  return places;
}
const legendRows = (figure, width) => scalingLegendPlaces(figure, width).at(-1).row + 1;
function scalingLegend(figure, width) {
  const group = svg("g");
  for (const { variant, name, left, row } of scalingLegendPlaces(figure, width)) {
    const middle = 28 + 18 * row;
    group.append(svg("line", { x1: left, x2: left + 26, y1: middle, y2: middle, stroke: colourOf(variant), "stroke-width": 2.5, "stroke-dasharray": dashOf(variant) }),
      svg("text", { x: left + 32, y: middle + 4 }, name));
  }
  return group;
}
