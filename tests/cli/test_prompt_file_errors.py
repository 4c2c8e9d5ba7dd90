"""Prompts and options of `gptzoo sample` that fail, each with its line or name, and notes on texts that are cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from support import admit, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer

BAD, BUG = "~", "`"
SPEC = {"vocab_size": 257, "context_length": 32, "d_model": 16, "n_layers": 1, "n_heads": 2, "tie_embeddings": False}


class FailsForABug(gptzoo.LogitsProcessor):
    """Raises an exception for prompts with one character, while it is broken."""

    name = "fails_for_a_bug"
    is_broken = True

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        if self.is_broken and any(ord(BUG) in sequence.tokens[: sequence.prompt_length] for sequence in sequences):
            raise KeyError("state")
        return logits


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    FailsForABug.is_broken = True
    with registry.use(registry.discover("none")):
        admit(FailsForABug)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose embedding of one token is NaN."""
    folder = tmp_path_factory.mktemp("models") / "model"
    built = with_large_weights(gptzoo.build(SPEC))
    with torch.no_grad():
        built.embed.weight[ord(BAD)] = float("nan")
    save_model(folder, built, ByteTokenizer(ByteTokenizer.Config()))
    return folder


class Job:
    """A prompt file, its output file and the command."""

    def __init__(self, model: Path, folder: Path, *prompts: Any):
        self.prompts, self.out = folder / "prompts.jsonl", folder / "out.jsonl"
        self.prompts.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        ban = ["--processor", json.dumps({"type": "banned_tokens", "texts": [BAD, BUG]})]
        files = ["--prompts", str(self.prompts), "--out", str(self.out)]
        self.arguments = ["sample", str(model), *files, "--max-new-tokens", "6", *ban, "--processor", "fails_for_a_bug"]

    def run(self, *options: str) -> Result:
        return CliRunner().invoke(main, [*self.arguments, *options])

    def rows(self) -> dict[int, dict[str, Any]]:
        rows = [json.loads(line) for line in self.out.read_text().splitlines()]
        by_line = {{**row, **row.get("gptzoo", {})}["line"]: row for row in rows}
        assert len(by_line) == len(rows)
        return by_line


PROMPTS = ["one", f"a{BAD}", {"prompt": f"a{BUG}", "id": 7}, "x" * 40, "a\ud800", "two"]
MESSAGES = {
    2: "the logits of the model for new token 1, after 2 tokens, have NaN",
    3: "logits_processor 'fails_for_a_bug' at new token 1: KeyError: 'state'",
    4: "a prompt of 40 tokens and 6 new tokens",
    5: "lone surrogate",
}
STRATEGIES: dict[str, list[str]] = {
    "sampling": [],
    "samples": ["--num-samples", "3", "--rows", "2"],
    "beams": ["--beams", "2"],
    "contrastive": ["--contrastive", "0.4"],
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_prompt_that_fails_has_an_error_and_the_others_their_samples(
    model: Path, tmp_path: Path, strategy: str
) -> None:
    options = STRATEGIES[strategy]
    (tmp_path / "good").mkdir()
    good = Job(model, tmp_path / "good", "one", "two")
    assert good.run(*options).exit_code == 0
    expected = {row["prompt"]: [sample["tokens"] for sample in row["samples"]] for row in good.rows().values()}

    job = Job(model, tmp_path, *PROMPTS)
    result = job.run(*options)
    assert result.exit_code == 1
    assert "4 of 6 prompts failed" in result.stderr
    rows = job.rows()
    assert rows.keys() == {1, 2, 3, 4, 5, 6}
    for line, message in MESSAGES.items():
        assert message in rows[line]["error"]["message"]
        assert f"prompts.jsonl:{line}: " in result.stderr
        assert "samples" not in rows[line]
    assert rows[3]["id"] == 7
    assert {rows[n]["prompt"]: [s["tokens"] for s in rows[n]["samples"]] for n in (1, 6)} == expected


def test_a_second_call_tries_the_failed_prompts_again(model: Path, tmp_path: Path) -> None:
    job = Job(model, tmp_path, *PROMPTS)
    job.run()
    first = job.rows()
    FailsForABug.is_broken = False
    result = job.run()
    assert result.exit_code == 1
    assert "3 of 4 prompts failed" in result.stderr
    assert "4 prompts (2 already done)" in result.stderr
    second = job.rows()
    assert {n: second[n] for n in (1, 6)} == {n: first[n] for n in (1, 6)}
    assert len(second[3]["samples"][0]["tokens"]) == 6
    assert {n for n in second if "error" in second[n]} == {2, 4, 5}


def test_fields_of_the_user_named_error_and_samples_are_told_from_those_of_the_result(
    model: Path, tmp_path: Path
) -> None:
    fields = [{"error": "mine"}, {"samples": [1]}, {"error": "mine", "samples": [1]}]
    prompts = [{"prompt": text, **each} for text in ("one", f"a{BAD}") for each in fields]
    job = Job(model, tmp_path, *prompts)
    assert "3 of 6 prompts failed" in job.run().stderr
    for _ in range(2):
        rows = job.rows()
        for number, prompt in enumerate(prompts, start=1):
            assert {key: rows[number][key] for key in prompt} == prompt
            own = {
                **{key: value for key, value in rows[number].items() if key not in prompt},
                **rows[number].get("gptzoo", {}),
            }
            assert ("samples" in own, "error" in own) == (number <= 3, number > 3)
        assert "3 prompts (3 already done)" in job.run().stderr


def test_json_is_refused_with_an_output_file_that_is_json(model: Path, tmp_path: Path) -> None:
    job = Job(model, tmp_path, "one")
    result = job.run("--json")
    assert (result.exit_code, "--json has no effect with --prompts" in result.stderr) == (2, True)
    assert not job.out.exists()


def test_options_that_no_prompt_can_satisfy_are_refused_before_any_output(model: Path, tmp_path: Path) -> None:
    job = Job(model, tmp_path, "one", "two")
    result = job.run("--processor", json.dumps({"type": "logit_bias", "biases": {"999": 1.0}}))
    assert result.exit_code == 2
    assert "token id 999 is outside the model's vocabulary" in result.stderr
    assert not job.out.exists()


# ---------------------------------------------------------------------- texts that are cut off


@pytest.mark.parametrize("options", [[], ["--json"], ["--num-samples", "2"], ["--beams", "2"]])
def test_a_text_that_is_cut_off_before_it_matches_a_grammar_is_noted(model: Path, options: list[str]) -> None:
    pytest.importorskip("llguidance")
    for constraint, is_cut in (
        (["--json-schema", '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'], True),
        (["--regex", "[a-f]{9}"], True),
        (["--regex", "[a-f]{4}"], False),
        (["--regex", "[a-f]+"], False),  # it matches wherever it is cut
        (["--force", "abcdefg"], True),
        (["--force", "abc"], False),
    ):
        arguments = [
            "sample",
            str(model),
            "--prompt",
            "x",
            "--max-new-tokens",
            "4",
            "--seed",
            "1",
            *constraint,
            *options,
        ]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert ("ends by 'length' before it meets" in result.stderr) == is_cut
        if "--json" in options and is_cut:
            assert json.loads(result.stdout)["samples"][0]["end"] == "length"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a\udcff"], "--prompt: the text has a lone surrogate"),
        (["--regex", "\udcff"], "--regex: $.pattern: has a lone surrogate"),
        (["--stop", "\udcff"], "--stop: the text has a lone surrogate"),
        (["--force", "\udcff"], "--force: $.text: has a lone surrogate"),
        (["--ban", "\udcff"], "--ban: $.texts[0]: has a lone surrogate"),
        (["--json-schema", '{"const": "\\ud800"}'], "--json-schema: $.definition: the text at 'const' has a lone"),
        (["--logit-bias", f"{10**30}=1"], "outside the model's vocabulary"),
        (["--beams", "2", "--length-penalty", "nan"], "a length penalty from -10 to 10"),
        (["--beams", "2", "--length-penalty", "1e308"], "a length penalty from -10 to 10"),
        (["--contrastive", "nan"], "an alpha from 0 to 1"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(model: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["sample", str(model), *options])
    assert result.exit_code == 2
    assert message in result.stderr
