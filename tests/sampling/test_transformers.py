"""Greedy texts against transformers with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gptzoo
from gptzoo.interop.hugging_face import import_folder
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.request import Request


@pytest.mark.slow
def test_greedy_texts_are_those_of_transformers_for_200_tokens(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=211, n_positions=256, n_embd=64, n_layer=3, n_head=4, initializer_range=0.2)
    theirs = GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    ours = gptzoo.load(tmp_path / "ours").model
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [1]]
    spec = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": 200, "processors": [{"type": "temperature", "value": 0}]}
    )
    engine = Engine(ours, n_slots=2)
    for number, prompt in enumerate(prompts):
        engine.submit(Request(prompt, spec, id=number))
    tokens: dict[int, list[int]] = {0: [], 1: [], 2: []}
    while engine.busy:
        for event in engine.step():
            assert event.token is not None
            tokens[event.request_id].append(event.token)
    for number, prompt in enumerate(prompts):
        prompt_ids = torch.tensor([prompt])
        expected = theirs.generate(
            prompt_ids,
            attention_mask=torch.ones_like(prompt_ids),
            max_new_tokens=200,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert tokens[number] == expected[0, len(prompt) :].tolist()
    assert len({tuple(text[-50:]) for text in tokens.values()}) == 3  # the texts do not end in the same repetition
