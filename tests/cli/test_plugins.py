"""gptzoo plugins, as a user meets it."""

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


def as_data(selection: str = "") -> Any:
    result = plugins(selection, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_plugin_is_listed_with_its_package_and_what_it_registers(install: Callable[..., None]) -> None:
    install("squares", GOOD)
    (plugin,) = (one for one in as_data("squares")["plugins"] if one["plugin"] != "builtin")
    assert plugin == {
        "plugin": "squares",
        "distribution": "gptzoo-squares",
        "version": "1.2.3",
        "registers": [{"kind": "activation", "name": "squared"}],
    }
    text = plugins("squares").stdout
    assert "gptzoo-squares 1.2.3" in text
    assert "activation: squared" in text


def test_what_ships_is_a_plugin_too() -> None:
    (builtin,) = as_data("none")["plugins"]
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
def test_a_broken_plugin_is_shown_with_its_reason_and_is_no_failure(
    install: Callable[..., None], source: str, reason: str
) -> None:
    install("broken", source)
    (bad,) = as_data("broken")["quarantined"]
    assert (bad["plugin"], bad["distribution"]) == ("broken", "gptzoo-broken")
    assert reason in bad["reason"]
    result = plugins("broken")
    assert result.exit_code == 0
    assert "refused: " in result.stdout
    assert reason in result.stdout.replace("\n", "")


def test_a_disabled_plugin_is_shown_as_such(install: Callable[..., None]) -> None:
    install("squares", GOOD)
    assert "squares" in {plugin["plugin"] for plugin in as_data("none")["disabled"]}
    assert "disabled by GPTZOO_PLUGINS" in plugins("none").stdout
