"""The packages that the code of an ejected file comes from, with their licences."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import gptzoo
from gptzoo.registry import FILE_MODULE_PREFIX

_UNKNOWN = "licence not stated"


@dataclass(frozen=True)
class Origin:
    """A package that an ejected file takes code from."""

    name: str
    version: str
    licence: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.licence})".replace("  ", " ")


def origins(packages: Iterable[str]) -> list[Origin]:
    """Return the distributions of import packages, gptzoo first. A plain file has no version and no licence."""
    by_package = importlib.metadata.packages_distributions()
    found = []
    for package in sorted(set(packages), key=lambda name: (name != "gptzoo", name)):
        names = by_package.get(package, [package.replace("_", "-")])
        found.append(_origin(package, names[0]))
    return found


def _origin(package: str, distribution: str) -> Origin:
    if package.startswith(FILE_MODULE_PREFIX):  # the name of the module has the file's path, which is private
        return Origin(f"file {Path(sys.modules[package].__file__ or package).name}", "", _UNKNOWN)
    try:
        metadata = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        if package == "gptzoo":
            return Origin(package, gptzoo.__version__, "Apache-2.0")
        return Origin(package, "", _UNKNOWN)
    stated = [metadata[key] for key in ("License-Expression", "License") if key in metadata]
    licence = next((text.partition("\n")[0] for text in stated if text), "")
    classifiers = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License :: ")]
    if not licence and classifiers:
        licence = classifiers[0].rpartition(" :: ")[2]
    return Origin(metadata["Name"], metadata["Version"], licence or _UNKNOWN)
