"""The logit lens: a layer predicts what a model without the layers above it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import InputError
from gptzoo.inspection.lens import logit_lens

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 32, "d_model": 32, "n_layers": 3, "n_heads": 4}
IDS = list(b"To be or not to be")
KINDS: dict[str, dict[str, Any]] = {
    "pre norm": {},
    "post norm": {"norm": "post_ln"},
    "untied": {"tie_embeddings": False, "positional": "rope", "norm": {"type": "pre_ln", "layer": "rmsnorm"}},
}


def loaded(**fields: Any) -> LoadedModel:
    model = with_large_weights(gptzoo.build({**SPEC, **fields}, seed=3)).eval()
    return LoadedModel(model, ByteTokenizer(ByteTokenizer.Config()), Path("here"))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_each_row_is_the_prediction_of_the_model_without_the_layers_above(kind: str) -> None:
    full = loaded(**KINDS[kind])
    lens = logit_lens(full, IDS, n_best=4)
    assert lens.layers == ("in", "blocks.0", "blocks.1", "blocks.2")
    blocks = full.model.blocks
    for row, n_layers in enumerate(range(4)):
        full.model.blocks = blocks[:n_layers]
        logits = full.model(torch.tensor([IDS]))[0][0]
        best = logits.softmax(-1).topk(4)
        assert torch.equal(lens.ids[row], best.indices)
        torch.testing.assert_close(lens.probabilities[row], best.values, atol=1e-5, rtol=0)
        p = logits.double().softmax(-1)
        torch.testing.assert_close(lens.entropy[row].double(), -(p * p.log()).sum(-1), atol=1e-4, rtol=0)
        order = logits.argsort(-1, descending=True)
        expected = [order[at].tolist().index(token) for at, token in enumerate(IDS[1:])]
        assert lens.rank[row].tolist() == expected
    assert {lens.labels[int(token)] for token in lens.ids.unique()} == set(lens.labels.values())


def test_an_architecture_that_does_not_capture_the_residual_stream_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    without_captures = loaded()
    run = without_captures.model.run
    monkeypatch.setattr(without_captures.model, "run", lambda x, step, states=None, seen=None: run(x, step, states))
    with pytest.raises(InputError, match='does not capture "residual"'):
        logit_lens(without_captures, IDS)
