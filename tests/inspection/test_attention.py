"""Attention maps against the softmax formula, for built-in attentions and for one from a plugin file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import with_large_weights

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import InputError
from gptzoo.inspection.attention import attention_maps
from gptzoo.inspection.labels import token_labels

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}
IDS = list(b"To be or not to be")


def loaded(seed: int = 3, **fields: Any) -> LoadedModel:
    model = with_large_weights(gptzoo.build({**SPEC, **fields}, seed=seed)).eval()
    return LoadedModel(model, ByteTokenizer(ByteTokenizer.Config()), Path("here"))


@torch.inference_mode()
def expected_weights(model: Any, layer: int, window: int | None) -> torch.Tensor:
    """Compute softmax(q k / sqrt(d)), (H, T, T), from the inputs of an attention, which a hook records."""
    inputs: list[torch.Tensor] = []
    hook = model.blocks[layer].attention.register_forward_pre_hook(
        lambda module, arguments: inputs.append(arguments[0])
    )
    model(torch.tensor([IDS]))
    hook.remove()
    attention = model.blocks[layer].attention
    q, k, _ = attention.qkv(inputs[0]).split(attention.widths, dim=-1)
    q, k = (m.view(len(IDS), -1, attention.d_head).transpose(0, 1) for m in (q[0], k[0]))
    k = k.repeat_interleave(len(q) // len(k), dim=0)
    scores = q @ k.transpose(1, 2) / attention.d_head**0.5
    distance = torch.arange(len(IDS))[:, None] - torch.arange(len(IDS))
    visible = (distance >= 0) & (distance < (window or len(IDS)))
    return scores.masked_fill(~visible, float("-inf")).softmax(-1)


@pytest.mark.parametrize("type", ["naive", "sdpa"])
@pytest.mark.parametrize("options", [{}, {"window": 5}, {"n_kv_heads": 2}])
def test_maps_are_the_softmax_of_the_scores(type: str, options: dict[str, Any]) -> None:
    model = loaded(attention={"type": type, **options}, positional="learned")
    maps = attention_maps(model, IDS)
    assert [m.path for m in maps.maps] == ["blocks.0.attention", "blocks.1.attention"]
    assert {m.type for m in maps.maps} == {type}
    for layer, m in enumerate(maps.maps):
        torch.testing.assert_close(
            m.weights, expected_weights(model.model, layer, options.get("window")), atol=1e-5, rtol=0
        )
    assert "".join(maps.tokens) == "To·be·or·not·to·be"


def test_the_same_weights_give_the_same_maps_whether_trained_with_naive_or_sdpa() -> None:
    naive, sdpa = (attention_maps(loaded(attention=type, positional="rope"), IDS) for type in ("naive", "sdpa"))
    for a, b in zip(naive.maps, sdpa.maps, strict=True):
        torch.testing.assert_close(a.weights, b.weights, atol=1e-5, rtol=0)


PLUGIN = '''
import gptzoo
import torch


class Mean(gptzoo.Attention):
    """The mean of all past values. With `captures`, it captures its attention weights."""

    name = "mean"
    supports = frozenset({"capture"})

    class Config(gptzoo.Attention.Config):
        captures: bool = True

    def forward(self, x, context, state=None):
        T = x.shape[1]
        weights = torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None]
        if not (self.config.captures and "attention" in context.capture):
            return weights @ x
        captures = {"attention": weights.expand(len(x), 1, T, T), "k_pos": context.positions}
        return gptzoo.SublayerOutput(weights @ x, captures=captures)


@gptzoo.hookimpl
def gptzoo_components():
    return [Mean]
'''


def test_an_attention_from_a_plugin_file_has_a_map_and_one_without_scores_is_named(tmp_path: Path) -> None:
    (tmp_path / "mean.py").write_text(PLUGIN)
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(tmp_path / "mean.py")
        mixed = attention_maps(loaded(attention=[{"type": "mean", "captures": False}, "mean"], positional="none"), IDS)
        assert [m.path for m in mixed.maps] == ["blocks.1.attention"]
        assert mixed.maps[0].weights[0, 3, :5].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25, 0.0])
        assert mixed.without_map == ("blocks.0.attention (mean)",)
        with pytest.raises(InputError, match=r"no layer has attention scores: blocks\.0\.attention \(mean\)"):
            attention_maps(loaded(attention={"type": "mean", "captures": False}, positional="none"), IDS)


def test_layers_and_heads_are_selected_by_number() -> None:
    maps = attention_maps(loaded(), IDS)
    selected = maps.select(layers=[1], heads=[2, 0])
    assert [m.path for m in selected.maps] == ["blocks.1.attention"]
    assert selected.maps[0].heads == (2, 0)
    assert torch.equal(selected.maps[0].weights, maps.maps[1].weights[[2, 0]])
    for wrong in ({"layers": [2]}, {"heads": [0, -1]}, {"heads": [4]}):
        with pytest.raises(
            InputError, match=r"no attention map of (layer|head) (2|-1|4); give a number from 0 to (1|3)"
        ):
            maps.select(**wrong)


def test_every_token_has_a_visible_label() -> None:
    ids = [*"a b\n\té\x7f".encode(), 256]
    labels = token_labels(ByteTokenizer(ByteTokenizer.Config()), ids)
    assert labels == ("a", "·", "b", "⏎", "⇥", "\\xc3", "\\xa9", "\\x7f", "<256>")
