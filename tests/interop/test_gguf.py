"""GGUF files: llama.cpp computes what gptzoo computes, files come back as they were, and bad ones are refused."""

from __future__ import annotations

import gc
import json
import random
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from llama_oracle import LlamaCpp
from safetensors.torch import load_file, save_file
from support import needs_tiktoken_files

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.interop.gguf.export_file import export_gguf
from gptzoo.interop.gguf.import_file import import_gguf
from gptzoo.interop.gguf.reader import open_gguf
from gptzoo.interop.gguf.rope import frequency_factors
from gptzoo.interop.gguf.tokenizer_in import merges_of_scores
from gptzoo.interop.stored_tensors import StoredTensor
from gptzoo.reference import Reference

gguf = pytest.importorskip("gguf", reason="pip install gguf")
pytest.importorskip("tokenizers", reason="pip install tokenizers")

TEXTS = [
    "Once upon a time, there was a cat.",
    "  two  spaces\n\nand 1234 lines\t",
    "na\u00efve caf\u00e9 \u6771\u4eac \U0001f600!?",
    "it's we'll",
]
GREEDY = gptzoo.SamplingSpec(max_new_tokens=64, processors=({"type": "temperature", "value": 0.0},))
LLAMA: dict[str, Any] = {
    "context_length": 128,
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 4,
    "attention": {"type": "sdpa", "n_kv_heads": 2},
    "positional": "rope",
    "norm": {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 1e-5}},
    "activation": "silu",
    "ffn": {"type": "glu", "d_ff": 96},
    "bias": False,
    "tie_embeddings": False,
}
LLAMA3 = {
    "type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_context_length": 32,
}
GPT2 = {
    "context_length": 128,
    "d_model": 64,
    "n_layers": 2,
    "n_heads": 4,
    "activation": {"type": "gelu", "approximate": "tanh"},
}
SPECS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama-tied": {**LLAMA, "tie_embeddings": True, "d_head": 24},
    "llama-bias": {**LLAMA, "attention": {"type": "sdpa", "n_kv_heads": 4}, "bias": True},
    "llama3": {**LLAMA, "d_head": 32, "positional": {"type": "rope", "theta": 500000.0, "scaling": LLAMA3}},
    "llama-linear": {**LLAMA, "positional": {"type": "rope", "scaling": {"type": "linear", "factor": 4.0}}},
    "llama-yarn": {
        **LLAMA,
        "positional": {"type": "rope", "scaling": {"type": "yarn", "factor": 4.0, "original_context_length": 32}},
    },
    "gpt2": GPT2,
    "gpt2-untied": {**GPT2, "tie_embeddings": False, "ffn": {"type": "mlp", "d_ff": 96}},
}
SPECS["llama-bias"]["norm"] = {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 1e-6}}


def byte_level_tokenizer() -> Any:
    config: Any = Reference("tokenizer").validate({"type": "bpe", "vocab_size": 300})
    return config.build(type(config).component.fit(config, TEXTS * 20))


def make_model(spec: dict[str, Any], vocab_size: int = 300) -> Any:
    """Return a random model of which no weight is at a neutral initial value."""
    model = gptzoo.build({**spec, "vocab_size": vocab_size}).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.2 if parameter.ndim == 1 else 0.08))
    return model


def random_prompt(vocab_size: int = 300) -> list[int]:
    return torch.randint(0, vocab_size, (12,), generator=torch.Generator().manual_seed(5)).tolist()


def greedy(model: Any, prompt: list[int], end: int) -> list[int]:
    tokens = gptzoo.generate(model, [prompt], GREEDY)[0]
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@torch.no_grad()
def assert_same_distribution(oracle: LlamaCpp, model: Any, prompt: list[int], visible: int, atol: float) -> None:
    """Compare the log-probabilities of all tokens after a prompt."""
    expected = model(torch.tensor([prompt]))[0][0, -1].log_softmax(-1)
    found = oracle.log_probabilities(prompt, visible, len(expected))
    assert len(found) == len(expected)
    torch.testing.assert_close(torch.tensor([found[token] for token in range(len(found))]), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", SPECS)
def test_llama_cpp_writes_the_same_64_tokens_and_the_file_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    model, tokenizer = make_model(SPECS[name]), byte_level_tokenizer()
    save_model(tmp_path / "run", model, tokenizer)
    file, prompt = tmp_path / "model.gguf", random_prompt()
    exported = CliRunner().invoke(main, ["export-gguf", str(tmp_path / "run"), str(file)])
    assert exported.exit_code == 0, exported.output
    imported = CliRunner().invoke(main, ["import-gguf", str(file), str(tmp_path / "back")])
    assert imported.exit_code == 0, imported.output
    back = gptzoo.load(tmp_path / "back")
    ours, theirs = model.state_dict(), back.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert back.tokenizer is not None
    assert [list(back.tokenizer.encode(text)) for text in TEXTS] == [list(tokenizer.encode(text)) for text in TEXTS]
    assert back.tokenizer.end_tokens == tokenizer.end_tokens

    oracle = LlamaCpp(file)
    expected = greedy(model, prompt, tokenizer.eot)
    assert oracle.greedy(prompt, 64) == expected
    visible = tokenizer.encode("a")[0]
    tolerance = 5e-3 if "gpt2" in name else 1e-4  # llama.cpp looks GELU up in a table of 16-bit floats
    assert_same_distribution(oracle, model, [*prompt, *expected[:40]], visible, tolerance)
    assert [oracle.encode(text) for text in TEXTS] == [list(tokenizer.encode(text)) for text in TEXTS]


@pytest.mark.parametrize("file_type", ["bf16", "q8_0"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_smaller_types_stay_close(name: str, file_type: Any, tmp_path: Path) -> None:
    model = make_model(SPECS[name])
    file, prompt = tmp_path / "model.gguf", random_prompt()
    export_gguf(model, byte_level_tokenizer(), file, file_type)
    kinds = {tensor.quantization.name for tensor in open_gguf(file).tensors.values()}
    assert kinds == {"F32", file_type.upper()}
    import_gguf(file, tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").model
    for (
        key,
        weight,
    ) in model.state_dict().items():  # bfloat16 has 8 significant bits; Q8_0 has 127 steps up to the maximum
        bound = weight.abs() * 2**-8 if file_type == "bf16" else weight.abs().max() / 127
        assert ((back.state_dict()[key] - weight).abs() <= bound + 1e-6).all(), key
    assert_same_distribution(LlamaCpp(file), model, prompt, byte_level_tokenizer().encode("a")[0], 0.2)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_values_of_16_bits_keep_their_type(kind: str, tmp_path: Path) -> None:
    """The model folder is as large as the file, and so is one that is saved after loading it."""
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}[kind]
    model, name = make_model(LLAMA), "blk.0.ffn_down.weight"
    export_gguf(model, None, tmp_path / "whole.gguf")
    whole = open_gguf(tmp_path / "whole.gguf")
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    for key, value in whole.metadata.items():
        if key.startswith("llama."):
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    for other, tensor in whole.tensors.items():
        kept = gguf.GGMLQuantizationType[kind if tensor.read().ndim == 2 else "F32"]
        writer.add_tensor(other, gguf.quantize(tensor.read().numpy(), kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    import_gguf(tmp_path / "small.gguf", tmp_path / "back")
    loaded = gptzoo.load(tmp_path / "back")
    save_model(tmp_path / "again", loaded.model)
    for folder in ("back", "again"):
        stored = load_file(tmp_path / folder / "model.safetensors")
        assert {tensor.dtype for tensor in stored.values() if tensor.ndim == 2} == {dtype}
        expected = whole.tensors[name].read().to(dtype)
        assert torch.equal(stored["blocks.0.ffn.down.weight"], expected)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_export_has_the_tensors_of_one_layer_in_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model({**SPECS[name], "n_layers": 12})
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    save_model(tmp_path / "run", model, byte_level_tokenizer())
    most, n_reads, read = 0, 0, StoredTensor.read

    def counted(self: StoredTensor) -> torch.Tensor:
        nonlocal most, n_reads
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor) and not thing.is_meta]
        most, n_reads = max(most, sum(tensor.nbytes for tensor in tensors)), n_reads + 1
        return read(self)

    monkeypatch.setattr(StoredTensor, "read", counted)
    gc.collect()
    gc.freeze()  # so that the collections above look at new objects only
    try:
        result = CliRunner().invoke(main, ["export-gguf", str(tmp_path / "run"), str(tmp_path / "model.gguf")])
    finally:
        gc.unfreeze()
    assert result.exit_code == 0, result.output
    assert n_reads > 12
    assert 0 < most < 0.25 * size


def test_averaged_weights_are_exported(tmp_path: Path) -> None:
    model = make_model(LLAMA)
    save_model(tmp_path / "run", model, byte_level_tokenizer())
    command = ["export-gguf", str(tmp_path / "run"), str(tmp_path / "a.gguf"), "--averaged"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2
    assert "no averaged weights" in refused.output
    name = "blocks.1.ffn.down.weight"
    save_file({name: model.get_parameter(name) + 1}, tmp_path / "run" / "averages.safetensors")
    exported = CliRunner().invoke(main, command)
    assert exported.exit_code == 0, exported.output
    tensors = open_gguf(tmp_path / "a.gguf").tensors
    assert torch.equal(tensors["blk.1.ffn_down.weight"].read(), model.get_parameter(name) + 1)
    assert torch.equal(tensors["blk.0.ffn_down.weight"].read(), model.get_parameter("blocks.0.ffn.down.weight"))


def test_a_sentencepiece_tokenizer_goes_there_and_back(tmp_path: Path) -> None:
    tokenizer = sentencepiece_tokenizer()
    model = make_model(LLAMA, tokenizer.vocab_size + 3)  # with ids that the tokenizer lacks
    file = tmp_path / "model.gguf"
    export_gguf(model, tokenizer, file)
    import_gguf(file, tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").tokenizer
    assert back is not None
    ids = [list(tokenizer.encode(text)) for text in TEXTS]
    assert all(len(tokens) > 3 and tokens[0] == 1 for tokens in ids)
    assert [list(back.encode(text)) for text in TEXTS] == ids
    assert [back.decode_bytes(tokens) for tokens in ids] == [tokenizer.decode_bytes(tokens) for tokens in ids]
    assert back.end_tokens == (2,)
    oracle = LlamaCpp(file)
    assert [oracle.encode(text) for text in TEXTS] == ids


def sentencepiece_tokenizer() -> Any:
    space = "\u2581"
    words = [
        "once",
        "upon",
        "time",
        "there",
        "cat",
        f"{space}a",
        f"{space}the",
        "an",
        "on",
        "ti",
        "me",
        "up",
        "er",
        "re",
        "he",
    ]
    pieces = sorted({character for text in TEXTS[:1] for character in text.lower()} | {space, *"Oabcdehimnoprstuw"})
    parts = {word[:end] for word in words for end in range(2, len(word) + 1)}
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(p for p in pieces if p != " ")]
    tokens += sorted(parts, key=lambda part: (len(part), part))
    vocabulary = {text: token for token, text in enumerate(tokens)}
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    scores = [-float(token) for token in range(len(tokens))]
    state = {
        "version": "1.0",
        "added_tokens": [{"id": token, "content": tokens[token], **entry} for token in range(3)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": space},
                {"type": "Replace", "pattern": {"String": " "}, "content": space},
            ],
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": merges_of_scores(vocabulary, scores),
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }
    config: Any = Reference("tokenizer").validate("bpe")
    return config.build(add_special_tokens(state, SpecialTokens((1,), (2,), False, {"</s>": ()})))


@pytest.mark.slow
@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("byte", id="byte"),
        pytest.param({"type": "tiktoken", "name": "gpt2"}, id="tiktoken", marks=needs_tiktoken_files),
    ],
)
def test_other_byte_level_tokenizers_go_there_and_back(reference: Any, tmp_path: Path) -> None:
    config: Any = Reference("tokenizer").validate(reference)
    tokenizer = config.build()
    file = tmp_path / "model.gguf"
    export_gguf(make_model({**LLAMA, "n_layers": 1}, tokenizer.vocab_size), tokenizer, file)
    ids = [list(tokenizer.encode(text)) for text in TEXTS]
    oracle = LlamaCpp(file)
    assert [oracle.encode(text) for text in TEXTS] == ids
    import_gguf(file, tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").tokenizer
    assert back is not None
    assert [list(back.encode(text)) for text in TEXTS] == ids
    assert back.end_tokens == tokenizer.end_tokens


def test_bos_and_two_end_tokens_are_kept(tmp_path: Path) -> None:
    config: Any = Reference("tokenizer").validate("bpe")
    state = add_special_tokens(byte_level_tokenizer().state, SpecialTokens((5,), (0, 7), False, {"a": (), "b": ()}))
    file = tmp_path / "model.gguf"
    export_gguf(make_model(LLAMA), config.build(state), file)
    import_gguf(file, tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").tokenizer
    assert back is not None
    assert (back.prefix, back.end_tokens) == ((5,), (0, 7))
    assert LlamaCpp(file).encode(TEXTS[0]) == list(back.encode(TEXTS[0]))


@pytest.mark.parametrize(("original", "width"), [(8192, 128), (32, 32), (32, 16), (8192, 8), (500, 64)])
def test_the_scaling_of_llama_3_is_found_in_the_factors(original: int, width: int, tmp_path: Path) -> None:
    scaling = {**LLAMA3, "original_context_length": original}
    positional = {"type": "rope", "theta": 500000.0, "scaling": scaling}
    spec = gptzoo.load_model_spec({**LLAMA, "vocab_size": 300, "d_head": width, "positional": positional})
    model, file = make_model(json.loads(spec.model_dump_json())), tmp_path / "model.gguf"
    factors = frequency_factors(spec)
    assert factors is not None
    export_gguf(model, None, file)
    import_gguf(file, tmp_path / "back")
    torch.testing.assert_close(frequency_factors(gptzoo.load(tmp_path / "back").spec), factors)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attention": {"type": "sdpa", "window": 16}}, "llama: "),
        ({"positional": "alibi"}, "positional"),
        ({"activation": "relu"}, "activation"),
        ({"norm": "post_ln"}, "norm"),
    ],
)
def test_a_model_that_llama_cpp_cannot_compute_is_refused_with_the_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    if change.get("positional") == "alibi" and "alibi" not in gptzoo.registered("positional"):
        change = {"positional": "sinusoidal"}
    save_model(tmp_path / "run", make_model({**LLAMA, **change}), None)
    result = CliRunner().invoke(main, ["export-gguf", str(tmp_path / "run"), str(tmp_path / "model.gguf")])
    assert result.exit_code == 2
    assert "no architecture of llama.cpp computes this model" in result.output
    assert reason in result.output
    assert not list(tmp_path.glob("*.gguf"))


def test_a_tokenizer_that_llama_cpp_cannot_express_is_refused_and_can_be_left_out(tmp_path: Path) -> None:
    config: Any = Reference("tokenizer").validate("char")
    tokenizer = config.build(type(config).component.fit(config, ["abc"]))
    save_model(tmp_path / "run", make_model(LLAMA, tokenizer.vocab_size), tokenizer)
    arguments = ["export-gguf", str(tmp_path / "run"), str(tmp_path / "model.gguf")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "tokenizer 'char' cannot be written to a GGUF file" in result.output
    assert CliRunner().invoke(main, [*arguments, "--no-tokenizer"]).exit_code == 0
    again = CliRunner().invoke(main, [*arguments, "--no-tokenizer"])
    assert again.exit_code == 2
    assert "already exists" in again.output
    import_gguf(tmp_path / "model.gguf", tmp_path / "back")
    assert gptzoo.load(tmp_path / "back").tokenizer is None


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("gguf") / "model.gguf"
    export_gguf(make_model({**LLAMA, "n_layers": 1}), byte_level_tokenizer(), file)
    return file.read_bytes()


def run_import(content: bytes, folder: Path) -> Any:
    (folder / "bad.gguf").write_bytes(content)
    return CliRunner().invoke(main, ["import-gguf", str(folder / "bad.gguf"), str(folder / "out")])


def test_a_truncated_file_is_refused_wherever_it_ends(small_file: bytes, tmp_path: Path) -> None:
    for length in [*range(64), *range(64, len(small_file), len(small_file) // 60)]:
        result = run_import(small_file[:length], tmp_path)
        assert result.exit_code == 2, length
        assert "bad.gguf" in result.output
        assert not (tmp_path / "out").exists()


def test_damaged_headers_never_give_a_traceback(small_file: bytes, tmp_path: Path) -> None:
    header = small_file.index(b"blk.0.ffn_down.weight") + 200
    generator = random.Random(0)
    for index in range(150):
        content = bytearray(small_file)
        for _ in range(generator.randint(1, 3)):
            content[generator.randrange(header)] = generator.choice([0, 1, 255, generator.randrange(256)])
        folder = tmp_path / str(index)
        folder.mkdir()
        result = run_import(bytes(content), folder)
        assert result.exit_code in (0, 2), (index, result.output, result.exception)


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 1
    return content.replace(old, new)


def test_each_fault_is_named(small_file: bytes, tmp_path: Path) -> None:
    count, key = struct.pack("<I", 4), b"llama.block_count" + struct.pack("<I", 4)
    faults = [
        (b"GGML" + small_file[4:], "is not a GGUF file"),
        (small_file[:4] + struct.pack(">I", 3) + small_file[8:], "big-endian"),
        (small_file[:4] + struct.pack("<I", 9) + small_file[8:], "version 9"),
        (small_file[:8] + struct.pack("<Q", 2**60) + small_file[16:], "too small for"),
        (small_file[:16] + struct.pack("<Q", 2**60) + small_file[24:], "truncated or damaged"),
        (patched(small_file, key + struct.pack("<I", 1), key + struct.pack("<I", 60000)), "llama.block_count"),
        (patched(small_file, b"llama.block_count" + count, b"llama.Block_count" + count), "block_count: is required"),
        (patched(small_file, b"llama.vocab_size", b"llama.vocab_sizE"), "llama.vocab_sizE: unknown setting"),
        (patched(small_file, b"blk.0.ffn_up.weight", b"blk.0.ffn_Up.weight"), "blk.0.ffn_up.weight"),
        (small_file.replace(b"blk.0.ffn_up.weight", b"blk.0.attn_q.weight"[:19]), "has the tensor"),
    ]
    name = b"general.architecture" + struct.pack("<IQ", 8, 5)
    faults.append((patched(small_file, name + b"llama", name + b"mamba"), "no importer for the architecture 'mamba'"))
    for index, (content, expected) in enumerate(faults):
        folder = tmp_path / str(index)
        folder.mkdir()
        result = run_import(content, folder)
        assert result.exit_code == 2, (expected, result.output)
        assert expected in result.output
        assert "Traceback" not in result.output


def test_a_missing_file_and_the_other_command_are_explained(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["import-gguf", str(tmp_path / "none.gguf"), str(tmp_path / "out")])
    assert (result.exit_code, "no such file" in result.output) == (2, True)
    result = CliRunner().invoke(main, ["import-hf", str(tmp_path / "x.gguf"), str(tmp_path / "out")])
    assert (result.exit_code, "gptzoo import-gguf" in result.output) == (2, True)


def test_all_parts_of_a_split_file_are_read(tmp_path: Path) -> None:
    model = make_model(LLAMA)
    export_gguf(model, None, tmp_path / "whole.gguf")
    whole = open_gguf(tmp_path / "whole.gguf")
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama", split_max_tensors=7)
    for key, value in whole.metadata.items():
        if key.startswith("llama."):
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    for name, tensor in whole.tensors.items():
        writer.add_tensor(name, tensor.read().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("part-*.gguf"))
    assert len(parts) > 1
    import_gguf(parts[0], tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").model.state_dict()
    assert all(torch.equal(back[name], weight) for name, weight in model.state_dict().items())
    parts[1].unlink()
    with pytest.raises(gptzoo.FolderError, match="no such file"):
        import_gguf(parts[0], tmp_path / "again")


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "Q4_K", "Q6_K"])
def test_quantised_tensors_are_read_as_their_package_reads_them(kind: str, tmp_path: Path) -> None:
    model = make_model({**LLAMA, "d_model": 256, "ffn": {"type": "glu", "d_ff": 256}})
    export_gguf(model, None, tmp_path / "whole.gguf")
    whole = open_gguf(tmp_path / "whole.gguf")
    quantization = gguf.GGMLQuantizationType[kind]
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[quantization]
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    for key, value in whole.metadata.items():
        if key.startswith("llama."):
            (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    name = "blk.0.ffn_down.weight"
    for other, tensor in whole.tensors.items():
        if other != name:
            writer.add_tensor(other, tensor.read().numpy())
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 100, (256, 256 // block_size * block_bytes), generator=generator, dtype=torch.uint8).numpy()
    writer.add_tensor(name, rows, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    import_gguf(tmp_path / "small.gguf", tmp_path / "back")
    back = gptzoo.load(tmp_path / "back").model.state_dict()["blocks.0.ffn.down.weight"]
    expected = torch.from_numpy(gguf.dequantize(rows if kind not in ("F16",) else rows.view("<f2"), quantization))
    torch.testing.assert_close(back, expected.float().reshape(256, 256), rtol=0, atol=0, equal_nan=True)


def test_without_the_package_gguf_the_commands_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "run", make_model(LLAMA), None)
    monkeypatch.setitem(sys.modules, "gguf", None)
    for command in (
        ["export-gguf", tmp_path / "run", tmp_path / "x.gguf"],
        ["import-gguf", "x.gguf", tmp_path / "out"],
    ):
        result = CliRunner().invoke(main, [str(argument) for argument in command])
        assert result.exit_code == 2
        assert "pip install 'gptzoo[gguf]'" in result.output
