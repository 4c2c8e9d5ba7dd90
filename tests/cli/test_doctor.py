import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import gptzoo
from gptzoo import registry
from gptzoo.cli import main


def test_a_healthy_installation_is_described(fresh_registry: registry.Registry) -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["versions"]["gptzoo"] == gptzoo.__version__
    assert report["torch"]["version"] == torch.__version__
    assert report["plugins"] == {"builtin": f"gptzoo {gptzoo.__version__}"}
    assert report["problems"] == []
    assert "no problems found" in CliRunner().invoke(main, ["doctor"]).stdout


def test_only_relevant_environment_variables_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    report = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert report["environment"]["GPTZOO_CACHE"] == str(tmp_path / "elsewhere")
    assert "SECRET_TOKEN" not in report["environment"]
    assert report["cache"].startswith(str(tmp_path / "elsewhere"))


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "GPTZOO_API_KEY", "HF_TOKEN_PATH"):
        monkeypatch.setenv(name, "hf_abcdef")
    monkeypatch.setenv("HF_ENDPOINT", "https://somebody:hf_abcdef@hub.example/path")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "/somewhere")
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["doctor", *options])
        assert "HF_TOKEN" in result.stdout
        assert "https://(not shown)@hub.example/path" in result.stdout
        assert "/somewhere" in result.stdout
        assert "hf_abcdef" not in result.stdout


def test_a_broken_plugin_is_a_problem(install: Callable[..., None]) -> None:
    install("broken", "import nothing_of_this_name\n")
    with registry.use(registry.discover("broken")):
        result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "plugin 'broken' (gptzoo-broken 1.2.3) is disabled: ModuleNotFoundError" in " ".join(result.stdout.split())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can write to any folder")
def test_an_unwritable_cache_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert "set GPTZOO_CACHE" in json.loads(result.stdout)["problems"][0]


def test_it_works_without_an_installed_distribution(
    fresh_registry: registry.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", unknown)
    monkeypatch.setattr(metadata, "version", unknown)
    done = CliRunner().invoke(main, ["doctor", "--json"])
    assert json.loads(done.stdout)["versions"]["gptzoo"] == gptzoo.__version__
