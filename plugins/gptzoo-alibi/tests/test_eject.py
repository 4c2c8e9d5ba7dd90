"""A file with `alibi` is verified as libraries build large models: on the meta device, then filled."""

from __future__ import annotations

from typing import Any

import pytest

import gptzoo
from gptzoo.eject.eject import eject_model
from gptzoo.eject.refusal import EjectError
from gptzoo.eject.verify import verify

SPEC = {"vocab_size": 31, "context_length": 32, "d_model": 32, "n_layers": 3, "n_heads": 4, "positional": "alibi"}


def test_a_file_whose_buffers_cannot_be_filled_later_is_refused() -> None:
    model: Any = gptzoo.build(gptzoo.load_model_spec(SPEC), seed=4).eval()
    text = eject_model(model)
    assert "def reset_buffers(self)" in text
    with pytest.raises(EjectError, match="built on the meta device"):
        verify(text.replace("reset_buffers", "fill_buffers"), model)
