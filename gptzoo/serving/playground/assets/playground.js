// The form of the page: it sends the prompt to one run, or to two side by side.
const element = (id) => document.getElementById(id);
const [failure, keyForm, controls, results] = ["failure", "key-form", "controls", "results"].map(element);
const [prompt, generate, stop, attention] = ["prompt", "generate", "stop", "attention"].map(element);
let models = [];
let columns = [];
let running = null; // the AbortController of the texts that are being generated

const isChat = () => controls.elements.mode.value === "chat";

async function start() {
  failure.textContent = "";
  try {
    models = (await (await request("v1/models")).json()).data;
  } catch (error) {
    if (error instanceof KeyError) askForKey(apiKey.value ? "This API key is wrong." : "");
    else failure.textContent = `The server cannot be reached: ${error.message}`;
    return;
  }
  element("run").replaceChildren(...models.map(({ id }) => make("option", { value: id }, id)));
  element("other").replaceChildren(make("option", { value: "" }, "no other run"), ...models.map(({ id }) => make("option", { value: id }, id)));
  if (models.length > 1) element("other").value = models[1].id;
  const shortest = Math.min(...models.map((model) => model.max_model_len));
  const length = controls.elements.max_tokens;
  length.value = Math.min(Number(length.value), Math.max(1, Math.floor(shortest / 2)));
  keyForm.hidden = true;
  controls.hidden = results.hidden = false;
  element("forget").hidden = !apiKey.value;
  chooseRuns();
}

function askForKey(message = "") {
  failure.textContent = message;
  keyForm.hidden = false;
  controls.hidden = results.hidden = attention.hidden = true;
  element("forget").hidden = true;
  element("key").focus();
}

// Show a column for each chosen run. Columns of runs that were shown before are kept.
function chooseRuns() {
  const names = [element("run").value, element("other").value].filter(Boolean);
  columns = names.map((name, place) => (columns[place]?.model.id === name ? columns[place]
    : new Column(models.find((model) => model.id === name), showAttention)));
  element("columns").replaceChildren(...columns.map((column) => column.element));
  chooseMode();
}

function chooseMode() {
  element("prompt-label").textContent = isChat() ? "Message" : "Prompt";
  element("restart").hidden = !isChat();
  generate.textContent = isChat() ? "Send" : "Generate";
  const reasons = columns.filter((column) => column.model.no_chat_reason)
    .map(({ model }) => `No chat with ${model.id}: ${model.no_chat_reason}.`);
  element("prompt-note").textContent = isChat() && reasons.length ? reasons.join(" ") : "Ctrl+Enter sends it.";
}

// Return the fields of a request that the sampling controls stand for. Empty ones are left out.
function sampling() {
  const inputs = [...element("sampling").querySelectorAll("input")].filter((input) => input.value !== "");
  return Object.fromEntries(inputs.map((input) => [input.name, input.type === "number" ? Number(input.value) : input.value]));
}

controls.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  const text = prompt.value;
  running = new AbortController();
  generate.disabled = true;
  stop.disabled = false;
  if (isChat()) prompt.value = "";
  else columns.forEach((column) => column.clear());
  const answered = await Promise.all(columns.map((column) => column.generate(isChat(), text, sampling(), running.signal)));
  if (!answered.some(Boolean) && !prompt.value) prompt.value = text;
  running = null;
  generate.disabled = false;
  stop.disabled = true;
});

async function showAttention(column) {
  column.error.textContent = "";
  column.attention.disabled = true;
  try {
    const body = { model: column.model.id, ...(column.shown ?? { prompt: prompt.value }) };
    const data = await (await request("attention", body)).json();
    const view = make("div", { id: "attention-view" });
    element("attention-view").replaceWith(view);
    attention.hidden = false;
    const title = element("attention-title");
    title.textContent = `Attention of ${column.model.id}`;
    show(data, view, element("attention-hint"), view);
    title.focus();
  } catch (error) {
    column.fail(error.message, error);
  } finally {
    column.attention.disabled = false;
    attention.opener = column.attention;
  }
}

stop.addEventListener("click", () => running?.abort());
element("run").addEventListener("change", chooseRuns);
element("other").addEventListener("change", chooseRuns);
element("restart").addEventListener("click", () => columns.forEach((column) => column.clear()));
element("close").addEventListener("click", () => {
  attention.hidden = true;
  attention.opener.focus();
});
controls.elements.mode.forEach((choice) => choice.addEventListener("change", () => {
  columns.forEach((column) => column.clear());
  chooseMode();
}));
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) controls.requestSubmit();
});
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey.set(element("key").value);
  element("key").value = "";
  start();
});
element("forget").addEventListener("click", () => {
  apiKey.forget();
  askForKey();
});
start();
