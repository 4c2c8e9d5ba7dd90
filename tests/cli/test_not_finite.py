"""Models whose logits are not finite for one token: every command names the token, and no number is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from support import admit, small, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import LoadedModel, load, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import Diverged, LogitsError
from gptzoo.inspection.attention import attention_maps
from gptzoo.inspection.lens import logit_lens
from gptzoo.sampling.score import score, score_text, score_with_top_logprobs

BAD = ord("~")
SPEC = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2, "tie_embeddings": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose embedding of one token is NaN."""
    path = tmp_path_factory.mktemp("nan") / "model"
    model = with_large_weights(gptzoo.build(SPEC))
    with torch.no_grad():
        model.embed.weight[BAD] = float("nan")
    save_model(path, model, ByteTokenizer(ByteTokenizer.Config()))
    return path


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load(folder)


def run(*arguments: Any) -> str:
    """Run a command that must refuse, and return the error message."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("options", [[], ["--json"], ["--tokens"]])
def test_score_names_the_token(folder: Path, options: list[str]) -> None:
    message = run("score", folder, "abc~de", *options)  # after the end-of-text token
    assert "the logits of the model for token 6 of the text, after 5 tokens, have NaN" in message


def test_score_names_the_token_behind_the_first_window(folder: Path) -> None:
    assert "for token 23 of the text, after 22 tokens, have NaN" in run("score", folder, "x" * 20 + "~ and so on")


def test_eval_names_the_sequence_and_the_token(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("0123456789abcdef" * 3 + "012~" + "0123456789abcdef" * 3)
    for options in ([], ["--json"]):
        message = run("eval", folder, "--data", text, *options)
        assert "after token 4 of sequence 4 of evaluation batch 1 have NaN" in message


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_inspect_names_the_token_and_the_layer(folder: Path, options: list[str], tmp_path: Path) -> None:
    files = ["--out", tmp_path / "page.html"]
    message = run("inspect", "logits", folder, "--prompt", "ab~c", *options, *files)
    assert "the logits before the first block, at token 3 ('~'), have NaN" in message
    message = run("inspect", "attention", folder, "--prompt", "ab~c", *options, *files)
    assert "the attention weights of blocks.0.attention for token 3 ('~') are not finite" in message
    assert not (tmp_path / "page.html").exists()


def test_python_functions_raise_the_same_errors(loaded: LoadedModel) -> None:
    tokens = [*b"abc~de"]
    calls: list[Callable[[], object]] = [
        lambda: score(loaded.model, [[1, 2], tokens]),
        lambda: score_text(loaded, "abc~de"),
        lambda: score_with_top_logprobs(loaded.model, tokens, 3),
        lambda: logit_lens(loaded, tokens),
        lambda: attention_maps(loaded, tokens),
    ]
    for call in calls:
        with pytest.raises(LogitsError, match=r"NaN|not finite"):
            call()


def test_padding_of_a_batch_does_not_spread_what_is_not_finite() -> None:
    model = with_large_weights(gptzoo.build(SPEC))
    rows = [[5, 6, 7], [*range(1, 15)], [9, 8]]
    expected = score(model, rows)
    with torch.no_grad():
        model.embed.weight[0] = float("nan")  # shorter rows are padded with token 0
    for actual, alone in zip(score(model, rows), expected, strict=True):
        torch.testing.assert_close(actual, alone)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_row_of_logits_without_probabilities_is_an_error(value: float) -> None:
    model = with_large_weights(gptzoo.build(SPEC)).eval()

    def spoil(module: Any, arguments: Any, output: Any) -> Any:
        logits = output.clone()
        logits[:, -1] = value if value < 0 else logits[:, -1].index_fill(-1, torch.tensor(3), value)
        return logits

    hook = model.head.register_forward_hook(spoil)
    with pytest.raises(LogitsError, match="for token 2 of row 0"):
        score(model, [[5, 6]])
    hook.remove()
    excluded = model.head.register_forward_hook(
        lambda module, arguments, output: output.index_fill(-1, torch.tensor(6), float("-inf"))
    )
    assert score(model, [[5, 6]])[0].item() == float("-inf")  # a token that the model excludes
    excluded.remove()


class BreaksInEvaluation(gptzoo.FeedForward):
    """Returns NaN in evaluation only."""

    name = "breaks_in_evaluation"

    def __init__(self, config: Any, dims: gptzoo.Dims) -> None:
        super().__init__(config, dims)
        self.up = torch.nn.Linear(dims.d_model, dims.d_model)

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return self.up(x) * (1.0 if self.training else float("nan"))


def test_training_ends_with_the_token_when_the_held_out_loss_is_not_a_number(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some words and others\n" * 40)
    spec = {
        "model": small(vocab_size=None, ffn="breaks_in_evaluation"),
        "corpus": {"type": "text", "path": str(text)},
        "tokenizer": "byte",
        "steps": 3,
        "batch_size": 2,
        "device": "cpu",
    }
    with registry.use(registry.discover("none")):
        admit(BreaksInEvaluation)
        with pytest.raises(Diverged, match=r"evaluation at step 0: .* after token 1 of sequence 1 .* have NaN"):
            gptzoo.train(spec, tmp_path / "run", quiet=True)
