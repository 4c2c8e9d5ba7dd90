"""llama.cpp as an oracle, through its Python bindings `xllamacpp`."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

SKIP = "llama.cpp is not installed: pip install xllamacpp"


class LlamaCpp:
    """A GGUF file loaded by llama.cpp, with a float32 KV cache."""

    def __init__(self, file: Path, n_context: int = 128):
        xllamacpp = pytest.importorskip("xllamacpp", reason=SKIP)
        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx = params.n_batch = params.n_ubatch = n_context
        params.n_parallel = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.warmup = params.fit_params = False
        params.verbosity = -1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)

    def greedy(self, prompt: list[int], n: int) -> list[int]:
        """Return the likeliest continuation, with the end token if there is one."""
        options = {"temperature": 0, "samplers": ["temperature"], "cache_prompt": False, "return_tokens": True}
        return self._post("completion", {"prompt": prompt, "n_predict": n, **options})["tokens"]

    def log_probabilities(self, prompt: list[int], visible: int, n: int) -> dict[int, float]:
        """Return the log-probabilities of the `n` likeliest tokens after a prompt.

        visible: a token with a whole character. llama.cpp returns nothing until it has one, so this one is chosen.
        """
        options = {"n_predict": 1, "n_probs": n, "cache_prompt": False, "logit_bias": [[visible, 1000.0]]}
        result = self._post("completion", {"prompt": prompt, **options})
        return {entry["id"]: entry["logprob"] for entry in result["completion_probabilities"][0]["top_logprobs"]}

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids of a text, with BOS if the file says so."""
        return self._post("tokenize", {"content": text, "add_special": True, "parse_special": special})["tokens"]

    def apply_template(self, messages: list[dict[str, str]]) -> str:
        return self._post("apply-template", {"messages": messages})["prompt"]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.server.listening_address}/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            return json.loads(response.read())
