"""Files for contributors agree with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

import gptzoo

ROOT = Path(__file__).parents[1]


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_citation_has_the_version_and_license_of_the_package() -> None:
    citation = read_yaml("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == gptzoo.__version__
    assert citation["license"] == project["license"]


def test_the_workflow_runs_the_checks_on_every_supported_python() -> None:
    (job,) = read_yaml(".github/workflows/ci.yml")["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = job["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={versions[0]}"
    assert versions == [f"3.{minor}" for minor in range(11, 11 + len(versions))]


def test_bug_reports_ask_for_the_output_of_doctor() -> None:
    fields = {field["id"]: field for field in read_yaml(".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    assert "gptzoo doctor" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"] is True


def test_hooks_before_a_commit_are_the_checks_of_ci() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    checks = (ROOT / ".ci/run").read_text().split()
    for hook in repository["hooks"]:
        assert hook["entry"].split()[0] in checks
