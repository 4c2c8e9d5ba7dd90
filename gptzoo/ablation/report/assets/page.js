// Functions by kind of figure: `draw`, and for figures with settings their defaults and controls.
const KINDS = {
  forest: { draw: drawForest },
  curves: { draw: drawCurves, defaults: curvesSettings, controls: curvesControls },
  states: { draw: drawStates, defaults: statesSettings, controls: statesControls },
  pareto: { draw: drawPareto, defaults: paretoSettings, controls: paretoControls },
  scaling: { draw: drawScaling },
};

function drawFigure(place, width) {
  const figure = data.figures[place.dataset.figure], kind = KINDS[figure.kind], target = place.querySelector(".drawing");
  const redraw = () => {
    hideTooltip();
    const wide = width ?? target.clientWidth; // 0 before the first layout, after which all is drawn again
    if (wide) target.replaceChildren(kind.draw(figure, wide));
  };
  if (kind.defaults) {
    settings[figure.name] ??= kind.defaults(figure);
    place.querySelector(".controls").replaceChildren(...kind.controls(figure, redraw));
  }
  redraw();
}

// On a narrow screen, page.css shows each row of a table as a block, in which every cell has the heading of its column.
function labelCells() {
  for (const table of document.querySelectorAll(".scroll table")) {
    table.classList.add("stacked");
    const titles = [...table.tHead.rows[0].cells].map((cell) => (cell.querySelector("button") ?? cell.firstChild ?? cell).textContent.trim());
    const roles = { table: [table], rowgroup: [table.tHead, ...table.tBodies], row: table.rows, columnheader: table.tHead.rows[0].cells };
    for (const [role, nodes] of Object.entries(roles)) for (const node of nodes) node.setAttribute("role", role); // blocks have none
    for (const row of table.tBodies[0].rows) [...row.cells].forEach((cell, i) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      cell.classList.toggle("missing", cell.textContent.trim() === "–");
      if (i && cell.textContent.trim()) cell.dataset.label = titles[i] || "";
    });
  }
}

function drawAll(width) {
  labelCells();
  for (const place of document.querySelectorAll("figure[data-figure]")) drawFigure(place, width);
  for (const place of document.querySelectorAll("[data-swatch]")) place.replaceChildren(swatchLine(place.dataset.swatch));
}

// Sort a table by a column. Numbers sort by value, and rows without a value come last.
function sortBy(heading) {
  const table = heading.closest("table"), column = [...heading.parentElement.children].indexOf(heading);
  const descending = heading.getAttribute("aria-sort") === "ascending", numeric = heading.classList.contains("number");
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => row.children[column].dataset.value;
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => (key(a) === "" || key(b) === "" ? (key(a) === "") - (key(b) === "") : (descending ? -1 : 1) * compare(key(a), key(b))));
  table.tBodies[0].append(...rows);
}

document.addEventListener("click", (event) => {
  const heading = event.target.closest("table.sortable th");
  if (heading) sortBy(heading);
});

// Redraw the figures when the width changes, and for print.
let drawnAt = 0;
new ResizeObserver(() => {
  const width = document.querySelector("main").clientWidth;
  if (width !== drawnAt) { drawnAt = width; drawAll(); }
}).observe(document.body);
addEventListener("beforeprint", () => drawAll(680));
addEventListener("afterprint", () => drawAll());
drawAll();

// Poll the server of a running ablation, and replace the contents of the page when there is a new version.
async function follow() {
  try {
    const version = await (await fetch("version", { cache: "no-store" })).text();
    if (version !== data.version) {
      const fresh = new DOMParser().parseFromString(await (await fetch("page", { cache: "no-store" })).text(), "text/html");
      const open = [...document.querySelectorAll("details")].map((each) => each.open);
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      data = JSON.parse(fresh.getElementById("data").textContent);
      const details = document.querySelectorAll("details");
      if (details.length === open.length) details.forEach((each, i) => { each.open = open[i]; });
      drawAll();
    }
    document.getElementById("following").textContent = "Live: updates automatically.";
  } catch (error) {
    document.getElementById("following").textContent = `No longer updated: ${error.message}`;
  }
  setTimeout(follow, 2000);
}
if (data.version) follow();
