"""The evaluation harness generates through the chat endpoint, by its own command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import serving
from serving.conftest import CHAT_TEMPLATE
from serving.test_public_clients import folder, install, loaded, run  # noqa: F401  fixtures

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.sampling.text import sample_ids

pytestmark = pytest.mark.slow
EOT = 256
QUESTIONS = ["What is a cat?", "naïve 東京", "a\nb<|endoftext|>"]
TASK = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "",
    "generation_kwargs": {"until": ["~"], "max_gen_toks": 8, "min_tokens": 4},
    "metric_list": [{"metric": "bypass", "aggregation": "bypass", "higher_is_better": True}],
}


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    """The address of `gptzoo serve` with a chat template, in a process of its own."""
    template = tmp_path_factory.mktemp("template") / "chat.jinja"
    template.write_text(CHAT_TEMPLATE)
    with serving(folder, "--chat-template", str(template)) as address:
        yield address


def test_the_harness_gets_the_answers_of_the_rendered_chats(
    url: str,
    install: Any,  # noqa: F811
    loaded: LoadedModel,  # noqa: F811
    tmp_path: Path,
) -> None:
    python = install("lm-eval[api]==0.4.13", "python")  # its program is missing where the shared packages have it
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"question": text}) + "\n" for text in QUESTIONS))
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(questions)}}, "test_split": "test"}
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "chat.yaml").write_text(json.dumps({"task": "tiny_chat", **source, **TASK}))
    model = f"model=tiny,base_url={url}/v1/chat/completions"
    run(
        python,
        *("-m", "lm_eval", "run"),
        *("--model", "local-chat-completions", "--model_args", model, "--include_path", "tasks"),
        *("--tasks", "tiny_chat", "--apply_chat_template", "--system_instruction", "Be brief."),
        *("--output_path", "report", "--log_samples"),
        cwd=tmp_path,
    )
    (file,) = (tmp_path / "report").glob("*/samples_tiny_chat_*.jsonl")
    lines = sorted(map(json.loads, file.read_text().splitlines()), key=lambda line: line["doc_id"])
    prompts = [[*b"system: Be brief.", EOT, *b"user: ", *question.encode(), EOT, *b"A:"] for question in QUESTIONS]
    greedy = {"processors": [{"type": "temperature", "value": 0}], "max_new_tokens": 8, "min_new_tokens": 4}
    spec = gptzoo.SamplingSpec.model_validate({**greedy, "stop_tokens": [EOT], "stop_texts": ["~"]})
    expected = sample_ids(loaded, prompts, spec, [0] * len(prompts))
    assert [line["filtered_resps"] for line in lines] == [[sample.text] for sample in expected]
