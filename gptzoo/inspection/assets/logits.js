hint.textContent = "The most likely next token after each token, if the model ended at that layer. The top row is the model's own "
  + "prediction. A stronger colour means a higher probability; underlined predictions are correct. Hover over a cell for all candidates.";

const nLayers = data.layers.length, nTokens = data.tokens.length;
const cells = [];
const table = make("table", { class: "lens mono" });
const detail = make("section", { class: "panel", style: "min-width: 300px; flex: 1; position: sticky; top: 12px" });
view.append(make("div", { class: "columns" },
  make("section", { class: "panel scroll", style: "flex: 1 1 auto; max-width: 100%" }, table), detail));

for (let layer = nLayers - 1; layer >= 0; layer--) {
  const row = make("tr", {}, make("th", { scope: "row" }, data.layers[layer]));
  cells[layer] = [];
  for (let position = 0; position < nTokens; position++) {
    const best = data.ids[layer][position][0];
    const isCorrect = position + 1 < nTokens && data.rank[layer][position] === 0;
    cells[layer][position] = make("td", { class: isCorrect ? "correct" : "", tabindex: 0, title: data.labels[best],
      onmouseenter: () => choose(layer, position), onfocus: () => choose(layer, position) }, data.labels[best]);
    row.append(cells[layer][position]);
  }
  table.append(row);
}
table.append(make("tr", {}, make("th", { class: "axis" }, "after"),
  ...data.tokens.map((token) => make("th", { class: "token" }, token))));

let chosen = null;

function choose(layer, position) {
  if (chosen) cells[chosen[0]][chosen[1]].removeAttribute("aria-selected");
  chosen = [layer, position];
  cells[layer][position].setAttribute("aria-selected", "true");
  const bars = make("div", { class: "bars" });
  data.ids[layer][position].forEach((id, place) => {
    const share = data.probabilities[layer][position][place];
    bars.append(make("span", { class: "mono" }, data.labels[id]), make("b", { style: `width: ${100 * share}%` }),
      make("span", {}, `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`));
  });
  const facts = make("dl", {}, make("dt", {}, "entropy"), make("dd", {}, `${data.entropy[layer][position].toFixed(2)} nats`));
  if (position + 1 < nTokens) {
    facts.append(make("dt", {}, "actual next token"), make("dd", {},
      make("span", { class: "mono" }, data.tokens[position + 1]), `, rank ${data.rank[layer][position] + 1}`));
  }
  detail.replaceChildren(make("h2", {}, `${data.layers[layer]}, after `,
    make("span", { class: "mono" }, data.tokens[position]), ` (position ${position})`), bars, facts);
}

function colour() {
  const colours = palette();
  cells.forEach((row, layer) => row.forEach((cell, position) => {
    const rgb = shade(colours, data.probabilities[layer][position][0] ** 2); // squared, because the probabilities of top tokens are large
    cell.style.background = css(rgb);
    cell.style.color = readable(rgb);
  }));
}
whenColoursChange(colour);
colour();
choose(nLayers - 1, nTokens - 1);
