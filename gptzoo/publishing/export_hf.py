"""Export of a model as a checkpoint folder of Hugging Face `transformers`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError

from gptzoo.checkpoint.model_folder import LoadedModel, require_empty_folder
from gptzoo.checkpoint.stored_dtypes import common_dtype
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, FolderError, InputError
from gptzoo.interop.exporting.checkpoint_files import write_sharded
from gptzoo.interop.exporting.tokenizer import write_tokenizer
from gptzoo.publishing.exported_card import exported_card
from gptzoo.publishing.exported_model import native_model, remote_code_model
from gptzoo.publishing.published_run import PublishedRun
from gptzoo.utils.atomic import new_folder, write_json

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
MAX_SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True)
class ExportResult:
    """A summary of an export."""

    family: str  # "remote code" for a model with its own code
    dtype: str  # of the weights; with dtype "auto", float32 weights that it would round keep their type
    n_tensors: int
    n_parameters: int
    has_tokenizer: bool
    notes: tuple[str, ...]  # for the user, such as options that are lost


def export_hf(
    loaded: LoadedModel,
    out: str | Path,
    *,
    family: str | None = None,
    remote_code: bool = False,
    dtype: Dtype = "auto",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    averaged: bool = False,
) -> ExportResult:
    """Write a loaded model as a checkpoint of Hugging Face `transformers` to `out`, atomically.

    The folder has config.json, safetensors, the tokenizer, generation_config.json and a model card, README.md.

    family: the family to export to. Default: the most widely read family that computes the same function.
    remote_code: write the model's own code, which `transformers` runs with trust_remote_code=True, for a model that
        no family computes.
    dtype: data type of the weights. "auto": the type of most weights in the model folder, if none of them has changed
        since it was loaded. Other weights that this type would round are float32.
    max_shard_bytes: maximum size of a safetensors file.
    averaged: state in the model card that the weights are an exponential moving average.

    Raises SpecError, with the reasons, if no family computes the same function. Raises EjectError if a part of the
    model cannot be written as code. Raises FolderError if `out` is not empty or cannot be written.
    """
    if remote_code and family is not None:
        raise InputError("remote code is of no family; choose either a family or remote code")
    out = Path(out).absolute()
    require_empty_folder(out)
    spec, tokenizer = loaded.spec, loaded.tokenizer
    exported = remote_code_model(loaded.model) if remote_code else native_model(loaded.model, family)
    chosen = common_dtype(loaded.model) if dtype == "auto" else getattr(torch, dtype)
    dtype_name = str(chosen).removeprefix("torch.")
    token_ids = _token_ids(tokenizer)
    n_parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    notes = list(exported.notes)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(out) as folder:
            has_tokenizer = _write_tokenizer(tokenizer, folder, spec.context_length, notes)
            n_tensors = write_sharded(
                exported.tensors, folder, dtype=chosen, may_round=dtype != "auto", max_shard_bytes=max_shard_bytes
            )
            for name, text in exported.code.items():
                (folder / name).write_text(text, encoding="utf-8")
            # transformers 5 reads `dtype`, transformers 4 `torch_dtype`.
            dtypes = {"dtype": dtype_name, "torch_dtype": dtype_name}
            write_json(folder / "config.json", exported.settings | token_ids | dtypes)
            write_json(folder / "generation_config.json", _generation_config(token_ids))
            card = exported_card(
                loaded.name,
                spec,
                exported,
                n_parameters=n_parameters,
                dtype=dtype_name,
                has_tokenizer=has_tokenizer,
                published=PublishedRun.of(loaded.folder),
                averaged=averaged,
                notes=notes,
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise FolderError(f"{out}: cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return ExportResult(exported.family, dtype_name, n_tensors, n_parameters, has_tokenizer, tuple(notes))


def _token_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return the ids of the tokens around a text. A text without a prefix follows the end of another text."""
    end = () if tokenizer is None else tokenizer.end_tokens
    prefix = () if tokenizer is None else tokenizer.prefix
    first = next(iter((*prefix, *end)), None)
    return {"bos_token_id": first, "eos_token_id": list(end) if len(end) > 1 else next(iter(end), None)}


def _generation_config(token_ids: dict[str, Any]) -> dict[str, Any]:
    """Return the content of generation_config.json. Finished texts of a batch are padded with their end token."""
    end = token_ids["eos_token_id"]
    return {**token_ids, "pad_token_id": end[0] if isinstance(end, list) else end}


def _write_tokenizer(tokenizer: Tokenizer | None, folder: Path, context_length: int, notes: list[str]) -> bool:
    """Write the files of a tokenizer. Return False, with a note, if there is none or it has no such files."""
    if tokenizer is None:
        notes.append("the model has no tokenizer, so none is exported")
        return False
    try:
        notes += write_tokenizer(tokenizer, folder, max_length=context_length)
    except DataError as error:
        notes.append(f"the tokenizer is not exported: {str(error).removesuffix('.')}")
        return False
    return True
