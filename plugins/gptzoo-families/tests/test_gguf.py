"""Each family that llama.cpp knows: its GGUF file gives the same 64 tokens there, and comes back bit by bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_families import (
    CONFIGS,
    LLAMA3,
    LOCAL_AND_GLOBAL,
    SIZES,
    YARN,
    randomise,
    rope,
)
from gptzoo_families import gptzoo_components
from llama_oracle import LlamaCpp

import gptzoo
from gptzoo.interop.gguf.export_file import export_gguf
from gptzoo.interop.gguf.import_file import import_gguf
from gptzoo.interop.gguf.reader import open_gguf
from gptzoo.interop.hugging_face import import_folder

pytest.importorskip("gguf", reason="pip install gguf")

GREEDY = gptzoo.SamplingSpec(max_new_tokens=64, processors=({"type": "temperature", "value": 0.0},))
FIVE_TO_ONE = ["sliding_attention"] * 5 + ["full_attention"]
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mixtral": ("llama", "Mixtral", CONFIGS["mixtral"][1]),
    "qwen2": ("qwen2", "Qwen2", CONFIGS["qwen2"][1]),
    "qwen2-yarn": ("qwen2", "Qwen2", CONFIGS["qwen2-yarn"][1]),
    "qwen3": ("qwen3", "Qwen3", CONFIGS["qwen3"][1]),
    "qwen3-tied": ("qwen3", "Qwen3", {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3-moe": ("qwen3moe", "Qwen3Moe", CONFIGS["qwen3-moe"][1]),
    "olmoe": ("olmoe", "Olmoe", {**CONFIGS["olmoe"][1], "num_key_value_heads": 4}),
    "gemma": ("gemma", "Gemma", CONFIGS["gemma"][1]),
    "gemma2": ("gemma2", "Gemma2", {**CONFIGS["gemma2"][1], "query_pre_attn_scalar": 24}),
    "gemma2-other-layers": (
        "gemma2",
        "Gemma2",
        {**CONFIGS["gemma2"][1], "query_pre_attn_scalar": 24, "layer_types": LOCAL_AND_GLOBAL[::-1]},
    ),
    "gemma3": (
        "gemma3",
        "Gemma3Text",
        {**CONFIGS["gemma3"][1], "query_pre_attn_scalar": 24, "num_hidden_layers": 6, "layer_types": FIVE_TO_ONE},
    ),
    "gemma3-scaled": (
        "gemma3",
        "Gemma3Text",
        {**CONFIGS["gemma3-scaled"][1], "query_pre_attn_scalar": 8, "num_hidden_layers": 6, "layer_types": FIVE_TO_ONE},
    ),
    "starcoder2": ("starcoder2", "Starcoder2", {"num_key_value_heads": 2, "sliding_window": None}),
    "stablelm": ("stablelm", "StableLm", CONFIGS["stablelm"][1]),
    "stablelm-parallel": ("stablelm", "StableLm", CONFIGS["stablelm-parallel"][1]),
    "phi": ("phi2", "Phi", CONFIGS["phi"][1]),
    "phi4-mini": ("phi3", "Phi3", CONFIGS["phi4-mini"][1]),
    "gpt-neox": ("gptneox", "GPTNeoX", CONFIGS["gpt-neox"][1]),
    "gpt-neox-serial": (
        "gptneox",
        "GPTNeoX",
        {"num_attention_heads": 2, "use_parallel_residual": False, "rope_parameters": rope(1.0)},
    ),
    "falcon-7b": ("falcon", "Falcon", CONFIGS["falcon-7b"][1]),
    "falcon-40b": ("falcon", "Falcon", CONFIGS["falcon-40b"][1]),
    "granite": ("granite", "Granite", CONFIGS["granite"][1]),
    "granite-bias": ("granite", "Granite", {**CONFIGS["granite-bias"][1], "rope_parameters": LLAMA3}),
    "cohere": ("command-r", "Cohere", CONFIGS["cohere"][1]),
    "bloom": ("bloom", "Bloom", CONFIGS["bloom"][1]),
    "bloom-6-heads": ("bloom", "Bloom", CONFIGS["bloom-6-heads"][1]),
    "olmo": ("olmo", "Olmo", CONFIGS["olmo"][1]),
    "olmo2": ("olmo2", "Olmo2", CONFIGS["olmo2"][1]),
    "olmo2-yarn": ("olmo2", "Olmo2", {"num_key_value_heads": 1, "tie_word_embeddings": True, "rope_parameters": YARN}),
    "olmo3": (
        "olmo2",
        "Olmo3",
        {
            **CONFIGS["olmo3"][1],
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
    ),
    "smollm3": ("smollm3", "SmolLM3", {"num_key_value_heads": 2, "num_hidden_layers": 4}),
    "glm": ("chatglm", "Glm", CONFIGS["glm"][1]),
    "glm4": ("glm4", "Glm4", CONFIGS["glm4"][1]),
    "glm4-no-bias": ("glm4", "Glm4", CONFIGS["glm4-no-bias"][1]),
}
"""By name: the architecture in llama.cpp, the family in transformers, and its settings besides SIZES."""


def import_model(name: str, folder: Path) -> Any:
    _, family, options = MODELS[name]
    sizes = {} if family == "Bloom" else dict(SIZES)
    if family == "Falcon":
        del sizes["intermediate_size"]
    config = getattr(transformers, f"{family}Config")(**{**sizes, **options})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(model, 0)
    model.save_pretrained(folder / "theirs")
    import_folder(folder / "theirs", folder / "ours")
    return gptzoo.load(folder / "ours").model


def byte_tokenizer(vocab_size: int) -> Any:
    """Return a byte-level BPE without merges for a vocabulary smaller than all bytes. Its end token is the last id."""
    stand_ins = [chr(code) for code in range(0x21, 0x7F)]
    texts = [*stand_ins, *(f"<extra_{index}>" for index in range(vocab_size - len(stand_ins)))]
    assert len(texts) == vocab_size
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    state = {
        "version": "1.0",
        "added_tokens": [{"id": vocab_size - 1, "content": texts[-1], **entry}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {text: token for token, text in enumerate(texts)}, "merges": [["!", '"']]},
    }
    state["model"]["vocab"]['!"'] = vocab_size - 2
    del state["model"]["vocab"][texts[-2]]
    state["gptzoo"] = {"prefix": [], "end": [vocab_size - 1], "in_text": False, "sources": {texts[-1]: []}}
    return gptzoo.registered("tokenizer")["bpe"].Config(type="bpe").build(state)


def until(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_writes_the_same_64_tokens(name: str, tmp_path: Path) -> None:
    model, architecture = import_model(name, tmp_path), MODELS[name][0]
    vocab_size = model.spec.vocab_size
    tokenizer, file = byte_tokenizer(vocab_size), tmp_path / "model.gguf"
    result = export_gguf(model, tokenizer, file)
    assert open_gguf(file).metadata["general.architecture"] == architecture == result.architecture

    import_gguf(file, tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").model
    ours, theirs = model.state_dict(), back.state_dict()
    if "head.weight" in theirs and "head.weight" not in ours:  # written for an architecture that needs it
        ours["head.weight"] = ours["embed.weight"]
    assert ours.keys() == theirs.keys()
    for key, weight in ours.items():  # Gemma's norms are stored as 1 + weight, which rounds
        torch.testing.assert_close(theirs[key], weight, rtol=0, atol=3e-7 if "gemma" in name and "norm" in key else 0)

    prompt = torch.randint(3, vocab_size - 2, (12,), generator=torch.Generator().manual_seed(7)).tolist()
    expected = until(gptzoo.generate(model, [prompt], GREEDY)[0], vocab_size - 1)
    assert len(expected) > 10
    assert LlamaCpp(file).greedy(prompt, 64) == expected


@pytest.mark.parametrize("file_type", ["bf16", "q8_0"])
@pytest.mark.parametrize("name", ["qwen3-moe", "gemma3", "falcon-40b", "glm4"])
def test_smaller_types_stay_close(name: str, file_type: Any, tmp_path: Path) -> None:
    model, file = import_model(name, tmp_path), tmp_path / "model.gguf"
    export_gguf(model, byte_tokenizer(model.spec.vocab_size), file, file_type)
    prompt = list(range(3, 30))
    found = LlamaCpp(file).log_probabilities(prompt, 40, model.spec.vocab_size)
    with torch.no_grad():
        expected = model(torch.tensor([prompt]))[0][0, -1].log_softmax(-1)
    assert len(found) == len(expected)
    torch.testing.assert_close(torch.tensor([found[i] for i in range(len(found))]), expected, rtol=0, atol=0.25)


REFUSED = {
    "qwen2-window": "attention.sliding_window: llama.cpp does not read this",
    "phi3": "a sliding window",
    "gemma2": "attention[0].scale",
    "gemma2-no-cap": "logit_softcap",
    "starcoder2-no-bias": "linear layers must have biases",
    "cohere-qk-norm": "query and key norms",
    "olmoe": "as many key heads",
    "olmo3": "every fourth layer",
    "qwen3-llama3": "the scaling 'llama3'",
    "falcon-rw": "alibi",
}
"""Models of `checkpoint_families` that llama.cpp computes otherwise, and a part of the reason."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    from checkpoint_families import make_model

    make_model(name).save_pretrained(tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    with pytest.raises(gptzoo.SpecError, match=r"no architecture of llama\.cpp computes this model") as error:
        export_gguf(gptzoo.load(tmp_path / "ours").model, None, tmp_path / "model.gguf")
    assert REFUSED[name] in str(error.value)
    assert not (tmp_path / "model.gguf").exists()


def test_every_description_names_an_architecture_of_the_package_gguf() -> None:
    from gguf import MODEL_ARCH_NAMES

    names = {description.name for importer in gptzoo_components() for description in getattr(importer, "gguf", ())}
    assert len(names) >= 20
    assert names <= set(MODEL_ARCH_NAMES.values())
    assert names == {architecture for architecture, _, _ in MODELS.values()}


def test_the_documentation_lists_all_architectures() -> None:
    page = (Path(__file__).parents[3] / "docs" / "gguf.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row)} - {"f32", "bf16", "q8_0"}
    assert listed == {architecture for architecture, _, _ in MODELS.values()} | {"gpt2"}
