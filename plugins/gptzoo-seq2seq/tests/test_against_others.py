"""The encoder-decoder compared with torch.nn.Transformer, and with Marian and T5 in transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gptzoo

V, C, H, LAYERS, ENCODER_LAYERS = 13, 24, 4, 2, 3


def model_of(options: dict[str, Any] | None = None, **changes: Any) -> Any:
    architecture = {"type": "encoder_decoder", "n_encoder_layers": ENCODER_LAYERS, **(options or {})}
    spec = {
        "vocab_size": V,
        "context_length": 16,
        "d_model": C,
        "n_layers": LAYERS,
        "n_heads": H,
        "architecture": architecture,
    }
    return gptzoo.build({**spec, **changes}).double().eval()


def ids(batch_size: int, length: int, seed: int) -> Tensor:
    return torch.randint(2, V, (batch_size, length), generator=torch.Generator().manual_seed(seed))


def add_noise(module: nn.Module) -> None:
    """Add noise to every parameter, so that attention is far from uniform and no bias is zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)  # other libraries draw initial weights from torch's global generator


SOURCE, TOKENS, TARGETS = ids(2, 6, 1), ids(2, 5, 2), ids(2, 5, 3)
VALID = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
PADDED = SOURCE.where(VALID, -1)


def copy(theirs: Any, ours: Any) -> None:
    """Copy the weight and bias of a linear layer or a norm."""
    ours.weight.data.copy_(theirs.weight)
    if getattr(ours, "bias", None) is not None:
        ours.bias.data.copy_(theirs.bias)


def copy_joined(layers: list[Any], ours: Any) -> None:
    ours.weight.data.copy_(torch.cat([layer.weight for layer in layers]))
    if ours.bias is not None:
        ours.bias.data.copy_(torch.cat([layer.bias for layer in layers]))


# ---------------------------------------------------------------------- torch.nn.Transformer


def torch_stacks(pre_norm: bool) -> tuple[Any, Any]:
    options = {"dim_feedforward": 4 * C, "dropout": 0.0, "activation": "gelu", "batch_first": True}
    norms = [nn.LayerNorm(C) if pre_norm else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(C, H, norm_first=pre_norm, **options),
        ENCODER_LAYERS,
        norms[0],
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(C, H, norm_first=pre_norm, **options), LAYERS, norms[1])
    for stack in (encoder, decoder):
        add_noise(stack)
    return encoder.double().eval(), decoder.double().eval()


def copy_block(theirs: Any, ours: Any) -> None:
    names = ["attention", "cross", "ffn"] if hasattr(ours, "cross") else ["attention", "ffn"]
    for index, name in enumerate(names, start=1):
        copy(getattr(theirs, f"norm{index}"), ours.norm.layers[name])
    ours.attention.qkv.weight.data.copy_(theirs.self_attn.in_proj_weight)
    ours.attention.qkv.bias.data.copy_(theirs.self_attn.in_proj_bias)
    copy(theirs.self_attn.out_proj, ours.attention.out)
    if hasattr(ours, "cross"):
        for matrix, part in ((ours.cross.q, slice(0, C)), (ours.cross.kv, slice(C, None))):
            matrix.weight.data.copy_(theirs.multihead_attn.in_proj_weight[part])
            matrix.bias.data.copy_(theirs.multihead_attn.in_proj_bias[part])
        copy(theirs.multihead_attn.out_proj, ours.cross.out)
    copy(theirs.linear1, ours.ffn.up)
    copy(theirs.linear2, ours.ffn.down)


@pytest.mark.parametrize("norm", ["pre_ln", "post_ln"])
def test_logits_and_gradients_equal_torchs_transformer(norm: str) -> None:
    model = model_of(norm=norm, positional="none")
    add_noise(model.embed)
    encoder, decoder = torch_stacks(norm == "pre_ln")
    for theirs, ours in ((encoder, model.encoder), (decoder, model)):
        for their_block, our_block in zip(theirs.layers, ours.blocks, strict=True):
            copy_block(their_block, our_block)
        if theirs.norm is not None:
            copy(theirs.norm, ours.exit)

    embedding = model.embed.weight.detach().clone().requires_grad_()
    memory = encoder(embedding[SOURCE], src_key_padding_mask=~VALID)
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    read = decoder(embedding[TOKENS], memory, tgt_mask=future, memory_key_padding_mask=~VALID)
    logits = read @ embedding.T
    torch.testing.assert_close(model(TOKENS, source=PADDED)[0], logits, rtol=1e-10, atol=1e-10)

    nn.functional.cross_entropy(logits.flatten(0, 1), TARGETS.flatten()).backward()
    model(TOKENS, TARGETS, source=PADDED)[1].backward()
    close = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(model.embed.weight.grad, embedding.grad, **close)
    for theirs, ours in ((encoder, model.encoder), (decoder, model)):
        for their_block, our_block in zip(theirs.layers, ours.blocks, strict=True):
            torch.testing.assert_close(our_block.attention.qkv.weight.grad, their_block.self_attn.in_proj_weight.grad)
            torch.testing.assert_close(our_block.ffn.up.weight.grad, their_block.linear1.weight.grad, **close)
            torch.testing.assert_close(our_block.ffn.down.bias.grad, their_block.linear2.bias.grad, **close)
    for their_block, block in zip(decoder.layers, model.blocks, strict=True):
        cross, theirs = block.cross, their_block.multihead_attn
        joined_grad = torch.cat([cross.q.weight.grad, cross.kv.weight.grad])
        torch.testing.assert_close(joined_grad, theirs.in_proj_weight.grad, **close)
        torch.testing.assert_close(cross.out.weight.grad, theirs.out_proj.weight.grad, **close)
        torch.testing.assert_close(cross.out.bias.grad, theirs.out_proj.bias.grad, **close)


# ---------------------------------------------------------------------- Marian


def marian() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.MarianConfig(
        vocab_size=V,
        d_model=C,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=H,
        decoder_attention_heads=H,
        encoder_ffn_dim=4 * C,
        decoder_ffn_dim=4 * C,
        activation_function="gelu",
        max_position_embeddings=16,
        pad_token_id=0,
        decoder_start_token_id=0,
        dropout=0.0,
        attn_implementation="eager",
    )
    model = transformers.MarianMTModel(config)
    for part in (model.model.encoder.layers, model.model.decoder.layers, model.model.shared):
        add_noise(part)
    return model.double().eval()


def like_marian(theirs: Any) -> Any:
    model = model_of(norm="post_ln", positional="learned")
    model.embed.weight.data.copy_(theirs.model.shared.weight)
    for their_stack, ours in ((theirs.model.encoder, model.encoder), (theirs.model.decoder, model)):
        ours.positionals[0].table.weight.data.copy_(their_stack.embed_positions.weight)
        for their_block, block in zip(their_stack.layers, ours.blocks, strict=True):
            attention = their_block.self_attn
            copy_joined([attention.q_proj, attention.k_proj, attention.v_proj], block.attention.qkv)
            copy(attention.out_proj, block.attention.out)
            copy(their_block.self_attn_layer_norm, block.norm.layers["attention"])
            if hasattr(block, "cross"):
                attention = their_block.encoder_attn
                copy(attention.q_proj, block.cross.q)
                copy_joined([attention.k_proj, attention.v_proj], block.cross.kv)
                copy(attention.out_proj, block.cross.out)
                copy(their_block.encoder_attn_layer_norm, block.norm.layers["cross"])
            copy(their_block.fc1, block.ffn.up)
            copy(their_block.fc2, block.ffn.down)
            copy(their_block.final_layer_norm, block.norm.layers["ffn"])
    return model


def test_logits_equal_marian_with_the_same_weights() -> None:
    theirs = marian()
    model = like_marian(theirs)
    with torch.no_grad():
        logits = theirs(input_ids=SOURCE.where(VALID, 0), attention_mask=VALID.long(), decoder_input_ids=TOKENS).logits
        torch.testing.assert_close(model(TOKENS, source=PADDED)[0], logits, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- T5


def t5(d_head: int) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=V,
        d_model=C,
        d_kv=d_head,
        d_ff=32,
        num_layers=ENCODER_LAYERS,
        num_decoder_layers=LAYERS,
        num_heads=H,
        feed_forward_proj="gated-silu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config)
    for part in (model.encoder, model.decoder, model.lm_head):
        add_noise(part)
    return model.double().eval()


def like_t5(theirs: Any) -> Any:
    d_head = theirs.config.d_kv
    model = model_of(
        {"encoder_positional": {"type": "t5", "bidirectional": True}},
        norm={"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 1e-6}},
        positional="t5",
        ffn={"type": "glu", "d_ff": 32},
        activation="silu",
        bias=False,
        tie_embeddings=False,
        d_head=d_head,
    )
    model.embed.weight.data.copy_(theirs.shared.weight)
    model.head.weight.data.copy_(theirs.lm_head.weight)
    for their_stack, ours in ((theirs.encoder, model.encoder), (theirs.decoder, model)):
        first = their_stack.block[0].layer[0].SelfAttention
        copy(first.relative_attention_bias, ours.positionals[0].table)
        copy(their_stack.final_layer_norm, ours.exit)
        for their_block, block in zip(their_stack.block, ours.blocks, strict=True):
            for part, name in zip(their_block.layer, block.names, strict=True):
                copy(part.layer_norm, block.norm.layers[name])
            attention = their_block.layer[0].SelfAttention
            scaled = attention.q.weight * d_head**0.5  # T5 does not divide its scores by the root of the width
            block.attention.qkv.weight.data.copy_(torch.cat([scaled, attention.k.weight, attention.v.weight]))
            copy(attention.o, block.attention.out)
            if hasattr(block, "cross"):
                attention = their_block.layer[1].EncDecAttention
                block.cross.q.weight.data.copy_(attention.q.weight * d_head**0.5)
                copy_joined([attention.k, attention.v], block.cross.kv)
                copy(attention.o, block.cross.out)
            network = their_block.layer[-1].DenseReluDense
            copy_joined([network.wi_0, network.wi_1], block.ffn.gate_up)
            copy(network.wo, block.ffn.down)
    return model


@pytest.mark.parametrize("d_head", [C // H, 10], ids=["heads_as_wide_as_the_model", "wider_heads"])
def test_logits_equal_t5_with_the_same_weights(d_head: int) -> None:
    if "t5" not in gptzoo.registered("positional"):
        pytest.skip("the package gptzoo-positions is not installed")
    theirs = t5(d_head)
    model = like_t5(theirs)
    with torch.no_grad():
        logits = theirs(input_ids=SOURCE.where(VALID, 0), attention_mask=VALID.long(), decoder_input_ids=TOKENS).logits
        # It computes norms and softmax in float32, whatever its weights are.
        torch.testing.assert_close(model(TOKENS, source=PADDED)[0], logits, rtol=1e-4, atol=1e-4)
