"""Checkpoints in pickles, FP8, MXFP4 and bfloat16. transformers and the definitions of the formats are the oracle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

import gptzoo
from gptzoo.errors import FolderError, SpecError
from gptzoo.interop.quantised import Quantisation, dequantise
from gptzoo.interop.stored_tensors import StoredTensor, open_tensors

Save = Callable[..., Any]


def tiny() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=24))


@pytest.fixture
def checkpoint(save: Save) -> Any:
    return save(tiny())


def to_pickles(folder: Path, n_shards: int = 1, **options: Any) -> None:
    """Turn the safetensors file of a checkpoint into pickles, with an index if there are several."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    if n_shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin", **options)
        return
    shard_of = {name: f"pytorch_model-{i % n_shards + 1:05}-of-{n_shards:05}.bin" for i, name in enumerate(tensors)}
    for shard in set(shard_of.values()):
        torch.save({name: tensor for name, tensor in tensors.items() if shard_of[name] == shard}, folder / shard)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shard_of}))


@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pickle_of_tensors_is_imported(save: Save, n_shards: int, dtype: torch.dtype) -> None:
    model = tiny().to(dtype)
    checkpoint = save(model)
    to_pickles(checkpoint.folder, n_shards)
    checkpoint.import_()
    checkpoint.assert_same_logits(model.float())


def test_a_pickle_in_the_format_before_mapping_is_imported(save: Save) -> None:
    model = tiny()
    checkpoint = save(model)
    to_pickles(checkpoint.folder, _use_new_zipfile_serialization=False)
    checkpoint.import_()
    checkpoint.assert_same_logits(model)


class Malicious:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.file),))


def test_a_pickle_with_code_is_refused_and_the_code_does_not_run(checkpoint: Any, tmp_path: Path) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    torch.save({"wte.weight": Malicious(tmp_path / "hacked")}, checkpoint.folder / "pytorch_model.bin")
    assert "holds other objects than tensors" in checkpoint.import_error(FolderError)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("contents", [b"", b"no pickle", b"PK\x03\x04 neither"])
def test_a_damaged_pickle_is_named(checkpoint: Any, contents: bytes) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    (checkpoint.folder / "pytorch_model.bin").write_bytes(contents)
    assert "pytorch_model.bin: cannot be read; it is damaged" in checkpoint.import_error(FolderError)


def test_a_pickle_of_something_else_is_named(checkpoint: Any) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    torch.save({"state_dict": {"a": torch.ones(1)}}, checkpoint.folder / "pytorch_model.bin")
    assert "expected a dict of tensors by name" in checkpoint.import_error(FolderError)


def test_an_index_of_pickles_cannot_name_a_file_in_another_folder(checkpoint: Any) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    torch.save({"wte.weight": torch.ones(1)}, checkpoint.folder.parent / "elsewhere.bin")
    index = {"weight_map": {"wte.weight": "../elsewhere.bin"}}
    (checkpoint.folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "expected file names in the same folder" in checkpoint.import_error(FolderError)


# ---------------------------------------------------------------------- FP8 and MXFP4


def stored(tensors: dict[str, Tensor], folder: Path) -> Any:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return open_tensors(folder)


def random_fp8(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape) + shape[0])
    return (torch.randn(shape, generator=generator) * 20).to(torch.float8_e4m3fn)


@pytest.mark.parametrize(
    ("shape", "scales", "name"),
    [
        ((256, 384), (2, 3), "weight_scale_inv"),
        ((64, 96), (1, 1), "weight_scale_inv"),
        ((64, 96), (64, 1), "weight_scale"),
        ((4, 256, 128), (4, 2, 1), "weight_scale_inv"),
    ],
)
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_fp8_is_dequantised_as_transformers_does(
    tmp_path: Path, shape: tuple[int, ...], scales: tuple[int, ...], name: str, dtype: str
) -> None:
    weight, scale = random_fp8(*shape), torch.rand(scales, generator=torch.Generator().manual_seed(1)) + 0.5
    tensors, notes = dequantise(
        stored({"a.weight": weight, f"a.{name}": scale, "b.bias": torch.ones(3)}, tmp_path),
        Quantisation("fp8", dtype, (128, 128)),
    )
    assert tensors.keys() == {"a.weight", "b.bias"}
    torch_dtype = {"F32": torch.float32, "BF16": torch.bfloat16}[dtype]
    expected = Fp8Dequantize(None)._dequantize_one(weight, scale, torch_dtype)
    assert torch.equal(tensors["a.weight"].read(), expected)
    assert (tensors["a.weight"].shape, tensors["a.weight"].dtype) == (shape, dtype)
    assert notes == [f"1 tensors in fp8 are dequantised to {dtype}"]


def test_fp8_blocks_may_be_cut_at_the_edges(tmp_path: Path) -> None:
    """As in DeepSeek-V3's kv_a_proj_with_mqa, which has 576 rows: a loop over the blocks is the oracle."""
    weight, scale = random_fp8(200, 300), torch.rand(2, 3, generator=torch.Generator().manual_seed(1))
    expected = weight.float()
    for i in range(2):
        for j in range(3):
            expected[128 * i : 128 * i + 128, 128 * j : 128 * j + 128] *= scale[i, j]
    tensors, _ = dequantise(
        stored({"a.weight": weight, "a.weight_scale_inv": scale}, tmp_path), Quantisation("fp8", "F32", (128, 128))
    )
    assert torch.equal(tensors["a.weight"].read(), expected)


@pytest.mark.parametrize("scale", [torch.tensor(0.5), torch.tensor([0.5])])
def test_fp8_may_have_one_scale_and_scales_of_activations_are_left_out(tmp_path: Path, scale: Tensor) -> None:
    weight = random_fp8(6, 8)
    names = {"a.weight": weight, "a.weight_scale": scale, "a.input_scale": torch.ones(1)}
    tensors, _ = dequantise(stored(names, tmp_path), Quantisation("compressed-tensors", "F32"))
    assert tensors.keys() == {"a.weight"}
    assert torch.equal(tensors["a.weight"].read(), weight.float() * 0.5)


def test_missing_and_wrong_scales_of_fp8_are_named(tmp_path: Path) -> None:
    weight, quantisation = random_fp8(256, 256), Quantisation("fp8", "F32", (128, 128))
    with pytest.raises(FolderError, match=r"a\.weight: is stored in F8_E4M3, and the checkpoint has no scale"):
        dequantise(stored({"a.weight": weight}, tmp_path), quantisation)
    wrong = {"a.weight": weight, "a.weight_scale_inv": torch.ones(3, 2)}
    with pytest.raises(FolderError, match=r"a\.weight_scale_inv: shape \(3, 2\) does not fit a\.weight \(256, 256\)"):
        dequantise(stored(wrong, tmp_path), quantisation)


def test_mxfp4_is_dequantised_as_transformers_does(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 10, 2, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(110, 140, (3, 10, 2), dtype=torch.uint8, generator=generator)
    names = {"experts.down_proj_blocks": blocks, "experts.down_proj_scales": scales}
    tensors, _ = dequantise(stored(names, tmp_path), Quantisation("mxfp4", "BF16"))
    assert tensors.keys() == {"experts.down_proj"}
    tensor = tensors["experts.down_proj"]
    assert torch.equal(tensor.read(), convert_moe_packed_tensors(blocks, scales))
    assert tensor.shape == (3, 64, 10)
    with pytest.raises(FolderError, match=r"experts\.down_proj_scales: is missing"):
        dequantise(stored({"experts.down_proj_blocks": blocks}, tmp_path), Quantisation("mxfp4", "BF16"))


def quantise_fp8(weight: Tensor, block: int) -> tuple[Tensor, Tensor]:
    rows, columns = weight.shape
    blocks = weight.view(rows // block, block, columns // block, block)
    scale = blocks.abs().amax((1, 3)) / 448
    return (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).view(rows, columns), scale


def test_a_checkpoint_in_fp8_gives_the_logits_of_its_dequantised_weights(save: Save) -> None:
    checkpoint = save(tiny())
    reference: dict[str, Tensor] = {}

    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        changed = {}
        for name, tensor in tensors.items():
            if name.endswith("c_fc.weight"):
                codes, scale = quantise_fp8(tensor, 32)
                changed |= {name: codes, name + "_scale_inv": scale}
                repeated = scale.repeat_interleave(32, 0).repeat_interleave(32, 1)
                reference[name] = codes.float() * repeated
            else:
                changed[name] = reference[name] = tensor
        return changed

    checkpoint.edit_tensors(change)
    quantisation = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    checkpoint.edit_config({"quantization_config": quantisation, "dtype": "float32"})
    result = checkpoint.import_()
    assert "2 tensors in fp8 are dequantised to F32" in result.notes
    model = tiny()
    model.load_state_dict(reference, strict=False)
    checkpoint.assert_same_logits(model)


def test_another_quantisation_is_refused_by_its_key(checkpoint: Any) -> None:
    checkpoint.edit_config({"quantization_config": {"quant_method": "gptq", "bits": 4}})
    assert '$.quantization_config: a gptzoo spec cannot express {"quant_method": "gptq"' in checkpoint.import_error(
        SpecError
    )
    checkpoint.edit_config({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}})
    assert "$.quantization_config.format: only float-quantized" in checkpoint.import_error(SpecError)


def test_codes_without_a_quantisation_are_refused(save: Save) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_tensors(
        lambda tensors: {
            name: tensor.to(torch.float8_e4m3fn) if name.endswith("c_fc.weight") else tensor
            for name, tensor in tensors.items()
        }
    )
    assert "c_fc.weight has dtype F8_E4M3" in checkpoint.import_error(FolderError)


# ---------------------------------------------------------------------- bfloat16


def test_a_folder_in_bfloat16_is_as_large_as_its_checkpoint_and_can_be_used(save: Save, tmp_path: Path) -> None:
    model = tiny().to(torch.bfloat16)
    checkpoint = save(model)
    checkpoint.import_()
    size = (checkpoint.out / "model.safetensors").stat().st_size
    assert size == pytest.approx((checkpoint.folder / "model.safetensors").stat().st_size, rel=0.1)
    checkpoint.assert_same_logits(model.float())
    loaded = gptzoo.load(checkpoint.out)
    assert len(gptzoo.generate(loaded.model, [[1, 2]], gptzoo.SamplingSpec(max_new_tokens=4))[0]) == 4


def test_only_one_tensor_is_read_at_a_time(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor that a conversion makes is dropped before the next one is read."""
    import gc
    import weakref

    checkpoint = save(tiny())
    gc.collect()
    gc.freeze()  # so that the collections below look at new objects only
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0
    read = StoredTensor.read

    def counted(self: StoredTensor) -> Tensor:
        nonlocal most
        gc.collect()
        tensor = read(self)
        alive.add(tensor)
        most = max(most, len(alive))
        return tensor

    monkeypatch.setattr(StoredTensor, "read", counted)
    try:
        checkpoint.import_()
    finally:
        gc.unfreeze()
    assert most <= 3


# ---------------------------------------------------------------------- memory


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_private_memory_does_not_grow_with_the_model(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the layers, the same growth: one tensor is in memory at a time."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from import_memory import make_checkpoint, measure

    sizes, growth = [], []
    for n_layers in (4, 16):
        folder = tmp_path / f"{n_layers}"
        sizes.append(make_checkpoint(folder, n_layers, 768, kind))
        growth.append(measure(folder, tmp_path / f"out-{n_layers}"))
    assert growth[1] < 0.7 * sizes[1]
    assert growth[1] - growth[0] < 0.1 * sizes[1]
