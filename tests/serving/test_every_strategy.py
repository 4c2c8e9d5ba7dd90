"""Every strategy generates the same text on the command line, in Python and over HTTP."""

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
from support import admit, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import LoadedModel, load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.sampling import strategies
from gptzoo.sampling.search import strategies as search_strategies
from gptzoo.sampling.search.strategies import Beams, Contrastive
from gptzoo.sampling.strategies import Sampling, Speculative
from gptzoo.sampling.strategy import Strategy

N = 20  # tokens
TEMPERATURE = {"type": "temperature", "value": 0.9}


@dataclass(frozen=True)
class Case:
    """One strategy, as it is requested in each of the three ways."""

    options: list[str]  # on the command line
    chain: list[dict[str, Any]] = field(default_factory=lambda: [TEMPERATURE])
    fields: dict[str, Any] | None = None  # over HTTP; default: the chain as `processors`
    spec: dict[str, Any] = field(default_factory=dict)  # other fields of the sampling spec
    strategy: Any = Sampling
    arguments: dict[str, Any] = field(default_factory=dict)
    best_of: int | None = None

    def body(self) -> dict[str, Any]:
        return {"processors": self.chain} if self.fields is None else self.fields


def sampled(
    *options: str, first: dict[str, Any] | None = None, last: dict[str, Any] | None = None, **fields: Any
) -> Case:
    """Build a case with a processor before or after the temperature."""
    chain = [each for each in (first, TEMPERATURE, last) if each is not None]
    return Case(["--temperature", "0.9", *options], chain, **fields)


TEMPERATURE_FIELD = {"temperature": 0.9}
OBJECT = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
CASES = {
    "greedy": Case(["--temperature", "0"], [{"type": "temperature", "value": 0}], {"temperature": 0}),
    "temperature": Case(["--temperature", "0.7"], [{"type": "temperature", "value": 0.7}], {"temperature": 0.7}),
    "top_k": sampled("--top-k", "5", last={"type": "top_k", "k": 5}),
    "top_p": sampled("--top-p", "0.6", last={"type": "top_p", "p": 0.6}, fields={**TEMPERATURE_FIELD, "top_p": 0.6}),
    "min_p": sampled("--min-p", "0.2", last={"type": "min_p", "p": 0.2}),
    "typical": sampled("--typical", "0.5", last={"type": "typical", "p": 0.5}),
    "repetition_penalty": sampled("--repetition-penalty", "1.5", first={"type": "repetition_penalty", "value": 1.5}),
    "presence_penalty": sampled(
        "--presence-penalty",
        "1.5",
        first={"type": "presence_penalty", "value": 1.5},
        fields={**TEMPERATURE_FIELD, "presence_penalty": 1.5},
    ),
    "frequency_penalty": sampled(
        "--frequency-penalty",
        "1.5",
        first={"type": "frequency_penalty", "value": 1.5},
        fields={**TEMPERATURE_FIELD, "frequency_penalty": 1.5},
    ),
    "no_repeat_ngram": sampled("--no-repeat-ngram", "1", first={"type": "no_repeat_ngram", "size": 1}),
    "logit_bias": sampled(
        "--logit-bias",
        "97=5",
        first={"type": "logit_bias", "biases": {"97": 5.0}},
        fields={**TEMPERATURE_FIELD, "logit_bias": {"97": 5}},
    ),
    "banned_tokens": sampled("--ban", "f", "--ban", "th", first={"type": "banned_tokens", "texts": ["f", "th"]}),
    "forced_tokens": sampled("--force", " upon", first={"type": "forced_tokens", "text": " upon"}),
    "regex": sampled("--regex", " [a-z]{3}!", first={"type": "regex", "pattern": " [a-z]{3}!"}),
    "json_schema": sampled(
        "--json-schema",
        json.dumps(OBJECT),
        first={"type": "json_schema", "definition": OBJECT},
        fields={
            **TEMPERATURE_FIELD,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": OBJECT}},
        },
    ),
    "any json": sampled(
        "--json-schema",
        '{"type": "object"}',
        first={"type": "json_schema", "definition": {"type": "object"}},
        fields={**TEMPERATURE_FIELD, "response_format": {"type": "json_object"}},
    ),
    "from a plugin": sampled(
        "--processor", '{"type": "every_other", "nats": 9}', first={"type": "every_other", "nats": 9.0}
    ),
    "stop text": sampled("--stop", "f", fields={**TEMPERATURE_FIELD, "stop": "f"}, spec={"stop_texts": ["f"]}),
    "stop token": sampled(
        "--stop-token", "103", fields={**TEMPERATURE_FIELD, "stop_tokens": [103]}, spec={"stop_tokens": [256, 103]}
    ),
    "minimum length": sampled(
        *("--min-new-tokens", "12", "--stop-token", "103", "--stop", "f"),
        fields={**TEMPERATURE_FIELD, "min_tokens": 12, "stop_token_ids": [103], "stop": "f"},
        spec={"min_new_tokens": 12, "stop_tokens": [256, 103], "stop_texts": ["f"]},
    ),
    "ignored end of text": sampled(
        *("--ignore-eos", "--logit-bias", "256=60"),
        first={"type": "logit_bias", "biases": {"256": 60.0}},
        fields={**TEMPERATURE_FIELD, "ignore_eos": True, "logit_bias": {"256": 60}},
        spec={"ignore_eos": True, "stop_tokens": []},
    ),
    "included stop text": sampled(
        *("--stop", "f", "--include-stop-text"),
        fields={**TEMPERATURE_FIELD, "stop": "f", "include_stop_str_in_output": True},
        spec={"stop_texts": ["f"], "include_stop_text": True},
    ),
    "best of": sampled("--best-of", "6", fields={**TEMPERATURE_FIELD, "best_of": 6}, best_of=6),
    "beams": Case(
        ["--beams", "3", "--length-penalty", "0.5"],
        [],
        {"strategy": {"type": "beams", "n_beams": 3, "length_penalty": 0.5}},
        strategy=Beams,
        arguments={"n_beams": 3, "length_penalty": 0.5},
    ),
    "beams with a constraint": Case(
        ["--beams", "3", "--ban", "e"],
        [{"type": "banned_tokens", "texts": ["e"]}],
        {"strategy": {"type": "beams", "n_beams": 3}, "processors": [{"type": "banned_tokens", "texts": ["e"]}]},
        strategy=Beams,
        arguments={"n_beams": 3},
    ),
    "contrastive": Case(
        ["--contrastive", "0.4", "--candidates", "5"],
        [],
        {"strategy": {"type": "contrastive", "alpha": 0.4, "n_candidates": 5}},
        strategy=Contrastive,
        arguments={"alpha": 0.4, "n_candidates": 5},
    ),
    "speculative": sampled(
        "--draft",
        "small",
        "--ahead",
        "3",
        fields={**TEMPERATURE_FIELD, "strategy": {"type": "speculative", "n_ahead": 3}},
        strategy=Speculative,
        arguments={"n_draft_tokens": 3},
    ),
}


class EveryOther(gptzoo.LogitsProcessor):
    """Makes tokens with even ids less likely."""

    name = "every_other"

    class Config(gptzoo.LogitsProcessor.Config):
        nats: float = 1.0

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        biased = logits.clone()
        biased[:, ::2] -= self.config.nats
        return biased


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two models, while a plugin's logits processor is installed."""
    path = tmp_path_factory.mktemp("strategies")
    for name, n_layers in (("tiny", 2), ("small", 1)):
        model = with_large_weights(gptzoo.build({**SPEC, "n_layers": n_layers}, seed=1))
        save_model(path / name, model, ByteTokenizer(ByteTokenizer.Config()))
    with registry.use(registry.discover("none")):
        admit(EveryOther)
        yield path


@pytest.fixture(scope="module")
def models(folder: Path) -> tuple[LoadedModel, LoadedModel]:
    return load(folder / "tiny"), load(folder / "small")


@pytest.fixture(scope="module")
def running(models: tuple[LoadedModel, LoadedModel]) -> Iterator[Served]:
    with serving(models[0], draft=models[1]) as served:
        yield served


def on_the_command_line(folder: Path, *options: str) -> str:
    arguments = [
        "sample",
        str(folder / "tiny"),
        "--prompt",
        "Once",
        "--max-new-tokens",
        str(N),
        "--seed",
        "5",
        "--json",
    ]
    result = CliRunner().invoke(main, [*arguments, *(str(folder / o) if o == "small" else o for o in options)])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["samples"][0]["text"]


def in_python(models: tuple[LoadedModel, LoadedModel], case: Case) -> str:
    fields = {"max_new_tokens": N, "stop_tokens": [256], "seed": 5, "processors": case.chain, **case.spec}
    arguments = {"draft": models[1], **case.arguments} if case.strategy is Speculative else case.arguments
    strategy: Strategy = case.strategy(models[0], gptzoo.SamplingSpec.model_validate(fields), **arguments)
    return strategy.samples("Once", best_of=case.best_of)[0].text


def over_http(running: Served, case: Case, **extra: Any) -> str:
    body = {**case.body(), **extra}
    openai_fields = {name: body.pop(name) for name in list(body) if name in ("temperature", "top_p", "stream")}
    answer = running.complete(
        "Once", **{"temperature": None, "max_tokens": N, "seed": 5, **openai_fields}, extra_body=body
    )
    if extra.get("stream"):
        return "".join(chunk.choices[0].text for chunk in answer)
    return answer.choices[0].text


@pytest.mark.parametrize("name", CASES)
def test_a_strategy_generates_the_same_text_in_all_three_ways(
    name: str, folder: Path, models: tuple[LoadedModel, LoadedModel], running: Served
) -> None:
    case = CASES[name]
    if {"regex", "json_schema"} & {each["type"] for each in case.chain}:
        pytest.importorskip("llguidance")
    text = in_python(models, case)
    assert on_the_command_line(folder, *case.options) == text
    assert over_http(running, case) == text
    if case.best_of is None:
        assert over_http(running, case, stream=True) == text
    if name not in ("greedy", "temperature"):
        assert text != in_python(models, Case([], [] if case.chain == [] else [TEMPERATURE])), (
            "this case does not change the text"
        )


def test_the_table_has_all_strategies_and_processors() -> None:
    with registry.use(registry.discover("none")):
        types = {each["type"] for case in CASES.values() for each in case.chain}
        assert types == {*gptzoo.registered("logits_processor"), "every_other"}
    members = [*vars(strategies).values(), *vars(search_strategies).values()]
    classes = {each for each in members if isinstance(each, type) and issubclass(each, Strategy)}
    assert {case.strategy for case in CASES.values()} == classes - {Strategy, search_strategies.Search}


def test_speculation_over_http_gives_the_same_samples_with_more_samples_than_slots(
    models: tuple[LoadedModel, LoadedModel], running: Served
) -> None:
    strategy = {"type": "speculative", "n_ahead": 3}
    answer = running.complete(
        ["Once", "A"], n=4, temperature=0.9, max_tokens=N, seed=5, extra_body={"strategy": strategy}
    )
    spec = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": N, "stop_tokens": [256], "seed": 5, "processors": [TEMPERATURE]}
    )
    alone = Speculative(*models[:1], spec, models[1], 3)
    expected = [sample.text for prompt in ("Once", "A") for sample in alone.samples(prompt, 4)]
    assert [choice.text for choice in answer.choices] == expected


def test_speculation_on_the_command_line_with_a_prompt_file(folder: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('"Once"\n"A long one"\n"B"\n')
    options = ["--draft", str(folder / "small"), "--max-new-tokens", str(N), "--seed", "5", "--num-samples", "2"]
    many = ["sample", str(folder / "tiny"), "--prompts", str(prompts), "--out", str(out), "--rows", "2", *options]
    result = CliRunner().invoke(main, many)
    assert result.exit_code == 0, result.output
    rows = {row["prompt"]: row["samples"] for row in map(json.loads, out.read_text().splitlines())}
    assert rows.keys() == {"Once", "A long one", "B"}
    for prompt, samples in rows.items():
        one = CliRunner().invoke(main, ["sample", str(folder / "tiny"), "--prompt", prompt, "--json", *options])
        assert [each["tokens"] for each in json.loads(one.stdout)["samples"]] == [each["tokens"] for each in samples]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"processors": ["every_othr"]}, "processors", "did you mean 'every_other'?"),
        ({"processors": [{"type": "every_other", "nat": 1}]}, "processors", "did you mean 'nats'?"),
        ({"min_q": 0.2}, "min_q", "no field named 'min_q'"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "needs a json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format",
            'an object with a "schema"',
        ),
        (
            {"response_format": {"type": "json_object"}, "processors": []},
            "response_format",
            "cannot be combined with processors",
        ),
        ({"stop_tokens": [-1]}, "stop_tokens", "greater than or equal to 0"),
        ({"strategy": {"type": "speculativ"}}, "strategy", "'speculative'"),
        ({"strategy": {"type": "speculative", "n_ahead": 0}}, "strategy", "greater than or equal to 1"),
    ],
)
def test_a_misspelt_field_is_reported_to_the_client(
    running: Served, body: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        running.complete("Once", temperature=None, extra_body=body)
    assert caught.value.param == param
    assert message in caught.value.body["message"]
