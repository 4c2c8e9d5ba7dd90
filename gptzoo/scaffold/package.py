"""A new package, written whole or not at all."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from gptzoo import registry
from gptzoo.component import nearest
from gptzoo.errors import FolderError, InputError
from gptzoo.scaffold.kinds import TEMPLATES, TYPE, Template
from gptzoo.utils.atomic import new_folder

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40  # so that no line of a template grows beyond its width

_MODEL = {"context_length": 64, "d_model": 64, "n_layers": 2, "n_heads": 4}
_RUN = {
    "model": "model.json",
    "corpus": {"type": "stories", "n_stories": 1000},
    "tokenizer": "byte",
    "batch_size": 16,
    "steps": 200,
    "optimizer": {"type": "adamw", "lr": 0.003},
    "schedule": {"type": "cosine", "warmup_steps": 20},
    "eval": {"every": 100},
    "checkpoint": {"every": 100},
    "sample": {"max_new_tokens": 50},
}
_BYTE_VOCABULARY = 257  # of the tokenizer `byte`


@dataclass(frozen=True)
class Package:
    """A scaffolded package: what it is called in each place, and where it is."""

    name: str  # soft-cap
    kind: str
    folder: Path  # …/gptzoo-soft-cap
    files: tuple[str, ...] = ()

    @property
    def distribution(self) -> str:
        return f"gptzoo-{self.name}"

    @property
    def type(self) -> str:
        """The component's name in specs."""
        return self.name.replace("-", "_")

    @property
    def module(self) -> str:
        return f"gptzoo_{self.type}"

    @property
    def class_name(self) -> str:
        words = "".join(word.capitalize() for word in self.name.split("-"))
        return words.removesuffix(self.template.suffix) + self.template.suffix

    @property
    def template(self) -> Template:
        return TEMPLATES[self.kind]

    @property
    def next_commands(self) -> list[str]:
        return [
            f"cd {shlex.quote(str(self.folder))}",
            "pip install -e '.[test]'",
            "pytest",
            f"gptzoo check {self.kind}:{self.type}",
            "gptzoo train configs/run.json --out runs/first",
        ]


def new_package(name: str, kind: str, parent: Path) -> Package:
    """Write the package folder `gptzoo-<name>` into `parent`, with one working component of a kind.

    Raises InputError for a name or a kind that will not do, and FolderError where the folder cannot be written.
    """
    _check_kind(kind)
    _check_name(name)
    package = Package(name, kind, parent / f"gptzoo-{name}")
    _check_free(package)
    contents = _contents(package)
    if package.folder.exists() or package.folder.is_symlink():
        raise FolderError(f"{package.folder}: exists already; choose another name, or another --out")
    try:
        with new_folder(package.folder) as folder:
            for path, text in contents.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{package.folder}: cannot be written: {error.strerror}") from None
    return replace(package, files=tuple(contents))


# ---------------------------------------------------------------------- what is asked


def _check_kind(kind: str) -> None:
    if kind in TEMPLATES:
        return
    known = ", ".join(TEMPLATES)
    if kind in registry.current().kinds:
        raise InputError(f"kind {kind!r} has no template; start from another package of it  (templates: {known})")
    raise InputError(f"no kind named {kind!r}{nearest(kind, TEMPLATES)}  (templates: {known})")


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) and len(name) <= _LONGEST and not name.startswith("gptzoo-"):
        return
    proposal = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    proposal = proposal.removeprefix("gptzoo-").lstrip("0123456789-")[:_LONGEST].strip("-")
    hint = f", such as {proposal!r}" if _NAME.fullmatch(proposal) else ""
    raise InputError(
        f"{name!r} is no name for a package: give lower-case letters and digits in words joined by single hyphens, at "
        f"most {_LONGEST}, beginning with a letter{hint}; the package is called gptzoo-NAME by itself"
    )


def _check_free(package: Package) -> None:
    known = registry.current()
    if (owner := known.of_kind(package.kind).get(package.type)) is not None:
        raise InputError(
            f"{package.kind} {package.type!r} is taken: {known.origin(owner)} registers it; choose another name"
        )
    try:
        installed = importlib.metadata.version(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return
    raise InputError(
        f"{package.distribution} {installed} is installed already, and a new package of that name would replace it; "
        "choose another name, or uninstall it first"
    )


# ---------------------------------------------------------------------- what is written


def _contents(package: Package) -> dict[str, str]:
    """The text of each file, by its path in the package folder."""
    kind, module = package.kind, package.module
    return {
        "pyproject.toml": _filled("pyproject.toml", package),
        "README.md": _filled("README.md", package),
        ".gitignore": _filled("gitignore", package),
        ".github/workflows/test.yml": _filled("workflow.yml", package),
        f"src/{module}/__init__.py": _filled(f"{kind}/component.py", package),
        f"src/{module}/py.typed": "",
        f"tests/test_{package.type}.py": _filled(f"{kind}/test.py", package),
        "configs/model.json": _json(_model_spec(package), package),
        "configs/run.json": _json({"name": package.name, **_RUN, **package.template.run}, package),
    }


def _model_spec(package: Package) -> dict[str, Any]:
    spec = {"name": package.name, **_MODEL, **package.template.model}
    return spec if "tokenizer" in package.template.run else {"vocab_size": _BYTE_VOCABULARY, **spec}


def _filled(template: str, package: Package) -> str:
    """The text of a template with the names of the package in it."""
    text = (files("gptzoo.scaffold") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    idea = package.template.idea
    where, fields = package.template.use
    for mark, value in {
        "IDEA^": idea[0].upper() + idea[1:],
        "IDEA": idea,
        "KIND": package.kind,
        "USE_SPEC": where,
        "USE_FIELDS": json.dumps(fields),
    }.items():
        text = text.replace(f"{{{mark}}}", value)
    return _named(text, package)


def _json(spec: Mapping[str, Any], package: Package) -> str:
    return _named(json.dumps(spec, indent=2) + "\n", package)


def _named(text: str, package: Package) -> str:
    names = {"NewPart": package.class_name, TYPE: package.type, TYPE.replace("_", "-"): package.name}
    return re.sub("|".join(names), lambda match: names[match[0]], text)
