// The results of one run: a continued text, or a chat with its history.
const END_REASONS = { stop: "the text ended", length: "the maximum number of tokens is reached" };
const N_ALTERNATIVES = 5;

class Column {
  constructor(model, showAttention) {
    this.model = model;
    this.body = make("div", { class: "body" });
    this.status = make("p", { class: "note", role: "status" });
    this.error = make("p", { class: "error", role: "alert" });
    this.details = make("div", { class: "details", "aria-live": "polite" });
    this.attention = make("button", { type: "button", onclick: () => showAttention(this) }, "Show attention");
    this.element = make("section", { class: "panel column", "aria-label": `Results of ${model.id}` },
      make("div", { class: "title" }, make("h2", {}, model.id), this.attention), this.body, this.status, this.error, this.details);
    this.clear();
  }

  clear() {
    this.messages = [];
    this.shown = null; // what the attention of this column is computed for
    for (const element of [this.body, this.status, this.error, this.details]) element.replaceChildren();
  }

  // Generate a text after `prompt`, or an answer to it. Return false if the prompt got no answer.
  async generate(isChat, prompt, sampling, signal) {
    this.error.textContent = "";
    this.details.replaceChildren();
    const text = new TokenText(`Text of ${this.model.id}. Arrow keys move between tokens.`, this.details);
    let path = "v1/completions", body = { prompt, logprobs: N_ALTERNATIVES };
    if (isChat) {
      if (this.model.no_chat_reason) return this.fail(`No chat with ${this.model.id}: ${this.model.no_chat_reason}.`);
      const messages = [...this.messages, { role: "user", content: prompt }];
      [path, body] = ["v1/chat/completions", { messages, logprobs: true, top_logprobs: N_ALTERNATIVES }];
      this.body.append(message("You", make("div", { class: "generated" }, prompt)), message(this.model.id, text.element));
    } else {
      this.body.replaceChildren(text.element);
      text.element.append(make("span", { class: "prompt" }, prompt));
    }
    this.status.textContent = "Generating …";
    let reason = "stopped";
    try {
      const response = await request(path, { model: this.model.id, stream: true, ...body, ...sampling }, signal);
      for await (const { choices: [choice] } of streamed(response)) {
        text.add(choice.text ?? choice.delta.content ?? "", tokensOf(choice.logprobs));
        reason = END_REASONS[choice.finish_reason] ?? reason;
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        if (isChat) [...this.body.children].slice(-2).forEach((element) => element.remove());
        return this.fail(error.message, error);
      }
    }
    text.finish();
    this.status.textContent = `${text.n_tokens} token${text.n_tokens === 1 ? "" : "s"}: ${reason}.`;
    if (isChat) this.messages = [...body.messages, { role: "assistant", content: text.text }];
    this.shown = isChat ? { messages: this.messages } : { prompt: prompt + text.text };
    return true;
  }

  fail(message, error) {
    this.status.textContent = "";
    this.error.textContent = message;
    if (error instanceof KeyError) askForKey();
    return false;
  }
}

function message(author, content) {
  return make("div", { class: "message" }, make("h3", {}, author), content);
}
