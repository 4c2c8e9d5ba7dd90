"""`gptzoo sample --chat` and `--special-tokens`: the prompts that the chat template and the tokenizer give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import with_large_weights

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.bpe import BpeTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.reference import Reference
from gptzoo.sampling.score import score

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def gptzoo(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder whose tokenizer has a chat template and starts each text with id 65."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    config: Any = Reference("tokenizer").validate({"type": "bpe", "vocab_size": 270})
    state = BpeTokenizer.fit(config, ["user: the cat assistant: the dog"])
    special = SpecialTokens(
        prefix=(0,), end=(0,), names={"bos_token": "<|endoftext|>"}, chat_templates={"default": TEMPLATE, "rag": "r"}
    )
    tokenizer = config.build(add_special_tokens(state, special))
    spec = {"vocab_size": 270, "context_length": 128, "d_model": 16, "n_layers": 1, "n_heads": 2}
    save_model(folder, with_large_weights(zoo.build(spec)), tokenizer)
    return folder


def answer(model: Path, prompt: str, special: bool = True) -> str:
    """Return the greedy text of the model after a prompt whose special tokens are tokens."""
    loaded = load(model)
    assert loaded.tokenizer is not None
    ids = list(loaded.tokenizer.encode_part(prompt, special=special))
    spec = zoo.SamplingSpec(
        processors=[{"type": "temperature", "value": 0}],  # type: ignore[list-item]
        max_new_tokens=8,
        stop_tokens=(0,),
    )
    (new,) = zoo.generate(loaded.model, [ids], spec, loaded.tokenizer)
    return loaded.tokenizer.decode([int(token) for token in new])


GREEDY = ("--temperature", "0", "--max-new-tokens", "8", "--device", "cpu")


@pytest.mark.parametrize("strategy", [(), ("--beams", "2"), ("--contrastive", "0.5")])
def test_a_prompt_is_a_message_of_the_user(model: Path, strategy: tuple[str, ...]) -> None:
    prompt = "<|endoftext|>system: Be brief.<|endoftext|>user: the cat<|endoftext|>assistant:"
    options = ("--chat", "--system", "Be brief.", "--prompt", "the cat", "--json", "--max-new-tokens", "8", *strategy)
    if not strategy:
        options += ("--temperature", "0")
    result = gptzoo("sample", model, "--device", "cpu", *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["prompt"] == "the cat"
    assert report["chat"] == {"system": "Be brief.", "template": None}
    if strategy:
        plain = gptzoo(
            "sample", model, "--device", "cpu", "--special-tokens", "--max-new-tokens", "8", "--json", *strategy,
            "--prompt", prompt.removeprefix("<|endoftext|>"),  # BOS is added
        )  # fmt: skip
        assert json.loads(plain.stdout)["samples"][0]["tokens"] == report["samples"][0]["tokens"]
    else:
        assert report["samples"][0]["text"] == answer(model, prompt)
        streamed = gptzoo("sample", model, "--chat", "--system", "Be brief.", "--prompt", "the cat", *GREEDY)
        assert streamed.stdout == answer(model, prompt) + "\n"


def test_turns_on_the_terminal_continue_the_chat(model: Path) -> None:
    first = answer(model, "<|endoftext|>user: the cat<|endoftext|>assistant:")
    chat = f"<|endoftext|>user: the cat<|endoftext|>assistant: {first}<|endoftext|>user: the dog<|endoftext|>assistant:"
    result = gptzoo("sample", model, "--chat", *GREEDY, stdin="the cat\n\nthe dog\n")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{first}\n{answer(model, chat)}\n"


def test_an_error_in_a_turn_leaves_the_chat_as_it_was(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "strict.jinja"
    file.write_text("{% if 'bad' in messages[-1].content %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE)
    result = gptzoo("sample", model, "--chat", "--chat-template", file, *GREEDY, stdin="bad\nthe cat\n")
    assert "the chat template fails: no" in result.stderr
    assert result.stdout == "\n" + answer(model, "<|endoftext|>user: the cat<|endoftext|>assistant:") + "\n"


def test_many_prompts_are_chats_of_one_message(model: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "the cat"}\n{"prompt": "the dog"}\n')
    arguments = ("sample", model, "--prompts", prompts, "--out", out, *GREEDY)
    assert gptzoo(*arguments, "--chat").exit_code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines() if "samples" in line]
    texts = {line["prompt"]: line["samples"][0]["text"] for line in lines}
    for name in ("the cat", "the dog"):
        assert texts[name] == answer(model, f"<|endoftext|>user: {name}<|endoftext|>assistant:")
    again = gptzoo(*arguments)  # plain text is another job
    assert again.exit_code == 2, again.output


def test_special_tokens_in_a_prompt_are_read_where_asked(model: Path) -> None:
    prompt = "the<|endoftext|>cat"
    asked = gptzoo("sample", model, "--special-tokens", "--prompt", prompt, "--json", *GREEDY)
    assert json.loads(asked.stdout)["samples"][0]["text"] == answer(model, "<|endoftext|>" + prompt)
    plain = gptzoo("sample", model, "--prompt", prompt, "--json", *GREEDY)
    loaded = load(model)
    assert loaded.tokenizer is not None
    assert len(loaded.tokenizer.encode(prompt)) > 1 + len(loaded.tokenizer.encode_part(prompt, special=True))
    assert json.loads(plain.stdout)["samples"][0]["tokens"] != json.loads(asked.stdout)["samples"][0]["tokens"]


def test_special_tokens_in_a_scored_and_inspected_text_are_read_where_asked(model: Path) -> None:
    loaded = load(model)
    assert loaded.tokenizer is not None
    ids = [0, *loaded.tokenizer.encode_part("the", special=False), 0, *loaded.tokenizer.encode("cat")[1:]]
    expected = score(loaded.model, [ids])[0].tolist()
    result = gptzoo("score", model, "the<|endoftext|>cat", "--special-tokens", "--json", "--device", "cpu")
    report = json.loads(result.stdout)
    assert report["tokens"] == ids[1:]
    assert report["log_probabilities"] == pytest.approx(expected, abs=1e-5)
    assert report["n_bytes"] == 6
    plain = json.loads(gptzoo("score", model, "the<|endoftext|>cat", "--json", "--device", "cpu").stdout)
    assert plain["n_bytes"] == 19
    assert 0 not in plain["tokens"]
    shown = gptzoo("inspect", "logits", model, "--prompt", "the<|endoftext|>cat", "--special-tokens", "--json")
    assert shown.exit_code == 0, shown.output
    assert len(json.loads(shown.stdout)["tokens"]) == len(ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--system", "x"), "--system and --chat-template need --chat"),
        (("--chat-template", "x"), "--system and --chat-template need --chat"),
        (("--chat", "--special-tokens"), "--special-tokens has no effect with --chat"),
        (("--chat", "--chat-template", "none.jinja"), "--chat-template: none.jinja: no such file"),
        (("--chat", "--chat-template", "."), "--chat-template: .: is a folder (templates of this model: "),
        (("--chat", "--prompt", "a", "--file", "b"), "cannot be combined"),
    ],
)
def test_wrong_options_are_reported(model: Path, options: tuple[str, ...], message: str) -> None:
    result = gptzoo("sample", model, *options, stdin="")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_named_template_is_chosen(model: Path) -> None:
    result = gptzoo("sample", model, "--chat", "--chat-template", "rag", "--prompt", "a", *GREEDY)
    assert result.stdout == answer(model, "r") + "\n"


def test_a_model_without_a_template_says_what_to_do(tmp_path: Path) -> None:
    config: Any = Reference("tokenizer").validate("byte")
    spec = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}
    save_model(tmp_path / "model", zoo.build(spec), config.build())
    for options in (("--prompt", "a"), ()):
        result = gptzoo("sample", tmp_path / "model", "--chat", *options, stdin="hi\n")
        assert result.exit_code == 2
        assert "--chat-template FILE" in result.stderr
        assert "Traceback" not in result.output
