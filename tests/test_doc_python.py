"""The Python on the pages that have no test of their own runs, with small runs in the place of the reader's.

Definitions of classes run in the quick tests. Pages that train, export or serve are slow.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from doc_blocks import ROOT, blocks
from processes import free_port, served
from pydantic import PositiveInt
from torch import Tensor, nn

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer

# Names that a page need not import again: it shows parts of a file.
NAMES: dict[str, Any] = {
    "Annotated": Annotated, "Any": Any, "Iterator": Iterator, "Mapping": Mapping, "PositiveInt": PositiveInt,
    "Tensor": Tensor, "gptzoo": gptzoo, "nn": nn, "torch": torch,
}  # fmt: skip
MODEL: dict[str, Any] = {
    "context_length": 128, "d_model": 16, "n_layers": 2, "n_heads": 2, "positional": "rope",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"}, "ffn": "glu", "activation": "silu", "bias": False,  # as in Llama
}  # fmt: skip
RUN = {
    "model": MODEL,
    "corpus": {"type": "stories", "n_stories": 200},
    "tokenizer": "bpe",
    "device": "cpu",
    "batch_size": 4,
    "steps": 4,
    "eval": {"every": 4},
    "checkpoint": {"every": 4},
}
CHAT_TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"


def run_page(page: str, port: str = "8000", **names: Any) -> dict[str, Any]:
    """Run the Python blocks of a page, in order, in one namespace. Return it. `port` is that of a server."""
    namespace = {**NAMES, "__name__": "page", **names}
    for block in blocks(page):
        if block.language == "python" and block.marker is None:
            source = "\n" * block.line + textwrap.dedent(block.text).replace(":8000/", f":{port}/")
            exec(compile(source, page, "exec", dont_inherit=True), namespace)
    return namespace


def gptzoo_command(*words: str) -> None:
    assert not main(list(words), standalone_mode=False)  # the exit code


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder, with the built-in components only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GPTZOO_PLUGINS", "none")  # of the processes of trials
    with registry.use(registry.discover(selection="none")):
        yield tmp_path


@pytest.fixture
def runs(workplace: Path) -> Path:
    """A working folder with the runs that the pages name."""
    gptzoo.train(RUN, "runs/quickstart", quiet=True)
    shutil.copytree("runs/quickstart", "runs/mine")
    return workplace


@pytest.mark.parametrize(
    ("page", "defined"),
    [
        ("docs/checking.md", ["TestMine"]),
        ("docs/components.md", ["AveragedSGD", "Gated", "GatedWide", "TwoExperts", "Registers", "Reordered", "Alibi"]),
        ("docs/gguf.md", ["MiniGguf"]),
        ("docs/importing.md", ["Mini"]),
        ("docs/tasks.md", ["Echo"]),
        ("docs/width-transfer.md", ["Signum"]),
    ],
)
def test_the_classes_on_a_page_are_defined(page: str, defined: list[str]) -> None:
    namespace = run_page(page)
    for name in defined:
        assert isinstance(namespace[name], type)


def test_a_model_is_prepared_for_inference_as_on_the_page(workplace: Path) -> None:
    model = gptzoo.build({**MODEL, "vocab_size": 257})
    save_model(workplace / "runs" / "quickstart", model, ByteTokenizer(ByteTokenizer.Config()))
    assert run_page("docs/inference.md")["loaded"].model.embed.weight.dtype == torch.bfloat16


def test_the_words_of_the_page_about_pairs_are_generated(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = gptzoo.build({**MODEL, "vocab_size": 257})
    save_model(workplace / "runs" / "reverse", model, ByteTokenizer(ByteTokenizer.Config()))
    run_page("plugins/gptzoo-seq2seq/README.md")
    assert capsys.readouterr().out.count("\n") >= 2


@pytest.mark.slow
def test_the_ejected_file_is_used_as_on_the_page(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gptzoo_command("eject", "runs/mine", "model.py", "--weights")
    monkeypatch.syspath_prepend(runs)
    monkeypatch.delitem(sys.modules, "model", raising=False)
    namespace = run_page("docs/ejecting.md", tokens=torch.randint(64, (2, 9)))
    assert namespace["tokens"].shape == (2, 109)
    assert namespace["loss"].ndim == 0


@pytest.mark.slow
def test_exported_models_are_loaded_as_on_the_page(runs: Path) -> None:
    gptzoo_command("export-hf", "runs/quickstart", "exported/quickstart")
    gptzoo_command("export-hf", "runs/mine", "exported/mine", "--remote-code")
    namespace = run_page("docs/exporting.md")
    ids = namespace["tokenizer"]("Once", return_tensors="pt").input_ids
    assert namespace["model"](ids).logits.shape[:2] == ids.shape
    assert isinstance(namespace["Mini"], type)


@pytest.mark.slow
def test_two_specs_are_compared_as_on_the_page(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, norm in (("a", "pre_ln"), ("b", "post_ln")):
        spec = {**RUN, "name": name, "model": {**MODEL, "norm": norm}, "tokenizer": "byte"}
        Path(f"{name}.json").write_text(json.dumps(spec))
    assert run_page("docs/compare.md")["result"].verdict in capsys.readouterr().out


@pytest.mark.slow
def test_variants_are_trained_in_a_loop_and_an_ablation_is_reported_as_on_the_pages(workplace: Path) -> None:
    base = workplace / "configs" / "runs" / "ablation-base.json"
    base.parent.mkdir(parents=True)
    base.write_text(json.dumps({**RUN, "tokenizer": "byte", "steps": 1}))
    variants = gptzoo.variants(base, {"model.positional": "*", "model.norm": "*"})
    run_page("docs/ablations.md")
    assert {folder.name for folder in Path("runs").iterdir()} == {variant.name for variant in variants}

    design = {"name": "mine", "base": str(base), "axes": {"model.norm": ["pre_ln", "post_ln"]}, "seeds": 2}
    Path("mine.json").write_text(json.dumps(design))
    gptzoo_command("ablate", "mine.json", "--out", "ablations/mine")
    run_page("docs/report.md")
    assert (workplace / "report" / "report.html").is_file()


@pytest.mark.slow
def test_a_ladder_is_trained_as_on_the_page(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = json.loads((ROOT / "configs" / "ladders" / "sandwich.json").read_text(encoding="utf-8"))
    base = {**spec["base"], "tokenizer": "byte", "corpus": {"type": "stories", "n_stories": 200}, "device": "cpu"}
    base["model"] = {**base["model"], "context_length": 16}
    rule = {"width_per_layer": 8, "head_width": 8, "tokens_per_parameter": 0.5}
    small = {**spec, "base": base, "sizes": [1, 2, 3, 4], "rule": rule, "variants": {"post": {"model.norm": "post_ln"}}}
    Path("ladder.json").write_text(json.dumps(small))
    run_page("docs/ladder.md")
    assert "post" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_is_read_by_dcp_as_on_the_page(runs: Path) -> None:
    (checkpoint,) = Path("runs/mine/checkpoints").iterdir()
    Path("weights").mkdir()
    Path("weights/model.safetensors").symlink_to((checkpoint / "model.safetensors").resolve())
    model = gptzoo.build(
        "runs/mine/model.json" if Path("runs/mine/model.json").is_file() else checkpoint / "model.json"
    )
    run_page("docs/scaling.md", model=model)
    torch.testing.assert_close(model.state_dict(), gptzoo.load("runs/mine").model.state_dict())
    assert (runs / "weights.dcp").is_dir()


@pytest.mark.slow
def test_the_clients_of_the_page_about_serving_work(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openai")
    shutil.copytree("runs/quickstart", "models/smollm2-instruct")
    Path("chat.jinja").write_text(CHAT_TEMPLATE)
    port = str(free_port())
    command = ["serve", "runs/quickstart", "models/smollm2-instruct", "--chat-template", "chat.jinja", "--port", port]
    with served([sys.executable, "-m", "gptzoo", *command], port):
        namespace = run_page("docs/serving.md", port)
    assert namespace["answer"].usage.completion_tokens > 0
    steps = {"data": base64.b64encode(np.array([1, -2], "<i2")), "shape": [2], "scale": 0.5}
    assert namespace["weights"](steps).tolist() == [0.5, -1.0]
    assert capsys.readouterr().out
