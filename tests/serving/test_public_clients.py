"""Two load generators and an evaluation harness complete their runs against `gptzoo serve`, by their own command lines.

Each is installed into a virtual environment of its own, which shares the packages of this one. Without a package index
the tests are skipped, unless GPTZOO_TEST_CLIENTS is set, as it is in .ci/nightly.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import serving
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel, load, save_model
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.sampling.score import score
from gptzoo.sampling.text import sample_texts

pytestmark = pytest.mark.slow
EOT = 256
N_TOKENS = 8  # per completion
N_REQUESTS = 12
SECONDS = 300  # a guard against hanging


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that almost always ends its texts at once."""
    spec = {"vocab_size": 257, "context_length": 128, "d_model": 16, "n_layers": 1, "n_heads": 2}
    model = with_large_weights(gptzoo.build(spec))
    with torch.no_grad():
        model.get_parameter("exit.bias").fill_(0.5)
        model.get_parameter("embed.weight")[EOT] = 3.0
    path = tmp_path_factory.mktemp("clients") / "tiny"
    save_model(path, model, ByteTokenizer(ByteTokenizer.Config()))
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(folder)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The address of `gptzoo serve` in a process of its own."""
    with serving(folder, "--rows", "4") as address:
        yield address


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return a function that installs a package and returns the path of its program."""

    def install_package(requirement: str, program: str) -> Path:
        path = tmp_path_factory.mktemp(program)
        venv.create(path, with_pip=True)
        python = path / "bin" / "python"
        (packages,) = path.glob("lib/python*/site-packages")
        # The packages of this environment count as installed, so that torch is not downloaded once more.
        (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (path / "constraints.txt").write_text(f"torch=={torch.__version__}\n")
        options = ["-q", "--disable-pip-version-check", "--retries", "1", "-c", str(path / "constraints.txt")]
        done = subprocess.run(
            [python, "-m", "pip", "install", *options, requirement],
            capture_output=True,
            text=True,
            env=environment(path),
            timeout=900,
        )
        if done.returncode:
            reason = f"{requirement} cannot be installed: {done.stderr.strip()[-300:]}"
            if os.environ.get("GPTZOO_TEST_CLIENTS"):
                pytest.fail(reason)
            pytest.skip(reason)
        return path / "bin" / program

    return install_package


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a client, without this repository and without access to a model hub."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HOME")}
    return {**inherited, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "hub"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def run(program: Path, *arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, env=environment(cwd), cwd=cwd, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_guidellm_completes_its_run(url: str, install: Any, tmp_path: Path) -> None:
    guidellm = install("guidellm==0.8.1", "guidellm")
    rows = [{"prompt": f"Once upon a time {i}", "output_tokens_count": N_TOKENS} for i in range(N_REQUESTS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(
        guidellm,
        "run",
        *("--backend", f"kind=openai_http,target={url},model=tiny,request_format=/v1/completions"),
        *("--data", "kind=json_file,path=prompts.jsonl"),
        *("--profile", "kind=concurrent,streams=4"),
        *("--constraint", f"kind=max_requests,count={N_REQUESTS}"),
        *("--output", "kind=json,path=report.json"),
        "--disable-console-interactive",
        cwd=tmp_path,
    )
    (benchmark,) = json.loads((tmp_path / "report.json").read_text())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"], totals["incomplete"]) == (N_REQUESTS, 0, 0)
    for request in benchmark["requests"]["successful"]:
        sent = json.loads(request["request_args"])["body"]
        assert sent["ignore_eos"] is sent["stream_options"]["continuous_usage_stats"] is True
        assert request["output_tokens"] == N_TOKENS  # although the model would end the text at once
        assert request["prompt_tokens"] == len(sent["prompt"])


def write_byte_tokenizer(hub: Path) -> str:
    """Write a tokenizer with one token per byte into the cache of a model hub, and return its name there."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {character: index for index, character in enumerate(sorted(alphabet))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    revision = "0" * 40
    model = hub / "hub" / "models--gptzoo--bytes"
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(model / "snapshots" / revision)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(revision)
    return "gptzoo/bytes"


def test_aiperf_completes_its_run(url: str, install: Any, tmp_path: Path) -> None:
    aiperf = install("aiperf==0.13.0", "aiperf")
    tokenizer = write_byte_tokenizer(tmp_path / "hub")
    run(
        aiperf,
        "profile",
        *("-m", "tiny", "--url", url, "--endpoint-type", "completions", "--streaming", "--use-legacy-max-tokens"),
        *("--tokenizer", tokenizer, "--use-server-token-count"),
        *("--extra-inputs", "ignore_eos:true", "--extra-inputs", "repetition_penalty:1.0"),
        *("--extra-inputs", f"min_tokens:{N_TOKENS}"),
        *("--synthetic-input-tokens-mean", 20, "--output-tokens-mean", N_TOKENS),
        *("--request-count", N_REQUESTS, "--concurrency", 4, "--ui", "none", "--output-artifact-dir", "report"),
        cwd=tmp_path,
    )
    report = json.loads((tmp_path / "report" / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == N_REQUESTS
    assert report["error_summary"] == []
    for name in ("usage_completion_tokens", "output_sequence_length"):
        assert (report[name]["min"], report[name]["max"]) == (N_TOKENS, N_TOKENS)


QUESTIONS = [
    {"question": "The cat sat on the", "choices": ["mat", "moon"], "answer": 0},
    {"question": "Once upon a", "choices": ["time", "spoon"], "answer": 1},
    {"question": "naïve café 日", "choices": ["本", "x"], "answer": 0},
]
TASKS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": " ",
        "metric_list": [{"metric": "acc"}],
    },
    "generation": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "x",
        "generation_kwargs": {"until": ["~", "e"], "max_gen_toks": 12, "min_tokens": 6},
        "metric_list": [{"metric": "exact_match"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
}


def test_the_evaluation_harness_measures_what_gptzoo_measures(
    url: str, install: Any, loaded: LoadedModel, tmp_path: Path
) -> None:
    python = install("lm-eval[api]==0.4.13", "python")  # its program is missing where the shared packages have it
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(questions)}}, "test_split": "test"}
    (tmp_path / "tasks").mkdir()
    for name, task in TASKS.items():  # JSON is YAML
        (tmp_path / "tasks" / f"{name}.yaml").write_text(json.dumps({"task": f"tiny_{name}", **source, **task}))
    model = f"model=tiny,base_url={url}/v1/completions,tokenizer_backend=remote,num_concurrent=2"
    tasks = ",".join(f"tiny_{name}" for name in TASKS)
    run(
        python,
        *("-m", "lm_eval", "run"),
        *("--model", "local-completions", "--model_args", model, "--include_path", "tasks", "--tasks", tasks),
        *("--output_path", "report", "--log_samples"),
        cwd=tmp_path,
    )

    def responses(name: str) -> list[Any]:
        (file,) = (tmp_path / "report").glob(f"*/samples_tiny_{name}_*.jsonl")
        lines = sorted(map(json.loads, file.read_text().splitlines()), key=lambda line: line["doc_id"])
        return [line["filtered_resps"] for line in lines]

    n_right = 0
    for question, answers in zip(QUESTIONS, responses("choice"), strict=True):
        expected = []
        for choice, (value, is_greedy) in zip(question["choices"], answers, strict=True):
            context, continuation = question["question"].encode(), f" {choice}".encode()
            (log_probabilities,) = score(loaded.model, [list(context + continuation)])
            expected.append(float(log_probabilities[-len(continuation) :].sum()))
            assert float(value) == pytest.approx(expected[-1], rel=1e-4)
            assert is_greedy == "False"
        n_right += max(range(2), key=expected.__getitem__) == question["answer"]
    (results,) = (tmp_path / "report").glob("*/results_*.json")
    assert json.loads(results.read_text())["results"]["tiny_choice"]["acc,none"] == pytest.approx(n_right / 3)

    for question, (value,) in zip(QUESTIONS, responses("rolling"), strict=True):
        (log_probabilities,) = score(loaded.model, [[EOT, *question["question"].encode()]])
        assert float(value) == pytest.approx(float(log_probabilities.sum()), rel=1e-4)

    greedy = {"processors": [{"type": "temperature", "value": 0}], "max_new_tokens": 12, "min_new_tokens": 6}
    spec = gptzoo.SamplingSpec.model_validate({**greedy, "stop_tokens": [EOT], "stop_texts": ["~", "e"]})
    generated = sample_texts(loaded, [question["question"] for question in QUESTIONS], spec)
    assert responses("generation") == [[sample.text] for (sample,) in generated]
    assert all(len(sample.tokens) >= 6 for (sample,) in generated)
