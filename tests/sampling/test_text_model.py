"""`gptzoo.load(…).generate`: text in and out, as `gptzoo sample` prints it, with specs in all their forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import InputError, SpecError
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "model"
    save_model(folder, with_large_weights(gptzoo.build(SPEC)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


def printed(folder: Path, *options: str) -> str:
    """Return the text that `gptzoo sample --json` generates after "ab"."""
    result = CliRunner().invoke(main, ["sample", str(folder), "--prompt", "ab", "--json", *options])
    assert result.exit_code == 0, result.output
    text: str = json.loads(result.stdout)["samples"][0]["text"]
    return text


def test_a_loaded_model_generates_the_text_that_gptzoo_sample_prints(folder: Path) -> None:
    loaded = gptzoo.load(folder)
    assert loaded.generate("ab") == printed(folder)  # as long as the positions allow
    longer = loaded.generate("ab", {"max_new_tokens": 30, "seed": 3, "processors": [{"type": "top_k", "k": 5}]})
    spec = folder.parent / "sampling.json"
    spec.write_text('{"max_new_tokens": 30, "seed": 3, "processors": [{"type": "top_k", "k": 5}]}')
    assert longer == printed(folder, "--spec", str(spec)) == loaded.generate("ab", spec)
    assert longer != loaded.generate("ab", {"max_new_tokens": 30, "seed": 4, "processors": [{"type": "top_k", "k": 5}]})


def test_a_stream_yields_the_pieces_of_the_text(folder: Path) -> None:
    loaded = gptzoo.load(folder)
    assert "".join(loaded.stream("ab", {"max_new_tokens": 9})) == loaded.generate("ab", {"max_new_tokens": 9})


def test_token_ids_are_a_prompt_as_well(folder: Path) -> None:
    loaded = gptzoo.load(folder)
    assert loaded.generate([97, 98]) == loaded.generate("ab")


def test_a_model_without_tokenizer_generates_no_text(tmp_path: Path) -> None:
    save_model(tmp_path / "model", gptzoo.build(SPEC))
    with pytest.raises(InputError, match="has no tokenizer"):
        gptzoo.load(tmp_path / "model").generate("ab")


def test_every_function_that_samples_takes_a_spec_in_all_its_forms(tmp_path: Path) -> None:
    model = with_large_weights(gptzoo.build(SPEC))
    data: dict[str, Any] = {"max_new_tokens": 4, "processors": [{"type": "temperature", "value": 0}]}
    file = tmp_path / "sampling.json"
    file.write_text(json.dumps(data))
    forms = [gptzoo.SamplingSpec.model_validate(data), data, file, str(file)]
    for form in forms:
        (tokens,) = gptzoo.generate(model, [[1, 2]], form)
        assert len(tokens) == 4
        assert [event.token for (event,) in gptzoo.stream(model, [[1, 2]], form) if event] == tokens
        assert [event.token for event in contrastive_search(model, [1, 2], form, alpha=0)] == tokens
        assert list(beam_search(model, [1, 2], form, n_beams=1)[0].tokens) == tokens


def test_errors_of_a_dict_name_the_field() -> None:
    with pytest.raises(SpecError, match=r"\$\.max_token: no field named 'max_token'"):
        gptzoo.generate(gptzoo.build(SPEC), [[1]], {"max_token": 3})


@pytest.mark.parametrize("prompts", ["ab", ["ab"]])
def test_a_text_instead_of_token_ids_is_refused_with_what_takes_text(prompts: Any) -> None:
    with pytest.raises(InputError, match=r"got the text 'ab'\. .*gptzoo\.load\(RUN\)\.generate\(text\)"):
        gptzoo.generate(gptzoo.build(SPEC), prompts)
