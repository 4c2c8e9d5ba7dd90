"""An option of another project gets the field or the option to write instead."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from gptzoo.cli import main
from gptzoo.field_words import FIELD_WORDS, FIELDS


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("train @quickstart --n_layer=6", "It is a field of the spec. Write --set model.n_layers=VALUE."),
        ("train @quickstart --max_iters 3", "It is a field of the spec. Write --set steps=VALUE."),
        ("train @quickstart --lr 3", "It is a field of the spec. Write --set optimizer.lr=VALUE."),
        ("train @quickstart --dtype=bf16", 'Write --set precision=VALUE with "fp32", "bf16" or "fp16".'),
        ("train @quickstart --out_dir x", "Write --out."),
        ("train --config run.json", "Give the file without an option: gptzoo train FILE"),
        ("build tiny.json --n-head 2", "--set model.n_heads=VALUE, or --set n_heads=VALUE for the spec of a model."),
        ("ablate a.json --learning-rate 3", "Write --set base.optimizer.lr=VALUE."),
        ("sample runs/a --start Hello", "Write --prompt."),
        ("sample runs/a --max_tokens 9", "Write --max-new-tokens."),
        ("sample runs/a --temprature 1", "'--temperature'"),  # by click
    ],
)
def test_the_error_says_what_to_write(command: str, hint: str) -> None:
    result = CliRunner().invoke(main, command.split(), prog_name="gptzoo")
    assert result.exit_code == 2
    assert result.stderr.rstrip().endswith(hint) or hint in result.stderr.rsplit("Error:", 1)[1]


@pytest.mark.parametrize("word", sorted({*FIELD_WORDS, *FIELDS}))
def test_every_word_for_a_field_is_known_as_an_option_of_train(word: str) -> None:
    result = CliRunner().invoke(main, ["train", "@quickstart", f"--{word}", "1"])
    assert result.exit_code == 2
    train = main.commands["train"]
    assert isinstance(train, click.Command)
    if all(f"--{word}" not in parameter.opts for parameter in train.params):
        assert "Write --" in result.stderr


def test_an_unknown_word_keeps_the_error_of_click() -> None:
    result = CliRunner().invoke(main, ["train", "@quickstart", "--frobnicate"])
    assert "No such option: --frobnicate" in result.stderr or "No such option '--frobnicate'" in result.stderr
