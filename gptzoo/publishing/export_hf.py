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
from gptzoo.errors import DataError, FolderError
from gptzoo.interop.export import native_export
from gptzoo.interop.exporting.checkpoint_files import write_sharded
from gptzoo.interop.exporting.tokenizer import write_tokenizer
from gptzoo.publishing.exported_card import exported_card
from gptzoo.publishing.published_run import PublishedRun
from gptzoo.utils.atomic import new_folder, write_json

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
MAX_SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True)
class ExportResult:
    """A summary of an export."""

    family: str
    dtype: str  # of the weights
    n_tensors: int
    n_parameters: int
    has_tokenizer: bool
    notes: tuple[str, ...]  # for the user, such as options that are lost


def export_hf(
    loaded: LoadedModel,
    out: str | Path,
    *,
    family: str | None = None,
    dtype: Dtype = "auto",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    averaged: bool = False,
) -> ExportResult:
    """Write a loaded model as a checkpoint of a Hugging Face `transformers` family to `out`, atomically.

    The folder has config.json, safetensors, the tokenizer, generation_config.json and a model card, README.md.

    family: the family to export to. Default: the most widely read family that computes the same function.
    dtype: data type of the weights. Default: the one in which the model is stored.
    max_shard_bytes: maximum size of a safetensors file.
    averaged: state in the model card that the weights are an exponential moving average.

    Raises SpecError, with the reasons, if no family computes the same function. Raises FolderError if `out` is not
    empty or cannot be written.
    """
    out = Path(out).absolute()
    require_empty_folder(out)
    spec, tokenizer = loaded.spec, loaded.tokenizer
    native = native_export(spec, family)
    token_ids = _token_ids(tokenizer)
    n_parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    notes = list(native.notes)
    state = loaded.model.state_dict()
    stored_dtype = common_dtype(loaded.model)
    dtype_name = str(stored_dtype).removeprefix("torch.") if dtype == "auto" else dtype
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(out) as folder:
            has_tokenizer = _write_tokenizer(tokenizer, folder, spec.context_length, notes)
            n_tensors = write_sharded(
                native.tensors(state).items(),
                folder,
                dtype=getattr(torch, dtype_name),
                max_shard_bytes=max_shard_bytes,
                exact=dtype == "auto",
            )
            # transformers 5 reads `dtype`, transformers 4 `torch_dtype`.
            dtypes = dict.fromkeys(("dtype", "torch_dtype"), dtype_name)
            write_json(folder / "config.json", native.settings | token_ids | dtypes)
            write_json(folder / "generation_config.json", _generation_config(token_ids))
            card = exported_card(
                spec,
                family=native.family,
                architecture=native.importer.architecture,
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
    return ExportResult(native.family, dtype_name, n_tensors, n_parameters, has_tokenizer, tuple(notes))


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
