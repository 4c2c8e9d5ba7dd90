// A forest plot: one row per estimate, with its interval and the values of single seeds.
function drawForest(figure, width) {
  const narrow = width < 620, roomy = width >= 780;
  const top = 8, rowHeight = narrow ? 50 : figure.rows.some((row) => row.dots.length) ? 34 : 28;
  const longest = Math.max(...figure.rows.map((row) => textWidth(row.label)));
  const left = narrow ? 4 : Math.min(longest, width * 0.32) + 14;
  const right = width - (roomy ? Math.max(...figure.rows.map((row) => textWidth(row.text))) + 22 : 6);
  const bottom = top + rowHeight * figure.rows.length + 4;
  const ends = figure.rows.flatMap((row) => [row.value, row.low, row.high, ...row.dots]).filter((value) => value !== null);
  if (figure.reference !== null) ends.push(figure.reference - figure.margin, figure.reference + figure.margin);
  const x = scale(extent(ends, 0.03), [left + 6, right - 6]);
  const drawing = canvas(width, bottom + 40, figure.title);
  if (figure.margin > 0)
    drawing.append(svg("rect", { x: x(-figure.margin), width: x(figure.margin) - x(-figure.margin), y: top, height: bottom - top,
      fill: "var(--shade)", class: "margin" }));
  drawing.append(axes({ left, top, right, bottom }, x, null, figure.axis));
  if (figure.reference !== null)
    drawing.append(svg("line", { x1: x(figure.reference), x2: x(figure.reference), y1: top, y2: bottom, stroke: "var(--quiet)",
      "stroke-width": 1.5 }));
  figure.rows.forEach((row, index) => drawing.append(forestRow(row, top + rowHeight * index, rowHeight, { x, left, right, width, narrow, roomy })));
  return drawing;
}

function forestRow(row, top, height, { x, left, right, width, narrow, roomy }) {
  const y = top + (narrow ? 30 : row.dots.length ? height / 2 - 4 : height / 2);
  const colour = { better: "var(--better)", worse: "var(--worse)" }[row.verdict] ?? (row.verdict ? "var(--ink)" : colourOf(row.label));
  const group = svg("g", { class: "row", "data-label": row.label, onpointermove: (event) => showTooltip(event, make("b", {}, row.label), `\n${row.text}\n${row.tooltip}`),
    onpointerleave: hideTooltip });
  group.append(svg("rect", { x: 0, y: top, width, height, fill: "transparent" }));
  if (narrow) {
    // No line of the plot may run through the line of text above the marks.
    group.append(svg("rect", { class: "under-text", x: 0, y: top, width, height: 20, fill: "var(--panel)" }),
      svg("text", { x: left, y: top + 14 }, shortened(row.label, width - textWidth(row.text) - 20)),
      svg("text", { class: "quiet", x: width - 6, y: top + 14, "text-anchor": "end" }, row.text));
  } else {
    group.append(svg("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, shortened(row.label, left - 14)));
    if (roomy) group.append(svg("text", { x: right + 14, y: y + 4 }, row.text));
  }
  for (const value of row.dots)
    group.append(svg("circle", { cx: x(value), cy: y + 10, r: 2.4, fill: colour, "fill-opacity": 0.55, class: "seed" }));
  if (row.low !== null) {
    group.append(svg("line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, stroke: colour, "stroke-width": 2, class: "interval" }));
    for (const end of [row.low, row.high])
      group.append(svg("line", { x1: x(end), x2: x(end), y1: y - 4, y2: y + 4, stroke: colour, "stroke-width": 2 }));
  }
  group.append(svg("rect", { x: x(row.value) - 4.5, y: y - 4.5, width: 9, height: 9, stroke: colour, "stroke-width": 2,
    fill: row.verdict === "cannot tell" ? "var(--panel)" : colour, class: "mean" }));
  return group;
}
