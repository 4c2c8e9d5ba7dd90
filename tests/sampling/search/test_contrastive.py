"""Contrastive search against a slow NumPy reference that reads the whole text again for every candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import small, with_large_weights

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.generate import generate
from gptzoo.sampling.search.contrastive import contrastive_search

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ring": {"attention": {"type": "sdpa", "window": 4}, "positional": "rope"},
    "post norm": {"norm": "post_ln", "attention": "naive", "positional": "sinusoidal"},
}


def build_model(kind: str) -> Any:
    return with_large_weights(gptzoo.build(small(vocab_size=19, **KINDS[kind]), seed=3)).eval()


def spec(n_new: int, **fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": n_new, **fields})


@torch.inference_mode()
def hidden_and_logits(model: Any, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of the output head (T, C), from a hook on the head, and the logits of the last token."""
    inputs: list[torch.Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    logits, _ = model(torch.tensor([tokens]))
    hook.remove()
    return inputs[0][0].double().numpy(), logits[0, -1].double().numpy()


def reference(model: Any, prompt: list[int], n_new: int, alpha: float, k: int, banned: Any = ()) -> list[int]:
    tokens = list(prompt)
    for _ in range(n_new):
        hidden, logits = hidden_and_logits(model, tokens)
        logits[list(banned)] = -np.inf
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        scores = {}
        for candidate in np.argsort(-probabilities)[:k].tolist():
            last = hidden_and_logits(model, [*tokens, candidate])[0][-1]
            cosines = hidden @ last / np.linalg.norm(hidden, axis=1) / np.linalg.norm(last)
            scores[candidate] = (1 - alpha) * probabilities[candidate] - alpha * cosines.max()
        tokens.append(max(scores, key=lambda candidate: scores[candidate]))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("alpha", "k"), [(0.6, 4), (0.2, 3), (1.0, 6)])
def test_tokens_are_those_of_the_slow_reference(kind: str, alpha: float, k: int) -> None:
    model = build_model(kind)
    events = list(contrastive_search(model, [1, 2, 3], spec(13), alpha=alpha, n_candidates=k))
    assert [event.token for event in events] == reference(model, [1, 2, 3], 13, alpha, k)
    assert [event.finish_reason for event in events] == [None] * 12 + ["length"]


def test_without_the_penalty_it_is_greedy_decoding() -> None:
    model = build_model("plain")
    greedy = spec(15, processors=[{"type": "temperature", "value": 0}])
    tokens = [event.token for event in contrastive_search(model, [4], spec(15), alpha=0.0)]
    assert [tokens] == generate(model, [[4]], greedy)
    assert [event.token for event in contrastive_search(model, [4], spec(15), n_candidates=1)] == tokens


def test_processors_and_stopping_criteria_apply() -> None:
    model = build_model("plain")
    free = [event.token for event in contrastive_search(model, [4], spec(15))]
    banned = spec(12, processors=[{"type": "banned_tokens", "ids": free[2:4]}])
    tokens = [event.token for event in contrastive_search(model, [4], banned)]
    assert tokens == reference(model, [4], 12, 0.6, 4, banned=free[2:4])
    first = free.index(free[3])
    *events, last = contrastive_search(model, [4], spec(15, stop_tokens=[free[3]]))
    assert [event.token for event in events] == free[:first]
    assert (last.token, last.finish_reason) == (free[3], "stop_token")
    only = [{"type": "banned_tokens", "ids": [token for token in range(19) if token not in (5, 6)]}]
    assert {event.token for event in contrastive_search(model, [4], spec(9, processors=only))} <= {5, 6}
    assert list(contrastive_search(model, [4], spec(0))) == []


def test_an_architecture_without_hidden_states_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("plain")
    run = model.run
    monkeypatch.setattr(model, "run", lambda x, context, states=None, auxiliary=None: run(x, context, states))
    with pytest.raises(InputError, match='does not capture "hidden"'):
        next(contrastive_search(model, [4], spec(3)))
