// What each kind of figure is drawn by; those with settings have what they begin with, and controls.
const KINDS = {
  forest: { draw: drawForest },
  curves: { draw: drawCurves, begin: curvesSettings, controls: curvesControls },
  plane: { draw: drawPlane, begin: planeSettings, controls: planeControls },
};

function drawFigure(place, width) {
  const figure = data.figures[place.dataset.figure], kind = KINDS[figure.kind], target = place.querySelector(".drawing");
  const redraw = () => { noTip(); target.replaceChildren(kind.draw(figure, width ?? target.clientWidth)); };
  if (kind.begin) {
    settings[figure.name] ??= kind.begin(figure);
    place.querySelector(".controls").replaceChildren(...kind.controls(figure, redraw));
  }
  redraw();
}

function drawAll(width) {
  for (const place of document.querySelectorAll("figure[data-figure]")) drawFigure(place, width);
  for (const place of document.querySelectorAll("[data-swatch]")) place.replaceChildren(swatchLine(place.dataset.swatch));
}

// Sorting by a column: numbers by value, what has none last.
function sortBy(heading) {
  const table = heading.closest("table"), column = [...heading.parentElement.children].indexOf(heading);
  const down = heading.getAttribute("aria-sort") === "ascending", numeric = heading.classList.contains("number");
  for (const other of heading.parentElement.children) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.children[column].dataset.value;
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => (key(a) === "" || key(b) === "" ? (key(a) === "") - (key(b) === "") : (down ? -1 : 1) * compare(key(a), key(b))));
  table.tBodies[0].append(...rows);
}

document.addEventListener("click", (event) => {
  const heading = event.target.closest("table.sortable th");
  if (heading) sortBy(heading);
});

// Draws anew where the width has changed, and for paper.
let drawnAt = 0;
new ResizeObserver(() => {
  const width = document.querySelector("main").clientWidth;
  if (width !== drawnAt) { drawnAt = width; drawAll(); }
}).observe(document.body);
addEventListener("beforeprint", () => drawAll(680));
addEventListener("afterprint", () => drawAll());
drawAll();

// The page of a running ablation asks its server for news, and takes over what is new.
async function follow() {
  const told = document.getElementById("following");
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
    document.getElementById("following").textContent = "Following.";
  } catch (error) {
    told.textContent = `Not following any more: ${error.message}`;
  }
  setTimeout(follow, 2000);
}
if (data.version) follow();
