"""Every strategy gives one text, whether it is asked for on the command line, in Python or over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner
from serving.conftest import SPEC, Served, serving
from support import admit, loud
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import Loaded, load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.tokenizer import ByteTokenizer
from gptzoo.sampling import strategies
from gptzoo.sampling.strategies import Beams, Contrastive, Sampling, Speculative, Strategy

N = 20  # tokens
DRAWN = {"type": "temperature", "value": 0.9}


@dataclass(frozen=True)
class Case:
    """One strategy, as each of the three is asked for it."""

    options: list[str]  # of the command line
    chain: list[dict[str, Any]] = field(default_factory=lambda: [DRAWN])
    fields: dict[str, Any] | None = None  # over HTTP; left out, the chain as it is
    spec: dict[str, Any] = field(default_factory=dict)  # beside the chain
    strategy: Any = Sampling
    how: dict[str, Any] = field(default_factory=dict)
    best_of: int | None = None

    def body(self) -> dict[str, Any]:
        return {"processors": self.chain} if self.fields is None else self.fields


def drawn(*options: str, first: dict[str, Any] | None = None, last: dict[str, Any] | None = None, **how: Any) -> Case:
    """A processor before or after the temperature."""
    chain = [each for each in (first, DRAWN, last) if each is not None]
    return Case(["--temperature", "0.9", *options], chain, **how)


WARM = {"temperature": 0.9}
OBJECT = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
THEIRS = {"type": "every_other", "nats": 9.0}
CASES = {
    "greedy": Case(["--temperature", "0"], [{"type": "temperature", "value": 0}], {"temperature": 0}),
    "temperature": Case(["--temperature", "0.7"], [{"type": "temperature", "value": 0.7}], {"temperature": 0.7}),
    "top_k": drawn("--top-k", "5", last={"type": "top_k", "k": 5}),
    "top_p": drawn("--top-p", "0.6", last={"type": "top_p", "p": 0.6}, fields={**WARM, "top_p": 0.6}),
    "min_p": drawn("--min-p", "0.2", last={"type": "min_p", "p": 0.2}),
    "typical": drawn("--typical", "0.5", last={"type": "typical", "p": 0.5}),
    "repetition_penalty": drawn("--repetition-penalty", "1.5", first={"type": "repetition_penalty", "value": 1.5}),
    "presence_penalty": drawn(
        "--presence-penalty",
        "1.5",
        first={"type": "presence_penalty", "value": 1.5},
        fields={**WARM, "presence_penalty": 1.5},
    ),
    "frequency_penalty": drawn(
        "--frequency-penalty",
        "1.5",
        first={"type": "frequency_penalty", "value": 1.5},
        fields={**WARM, "frequency_penalty": 1.5},
    ),
    "no_repeat_ngram": drawn("--no-repeat-ngram", "1", first={"type": "no_repeat_ngram", "size": 1}),
    "logit_bias": drawn(
        "--logit-bias",
        "97=5",
        first={"type": "logit_bias", "biases": {"97": 5.0}},
        fields={**WARM, "logit_bias": {"97": 5}},
    ),
    "banned_tokens": drawn("--ban", "f", "--ban", "th", first={"type": "banned_tokens", "texts": ["f", "th"]}),
    "forced_tokens": drawn("--force", " upon", first={"type": "forced_tokens", "text": " upon"}),
    "regex": drawn("--regex", " [a-z]{3}!", first={"type": "regex", "pattern": " [a-z]{3}!"}),
    "json_schema": drawn(
        "--json-schema",
        json.dumps(OBJECT),
        first={"type": "json_schema", "definition": OBJECT},
        fields={**WARM, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": OBJECT}}},
    ),
    "any json": drawn(
        "--json-schema",
        '{"type": "object"}',
        first={"type": "json_schema", "definition": {"type": "object"}},
        fields={**WARM, "response_format": {"type": "json_object"}},
    ),
    "of a package": drawn(
        "--processor", '{"type": "every_other", "nats": 9}', first={"type": "every_other", "nats": 9.0}
    ),
    "stop text": drawn("--stop", "f", fields={**WARM, "stop": "f"}, spec={"stop_texts": ["f"]}),
    "stop token": drawn("--stop-token", "103", fields={**WARM, "stop_tokens": [103]}, spec={"stop_tokens": [256, 103]}),
    "best of": drawn("--best-of", "6", fields={**WARM, "best_of": 6}, best_of=6),
    "beams": Case(
        ["--beams", "3", "--length-penalty", "0.5"],
        [],
        {"strategy": {"type": "beams", "n_beams": 3, "length_penalty": 0.5}},
        strategy=Beams,
        how={"n_beams": 3, "length_penalty": 0.5},
    ),
    "beams that may not say all": Case(
        ["--beams", "3", "--ban", "e"],
        [{"type": "banned_tokens", "texts": ["e"]}],
        {"strategy": {"type": "beams", "n_beams": 3}, "processors": [{"type": "banned_tokens", "texts": ["e"]}]},
        strategy=Beams,
        how={"n_beams": 3},
    ),
    "contrastive": Case(
        ["--contrastive", "0.4", "--candidates", "5"],
        [],
        {"strategy": {"type": "contrastive", "alpha": 0.4, "n_candidates": 5}},
        strategy=Contrastive,
        how={"alpha": 0.4, "n_candidates": 5},
    ),
    "speculative": drawn(
        "--draft",
        "small",
        "--ahead",
        "3",
        fields={**WARM, "strategy": {"type": "speculative", "n_ahead": 3}},
        strategy=Speculative,
        how={"n_ahead": 3},
    ),
}


class EveryOther(gptzoo.LogitsProcessor):
    """Makes tokens of even id less likely."""

    name = "every_other"

    class Config(gptzoo.LogitsProcessor.Config):
        nats: float = 1.0

    def __call__(self, logits: Tensor, rows: Any) -> Tensor:
        left = logits.clone()
        left[:, ::2] -= self.config.nats
        return left


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where two models lie, while a processor of somebody else's is installed."""
    folder = tmp_path_factory.mktemp("strategies")
    for name, n_layers in (("tiny", 2), ("small", 1)):
        model = loud(gptzoo.build({**SPEC, "n_layers": n_layers}, seed=1))
        save_model(folder / name, model, ByteTokenizer(ByteTokenizer.Config()))
    with registry.use(registry.discover("none")):
        admit(EveryOther)
        yield folder


@pytest.fixture(scope="module")
def models(place: Path) -> tuple[Loaded, Loaded]:
    return load(place / "tiny"), load(place / "small")


@pytest.fixture(scope="module")
def running(models: tuple[Loaded, Loaded]) -> Iterator[Served]:
    with serving(models[0], draft=models[1]) as served:
        yield served


def on_the_command_line(place: Path, *options: str) -> str:
    arguments = ["sample", str(place / "tiny"), "--prompt", "Once", "--max-new-tokens", str(N), "--seed", "5", "--json"]
    done = CliRunner().invoke(main, [*arguments, *(str(place / o) if o == "small" else o for o in options)])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["samples"][0]["text"]


def in_python(models: tuple[Loaded, Loaded], case: Case) -> str:
    fields = {"max_new_tokens": N, "stop_tokens": [256], "seed": 5, "processors": case.chain, **case.spec}
    how = {"draft": models[1], **case.how} if case.strategy is Speculative else case.how
    strategy: Strategy = case.strategy(models[0], gptzoo.SamplingSpec.model_validate(fields), **how)
    return strategy.samples("Once", best_of=case.best_of)[0].text


def over_http(running: Served, case: Case, **how: Any) -> str:
    body = {**case.body(), **how}
    known = {name: body.pop(name) for name in list(body) if name in ("temperature", "top_p", "stream")}
    answer = running.complete("Once", **{"temperature": None, "max_tokens": N, "seed": 5, **known}, extra_body=body)
    if how.get("stream"):
        return "".join(piece.choices[0].text for piece in answer)
    return answer.choices[0].text


@pytest.mark.parametrize("name", CASES)
def test_a_strategy_gives_one_text_however_it_is_asked_for(
    name: str, place: Path, models: tuple[Loaded, Loaded], running: Served
) -> None:
    case = CASES[name]
    if {"regex", "json_schema"} & {each["type"] for each in case.chain}:
        pytest.importorskip("llguidance")
    text = in_python(models, case)
    assert on_the_command_line(place, *case.options) == text
    assert over_http(running, case) == text
    if case.best_of is None:
        assert over_http(running, case, stream=True) == text
    if name not in ("greedy", "temperature"):
        assert text != in_python(models, Case([], [] if case.chain == [] else [DRAWN])), "it changes nothing here"


def test_all_of_them_are_in_the_table() -> None:
    with registry.use(registry.discover("none")):
        asked = {each["type"] for case in CASES.values() for each in case.chain}
        assert asked == {*gptzoo.registered("logits_processor"), "every_other"}
    ways = {each for each in vars(strategies).values() if isinstance(each, type) and issubclass(each, Strategy)}
    assert {case.strategy for case in CASES.values()} == ways - {Strategy}


def test_speculation_over_http_shares_the_rows_with_others(models: tuple[Loaded, Loaded], running: Served) -> None:
    """More samples than rows, each the one that it is alone."""
    ahead = {"type": "speculative", "n_ahead": 3}
    answer = running.complete(["Once", "A"], n=4, temperature=0.9, max_tokens=N, seed=5, extra_body={"strategy": ahead})
    spec = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": N, "stop_tokens": [256], "seed": 5, "processors": [DRAWN]}
    )
    alone = Speculative(*models[:1], spec, models[1], 3)
    expected = [sample.text for prompt in ("Once", "A") for sample in alone.samples(prompt, 4)]
    assert [choice.text for choice in answer.choices] == expected


def test_speculation_on_the_command_line_answers_files_of_prompts(place: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('"Once"\n"A long one"\n"B"\n')
    options = ["--draft", str(place / "small"), "--max-new-tokens", str(N), "--seed", "5", "--num-samples", "2"]
    many = ["sample", str(place / "tiny"), "--prompts", str(prompts), "--out", str(out), "--rows", "2", *options]
    done = CliRunner().invoke(main, many)
    assert done.exit_code == 0, done.output
    rows = {row["prompt"]: row["samples"] for row in map(json.loads, out.read_text().splitlines())}
    assert rows.keys() == {"Once", "A long one", "B"}
    for prompt, samples in rows.items():
        one = CliRunner().invoke(main, ["sample", str(place / "tiny"), "--prompt", prompt, "--json", *options])
        assert [each["tokens"] for each in json.loads(one.stdout)["samples"]] == [each["tokens"] for each in samples]


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"processors": ["every_othr"]}, "processors", "did you mean 'every_other'?"),
        ({"processors": [{"type": "every_other", "nat": 1}]}, "processors", "did you mean 'nats'?"),
        ({"min_p": 0.2}, "min_p", "no field named 'min_p'"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "needs a json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format",
            'an object with a "schema"',
        ),
        ({"response_format": {"type": "json_object"}, "processors": []}, "response_format", "processors says already"),
        ({"stop_tokens": [-1]}, "stop_tokens", "greater than or equal to 0"),
        ({"strategy": {"type": "speculativ"}}, "strategy", "'speculative'"),
        ({"strategy": {"type": "speculative", "n_ahead": 0}}, "strategy", "greater than or equal to 1"),
    ],
)
def test_what_is_misspelt_is_told_by_the_client(running: Served, body: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        running.complete("Once", temperature=None, extra_body=body)
    assert caught.value.param == param
    assert says in caught.value.body["message"]
