// Requests to the server that this page comes from. The API key is sent in a header, and never in an address.
const STORED_KEY = "gptzoo-api-key";
const apiKey = {
  value: sessionStorage.getItem(STORED_KEY) ?? "",
  set(value) {
    this.value = value;
    sessionStorage.setItem(STORED_KEY, value);
  },
  forget() {
    this.value = "";
    sessionStorage.removeItem(STORED_KEY);
  },
};

class KeyError extends Error {}

// Send a request: a POST if there is a body. Throws an Error with the message of the server, and a KeyError without a valid key.
async function request(path, body, signal) {
  const headers = apiKey.value ? { Authorization: `Bearer ${apiKey.value}` } : {};
  const options = { headers, signal };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, options);
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const message = answer?.error?.message ?? `The server answered with status ${response.status}.`;
  throw response.status === 401 ? new KeyError(message) : new Error(message);
}

// Yield the JSON objects of a streamed response. Throws an Error if the server reports one, or if the stream is cut off.
async function* streamed(response) {
  let waiting = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The server closed the connection before the end of the text.");
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk;
    }
  }
}
