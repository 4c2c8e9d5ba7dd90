"""lm-evaluation-harness on models of gptzoo: the same results as those of its own `hf` adapter on the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import serving
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from gptzoo.errors import InputError
from gptzoo.interop.hugging_face import import_folder

pytest.importorskip("lm_eval", reason="needs gptzoo[lm-eval]")
pytest.importorskip("accelerate", reason="the harness's own hf adapter needs it")
pytestmark = pytest.mark.slow

TEXTS = [
    "Once upon a time, there was a small cat who lived in a house by the sea.",
    "The king had three daughters, and each of them wanted a garden of her own.",
    "naïve café 東京 – 42 and more",
]
DOCUMENTS = [
    {"question": "The cat sat on the", "choices": ["mat", "moon and the stars", "t"], "answer": 0},
    {"question": "Once upon a", "choices": ["time", "spoon", "house by the sea"], "answer": 0},
    {"question": "The king had three naïve daughters" * 6, "choices": ["and", "cats"], "answer": 1},  # is truncated
    {"question": "a", "choices": ["time", "b"], "answer": 1},
]
LENGTH = 48
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('no system') }}{% endif %}[{{ message['role'] }}] {{ message['content'] | trim }}"
    "{{ eos_token if message['role'] == 'assistant' }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
TASKS: dict[str, dict[str, Any]] = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "no_context": {
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    },
    "generation": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "x",
        "generation_kwargs": {"until": ["~", " the"], "max_gen_toks": 16},
        "metric_list": [{"metric": "exact_match"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
}


def tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE, which starts texts with BOS or has one special token for both ends."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    names = ["</s>", "<s>"] if bos else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[AddedToken(name, special=True) for name in names],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    library.train_from_iterator(TEXTS, trainer)
    if bos:
        library.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=library, bos_token=names[-1], eos_token=names[0])


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random checkpoint of transformers in `hf` and the imported model in `tiny`."""
    folder = tmp_path_factory.mktemp(request.param)
    has_bos = request.param == "llama"
    ids = {"bos_token_id": int(has_bos), "eos_token_id": 0}
    config: Any
    if has_bos:
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(vocab_size=300, max_position_embeddings=LENGTH, num_key_value_heads=2, **sizes, **ids)
    else:
        config = GPT2Config(vocab_size=300, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=4, **ids)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder / "hf")
    library = tokenizer(has_bos)
    if has_bos:
        library.chat_template = CHAT_TEMPLATE
    library.save_pretrained(folder / "hf")
    import_folder(folder / "hf", folder / "tiny")
    write_tasks(folder)
    return folder


def write_tasks(folder: Path) -> None:
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(questions)}}, "test_split": "test"}
    (folder / "tasks").mkdir()
    for name, task in TASKS.items():  # JSON is YAML
        (folder / "tasks" / f"{name}.yaml").write_text(json.dumps({"task": f"tiny_{name}", **source, **task}))


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    home = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **home},
        timeout=600,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def samples(folder: Path, out: str, name: str) -> list[dict[str, Any]]:
    """Return what the harness logged for the documents of a task, in their order."""
    (file,) = (folder / out).glob(f"*/samples_tiny_{name}_*.jsonl")
    return sorted(map(json.loads, file.read_text().splitlines()), key=lambda line: line["doc_id"])


def results(folder: Path, out: str, names: Iterable[str] = tuple(TASKS)) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return the model's answers by task in the order of documents, and the metrics by task."""
    answers = {name: [line["filtered_resps"] for line in samples(folder, out, name)] for name in names}
    (file,) = (folder / out).glob("*/results_*.json")
    return answers, json.loads(file.read_text())["results"]


TASK_OPTIONS = ("--include_path", "tasks", "--log_samples", "--tasks", ",".join(f"tiny_{name}" for name in TASKS))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Return the results of the harness's own adapter."""
    model = ("--model", "hf", "--model_args", f"pretrained={checkpoint / 'hf'},dtype=float32", "--device", "cpu")
    run(checkpoint, "lm_eval", "run", *model, *TASK_OPTIONS, "--output_path", "theirs", "--batch_size", "2")
    return results(checkpoint, "theirs")


def assert_same(ours: dict[str, list[Any]], theirs: dict[str, list[Any]], names: Iterable[str] = tuple(TASKS)) -> None:
    for name in names:
        for mine, expected in zip(ours[name], theirs[name], strict=True):
            if name == "generation":
                assert mine == expected
            elif name == "rolling":
                assert float(mine[0]) == pytest.approx(float(expected[0]), abs=1e-3)
            else:
                for (value, greedy), (expected_value, expected_greedy) in zip(mine, expected, strict=True):
                    assert float(value) == pytest.approx(float(expected_value), abs=1e-3)
                    assert str(greedy) == str(expected_greedy)
    assert any(text for (text,) in theirs["generation"])


@pytest.mark.parametrize("batch_size", ["auto", "3"])
def test_the_command_gives_the_results_of_the_hf_adapter(checkpoint: Path, reference: Any, batch_size: str) -> None:
    out = f"ours-{batch_size}"
    options = ("--batch_size", batch_size, "--output_path", out)
    printed = run(checkpoint, "gptzoo", "lm-eval", "tiny", *TASK_OPTIONS, *options, "--device", "cpu")
    assert "tiny_choice" in printed
    ours, metrics = results(checkpoint, out)
    assert_same(ours, reference[0])
    for name in TASKS:
        for metric, value in reference[1][f"tiny_{name}"].items():
            if isinstance(value, float):
                assert metrics[f"tiny_{name}"][metric] == pytest.approx(value, abs=1e-3)


CHAT_OPTIONS = ("--tasks", "tiny_choice,tiny_generation", "--include_path", "tasks", "--log_samples")


@pytest.mark.parametrize("system", [(), ("--system_instruction", "Be brief.")], ids=["user", "system"])
def test_chats_give_the_results_of_the_hf_adapter(checkpoint: Path, system: tuple[str, ...]) -> None:
    if not (checkpoint / "hf" / "chat_template.jinja").exists():
        pytest.skip("this model has no chat template")
    chat = (*CHAT_OPTIONS, "--apply_chat_template", *system)
    model = ("--model", "hf", "--model_args", f"pretrained={checkpoint / 'hf'},dtype=float32", "--device", "cpu")
    theirs, ours = f"their-chats-{len(system)}", f"our-chats-{len(system)}"
    run(checkpoint, "lm_eval", "run", *model, *chat, "--output_path", theirs)
    run(checkpoint, "gptzoo", "lm-eval", "tiny", *chat, "--output_path", ours, "--device", "cpu")
    names = ("choice", "generation")
    expected, _ = results(checkpoint, theirs, names)
    assert_same(results(checkpoint, ours, names)[0], expected, names)
    for name in names:
        mine, other = (samples(checkpoint, out, name) for out in (ours, theirs))
        assert [line["arguments"] for line in mine] == [line["arguments"] for line in other]
        assert "[assistant]" in json.dumps(mine[0]["arguments"])


def test_the_adapter_continues_the_last_message_and_names_its_tokens_like_the_hf_adapter(checkpoint: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from gptzoo.harness.adapter import HarnessModel

    ours = HarnessModel(checkpoint / "tiny", device="cpu")
    theirs = HFLM(pretrained=str(checkpoint / "hf"), device="cpu", dtype="float32")
    assert ours.prefix_token_id == theirs.prefix_token_id
    if theirs.tokenizer.chat_template is None:
        with pytest.raises(InputError, match="no chat template"):
            ours.chat_template(True)
        return
    assert ours.chat_template(True) == theirs.chat_template(True)
    with pytest.raises(InputError, match=r"no chat template 'tool'\. It has: default"):
        ours.chat_template("tool")
    for answer in ("The answer is", "The answer is "):
        chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
        for prompts in (True, False):
            text = theirs.apply_chat_template([*chat], add_generation_prompt=prompts)
            assert ours.apply_chat_template(chat, add_generation_prompt=prompts) == text
            assert ours.tok_encode(text) == theirs.tok_encode(text)


@pytest.fixture
def url(checkpoint: Path) -> Iterator[str]:
    with serving(checkpoint / "tiny") as address:
        yield address


SHORT = (0, 1, 3)  # documents that fit: the harness truncates at another length over HTTP


@pytest.mark.parametrize("batch_size", ["1", "3"])
def test_a_server_gives_the_results_of_the_hf_adapter(
    checkpoint: Path, reference: Any, url: str, batch_size: str
) -> None:
    pytest.importorskip("tenacity", reason="needs lm-eval[api]")
    out = f"http-{batch_size}"
    model = f"model=tiny,base_url={url}/lm-eval/v1/completions,max_length={LENGTH}"
    samples = json.dumps({f"tiny_{name}": SHORT for name in TASKS})
    run(
        checkpoint,
        *("lm_eval", "run", "--model", "local-completions", "--model_args", model, *TASK_OPTIONS),
        *("--output_path", out, "--samples", samples, "--batch_size", batch_size),
    )
    ours, _ = results(checkpoint, out)
    assert_same(ours, {name: [answers[index] for index in SHORT] for name, answers in reference[0].items()})


def test_errors_of_the_harness_end_the_command_without_a_traceback(checkpoint: Path) -> None:
    for arguments, message in (
        (("tiny", "--tasks", "no_such_task"), "no_such_task"),
        (("tiny", "--tasks", "tiny_choice", "--include_path", "tasks", "--batch_size", "x"), "--batch_size"),
        (("tiny", "--tasks", "tiny_choice", "--model", "hf"), "the model is RUN"),
        (("missing", "--tasks", "tiny_choice"), "no such folder"),
        (("tiny", "--tasks", "tiny_choice", "--include_path", "tasks", "--model_args", "colour=1"), "colour"),
        (("tiny", "--tasks", "tiny_generation", "--include_path", "tasks", "--gen_kwargs", "max_gen_toks=99"), "room"),
        (
            ("tiny", "--tasks", "tiny_choice", "--include_path", "tasks", "--apply_chat_template", "tool"),
            "no chat template 'tool'",
        ),
    ):
        printed = run(checkpoint, "gptzoo", "lm-eval", *arguments, code=2)
        assert message in printed
        assert "Traceback" not in printed
