// A generated text, one element per token, coloured by how unlikely the token was. Hovering over a token, or moving to it with the
// arrow keys, shows its probability and the most likely alternatives.
const MOST_NATS = 8; // tokens that are more surprising have the strongest colour

// Return a chunk's tokens in one form: its text, bytes, log-probability, and those of the token and the most likely ones by text.
function tokensOf(logprobs) {
  if (!logprobs) return [];
  if (logprobs.content) { // a chat, which lists the token itself only if it is likely
    return logprobs.content.map((entry) => ({ text: entry.token, bytes: Uint8Array.from(entry.bytes), logprob: entry.logprob,
      top: Object.entries(Object.fromEntries([...entry.top_logprobs, entry].map(({ token, logprob }) => [token, logprob]))) }));
  }
  return logprobs.tokens.map((text, index) => ({ text, bytes: bytesOf(text), logprob: logprobs.token_logprobs[index],
    top: Object.entries(logprobs.top_logprobs[index] ?? {}) }));
}

// The server writes a part of a character as bytes:\xe2.
function bytesOf(text) {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(text)) return new TextEncoder().encode(text);
  return Uint8Array.from(text.slice("bytes:\\x".length).split("\\x"), (digits) => parseInt(digits, 16));
}

const visible = (text) => text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "end of text";
const probability = (logprob) => (logprob === null ? 0 : Math.exp(logprob));
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)} %`;

class TokenText {
  constructor(label, details) {
    this.element = make("div", { class: "generated", role: "group", "aria-label": label });
    this.details = details;
    this.characters = [];
    this.spans = []; // with the tokens of each: several if they share a character
    this.pending = [];
    this.n_tokens = 0;
    this.position = 0;
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const show = (event) => event.target.tokens && this.show(event.target);
    this.element.addEventListener("mouseover", show);
    this.element.addEventListener("focusin", show);
    this.element.addEventListener("keydown", (event) => this.move(event));
  }

  get text() {
    return this.characters.join("");
  }

  // Add a piece of text and the tokens that are new. The text may come later than its tokens, if a stop text could begin in it.
  add(text, tokens) {
    this.characters.push(...text);
    for (const token of tokens) {
      this.n_tokens += 1;
      this.pending.push(token);
      const length = [...this.decoder.decode(token.bytes, { stream: true })].length;
      if (length) this.append(this.position, this.position += length);
    }
    this.fill();
  }

  append(start, end) {
    const span = make("span", { tabindex: this.spans.length ? -1 : 0 });
    span.tokens = this.pending;
    this.pending = [];
    const logprob = span.tokens.reduce((sum, token) => sum + (token.logprob ?? -Infinity), 0);
    span.style.setProperty("--surprise", Math.min(1, -logprob / MOST_NATS));
    Object.assign(span, { start, end });
    this.spans.push(span);
    this.element.append(span);
  }

  // Write the text of the spans whose text is not complete yet.
  fill() {
    for (let index = this.spans.length - 1; index >= 0; index--) {
      const span = this.spans[index];
      if (span.textContent.length && span.complete) break;
      span.textContent = this.characters.slice(span.start, span.end).join("");
      span.complete = span.end <= this.characters.length;
    }
  }

  // End the text. Tokens that are not part of it, such as a stop token, become one mark.
  finish() {
    const rest = this.characters.length > this.position;
    if (rest && this.pending.length) this.append(this.position, this.characters.length);
    this.fill();
    const outside = this.spans.filter((span) => !span.textContent);
    this.pending.unshift(...outside.flatMap((span) => span.tokens));
    outside.forEach((span) => span.remove());
    this.spans = this.spans.filter((span) => span.textContent);
    if (!this.pending.length) return;
    this.append(this.characters.length, this.characters.length);
    const mark = this.spans.at(-1);
    mark.className = "end";
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", "end of text");
  }

  move(event) {
    const at = this.spans.indexOf(event.target);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.spans.length - 1 }[event.key];
    if (at < 0 || !this.spans[next]) return;
    event.preventDefault();
    this.spans[next].focus();
  }

  // Show the probabilities of the tokens of a span, which becomes the one that the Tab key reaches.
  show(span) {
    this.spans.forEach((other) => { other.tabIndex = other === span ? 0 : -1; });
    this.details.replaceChildren(...span.tokens.map((token) => {
      const chance = probability(token.logprob);
      const rows = [...token.top].sort((a, b) => probability(b[1]) - probability(a[1])).map(([text, logprob]) => {
        const share = probability(logprob), bar = make("b", { style: `width: ${100 * share}%` });
        const isChosen = text === token.text;
        return make("tr", { class: isChosen ? "chosen" : "" }, make("th", { scope: "row", class: "mono" }, visible(text)),
          make("td", { class: "bar", "aria-hidden": "true" }, bar), make("td", {}, percent(share) + (isChosen ? " (chosen)" : "")));
      });
      return make("table", {}, make("caption", {}, "Probability of ", make("span", { class: "mono" }, visible(token.text)),
        ` was ${percent(chance)}`), make("tbody", {}, ...rows));
    }));
  }
}
