"""gptzoo sample, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import loud

import gptzoo as zoo
from gptzoo.checkpoint.model_folder import load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.sampling.score import score
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}


def gptzoo(*arguments: str | Path, typed: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=typed)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "model"
    save_model(folder, loud(zoo.build(SPEC)), ByteTokenizer(ByteTokenizer.Config()))
    return folder


@pytest.fixture
def sample(model: Path) -> Any:
    """What `gptzoo sample` reports as JSON."""

    def run(*arguments: str | Path, typed: str | None = None) -> dict[str, Any]:
        done = gptzoo("sample", model, "--max-new-tokens", "12", "--json", *arguments, typed=typed)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def written(samples: list[dict[str, Any]]) -> list[Any]:
    """What does not depend on the clock, nor, by rounding, on the number of rows."""
    return [(one["text"], one["tokens"], one["end"]) for one in samples]


def test_a_prompt_is_continued_and_a_seed_gives_the_same_text(model: Path) -> None:
    one, again = (gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "20") for _ in range(2))
    assert one.exit_code == 0, one.output
    assert one.stdout == again.stdout
    assert one.stdout.startswith("ab")
    assert gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "20", "--seed", "2").stdout != one.stdout


def test_streamed_text_is_the_text_that_json_reports(model: Path) -> None:
    arguments = ("sample", model, "--prompt", "ab", "--max-new-tokens", "20", "--top-k", "9", "--top-p", "0.9")
    report = json.loads(gptzoo(*arguments, "--json").stdout)
    assert len(report["samples"]) == 1
    assert gptzoo(*arguments).stdout == f"ab{report['samples'][0]['text']}\n"
    assert [p["type"] for p in report["sampling"]["processors"]] == ["temperature", "top_k", "top_p"]


def test_many_samples_begin_with_the_one_sample(model: Path) -> None:
    arguments = ("sample", model, "--prompt", "ab", "--max-new-tokens", "8", "--json")
    one, three = (json.loads(gptzoo(*arguments, "--num-samples", n).stdout)["samples"] for n in ("1", "3"))
    assert len(three) == 3
    assert written(three)[0] == written(one)[0]
    text = gptzoo(*arguments[:-1], "--num-samples", "3").stdout
    assert text.count("--- sample") == 3


def test_json_tells_ids_log_probabilities_the_end_and_times(sample: Any, model: Path) -> None:
    report = sample("--prompt", "ab", "--num-samples", "2")
    loaded = load(model)
    for one in report["samples"]:
        (expected,) = score(loaded.model, [[97, 98, *one["tokens"]]])
        assert one["log_probabilities"] == pytest.approx(expected[1:].tolist(), abs=1e-4)
        assert one["log_probability"] == pytest.approx(sum(expected[1:].tolist()), abs=1e-3)
        assert one["text"] == bytes(token for token in one["tokens"]).decode("utf-8", errors="replace")
        assert one["end"] == "length"
        assert 0 < one["seconds_to_first"] <= one["seconds"] <= report["seconds"]


def test_a_prompt_may_come_from_a_file_or_from_stdin(sample: Any, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes("naïve\n".encode())
    expected = written(sample("--prompt", "naïve")["samples"])
    assert written(sample("--file", tmp_path / "prompt.txt")["samples"]) == expected
    assert written(sample("--file", "-", typed="naïve\n")["samples"]) == expected
    assert written(sample("--file", "-", typed="naïve\n\n")["samples"]) != expected  # one newline is left out, no more


def test_no_prompt_starts_a_text_as_long_as_there_is_room(model: Path) -> None:
    done = gptzoo("sample", model, "--json", "--stop-token", "999")
    assert [len(one["tokens"]) for one in json.loads(done.stdout)["samples"]] == [63]


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


def test_every_processor_that_ships_has_an_option(sample: Any) -> None:
    assert OPTIONS.keys() == zoo.registered("logits_processor").keys()
    for name, (arguments, expected) in OPTIONS.items():
        if name in ("regex", "json_schema"):
            pytest.importorskip("llguidance")
        found = {each.pop("type"): each for each in sample("--prompt", "ab", *arguments)["sampling"]["processors"]}
        assert found[name] == expected
        assert found.keys() == {name, "temperature"}


def test_options_are_applied_in_a_fixed_order_and_others_may_stand_between(sample: Any) -> None:
    arguments = [
        argument
        for name, (each, _) in OPTIONS.items()
        if name not in ("json_schema", "forced_tokens")
        for argument in each
    ]
    more = ["--processor", '{"type": "top_k", "k": 99}', "--processor", '{"type": "banned_tokens", "ids": [3]}']
    types = [each["type"] for each in sample("--prompt", "ab", *arguments, *more)["sampling"]["processors"]]
    assert types == [
        *("banned_tokens", "regex", "banned_tokens"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram", "logit_bias"),
        *("top_k", "temperature", "top_k", "top_p", "min_p", "typical"),
    ]


def test_a_spec_is_taken_as_it_is_and_options_change_it(sample: Any, tmp_path: Path) -> None:
    spec = tmp_path / "sampling.json"
    spec.write_text('{"seed": 7, "stop_texts": ["zz"], "processors": [{"type": "top_p", "p": 0.5}, "temperature"]}')
    report = sample("--prompt", "ab", "--spec", spec)["sampling"]
    assert report["processors"] == [{"type": "top_p", "p": 0.5}, {"type": "temperature", "value": 1.0}]
    assert (report["seed"], report["stop_texts"], report["stop_tokens"]) == (7, ["zz"], [256])
    changed = sample("--prompt", "ab", "--spec", spec, "--top-p", "0.6", "--min-p", "0.1", "--seed", "8")["sampling"]
    assert [each.get("p") for each in changed["processors"]] == [0.6, None, 0.1]
    assert changed["seed"] == 8
    spec.write_text('{"proccessors": []}')
    done = gptzoo("sample", "nowhere", "--spec", spec)
    assert done.exit_code == 2


def test_a_text_of_a_pattern_or_of_a_schema_is_written(sample: Any, tmp_path: Path) -> None:
    pytest.importorskip("llguidance")
    (one,) = sample("--prompt", "ab", "--regex", "[0-9]{3}-[a-f]{2}")["samples"]
    assert len(one["text"]) == 6
    assert one["end"] == "finished"
    (tmp_path / "schema.json").write_text('{"enum": ["red", "green"]}')
    (one,) = sample("--prompt", "ab", "--json-schema", tmp_path / "schema.json")["samples"]
    assert json.loads(one["text"]) in ("red", "green")


def test_a_text_ends_before_a_stop_text(sample: Any) -> None:
    (free,) = sample("--prompt", "ab", "--regex", "[ab]{12}")["samples"]
    stop = free["text"][4:7]
    (stopped,) = sample("--prompt", "ab", "--regex", "[ab]{12}", "--stop", stop)["samples"]
    assert stopped["text"] == free["text"][: free["text"].index(stop)]
    assert stopped["end"] == "stop_text"


def test_the_best_of_many_is_the_likeliest_of_them(sample: Any) -> None:
    many = sample("--prompt", "ab", "--num-samples", "6")["samples"]
    best = sample("--prompt", "ab", "--best-of", "6", "--num-samples", "2")["samples"]
    ranked = sorted(many, key=lambda one: -sum(one["log_probabilities"]) / len(one["tokens"]))
    assert written(best) == written(ranked[:2])


@pytest.mark.slow
def test_compiled_steps_and_a_compiled_draft_write_the_same(
    sample: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path))
    draft = tmp_path / "draft"
    save_model(draft, loud(zoo.build({**SPEC, "d_model": 8})), ByteTokenizer(ByteTokenizer.Config()))
    how = ("--prompt", "ab", "--temperature", "0")
    expected = written(sample(*how)["samples"])
    assert written(sample(*how, "--compile")["samples"]) == expected
    assert len(list(tmp_path.rglob("*.pt2"))) == 1
    assert written(sample(*how, "--compile", "--draft", draft)["samples"]) == expected
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
def test_weights_are_prepared_for_as_many_rows_as_will_be_written(
    sample: Any, model: Path, arguments: tuple[str, ...], one_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()
    monkeypatch.setattr(
        "gptzoo.sampling.weights.prepare._is_quicker_blocked", lambda weight, one_row: asked.add(one_row)
    )
    sample("--prompt", "ab", *(str(model) if argument == "model" else argument for argument in arguments))
    assert asked == {one_row}


def test_beams_contrastive_search_and_a_draft_are_those_of_the_library(sample: Any, model: Path) -> None:
    loaded, spec = load(model), zoo.SamplingSpec.model_validate({"max_new_tokens": 12, "stop_tokens": [256]})
    beams = beam_search(loaded.model, [97, 98], spec, n_beams=3, length_penalty=0.5)
    report = sample("--prompt", "ab", "--beams", "3", "--length-penalty", "0.5", "--num-samples", "3")
    assert [one["tokens"] for one in report["samples"]] == [[*beam.tokens] for beam in beams]
    assert report["sampling"]["processors"] == []
    found = contrastive_search(loaded.model, [97, 98], spec, alpha=0.3, n_candidates=5)
    report = sample("--prompt", "ab", "--contrastive", "0.3", "--candidates", "5")
    assert report["samples"][0]["tokens"] == [choice.token for choice in found]
    assert report["strategy"] == {"type": "contrastive", "alpha": 0.3, "n_candidates": 5}
    greedy = sample("--prompt", "ab", "--temperature", "0")["samples"]
    drafted = sample("--prompt", "ab", "--temperature", "0", "--draft", model, "--ahead", "3")["samples"]
    assert [one["tokens"] for one in drafted] == [one["tokens"] for one in greedy]


def test_a_processor_of_a_plugin_can_be_asked_for(sample: Any, tmp_path: Path) -> None:
    (tmp_path / "only.py").write_text(
        "import gptzoo\n\n\n"
        "class Only(gptzoo.LogitsProcessor):\n"
        '    """Keeps one token."""\n\n'
        '    name = "only"\n\n'
        "    class Config(gptzoo.LogitsProcessor.Config):\n"
        "        id: int = 0\n\n"
        "    def __call__(self, logits, rows):\n"
        "        left = logits.new_full(logits.shape, float('-inf'))\n"
        "        left[:, self.config.id] = 0.0\n"
        "        return left\n\n\n"
        "@gptzoo.hookimpl\ndef gptzoo_components():\n    return [Only]\n"
    )
    with zoo.registry.use(zoo.registry.discover(selection="none")):
        report = sample("--plugin", tmp_path / "only.py", "--prompt", "ab", "--processor", '{"type": "only", "id": 65}')
    assert report["samples"][0]["text"] == "A" * 12


def test_what_is_typed_is_gone_on_with_until_the_end(model: Path) -> None:
    once = gptzoo("sample", model, "--prompt", "ab", "--max-new-tokens", "5").stdout
    done = gptzoo("sample", model, "--interactive", "--max-new-tokens", "5", typed="ab\n\ncd\n" + "x" * 70 + "\nab\n")
    assert done.exit_code == 0
    assert done.stdout.startswith(once)
    assert done.stdout.endswith(once)
    assert done.stdout[len(once) :].startswith(once.removesuffix("\n"))  # an empty line goes on with it
    assert "more than positions reach" in done.stderr


def test_many_prompts_come_from_a_file_and_a_run_that_was_killed_goes_on(model: Path, tmp_path: Path) -> None:
    prompts, out, whole = (tmp_path / name for name in ("prompts.jsonl", "out.jsonl", "whole.jsonl"))
    prompts.write_text('"ab"\n{"prompt": "cdé", "id": 7}\n\n"x"\n"ab"\n')
    arguments = ("sample", model, "--prompts", prompts, "--num-samples", "2", "--max-new-tokens", "6")
    assert gptzoo(*arguments, "--out", whole).exit_code == 0
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    rows.sort(key=lambda row: row["line"])  # they come as they are done
    assert [row["line"] for row in rows] == [1, 2, 4, 5]
    assert rows[1]["id"] == 7
    alone = json.loads(gptzoo("sample", model, "--prompt", "cdé", *arguments[4:], "--json").stdout)
    assert written(rows[1]["samples"]) == written(alone["samples"])
    assert written(rows[0]["samples"]) == written(rows[3]["samples"])  # the same prompt, wherever it stands

    lines = whole.read_bytes().splitlines(keepends=True)
    out.write_bytes(lines[0] + lines[1][:20])
    done = gptzoo(*arguments, "--out", out)
    assert "3 prompts, beside 1 that were there" in done.stderr
    again = sorted(map(json.loads, out.read_text().splitlines()), key=lambda row: row["line"])
    assert [written(row["samples"]) for row in again] == [written(row["samples"]) for row in rows]
    assert "0 prompts" in gptzoo(*arguments, "--out", out).stderr

    for option in (["--seed", "5"], ["--dtype", "bf16"], ["--best-of", "4"]):
        other = gptzoo(*arguments, "--out", out, *option)
        assert (other.exit_code, "with other options; choose another --out" in other.stderr) == (2, True)
    prompts.write_text('"AB"\n')
    other = gptzoo(*arguments, "--out", out)
    assert (other.exit_code, "prompt 1 was another" in other.stderr) == (2, True)


@pytest.mark.parametrize("rows", ["1", "3", "20"])
def test_results_are_the_same_however_many_rows_are_side_by_side(model: Path, tmp_path: Path, rows: str) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    texts = ["ab", "cde", "", "f" * 20, "gh", "x"]
    prompts.write_text("".join(json.dumps(text) + "\n" for text in texts))
    how = ("--num-samples", "2", "--best-of", "3", "--max-new-tokens", "9", "--stop", "e", "--top-p", "0.5")
    done = gptzoo("sample", model, "--prompts", prompts, "--out", out, "--rows", rows, *how)
    assert done.exit_code == 0, done.output
    found = {row["line"]: row for row in map(json.loads, out.read_text().splitlines())}
    for line, text in enumerate(texts, start=1):
        alone = json.loads(gptzoo("sample", model, "--prompt", text, *how, "--json").stdout)
        assert written(found[line]["samples"]) == written(alone["samples"])
        assert all(0 < one["seconds_to_first"] <= one["seconds"] for one in found[line]["samples"])


def test_weights_are_those_of_the_model_in_fp32_if_nothing_else_is_said(sample: Any, model: Path) -> None:
    how = ("--prompt", "ab", "--temperature", "0")
    (left_out,), (fp32,) = (sample(*how, *more)["samples"] for more in ((), ("--dtype", "fp32")))
    assert left_out["tokens"] == fp32["tokens"]
    assert left_out["log_probabilities"] == fp32["log_probabilities"]
    (expected,) = score(load(model).model, [[97, 98, *fp32["tokens"]]])
    assert fp32["log_probabilities"] == pytest.approx(expected[1:].tolist(), abs=1e-5)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_weights_may_be_taken_in_less(sample: Any, model: Path, dtype: str) -> None:
    how = ("--prompt", "ab", "--temperature", "0")
    (exact,), (rounded,) = (sample(*how, "--dtype", each)["samples"] for each in ("fp32", dtype))
    assert 0 < abs(exact["log_probabilities"][0] - rounded["log_probabilities"][0]) < 0.2
    (drafted,) = sample(*how, "--draft", model, "--dtype", dtype)["samples"]  # which takes its own in the same
    assert len(drafted["tokens"]) == len(rounded["tokens"])
    assert abs(drafted["log_probabilities"][0] - rounded["log_probabilities"][0]) < 0.05


def test_a_prompt_that_cannot_be_gone_on_with_is_named_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    for text, message in (
        (f'"ab"\n"{"x" * 70}"\n', "prompts.jsonl:2: a prompt of 70 tokens"),
        ('"ab"\n{"text": 3}\n', "prompts.jsonl:2: give each line a string"),
        ('"ab"\n"c\n', "prompts.jsonl:2: is no JSON"),
        ("\n", "has no prompts"),
    ):
        prompts.write_text(text)
        done = gptzoo("sample", model, "--prompts", prompts, "--out", out)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
        assert not out.exists()
    out.write_text("something else\n")
    prompts.write_text('"ab"\n')
    done = gptzoo("sample", model, "--prompts", prompts, "--out", out)
    assert "is no line of such a file" in done.stderr
    assert out.read_text() == "something else\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-new-tokens", "70"], "ask for at most"),
        (["--device", "cuda:99"], "cuda"),
        (["--device", "quantum"], "is not one that torch knows"),
        (["--top-p", "1.5"], "--top-p: $.p: should be less than or equal to 1"),
        (["--temperature", "-1"], "--temperature: $.value"),
        (["--logit-bias", "a=1"], "'a=1' is no ID=NATS"),
        (["--json-schema", "nowhere.json"], "neither a JSON object nor a file"),
        (["--json-schema", "{"], "--json-schema"),
        (["--processor", "top_x"], "no logits_processor named 'top_x'; did you mean"),
        (["--processor", '{"type": "top_k", "n": 3}'], "--processor: $.n: 'top_k' has no option 'n'"),
        (["--spec", "nowhere.json"], "nowhere.json: $: cannot be read"),
        (["--beams", "2", "--contrastive", "0.6"], "two ways to write"),
        (["--candidates", "2"], "--candidates is an option of --contrastive"),
        (["--beams", "2", "--num-samples", "3"], "2 beams cannot give 3 samples"),
        (["--contrastive", "0.6", "--num-samples", "3"], "one sample of each prompt"),
        (["--best-of", "2", "--num-samples", "3"], "--best-of 2 cannot keep 3"),
        (["--file", "-"], "two places for a prompt"),
        (["--out", "x.jsonl"], "--prompts and --out go together"),
        (["--checkpoint", "latest"], "last, best, or a step"),
        (["--averaged"], "no averaged weights"),
    ],
)
def test_wrong_input_leaves_with_code_2(model: Path, arguments: list[str], message: str) -> None:
    done = gptzoo("sample", model, "--prompt", "ab", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_folders_that_cannot_speak_say_why(tmp_path: Path, model: Path) -> None:
    assert gptzoo("sample", tmp_path / "nowhere").exit_code == 2
    spec = {"vocab_size": 5, "context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}
    save_model(tmp_path / "mute", zoo.build(spec))
    done = gptzoo("sample", tmp_path / "mute", "--prompt", "x")
    assert done.exit_code == 2
    assert "has no tokenizer.json" in done.stderr
    save_model(tmp_path / "char", zoo.build(spec), CharTokenizer(CharTokenizer.Config(), "abcde"))
    assert "give a --prompt" in gptzoo("sample", tmp_path / "char").stderr
    assert "no id for 'z'" in gptzoo("sample", tmp_path / "char", "--prompt", "z").stderr
    done = gptzoo("sample", model, "--draft", tmp_path / "char")
    assert "its tokenizer is another" in done.stderr
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    assert "byte 3 is not UTF-8" in gptzoo("sample", model, "--file", tmp_path / "latin").stderr
