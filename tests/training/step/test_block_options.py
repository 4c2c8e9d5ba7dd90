from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import small

import gptzoo
from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.training.step.block_options import prepare_blocks


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = newest_valid_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint / "model.safetensors")


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row["train/loss"] for row in rows if "train/loss" in row]


def test_activation_checkpointing_changes_no_bit_of_a_run_with_dropout(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "stored", quiet=True)
    gptzoo.train({**run_spec, "activation_checkpointing": True}, tmp_path / "recomputed", quiet=True)
    stored, recomputed = weights(tmp_path / "stored"), weights(tmp_path / "recomputed")
    assert stored.keys() == recomputed.keys()
    assert all(torch.equal(stored[name], recomputed[name]) for name in stored)


def test_activation_checkpointing_stores_less_for_the_backward_pass() -> None:
    stored_bytes = {}
    for recompute in (False, True):
        model = gptzoo.build(small(n_layers=4, context_length=64)).train()
        prepare_blocks(model, compile=False, recompute=recompute)
        tokens = torch.zeros(4, 64, dtype=torch.int64)
        n_bytes: dict[int, int] = {}

        def count(tensor: torch.Tensor, n_bytes: dict[int, int] = n_bytes) -> torch.Tensor:
            n_bytes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(tokens, tokens)
        stored_bytes[recompute] = sum(n_bytes.values())
    assert stored_bytes[True] < 0.5 * stored_bytes[False]


def test_nothing_is_recomputed_without_gradients() -> None:
    model = gptzoo.build(small()).eval()
    prepare_blocks(model, compile=False, recompute=True)
    calls = []
    model.blocks[0].ffn.register_forward_hook(lambda *_: calls.append(1))
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    with torch.no_grad():
        plain = model(tokens)[0]
        cached = model(tokens, states=model.new_states(1, 4), no_past=True)[0]
    assert len(calls) == 2
    torch.testing.assert_close(plain, cached)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_blocks_train_the_same_and_keep_parameter_names(
    run_spec: dict[str, Any], tmp_path: Path, recompute: bool
) -> None:
    run_spec["model"]["dropout"] = 0.0  # compiled code draws other random numbers
    run_spec |= {"batch_size": 8, "micro_batch_size": 4, "activation_checkpointing": recompute}
    gptzoo.train(run_spec, tmp_path / "eager", quiet=True)
    gptzoo.train({**run_spec, "compile": True}, tmp_path / "compiled", quiet=True)
    assert weights(tmp_path / "eager").keys() == weights(tmp_path / "compiled").keys()
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-4)
    assert losses(tmp_path / "compiled")[-1] < 0.9 * losses(tmp_path / "compiled")[0]
