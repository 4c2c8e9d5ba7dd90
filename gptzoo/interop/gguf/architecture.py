"""`GgufArchitecture`, the base class of descriptions of GGUF files: one for each family that llama.cpp knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from gptzoo.interop.gguf.describe import describe
from gptzoo.interop.gguf.layouts import LayoutName
from gptzoo.interop.gguf.metadata import GgufMetadata
from gptzoo.interop.gguf.rope import has_frequency_factors, read_scaling
from gptzoo.spec.model import ModelSpec

ATTENTION = {
    "blk.{layer}.attn_q": "model.layers.{layer}.self_attn.q_proj",
    "blk.{layer}.attn_k": "model.layers.{layer}.self_attn.k_proj",
    "blk.{layer}.attn_v": "model.layers.{layer}.self_attn.v_proj",
    "blk.{layer}.attn_output": "model.layers.{layer}.self_attn.o_proj",
}
GATED_FFN = {
    "blk.{layer}.ffn_gate": "model.layers.{layer}.mlp.gate_proj",
    "blk.{layer}.ffn_up": "model.layers.{layer}.mlp.up_proj",
    "blk.{layer}.ffn_down": "model.layers.{layer}.mlp.down_proj",
}
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
PRE_NORMS = {
    "blk.{layer}.attn_norm": "model.layers.{layer}.input_layernorm",
    "blk.{layer}.ffn_norm": "model.layers.{layer}.post_attention_layernorm",
}


class GgufArchitecture:
    """The GGUF form of a family. The base class describes Llama's settings and tensors; a subclass says what differs.

    An importer names its subclass in `gguf`. Settings go from the file to config.json, which the importer reads.
    In the other direction the metadata follow from the spec. An export is refused if the file, read back, would not
    give the same spec.
    """

    name: ClassVar[str]
    """Name of the architecture in llama.cpp, in `general.architecture`."""
    tensors: ClassVar[Mapping[str, str]] = {**ENDS, **PRE_NORMS, **ATTENTION, **GATED_FFN}
    """Names in GGUF files and in checkpoints, without `.weight` and `.bias`. A checkpoint name with `{expert}` or
    `{head}` stands for several tensors, which the GGUF file stacks."""
    layouts: ClassVar[Mapping[str, LayoutName]] = {}
    """Layouts of tensors that differ, by the last part of the GGUF name."""
    eps: ClassVar[tuple[str, str]] = ("rms_norm_eps", "attention.layer_norm_rms_epsilon")
    """The setting of the norms' epsilon, and its metadata key."""
    rotates_parts: ClassVar[bool] = False
    """True if llama.cpp can rotate a part of each head."""
    has_own_d_head: ClassVar[bool] = True
    """True if llama.cpp allows heads of another width than d_model / n_heads."""
    needs_output: ClassVar[bool] = False
    """True if llama.cpp needs an output matrix even where it equals the embedding."""
    reads_frequency_factors: ClassVar[bool] = False
    """True if llama.cpp reads the factors of Llama 3's scaling of rotary frequencies."""
    has_attention_bias: ClassVar[bool] = True
    """True if queries, keys and values may have biases."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Small differences between a model and what llama.cpp computes, as sentences for the user of an export."""
    unwritten: ClassVar[frozenset[str]] = frozenset()
    """Metadata keys that are not written, because llama.cpp has their values built in."""
    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Metadata keys that llama.cpp does not need for this architecture."""

    def matches(self, file: GgufMetadata) -> bool:
        """Return True if a file of this architecture is of this family. Several families may share an architecture."""
        return True

    def settings(self, file: GgufMetadata) -> dict[str, Any]:
        """Return the settings of config.json that the metadata of a file describe."""
        d_model, n_heads = file.required_count("embedding_length"), file.required_count("attention.head_count")
        d_head = file.count("attention.key_length", d_model // n_heads)
        file.require("attention.value_length", d_head)
        setting, key = self.eps
        return {
            "vocab_size": file.rows("token_embd.weight"),
            "hidden_size": d_model,
            "num_hidden_layers": file.n_layers(),
            "num_attention_heads": n_heads,
            "num_key_value_heads": file.count("attention.head_count_kv", n_heads),
            "head_dim": d_head,
            "intermediate_size": file.required_count("feed_forward_length"),
            "max_position_embeddings": file.required_count("context_length"),
            setting: file.required_number(key),
            "tie_word_embeddings": not file.has("output.weight"),
            **self.read_rope(file, d_head),
        }

    def read_rope(self, file: GgufMetadata, d_head: int) -> dict[str, Any]:
        """Return the settings of rotary positions."""
        theta = file.number("rope.freq_base", 10000.0)
        rotated = file.count("rope.dimension_count", d_head)
        read: dict[str, Any] = {"rope_theta": theta}
        if self.rotates_parts:
            read["partial_rotary_factor"] = rotated / d_head
        else:
            file.require("rope.dimension_count", d_head)
        scaling = read_scaling(file, theta, rotated)
        return read if scaling is None else {**read, "rope_scaling": scaling}

    def metadata(self, spec: ModelSpec) -> dict[str, Any]:
        """Return the metadata of a model, by keys without the architecture's name."""
        return {key: value for key, value in describe(spec).items() if key not in self.unwritten}

    def limits(self, spec: ModelSpec) -> Iterator[str]:
        """Yield what llama.cpp cannot compute although the metadata can say it."""
        if not self.has_own_d_head and spec.d_head is not None:
            yield f"d_head must be d_model / n_heads, {spec.d_model / spec.n_heads:g}, not {spec.d_head}"
        if not self.reads_frequency_factors and has_frequency_factors(spec):
            yield "the scaling 'llama3' of rotary frequencies is not supported"
        attentions = spec.per_layer("attention")
        if not self.has_attention_bias and any(getattr(attention, "qkv_bias", False) for attention in attentions):
            yield "attention has no biases"


class InterleavedLlama(GgufArchitecture):
    """The base class of architectures whose queries and keys have interleaved rotary pairs in GGUF files."""

    layouts = {"attn_q": "queries", "attn_k": "keys"}

    def settings(self, file: GgufMetadata) -> dict[str, Any]:
        bias = {"attention_bias": file.has("blk.0.attn_q.bias"), "mlp_bias": file.has("blk.0.ffn_up.bias")}
        return {**super().settings(file), **bias}


class LlamaGguf(InterleavedLlama):
    """Llama, and Mistral without a sliding window."""

    name = "llama"
    reads_frequency_factors = True

    def matches(self, file: GgufMetadata) -> bool:
        return not file.count("expert_count", None)


class GPT2Gguf(GgufArchitecture):
    """GPT-2."""

    name = "gpt2"
    tensors = {
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        "blk.{layer}.attn_norm": "transformer.h.{layer}.ln_1",
        "blk.{layer}.attn_qkv": "transformer.h.{layer}.attn.c_attn",
        "blk.{layer}.attn_output": "transformer.h.{layer}.attn.c_proj",
        "blk.{layer}.ffn_norm": "transformer.h.{layer}.ln_2",
        "blk.{layer}.ffn_up": "transformer.h.{layer}.mlp.c_fc",
        "blk.{layer}.ffn_down": "transformer.h.{layer}.mlp.c_proj",
    }
    layouts = dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), "transposed")
    has_own_d_head = False

    def settings(self, file: GgufMetadata) -> dict[str, Any]:
        n_heads = file.required_count("attention.head_count")
        file.require("attention.head_count_kv", n_heads)
        file.require("context_length", file.rows("position_embd.weight"))
        return {
            "vocab_size": file.rows("token_embd.weight"),
            "n_embd": file.required_count("embedding_length"),
            "n_layer": file.n_layers(),
            "n_head": n_heads,
            "n_inner": file.required_count("feed_forward_length"),
            "n_positions": file.rows("position_embd.weight"),
            "layer_norm_epsilon": file.required_number("attention.layer_norm_epsilon"),
            "tie_word_embeddings": not file.has("output.weight"),
        }
