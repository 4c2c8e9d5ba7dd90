"""gptzoo check from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gptzoo import registry
from gptzoo.cli import main

PLUGIN = '''
import gptzoo
from pydantic import PositiveFloat

class Pooled(gptzoo.FeedForward):
    """Adds the mean of all tokens, including later ones."""
    name = "pooled"

    class Config(gptzoo.FeedForward.Config):
        share: PositiveFloat

    def forward(self, x, context, state=None):
        return self.config.share * x.mean(1, keepdim=True) + x

@gptzoo.hookimpl
def gptzoo_components():
    return [Pooled]
'''


def gptzoo(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


@pytest.fixture
def pooled(tmp_path: Path, fresh_registry: registry.Registry) -> list[str]:
    """Return arguments that load a component which is not causal, and name it."""
    file = tmp_path / "pooled.py"
    file.write_text(PLUGIN)
    return ["ffn:pooled", "--plugin", str(file)]


def test_a_correct_component_exits_with_0() -> None:
    result = gptzoo("attention:sdpa", "--only", "causality", "--only", "captures", "--set", "window=3")
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["causality", "passed"],
        ["captures", "passed"],
        [],
        ["attention:sdpa:", "2", "passed"],
    ]


def test_a_failure_is_shown_and_exits_with_1(pooled: list[str]) -> None:
    result = gptzoo(*pooled, "--set", "share=0.5", "--only", "causality", "--only", "state")
    assert result.exit_code == 1
    words = " ".join(result.stdout.split())
    assert "causality FAILED changing token 1 of 6 changes the logits of token 0 in row 0 by" in words
    assert "Expected: Changing a token leaves the logits of all earlier tokens equal bit for bit" in words
    assert words.endswith("ffn:pooled: 1 passed, 1 failed")


def test_json_has_the_same_verdicts(pooled: list[str]) -> None:
    result = gptzoo(*pooled, "--set", "share=0.5", "--only", "causality", "--json")
    (verdict,) = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (verdict["property"], verdict["outcome"]) == ("causality", "failed")
    assert verdict["text"].startswith("changing token 1")


def test_a_property_that_does_not_apply_is_skipped_with_the_reason() -> None:
    (verdict,) = json.loads(gptzoo("activation:silu", "--only", "options", "--json").stdout)
    assert (verdict["outcome"], verdict["text"]) == ("skipped", "it has no options")


def test_slow_properties_are_checked_with_slow_or_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from gptzoo.testing import runner
    from gptzoo.testing.verdict import Verdict

    monkeypatch.setattr(runner, "check_property", lambda prop, subject, effort: Verdict(prop.name, "passed"))

    def properties(*arguments: str) -> set[str]:
        return {verdict["property"] for verdict in json.loads(gptzoo("ffn:mlp", "--json", *arguments).stdout)}

    slow = {"all_partners", "compiling", "eject", "exporting", "sharding", "tensor_parallel", "width_transfer"}
    assert properties("--slow") - properties() == slow
    assert properties("--only", "sharding") == {"sharding"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attention"], "'attention': expected KIND:TYPE, such as attention:sdpa"),
        (["atention:sdpa"], "no kind named 'atention'; did you mean 'attention'?"),
        (["attention:spda"], "no attention named 'spda'; did you mean 'sdpa'?"),
        (["attention:sdpa", "--only", "causalty"], "attention has no property 'causalty'; did you mean 'causality'?"),
        (["attention:sdpa", "--set", "windo=3"], "attention:sdpa: $.windo: 'sdpa' has no option 'windo'; did you mean"),
        (
            ["attention:sdpa", "--set", "window=64"],
            "attention:sdpa: $.attention.window: must not exceed",
        ),
        (["importer:gpt2"], "kind 'importer': the kit has no properties for this kind yet"),
        (["corpus:text"], "corpus:text: $.path: is required; give it with --set path=… or in `options`"),
    ],
)
def test_wrong_input_exits_with_2_and_says_what_to_try(arguments: list[str], message: str) -> None:
    result: Any = gptzoo(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
