"""BOS and end tokens of imported models: the same ids and log-probabilities as transformers, on every front end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import gptzoo
from gptzoo.cli import main
from gptzoo.errors import FolderError
from gptzoo.interop.hugging_face import import_folder
from gptzoo.sampling.score import score_text

Save = Callable[..., Any]

TEXTS = ["Once upon a time, there was a small cat.", "  two  spaces,\n\na tab\t and 42.", "naïve 東京 🙂 – done"]
SPECIAL = ["<s>", "</s>", "<|im_end|>", "<unk>"]  # ids 0 to 3
BOS, EOS, IM_END = 0, 1, 2


def byte_level(single: str | None = "<s> $A") -> Tokenizer:
    """Return a byte-level BPE whose post-processor has the template `single`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [AddedToken(name, special=True) for name in SPECIAL]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    if single is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=f"{single} $B", special_tokens=[(name, index) for index, name in enumerate(SPECIAL)]
        )
    return tokenizer


def llama(**ids: Any) -> LlamaForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=256, **sizes, **ids))


def saved(save: Save, tokenizer: Tokenizer, names: dict[str, Any] | None = None, **ids: Any) -> Any:
    """Save a checkpoint with this tokenizer, `names` in tokenizer_config.json and `ids` in config.json."""
    checkpoint = save(llama(**{"bos_token_id": BOS, "eos_token_id": EOS, **ids}))
    tokenizer.save(str(checkpoint.folder / "tokenizer.json"))
    write_json(checkpoint, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **(names or {})})
    return checkpoint


def write_json(checkpoint: Any, name: str, values: Any) -> None:
    (checkpoint.folder / name).write_text(json.dumps(values), encoding="utf-8")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))


def load(checkpoint: Any) -> Any:
    checkpoint.import_()
    return gptzoo.load(checkpoint.out)


def theirs(checkpoint: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(checkpoint.folder)


# ---------------------------------------------------------------------- BOS


@pytest.mark.parametrize(
    ("single", "config"),
    [
        ("<s> $A", {}),
        ("<s> <|im_end|> $A", {}),
        (None, {}),
        ("$A", {"bos_token": "<s>", "add_bos_token": True}),
        (None, {"bos_token": "<s>", "add_bos_token": True, "add_eos_token": False}),
        ("<s> $A", {"bos_token": "<s>", "add_bos_token": False}),
        ("<s> $A", {"bos_token": "<|im_end|>", "add_bos_token": True}),
        ("<s> $A", {"split_special_tokens": True}),
    ],
)
def test_a_text_has_the_ids_of_transformers(single: str | None, config: dict[str, Any], save: Save) -> None:
    checkpoint = saved(save, byte_level(single), config)
    ours = load(checkpoint).tokenizer
    for text in [*TEXTS, "", "<s>starts with BOS", "a<|im_end|>b", "<s>"]:
        assert list(ours.encode(text)) == theirs(checkpoint).encode(text)
        continued = theirs(checkpoint).encode(text, add_special_tokens=False)
        assert list(ours.encode_continuation(text)) == continued


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, PreTrainedTokenizerFast]:
    """Return an imported tokenizer and that of transformers."""
    folder = tmp_path_factory.mktemp("imported")
    llama(bos_token_id=BOS, eos_token_id=EOS).save_pretrained(folder / "checkpoint")
    byte_level().save(str(folder / "checkpoint" / "tokenizer.json"))
    import_folder(folder / "checkpoint", folder / "out")
    tokenizer = gptzoo.load(folder / "out").tokenizer
    return tokenizer, PreTrainedTokenizerFast.from_pretrained(folder / "checkpoint")


@settings(max_examples=200)
@given(text=st.lists(st.one_of(st.text(), st.sampled_from([*SPECIAL, " the", "\n\n"]))).map("".join))
def test_random_texts_have_the_ids_of_transformers(pair: Any, text: str) -> None:
    ours, library = pair
    assert list(ours.encode(text)) == library.encode(text)


@pytest.mark.parametrize(("single", "add_bos", "expected"), [("$A", True, (BOS,)), ("<s> $A", False, (BOS,))])
def test_settings_that_versions_of_transformers_read_differently_are_noted(
    single: str, add_bos: bool, expected: tuple[int, ...], save: Save
) -> None:
    names = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "add_bos_token": add_bos}
    checkpoint = saved(save, byte_level(single), names)
    (note,) = checkpoint.import_().notes
    assert "add_bos_token" in note
    assert "<s> (0)" in note
    tokenizer = gptzoo.load(checkpoint.out).tokenizer
    assert tokenizer is not None
    assert tokenizer.prefix == expected


def test_a_text_that_transformers_ends_with_eos_is_noted_and_not_ended(save: Save) -> None:
    checkpoint = saved(save, byte_level("<s> $A </s>"))
    result = checkpoint.import_()
    assert any("transformers ends each text with </s> (1)" in note for note in result.notes)
    ours = gptzoo.load(checkpoint.out).tokenizer
    assert ours is not None
    assert [*ours.encode(TEXTS[0]), EOS] == theirs(checkpoint).encode(TEXTS[0])


def test_a_bos_that_the_model_lacks_is_refused(save: Save) -> None:
    tokenizer = byte_level(None)
    tokenizer.add_special_tokens(["<new>"])
    names = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<new>", "add_bos_token": True}
    checkpoint = saved(save, tokenizer, names)
    assert "starts each text with <new> (300), which is outside the model's" in checkpoint.import_error(FolderError)


def expected_log_probabilities(checkpoint: Any, text: str) -> list[float]:
    """Return the log-probability of each token after the first, by transformers."""
    ids = torch.tensor([theirs(checkpoint).encode(text)])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(checkpoint.folder).eval()(ids).logits
    return logits[0, :-1].double().log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].tolist()


def test_a_text_has_the_log_probability_of_transformers(save: Save) -> None:
    checkpoint = saved(save, byte_level())
    loaded = load(checkpoint)
    expected = expected_log_probabilities(checkpoint, TEXTS[0])
    result = score_text(loaded, TEXTS[0])
    assert list(result.log_probabilities) == pytest.approx(expected, abs=1e-4)
    assert result.n_bytes == len(TEXTS[0].encode())
    scored = CliRunner().invoke(main, ["score", str(checkpoint.out), TEXTS[0], "--json"])
    assert json.loads(scored.stdout)["log_probability"] == pytest.approx(sum(expected), abs=1e-3)


def test_eval_has_the_log_probability_of_transformers(save: Save, tmp_path: Path, cache: None) -> None:
    checkpoint = saved(save, byte_level())
    load(checkpoint)
    for name, text in (("train", TEXTS[1] * 100), ("val", TEXTS[0])):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    corpus = {"type": "text", "path": str(tmp_path / "train.txt"), "val_path": str(tmp_path / "val.txt")}
    result = CliRunner().invoke(
        main, ["eval", str(checkpoint.out), "--data", json.dumps(corpus), "--device", "cpu", "--json"]
    )
    assert result.exit_code == 0, result.output
    expected = expected_log_probabilities(checkpoint, TEXTS[0])
    measured = json.loads(result.stdout)
    assert measured["loss"] == pytest.approx(-sum(expected) / len(expected), abs=1e-4)


def test_sampling_and_inspection_begin_with_bos(save: Save) -> None:
    checkpoint = saved(save, byte_level())
    loaded = load(checkpoint)
    reference = AutoModelForCausalLM.from_pretrained(checkpoint.folder).eval()
    ids = torch.tensor([theirs(checkpoint).encode("Once")])
    with torch.no_grad():
        new = reference.generate(ids, max_new_tokens=5, do_sample=False)[0, ids.shape[1] :].tolist()
    options = ["--json", "--max-new-tokens", "5", "--temperature", "0", "--device", "cpu"]
    result = CliRunner().invoke(main, ["sample", str(checkpoint.out), "--prompt", "Once", *options])
    assert json.loads(result.stdout)["samples"][0]["tokens"] == [token for token in new if token != EOS]
    shown = CliRunner().invoke(main, ["inspect", "logits", str(checkpoint.out), "--prompt", "Once", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["tokens"][0] == "<0>"  # the label of BOS, which has no text
    assert loaded.tokenizer.encode("Once") == ids[0].tolist()


# ---------------------------------------------------------------------- documents


def test_each_training_document_starts_with_bos(save: Save, tmp_path: Path, cache: None) -> None:
    from gptzoo.data.prepare import prepare
    from gptzoo.reference import Reference

    checkpoint = saved(save, byte_level())
    load(checkpoint)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (tmp_path / "train.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "val.jsonl").write_text('{"text": "held out"}', encoding="utf-8")
    corpus: Any = Reference("corpus").validate(
        {"type": "jsonl", "path": str(tmp_path / "train.jsonl"), "val_path": str(tmp_path / "val.jsonl")}
    )
    saved_tokenizer = Reference("tokenizer").validate({"type": "saved", "path": str(checkpoint.out)})
    _, store = prepare(corpus.build(), saved_tokenizer)
    first, *others = (theirs(checkpoint).encode(text) for text in TEXTS)
    assert store.train.tolist() == [*first, *(token for ids in others for token in [EOS, *ids])]
    assert store.n_bytes["train"] == len("".join(TEXTS).encode())


# ---------------------------------------------------------------------- end tokens


@pytest.mark.parametrize(
    ("names", "ids", "generation", "expected"),
    [
        ({"eos_token": "<|im_end|>"}, {"eos_token_id": 2}, {}, (2,)),
        ({}, {"eos_token_id": [1, 2]}, {}, (1, 2)),
        ({"eos_token": "</s>"}, {"eos_token_id": 1}, {"eos_token_id": [1, 2]}, (1, 2)),
        ({"eos_token": {"content": "<|im_end|>"}}, {"eos_token_id": None}, {}, (2,)),
        ({"eos_token": "<|im_end|>"}, {"eos_token_id": 1}, {"eos_token_id": 3}, (2, 3, 1)),
        ({}, {"eos_token_id": None}, {}, (1, 2)),  # by well-known names
    ],
)
def test_all_end_tokens_are_found(names: Any, ids: Any, generation: Any, expected: tuple[int, ...], save: Save) -> None:
    checkpoint = saved(save, byte_level(), names)
    checkpoint.edit_config(ids)
    (checkpoint.folder / "generation_config.json").unlink(missing_ok=True)
    if generation:
        write_json(checkpoint, "generation_config.json", generation)
    tokenizer = load(checkpoint).tokenizer
    assert tokenizer.end_tokens == expected
    assert tokenizer.eot == expected[0]
    assert list(tokenizer.separator()) == [expected[0]]
    again = tokenizer.config.build(tokenizer.state)
    assert (again.end_tokens, again.prefix, again.fingerprint()) == (expected, (BOS,), tokenizer.fingerprint())


@pytest.mark.parametrize("token", [1, 2])
def test_generation_stops_at_each_end_token(token: int, save: Save) -> None:
    checkpoint = saved(save, byte_level(), {"eos_token": "</s>"}, eos_token_id=[1, 2])
    load(checkpoint)
    always = ["--logit-bias", f"{token}=1000", "--max-new-tokens", "5", "--json", "--device", "cpu"]
    for strategy in ([], ["--beams", "2"], ["--contrastive", "0.5"]):
        result = CliRunner().invoke(main, ["sample", str(checkpoint.out), "--prompt", "Once", *always, *strategy])
        assert result.exit_code == 0, result.output
        (sample,) = json.loads(result.stdout)["samples"][:1]
        assert (sample["end"], sample["text"]) == ("stop_token", "")


def test_the_import_says_where_each_end_token_comes_from(save: Save) -> None:
    checkpoint = saved(save, byte_level(), {"eos_token": "<|im_end|>"}, eos_token_id=[1, 2])
    result = CliRunner().invoke(main, ["import-hf", str(checkpoint.folder), str(checkpoint.out)])
    assert result.exit_code == 0, result.output
    assert "starts    each text with 0" in result.stderr
    assert "a text at 2 (<|im_end|>), from tokenizer_config.json, generation_config.json, config.json" in result.stderr
    assert "a text at 1 (</s>), from generation_config.json, config.json" in result.stderr
    kept = json.loads((checkpoint.out / "tokenizer.json").read_text(encoding="utf-8"))["state"]["gptzoo"]
    assert kept["end"] == [2, 1]
    assert kept["sources"]["</s>"] == ["generation_config.json", "config.json"]


def test_end_tokens_that_the_model_lacks_are_noted(save: Save) -> None:
    checkpoint = saved(save, byte_level(), {"eos_token": "<nowhere>"}, eos_token_id=[1, 999])
    notes = checkpoint.import_().notes
    assert "tokenizer_config.json: eos_token '<nowhere>' is not in tokenizer.json, so it is not used" in notes
    assert "config.json: eos_token_id 999 is not a token of this model, so it is not used" in notes
    tokenizer = gptzoo.load(checkpoint.out).tokenizer
    assert tokenizer is not None
    assert tokenizer.end_tokens == (1,)


@pytest.mark.parametrize(
    ("file", "values"),
    [("generation_config.json", {"eos_token_id": "</s>"}), ("tokenizer_config.json", {"eos_token": 2})],
)
def test_end_tokens_of_the_wrong_type_are_refused(file: str, values: Any, save: Save) -> None:
    checkpoint = saved(save, byte_level())
    write_json(checkpoint, file, values)
    assert f"{file}: $.eos_token" in checkpoint.import_error(FolderError)


def test_a_model_without_an_end_token_is_noted(save: Save) -> None:
    tokenizer = byte_level(None).to_str()
    for name in ("</s>", "<|im_end|>"):
        tokenizer = tokenizer.replace(name, name.upper())
    checkpoint = saved(save, Tokenizer.from_str(tokenizer))
    checkpoint.edit_config({"eos_token_id": None})
    (checkpoint.folder / "generation_config.json").unlink()
    assert "no end token is known, so generated texts end at the maximum length only" in checkpoint.import_().notes


def test_an_imported_folder_of_an_earlier_version_is_read_as_before(save: Save) -> None:
    checkpoint = saved(save, byte_level())
    load(checkpoint)
    file = checkpoint.out / "tokenizer.json"
    old = json.loads(file.read_text(encoding="utf-8"))
    del old["state"]["gptzoo"]
    file.write_text(json.dumps(old), encoding="utf-8")
    with pytest.warns(UserWarning, match="without BOS.*import-hf"):
        tokenizer = gptzoo.load(checkpoint.out).tokenizer
    assert tokenizer is not None
    assert list(tokenizer.encode(TEXTS[0])) == theirs(checkpoint).encode(TEXTS[0], add_special_tokens=False)
    assert tokenizer.end_tokens == (EOS,)
