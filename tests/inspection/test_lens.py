"""The logit lens: a layer says what a model that ends there says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import loud

import gptzoo
from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.data.tokenizers.tokenizer import ByteTokenizer
from gptzoo.errors import InputError
from gptzoo.inspection.lens import logit_lens

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 32, "d_model": 32, "n_layers": 3, "n_heads": 4}
IDS = list(b"To be or not to be")
KINDS: dict[str, dict[str, Any]] = {
    "pre norm": {},
    "post norm": {"norm": "post_ln"},
    "untied": {"tie_embeddings": False, "positional": "rope", "norm": {"type": "pre_ln", "layer": "rmsnorm"}},
}


def loaded(**fields: Any) -> Loaded:
    model = loud(gptzoo.build({**SPEC, **fields}, seed=3)).eval()
    return Loaded(model, ByteTokenizer(ByteTokenizer.Config()), Path("here"))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_each_row_is_what_the_model_says_without_the_layers_above(kind: str) -> None:
    made = loaded(**KINDS[kind])
    found = logit_lens(made, IDS, n_best=4)
    assert found.layers == ("in", "blocks.0", "blocks.1", "blocks.2")
    blocks = made.model.blocks
    for row, n_layers in enumerate(range(4)):
        made.model.blocks = blocks[:n_layers]
        logits = made.model(torch.tensor([IDS]))[0][0]
        best = logits.softmax(-1).topk(4)
        assert torch.equal(found.ids[row], best.indices)
        torch.testing.assert_close(found.probabilities[row], best.values, atol=1e-5, rtol=0)
        p = logits.double().softmax(-1)
        torch.testing.assert_close(found.entropy[row].double(), -(p * p.log()).sum(-1), atol=1e-4, rtol=0)
        order = logits.argsort(-1, descending=True)
        expected = [order[at].tolist().index(token) for at, token in enumerate(IDS[1:])]
        assert found.rank[row].tolist() == expected
    assert {found.labels[int(token)] for token in found.ids.unique()} == set(found.labels.values())


def test_an_architecture_that_shows_no_residual_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded()
    run = made.model.run
    monkeypatch.setattr(made.model, "run", lambda x, step, states=None, seen=None: run(x, step, states))
    with pytest.raises(InputError, match='does not capture "residual"'):
        logit_lens(made, IDS)
