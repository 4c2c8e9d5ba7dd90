hint.textContent = "Rows are queries, columns are keys. Select a head, then hover over a row or a token, or move the slider, to see what a "
  + "token attends to. Arrow keys move between heads and layers.";

const maps = data.maps.map((map) => {
  const bytes = Uint8Array.from(atob(map.data), (character) => character.charCodeAt(0));
  const steps = new DataView(bytes.buffer);
  const [heads, queries, keys] = map.shape;
  const at = (head, query, key) => steps.getInt16(2 * ((head * queries + query) * keys + key), true) * map.scale;
  let largest = 0;
  for (let index = 0; index < heads * queries * keys; index++) {
    largest = Math.max(largest, Math.abs(steps.getInt16(2 * index, true)) * map.scale);
  }
  return { ...map, heads, queries, keys, at, largest };
});
const chosen = { layer: 0, head: 0, query: null };

// The tokens if there is one for each position, otherwise the position numbers.
const labels = (count) => (count === data.tokens.length ? data.tokens : Array.from({ length: count }, (_, i) => `${i}`));

function paint(canvas, map, head, colours) {
  canvas.width = map.keys;
  canvas.height = map.queries;
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.keys, map.queries);
  for (let query = 0; query < map.queries; query++) {
    for (let key = 0; key < map.keys; key++) {
      const rgb = shade(colours, map.at(head, query, key));
      image.data.set([...rgb, 255], 4 * (query * map.keys + key));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const overview = make("table", { class: "heads" });
const large = make("canvas", { id: "map", role: "img", "aria-label": "Attention map of the selected head" });
const title = make("h2");
const reading = make("p", { class: "reading mono" });
const text = make("div", { class: "text mono" });
const strongest = make("p", { class: "strongest", "aria-live": "polite" });
const slider = make("input", { type: "range", min: 0, value: 0, oninput: () => point(Number(slider.value)) });
const legend = make("div", { class: "legend" }, "0", make("i"), "1");
const frame = make("div", { class: "scroll" }, large);
const allHeads = make("section", { class: "panel scroll", style: "max-height: 86vh" }, make("h2", {}, "All heads"), overview);
view.append(make("div", { class: "columns" }, allHeads,
  make("section", { class: "panel scroll", style: "flex: 1; min-width: min(340px, 100%)" }, title, frame, legend, reading,
    make("label", { class: "query-slider" }, "Token that attends ", slider), strongest, text)));
if (data.without_map.length) view.append(make("p", {}, `No attention scores: ${data.without_map.join(", ")}.`));

function drawOverview() {
  const colours = palette();
  const widest = maps.reduce((one, other) => (other.heads > one.heads ? other : one));
  const heads = widest.numbers.map((number) => make("th", {}, `${number}`));
  // Thumbnails of all heads fit into the page side by side, unless they would become too small to see.
  const names = 8 * Math.max(...maps.map((map) => map.path.length)), room = document.body.clientWidth - 80 - names;
  overview.style.setProperty("--thumbnail", `${Math.max(20, Math.min(64, Math.floor(room / widest.heads) - 6))}px`);
  overview.replaceChildren(make("thead", {}, make("tr", {}, make("th", {}, "head"), ...heads)),
    make("tbody", {}, ...maps.map((map, layer) => make("tr", {}, make("th", { title: map.type }, map.path),
      ...Array.from({ length: map.heads }, (_, head) => make("td", {}, make("button", {
        "data-at": `${layer},${head}`, "aria-label": `${map.path}, head ${map.numbers[head]}`,
        onclick: () => choose(layer, head) }, paint(make("canvas"), map, head, colours))))))));
}

let cell = 1, left = 0, top_ = 0;

function drawMap() {
  const map = maps[chosen.layer], colours = palette();
  const rows = labels(map.queries), columns = labels(map.keys);
  const ratio = window.devicePixelRatio || 1;
  const context = large.getContext("2d");
  context.font = '12px ui-monospace, "DejaVu Sans Mono", Menlo, monospace';
  const wordWidth = (names) => Math.max(...names.map((name) => context.measureText(name).width));
  // The map fills the width of its panel, or the height of the window.
  const wide = (frame.clientWidth - wordWidth(rows) - 12) / map.keys, high = (innerHeight - 180 - wordWidth(columns)) / map.queries;
  cell = Math.max(4, Math.min(64, Math.floor(Math.min(wide, Math.max(high, 12)))));
  const named = cell >= 9, upright = wordWidth(columns) <= cell - 2;
  const font = `${Math.min(12, cell - 1)}px ui-monospace, "DejaVu Sans Mono", Menlo, monospace`;
  context.font = font;
  const longest = (names) => (named ? Math.ceil(Math.max(...names.map((name) => context.measureText(name).width))) + 8 : 2);
  left = longest(rows);
  top_ = upright && named ? 20 : longest(columns);
  const width = left + cell * map.keys + 2, height = top_ + cell * map.queries + 2;
  large.width = width * ratio;
  large.height = height * ratio;
  large.style.width = `${width}px`;
  large.style.height = `${height}px`;
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  context.drawImage(paint(document.createElement("canvas"), map, chosen.head, colours), left, top_,
    cell * map.keys, cell * map.queries);
  context.strokeStyle = colours.quiet;
  context.globalAlpha = 0.35;
  context.strokeRect(left - 0.5, top_ - 0.5, cell * map.keys + 1, cell * map.queries + 1);
  context.globalAlpha = 1;
  context.font = font;
  context.textBaseline = "middle";
  if (named) {
    rows.forEach((name, row) => {
      context.fillStyle = row === chosen.query ? colours.accent : colours.ink;
      context.textAlign = "right";
      context.fillText(name, left - 4, top_ + cell * (row + 0.5));
    });
    columns.forEach((name, column) => {
      context.save();
      context.translate(left + cell * (column + 0.5), top_ - (upright ? 9 : 4));
      if (!upright) context.rotate(-Math.PI / 2);
      context.fillStyle = colours.ink;
      context.textAlign = upright ? "center" : "left";
      context.fillText(name, 0, 0);
      context.restore();
    });
  }
  if (chosen.query !== null) {
    context.strokeStyle = colours.accent;
    context.strokeRect(left, top_ + cell * chosen.query + 0.5, cell * map.keys, cell - 1);
  }
}

function drawText() {
  const map = maps[chosen.layer], colours = palette();
  const names = labels(map.keys);
  text.replaceChildren(...names.map((name, key) => {
    const weight = chosen.query === null || chosen.query >= map.queries ? 0 : map.at(chosen.head, chosen.query, key);
    const rgb = shade(colours, weight);
    const style = `background: ${css(rgb)}; color: ${Math.abs(weight) > 0.02 ? readable(rgb) : "inherit"}`;
    return make("span", { style, title: weight.toFixed(4), class: key === chosen.query ? "query" : "",
      onmouseenter: () => point(key) }, name);
  }));
  strongest.textContent = describeStrongest(map, names);
}

// Describe the largest weights of the query in words, for readers who do not see the colours.
function describeStrongest(map, names) {
  const query = chosen.query;
  if (query === null || query >= map.queries) return "";
  const found = names.map((name, key) => [map.at(chosen.head, query, key), name]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]));
  const listed = found.slice(0, 3).map(([weight, name]) => `${name} ${weight.toFixed(3)}`);
  return `Token ${query + 1}, ${labels(map.queries)[query]}, attends most to: ${listed.join(", ")}.`;
}

function point(query) {
  if (query >= maps[chosen.layer].queries || query === chosen.query) return;
  chosen.query = query;
  slider.value = query;
  drawMap();
  drawText();
}

function choose(layer, head) {
  chosen.layer = (layer + maps.length) % maps.length;
  const map = maps[chosen.layer];
  chosen.head = (head + map.heads) % map.heads;
  if (chosen.query === null || chosen.query >= map.queries) chosen.query = map.queries - 1;
  slider.max = map.queries - 1;
  slider.value = chosen.query;
  title.textContent = `${map.path} (${map.type}), head ${map.numbers[chosen.head]}`;
  reading.textContent = "";
  for (const button of overview.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", button.dataset.at === `${chosen.layer},${chosen.head}`);
  }
  drawMap();
  drawText();
}

large.addEventListener("mousemove", (event) => {
  const map = maps[chosen.layer];
  const key = Math.floor((event.offsetX - left) / cell), query = Math.floor((event.offsetY - top_) / cell);
  if (query < 0 || query >= map.queries || key >= map.keys) return;
  point(query);
  if (key < 0) return;
  const weight = map.at(chosen.head, query, key);
  reading.textContent = `${labels(map.queries)[query]} → ${labels(map.keys)[key]}  ${weight.toFixed(4)}`
    + `  (positions ${query} → ${key})`;
});
keys.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const move = moves[event.key];
  if (!move || event.target === slider) return;
  event.preventDefault();
  choose(chosen.layer + move[0], chosen.head + move[1]);
});

function drawAll() {
  const colours = palette();
  const stops = [0, 0.02, 0.1, 0.25, 0.5, 1].map((share) => `${css(shade(colours, share))} ${100 * share}%`);
  legend.querySelector("i").style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  drawOverview();
  choose(chosen.layer, chosen.head);
}
whenColoursChange(drawAll);
addEventListener("resize", drawAll);
drawAll();
