"""Contrastive search against a slow reference in NumPy, which reads the whole text anew for every candidate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import loud, small

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.generate import generate
from gptzoo.sampling.search.contrastive import contrastive_search

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ring": {"attention": {"type": "sdpa", "window": 4}, "positional": "rope"},
    "post norm": {"norm": "post_ln", "attention": "naive", "positional": "sinusoidal"},
}


def model_of(kind: str) -> Any:
    return loud(gptzoo.build(small(vocab_size=19, **KINDS[kind]), seed=3)).eval()


def spec(n_new: int, **fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": n_new, **fields})


@torch.inference_mode()
def states_and_logits(model: Any, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """What goes into the output head, (T, C), and the logits of the last token: by a hook on the head."""
    inputs: list[torch.Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    logits, _ = model(torch.tensor([tokens]))
    hook.remove()
    return inputs[0][0].double().numpy(), logits[0, -1].double().numpy()


def reference(model: Any, prompt: list[int], n_new: int, alpha: float, k: int, banned: Any = ()) -> list[int]:
    tokens = list(prompt)
    for _ in range(n_new):
        hidden, logits = states_and_logits(model, tokens)
        logits[list(banned)] = -np.inf
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        scores = {}
        for candidate in np.argsort(-probabilities)[:k].tolist():
            last = states_and_logits(model, [*tokens, candidate])[0][-1]
            cosines = hidden @ last / np.linalg.norm(hidden, axis=1) / np.linalg.norm(last)
            scores[candidate] = (1 - alpha) * probabilities[candidate] - alpha * cosines.max()
        tokens.append(max(scores, key=lambda candidate: scores[candidate]))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("alpha", "k"), [(0.6, 4), (0.2, 3), (1.0, 6)])
def test_it_takes_the_tokens_of_the_slow_reference(kind: str, alpha: float, k: int) -> None:
    model = model_of(kind)
    found = list(contrastive_search(model, [1, 2, 3], spec(13), alpha=alpha, n_candidates=k))
    assert [choice.token for choice in found] == reference(model, [1, 2, 3], 13, alpha, k)
    assert [choice.end for choice in found] == [None] * 12 + ["length"]


def test_without_the_penalty_it_is_greedy() -> None:
    model = model_of("plain")
    greedy = spec(15, processors=[{"type": "temperature", "value": 0}])
    found = [choice.token for choice in contrastive_search(model, [4], spec(15), alpha=0.0)]
    assert [found] == generate(model, [[4]], greedy)
    assert [choice.token for choice in contrastive_search(model, [4], spec(15), n_candidates=1)] == found


def test_processors_and_endings_hold_for_it_too() -> None:
    model = model_of("plain")
    free = [choice.token for choice in contrastive_search(model, [4], spec(15))]
    banned = spec(12, processors=[{"type": "banned_tokens", "ids": free[2:4]}])
    found = [choice.token for choice in contrastive_search(model, [4], banned)]
    assert found == reference(model, [4], 12, 0.6, 4, banned=free[2:4])
    first = free.index(free[3])
    *written, last = contrastive_search(model, [4], spec(15, stop_tokens=[free[3]]))
    assert [choice.token for choice in written] == free[:first]
    assert (last.token, last.end) == (free[3], "stop_token")
    only = [{"type": "banned_tokens", "ids": [token for token in range(19) if token not in (5, 6)]}]
    assert {choice.token for choice in contrastive_search(model, [4], spec(9, processors=only))} <= {5, 6}
    assert list(contrastive_search(model, [4], spec(0))) == []


def test_an_architecture_that_shows_no_hidden_states_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("plain")
    run = model.run
    monkeypatch.setattr(model, "run", lambda x, step, states=None, seen=None: run(x, step, states))
    with pytest.raises(InputError, match='does not capture "hidden"'):
        next(contrastive_search(model, [4], spec(3)))
