"""`gptzoo sample` on the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import with_large_weights

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import load, save_model
from gptzoo.cli import main
from gptzoo.cli.inputs import read_model
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.sampling.score import score
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}


def gptzoo(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "model"
    save_model(folder, with_large_weights(zoo.build(SPEC)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


@pytest.fixture
def sample(model: Path) -> Any:
    """A function that runs `gptzoo sample --json` and returns its output."""

    def run(*arguments: str | Path, stdin: str | None = None) -> dict[str, Any]:
        result = gptzoo("sample", model, "--max-new-tokens", "12", "--json", *arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def texts_of(samples: list[dict[str, Any]]) -> list[Any]:
    """Return the parts of samples that depend neither on time nor on rounding."""
    return [(one["text"], one["tokens"], one["end"]) for one in samples]


def test_a_seed_determines_the_text(model: Path) -> None:
    one, again = (gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "20") for _ in range(2))
    assert one.exit_code == 0, one.output
    assert one.stdout == again.stdout
    assert one.stdout.startswith("ab")
    assert gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "20", "--seed", "2").stdout != one.stdout


def test_the_streamed_text_is_the_text_in_json(model: Path) -> None:
    arguments = ("sample", model, "--prompt", "ab", "--max-new-tokens", "20", "--top-k", "9", "--top-p", "0.9")
    report = json.loads(gptzoo(*arguments, "--json").stdout)
    assert len(report["samples"]) == 1
    assert gptzoo(*arguments).stdout == f"ab{report['samples'][0]['text']}\n"
    assert [p["type"] for p in report["sampling"]["processors"]] == ["temperature", "top_k", "top_p"]


def test_the_first_of_many_samples_is_the_single_sample(model: Path) -> None:
    arguments = ("sample", model, "--prompt", "ab", "--max-new-tokens", "8", "--json")
    one, three = (json.loads(gptzoo(*arguments, "--num-samples", n).stdout)["samples"] for n in ("1", "3"))
    assert len(three) == 3
    assert texts_of(three)[0] == texts_of(one)[0]
    text = gptzoo(*arguments[:-1], "--num-samples", "3").stdout
    assert text.count("--- sample") == 3


def test_json_has_ids_log_probabilities_the_finish_reason_and_times(sample: Any, model: Path) -> None:
    report = sample("--prompt", "ab", "--num-samples", "2")
    loaded = load(model)
    for one in report["samples"]:
        (expected,) = score(loaded.model, [[97, 98, *one["tokens"]]])
        assert one["log_probabilities"] == pytest.approx(expected[1:].tolist(), abs=1e-4)
        assert one["log_probability"] == pytest.approx(sum(expected[1:].tolist()), abs=1e-3)
        assert one["text"] == bytes(token for token in one["tokens"]).decode("utf-8", errors="replace")
        assert one["end"] == "length"
        assert 0 < one["seconds_to_first"] <= one["seconds"] <= report["seconds"]


def test_json_has_the_stop_token_and_its_log_probability(sample: Any, model: Path) -> None:
    stops = ["--stop-token", "65", "--stop-token", "66", "--logit-bias", "65=4", "--logit-bias", "66=4"]
    ended_by = set()
    for one in sample("--prompt", "ab", "--num-samples", "8", *stops)["samples"]:
        end = [] if one["stop_token"] is None else [one["stop_token"]]
        (expected,) = score(load(model).model, [[97, 98, *one["tokens"], *end]])
        every = [*one["log_probabilities"], *([one["stop_log_probability"]] if end else [])]
        assert every == pytest.approx(expected[1:].tolist(), abs=1e-4)
        assert one["log_probability"] == pytest.approx(expected[1:].sum().item(), abs=1e-3)
        assert one["mean_log_probability"] == pytest.approx(expected[1:].mean().item(), abs=1e-3)
        assert bool(end) == (one["end"] == "stop_token")
        assert bool(end) or one["stop_log_probability"] is None
        ended_by |= {*end}
    assert ended_by >= {65, 66}


def test_the_prompt_may_come_from_a_file_or_from_stdin(sample: Any, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes("naïve\n".encode())
    expected = texts_of(sample("--prompt", "naïve")["samples"])
    assert texts_of(sample("--file", tmp_path / "prompt.txt")["samples"]) == expected
    assert texts_of(sample("--file", "-", stdin="naïve\n")["samples"]) == expected
    assert texts_of(sample("--file", "-", stdin="naïve\n\n")["samples"]) != expected  # only one newline is removed


def test_without_a_prompt_a_new_text_fills_the_context(model: Path) -> None:
    result = gptzoo("sample", model, "--json", "--stop-token", "999")
    assert [len(one["tokens"]) for one in json.loads(result.stdout)["samples"]] == [63]


OPTIONS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "temperature": (["--temperature", "0.5"], {"value": 0.5}),
    "top_k": (["--top-k", "7"], {"k": 7}),
    "top_p": (["--top-p", "0.9"], {"p": 0.9}),
    "min_p": (["--min-p", "0.1"], {"p": 0.1}),
    "typical": (["--typical", "0.7"], {"p": 0.7}),
    "repetition_penalty": (["--repetition-penalty", "1.3"], {"value": 1.3}),
    "presence_penalty": (["--presence-penalty", "0.4"], {"value": 0.4}),
    "frequency_penalty": (["--frequency-penalty", "0.2"], {"value": 0.2}),
    "no_repeat_ngram": (["--no-repeat-ngram", "2"], {"size": 2}),
    "logit_bias": (["--logit-bias", "97=2.5", "--logit-bias", "98=-1"], {"biases": {"97": 2.5, "98": -1.0}}),
    "banned_tokens": (["--ban", "x", "--ban", "yz"], {"ids": [], "texts": ["x", "yz"]}),
    "forced_tokens": (["--force", "so "], {"ids": [], "text": "so "}),
    "regex": (["--regex", "[ab]+"], {"pattern": "[ab]+"}),
    "json_schema": (["--json-schema", '{"type": "integer"}'], {"definition": {"type": "integer"}, "whitespace": False}),
}


def test_every_built_in_processor_has_an_option(sample: Any) -> None:
    assert OPTIONS.keys() == zoo.registered("logits_processor").keys()
    for name, (arguments, expected) in OPTIONS.items():
        if name in ("regex", "json_schema"):
            pytest.importorskip("llguidance")
        processors = sample("--prompt", "ab", *arguments)["sampling"]["processors"]
        options = {each.pop("type"): each for each in processors}
        assert options[name] == expected
        assert options.keys() == {name, "temperature"}


def test_processors_are_applied_in_a_fixed_order(sample: Any) -> None:
    arguments = [
        argument
        for name, (each, _) in OPTIONS.items()
        if name not in ("json_schema", "forced_tokens")
        for argument in each
    ]
    generic = ["--processor", '{"type": "top_k", "k": 99}', "--processor", '{"type": "banned_tokens", "ids": [3]}']
    types = [each["type"] for each in sample("--prompt", "ab", *arguments, *generic)["sampling"]["processors"]]
    assert types == [
        *("banned_tokens", "regex", "banned_tokens"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram", "logit_bias"),
        *("top_k", "temperature", "top_k", "top_p", "min_p", "typical"),
    ]


def test_options_override_a_spec(sample: Any, tmp_path: Path) -> None:
    spec = tmp_path / "sampling.json"
    spec.write_text('{"seed": 7, "stop_texts": ["zz"], "processors": [{"type": "top_p", "p": 0.5}, "temperature"]}')
    report = sample("--prompt", "ab", "--spec", spec)["sampling"]
    assert report["processors"] == [{"type": "top_p", "p": 0.5}, {"type": "temperature", "value": 1.0}]
    assert (report["seed"], report["stop_texts"], report["stop_tokens"]) == (7, ["zz"], [256])
    overridden = sample("--prompt", "ab", "--spec", spec, "--top-p", "0.6", "--min-p", "0.1", "--seed", "8")["sampling"]
    assert [each.get("p") for each in overridden["processors"]] == [0.6, None, 0.1]
    assert overridden["seed"] == 8
    spec.write_text('{"proccessors": []}')
    result = gptzoo("sample", "nowhere", "--spec", spec)
    assert result.exit_code == 2


def test_text_follows_a_pattern_or_a_schema(sample: Any, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    (one,) = sample("--prompt", "ab", "--regex", "[0-9]{3}-[a-f]{2}")["samples"]
    assert len(one["text"]) == 6
    assert one["end"] == "finished"
    (tmp_path / "schema.json").write_text('{"enum": ["red", "green"]}')
    (one,) = sample("--prompt", "ab", "--json-schema", tmp_path / "schema.json")["samples"]
    assert json.loads(one["text"]) in ("red", "green")


def test_a_text_ends_before_a_stop_string(sample: Any) -> None:
    (free,) = sample("--prompt", "ab", "--regex", "[ab]{12}")["samples"]
    stop = free["text"][4:7]
    (stopped,) = sample("--prompt", "ab", "--regex", "[ab]{12}", "--stop", stop)["samples"]
    assert stopped["text"] == free["text"][: free["text"].index(stop)]
    assert stopped["end"] == "stop_text"


def test_best_of_returns_the_most_likely_samples(sample: Any) -> None:
    many = sample("--prompt", "ab", "--num-samples", "6")["samples"]
    best = sample("--prompt", "ab", "--best-of", "6", "--num-samples", "2")["samples"]
    ranked = sorted(many, key=lambda one: -sum(one["log_probabilities"]) / len(one["tokens"]))
    assert texts_of(best) == texts_of(ranked[:2])


@pytest.mark.slow
def test_compiled_models_and_drafts_generate_the_same_text(
    sample: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path))
    draft = tmp_path / "draft"
    save_model(draft, with_large_weights(zoo.build({**SPEC, "d_model": 8})), ByteTokenizer(ByteTokenizer.Config()))
    options = ("--prompt", "ab", "--temperature", "0")
    expected = texts_of(sample(*options)["samples"])
    assert texts_of(sample(*options, "--compile")["samples"]) == expected
    assert len(list(tmp_path.rglob("*.pt2"))) == 1
    assert texts_of(sample(*options, "--compile", "--draft", draft)["samples"]) == expected
    assert len(list(tmp_path.rglob("*.pt2"))) == 2


@pytest.mark.parametrize(
    ("arguments", "one_row"),
    [
        ((), True),
        (("--num-samples", "2"), False),
        (("--best-of", "2"), False),
        (("--beams", "2"), False),
        (("--draft", "model"), False),
    ],
)
def test_weights_are_prepared_for_the_batch_size(
    sample: Any, model: Path, arguments: tuple[str, ...], one_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = set()
    monkeypatch.setattr(
        "gptzoo.sampling.inference_weights._is_faster_blocked", lambda weight, one_row: values.add(one_row)
    )
    sample("--prompt", "ab", *(str(model) if argument == "model" else argument for argument in arguments))
    assert values == {one_row}


def test_decoding_strategies_are_those_of_the_library(sample: Any, model: Path) -> None:
    loaded, spec = load(model), zoo.SamplingSpec.model_validate({"max_new_tokens": 12, "stop_tokens": [256]})
    beams = beam_search(loaded.model, [97, 98], spec, n_beams=3, length_penalty=0.5)
    report = sample("--prompt", "ab", "--beams", "3", "--length-penalty", "0.5", "--num-samples", "3")
    assert [one["tokens"] for one in report["samples"]] == [[*beam.tokens] for beam in beams]
    assert report["sampling"]["processors"] == []
    events = contrastive_search(loaded.model, [97, 98], spec, alpha=0.3, n_candidates=5)
    report = sample("--prompt", "ab", "--contrastive", "0.3", "--candidates", "5")
    assert report["samples"][0]["tokens"] == [event.token for event in events]
    assert report["strategy"] == {"type": "contrastive", "alpha": 0.3, "n_candidates": 5}
    greedy = sample("--prompt", "ab", "--temperature", "0")["samples"]
    drafted = sample("--prompt", "ab", "--temperature", "0", "--draft", model, "--ahead", "3")["samples"]
    assert [one["tokens"] for one in drafted] == [one["tokens"] for one in greedy]


def test_a_processor_may_come_from_a_plugin(sample: Any, tmp_path: Path) -> None:
    (tmp_path / "only.py").write_text(
        "import gptzoo\n\n\n"
        "class Only(gptzoo.LogitsProcessor):\n"
        '    """Keeps one token."""\n\n'
        '    name = "only"\n\n'
        "    class Config(gptzoo.LogitsProcessor.Config):\n"
        "        id: int = 0\n\n"
        "    def __call__(self, logits, sequences):\n"
        "        masked = logits.new_full(logits.shape, float('-inf'))\n"
        "        masked[:, self.config.id] = 0.0\n"
        "        return masked\n\n\n"
        "@gptzoo.hookimpl\ndef gptzoo_components():\n    return [Only]\n"
    )
    with zoo.registry.use(zoo.registry.discover(selection="none")):
        report = sample("--plugin", tmp_path / "only.py", "--prompt", "ab", "--processor", '{"type": "only", "id": 65}')
    assert report["samples"][0]["text"] == "A" * 12


def test_interactive_prompts_are_continued_until_the_end_of_input(model: Path) -> None:
    once = gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "5").stdout
    result = gptzoo("sample", model, "--interactive", "--max-new-tokens", "5", stdin="ab\n\ncd\n" + "x" * 70 + "\nab\n")
    assert result.exit_code == 0
    assert result.stdout.startswith(once)
    assert result.stdout.endswith(once)
    assert result.stdout[len(once) :].startswith(once.removesuffix("\n"))  # an empty line continues the last text
    assert "exceed the maximum length 64" in result.stderr


def test_a_prompt_file_is_answered_and_an_interrupted_output_file_is_resumed(model: Path, tmp_path: Path) -> None:
    prompts, out, whole = (tmp_path / name for name in ("prompts.jsonl", "out.jsonl", "whole.jsonl"))
    prompts.write_text('"ab"\n{"prompt": "cdé", "id": 7}\n\n"x"\n"ab"\n')
    arguments = ("sample", model, "--prompts", prompts, "--num-samples", "2", "--max-new-tokens", "6")
    assert gptzoo(*arguments, "--out", whole).exit_code == 0
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    rows.sort(key=lambda row: row["line"])  # results are in order of completion
    assert [row["line"] for row in rows] == [1, 2, 4, 5]
    assert rows[1]["id"] == 7
    samples = [row["samples"] for row in rows]
    alone = json.loads(gptzoo("sample", model, "--prompt", "cdé", *arguments[4:], "--json").stdout)
    assert texts_of(samples[1]) == texts_of(alone["samples"])
    assert texts_of(samples[0]) == texts_of(samples[3])  # the same prompt

    lines = whole.read_bytes().splitlines(keepends=True)
    out.write_bytes(lines[0] + lines[1][:20])
    result = gptzoo(*arguments, "--out", out)
    assert "3 prompts (1 already done)" in result.stderr
    again = [json.loads(line) for line in out.read_text().splitlines()]
    again.sort(key=lambda result: result["line"])
    assert [texts_of(result["samples"]) for result in again] == [*map(texts_of, samples)]
    assert "0 prompts" in gptzoo(*arguments, "--out", out).stderr

    for option in (["--seed", "5"], ["--dtype", "bf16"], ["--best-of", "4"]):
        other = gptzoo(*arguments, "--out", out, *option)
        assert (other.exit_code, "with other options. Choose another --out" in other.stderr) == (2, True)
    prompts.write_text('"AB"\n')
    other = gptzoo(*arguments, "--out", out)
    assert (other.exit_code, "prompt 1 has changed" in other.stderr) == (2, True)


def test_the_job_of_a_result_file_is_that_of_older_versions_unless_a_newer_option_is_given(
    sample: Any, model: Path, tmp_path: Path
) -> None:
    """Files that older versions wrote can be resumed."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('"ab"\n')

    def job(*options: str) -> str:
        out = tmp_path / f"{len(options)}{''.join(options)}.jsonl"
        arguments = ("sample", model, "--prompts", prompts, "--out", out, "--max-new-tokens", "12")
        assert gptzoo(*arguments, *options).exit_code == 0
        return json.loads(out.read_text())["job"]

    weights = hashlib.sha256()
    for name, tensor in read_model(model, device="cpu", dtype="fp32").model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    report = sample("--prompt", "ab")
    old_fields = ("max_new_tokens", "processors", "stop_tokens", "stop_texts", "seed")
    settings = {"strategy": report["strategy"], "sampling": {name: report["sampling"][name] for name in old_fields}}
    digest = hashlib.sha256(json.dumps([weights.hexdigest(), settings, 1, None], sort_keys=True).encode())
    newer = [["--min-new-tokens", "3"], ["--ignore-eos"], ["--include-stop-text"]]
    jobs = [job(), *(job(*options) for options in newer)]
    assert jobs[0] == digest.hexdigest()[:16]
    assert len(set(jobs)) == 4


JSON_VALUES = [9, 1, -3, 2.5, "A1", "", None, True, [1, {"a": []}], {"line": 1}, []]


def write_prompts(file: Path, prompts: list[Any]) -> None:
    file.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))


def result_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a row adds to the fields of its prompt."""
    return {**row, **row.get("gptzoo", {})}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a result file, by the line number of their prompts."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: result_of(row)["line"])


@pytest.mark.parametrize("key", ["line", "samples", "job", "seconds", "\ud800"])
def test_fields_of_the_user_come_back_as_they_were(model: Path, tmp_path: Path, key: str) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    written = [{"prompt": "ab", key: value} for value in [*JSON_VALUES, "\udfff"]]
    write_prompts(prompts, [*written, "ab"])
    arguments = ("sample", model, "--prompts", prompts, "--out", out, "--max-new-tokens", "2", "--temperature", "0")
    result = gptzoo(*arguments)
    assert result.exit_code == 0, result.output
    rows = read_rows(out)
    assert [result_of(row)["line"] for row in rows] == [*range(1, len(written) + 2)]
    fields = [{name: row[name] for name in prompt} for row, prompt in zip(rows, written, strict=False)]
    assert json.dumps(fields) == json.dumps(written)  # tells 1 from True
    assert len({str(texts_of(result_of(row)["samples"])) for row in rows}) == 1
    assert rows[-1].keys() == {"line", "prompt", "samples", "job"}  # nothing moves where no field is in the way

    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:5]))
    assert f"{len(written) - 4} prompts (5 already done)" in gptzoo(*arguments).stderr
    assert "0 prompts" in gptzoo(*arguments).stderr
    assert [result_of(row)["line"] for row in read_rows(out)] == [*range(1, len(written) + 2)]


def test_a_prompt_with_the_key_of_the_results_is_refused(model: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    write_prompts(prompts, ["ab", {"prompt": "ab", "gptzoo": None}])
    result = gptzoo("sample", model, "--prompts", prompts, "--out", out)
    assert (result.exit_code, out.exists()) == (2, False)
    assert 'prompts.jsonl:2: the key "gptzoo" is reserved for results. Rename this field.' in result.stderr


@pytest.mark.parametrize("rows", ["1", "3", "20"])
def test_results_do_not_depend_on_the_batch_size(model: Path, tmp_path: Path, rows: str) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    texts = ["ab", "cde", "", "f" * 20, "gh", "x"]
    prompts.write_text("".join(json.dumps(text) + "\n" for text in texts))
    options = ("--num-samples", "2", "--best-of", "3", "--max-new-tokens", "9", "--stop", "e", "--top-p", "0.5")
    result = gptzoo("sample", model, "--prompts", prompts, "--out", out, "--rows", rows, *options)
    assert result.exit_code == 0, result.output
    rows_written = [json.loads(line) for line in out.read_text().splitlines()]
    results = {result["line"]: result for result in rows_written}
    for line, text in enumerate(texts, start=1):
        alone = json.loads(gptzoo("sample", model, "--prompt", text, *options, "--json").stdout)
        assert texts_of(results[line]["samples"]) == texts_of(alone["samples"])
        assert all(0 < one["seconds_to_first"] <= one["seconds"] for one in results[line]["samples"])


def test_the_default_weight_format_is_fp32(sample: Any, model: Path) -> None:
    options = ("--prompt", "ab", "--temperature", "0")
    (default,), (fp32,) = (sample(*options, *more)["samples"] for more in ((), ("--dtype", "fp32")))
    assert default["tokens"] == fp32["tokens"]
    assert default["log_probabilities"] == fp32["log_probabilities"]
    (expected,) = score(load(model).model, [[97, 98, *fp32["tokens"]]])
    assert fp32["log_probabilities"] == pytest.approx(expected[1:].tolist(), abs=1e-5)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_smaller_weight_formats_change_log_probabilities_only_slightly(sample: Any, model: Path, dtype: str) -> None:
    options = ("--prompt", "ab", "--temperature", "0")
    (exact,), (rounded,) = (sample(*options, "--dtype", each)["samples"] for each in ("fp32", dtype))
    assert 0 < abs(exact["log_probabilities"][0] - rounded["log_probabilities"][0]) < 0.2
    (drafted,) = sample(*options, "--draft", model, "--dtype", dtype)["samples"]  # the draft model has the same format
    assert len(drafted["tokens"]) == len(rounded["tokens"])
    assert abs(drafted["log_probabilities"][0] - rounded["log_probabilities"][0]) < 0.05


def test_an_invalid_prompt_file_is_reported_with_the_line_before_any_output(model: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    for text, message in (
        ('"ab"\n{"prompt": "a", "id": 1, "id": 2}\n', "prompts.jsonl:2: is not JSON: the key 'id' appears twice"),
        ('"ab"\n{"prompt": "a", "x": [1e400]}\n', "prompts.jsonl:2: has a number that is too large for a float"),
        ('"ab"\n{"prompt": "a", "x": NaN}\n', "prompts.jsonl:2: is not JSON: NaN is not valid JSON"),
        ('"ab"\n{"text": 3}\n', "prompts.jsonl:2: expected a string"),
        ('"ab"\n"c\n', "prompts.jsonl:2: is not JSON"),
        ("\n", "has no prompts"),
    ):
        prompts.write_text(text)
        result = gptzoo("sample", model, "--prompts", prompts, "--out", out)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
        assert not out.exists()
    out.write_text("something else\n")
    prompts.write_text('"ab"\n')
    result = gptzoo("sample", model, "--prompts", prompts, "--out", out)
    assert "is not a line of a result file" in result.stderr
    assert out.read_text() == "something else\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "70"], "Ask for at most"),
        (["--device", "cuda:99"], "cuda"),
        (["--device", "quantum"], "device 'quantum': unknown. Supported devices: auto, cpu"),
        (["--top-p", "1.5"], "--top-p: $.p: should be less than or equal to 1"),
        (["--temperature", "-1"], "--temperature: $.value"),
        (["--logit-bias", "a=1"], "expected ID=NATS such as 50=-2.5, got 'a=1'"),
        (["--json-schema", "nowhere.json"], "expected a JSON object or a readable file"),
        (["--json-schema", "{"], "--json-schema"),
        (["--processor", "top_x"], "no logits_processor named 'top_x'; did you mean"),
        (["--processor", '{"type": "top_k", "n": 3}'], "--processor: $.n: 'top_k' has no option 'n'"),
        (["--spec", "nowhere.json"], "nowhere.json: $: cannot be read"),
        (["--beams", "2", "--contrastive", "0.6"], "--beams and --contrastive cannot be combined"),
        (["--candidates", "2"], "--candidates needs --contrastive"),
        (["--beams", "2", "--num-samples", "3"], "2 beams cannot give 3 samples"),
        (["--contrastive", "0.6", "--num-samples", "3"], "one sample per prompt"),
        (["--best-of", "2", "--num-samples", "3"], "--best-of 2 is less than --num-samples 3"),
        (["--file", "-"], "--prompt and --file cannot be combined"),
        (["--out", "x.jsonl"], "--prompts and --out must be given together"),
        (["--checkpoint", "latest"], "expected last, best or a step number"),
        (["--averaged"], "no averaged weights"),
    ],
)
def test_invalid_input_exits_with_code_2(model: Path, arguments: list[str], message: str) -> None:
    result = gptzoo("sample", model, "--prompt", "ab", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_models_that_cannot_generate_text_are_rejected_with_the_reason(tmp_path: Path, model: Path) -> None:
    assert gptzoo("sample", tmp_path / "nowhere").exit_code == 2
    spec = {"vocab_size": 5, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}
    save_model(tmp_path / "no-tokenizer", zoo.build(spec))
    result = gptzoo("sample", tmp_path / "no-tokenizer", "--prompt", "x")
    assert result.exit_code == 2
    assert "has no tokenizer.json" in result.stderr
    save_model(tmp_path / "char", zoo.build(spec), CharTokenizer(CharTokenizer.Config(), "abcde"))
    assert "Give a --prompt" in gptzoo("sample", tmp_path / "char").stderr
    assert "no token for 'z'" in gptzoo("sample", tmp_path / "char", "--prompt", "z").stderr
    result = gptzoo("sample", model, "--draft", tmp_path / "char")
    assert "its tokenizer differs" in result.stderr
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    assert "byte 3 is not UTF-8" in gptzoo("sample", model, "--file", tmp_path / "latin").stderr
