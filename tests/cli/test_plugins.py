"""gptzoo plugins from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gptzoo as zoo
from gptzoo import registry
from gptzoo.cli import main

GOOD = """
import gptzoo

class Squared(gptzoo.Activation):
    '''max(0, x)^2.'''
    name = "squared"

@gptzoo.hookimpl
def gptzoo_components():
    return [Squared]
"""


def plugins(selection: str = "", *arguments: str) -> Result:
    with registry.use(registry.discover(selection)):
        return CliRunner().invoke(main, ["plugins", *arguments])


def as_json(selection: str = "") -> Any:
    result = plugins(selection, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_plugin_is_listed_with_its_package_and_what_it_registers(install: Callable[..., None]) -> None:
    install("squares", GOOD)
    (plugin,) = (entry for entry in as_json("squares")["plugins"] if entry["plugin"] != "builtin")
    assert plugin == {
        "plugin": "squares",
        "distribution": "gptzoo-squares",
        "version": "1.2.3",
        "registers": [{"kind": "activation", "name": "squared"}],
    }
    text = plugins("squares").stdout
    assert "gptzoo-squares 1.2.3" in text
    assert "activation: squared" in text


def test_the_builtin_components_are_a_plugin_too() -> None:
    (builtin,) = as_json("none")["plugins"]
    assert (builtin["plugin"], builtin["version"]) == ("builtin", zoo.__version__)
    assert {"kind": "attention", "name": "sdpa"} in builtin["registers"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nonsense_that_is_not_installed", "nonsense_that_is_not_installed"),
        ("raise SystemExit(3)", "SystemExit"),
        (GOOD.replace('"squared"', '"gelu"'), "taken"),
    ],
    ids=["import error", "exit", "taken name"],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_is_not_an_error(
    install: Callable[..., None], source: str, reason: str
) -> None:
    install("broken", source)
    (bad,) = as_json("broken")["quarantined"]
    assert (bad["plugin"], bad["distribution"]) == ("broken", "gptzoo-broken")
    assert reason in bad["reason"]
    result = plugins("broken")
    assert result.exit_code == 0
    assert "not loaded: " in result.stdout
    assert reason in result.stdout.replace("\n", "")


def test_a_disabled_plugin_is_listed_as_disabled(install: Callable[..., None]) -> None:
    install("squares", GOOD)
    assert "squares" in {plugin["plugin"] for plugin in as_json("none")["disabled"]}
    assert "disabled by GPTZOO_PLUGINS" in plugins("none").stdout
