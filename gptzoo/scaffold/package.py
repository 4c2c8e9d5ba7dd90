"""Creation of a plugin package: all of its files are written, or none."""

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
from gptzoo.errors import FolderError, InputError
from gptzoo.scaffold.kinds import PLACEHOLDER, TEMPLATES, Template
from gptzoo.strict_model import did_you_mean
from gptzoo.utils.atomic import new_folder

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_MAX_NAME_LENGTH = 40  # keeps the lines of the templates below 120 characters

_MODEL_SPEC = {"context_length": 64, "d_model": 64, "n_layers": 2, "n_heads": 4}
_RUN_SPEC = {
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
_BYTE_VOCAB_SIZE = 257  # of the tokenizer `byte`


@dataclass(frozen=True)
class Package:
    """A plugin package: its folder and files, and its name in each place where it is used."""

    name: str  # soft-cap
    kind: str
    folder: Path  # …/gptzoo-soft-cap
    files: tuple[str, ...] = ()

    @property
    def distribution(self) -> str:
        return f"gptzoo-{self.name}"

    @property
    def type(self) -> str:
        """The name of the component in specs."""
        return self.name.replace("-", "_")

    @property
    def module(self) -> str:
        return f"gptzoo_{self.type}"

    @property
    def class_name(self) -> str:
        words = "".join(word.capitalize() for word in self.name.split("-"))
        return words.removesuffix(self.template.class_suffix) + self.template.class_suffix

    @property
    def template(self) -> Template:
        return TEMPLATES[self.kind]

    @property
    def next_commands(self) -> list[str]:
        """The commands that install, test, check and train the package."""
        return [
            f"cd {shlex.quote(str(self.folder))}",
            "pip install -e '.[test]'",
            "pytest",
            f"gptzoo check {self.kind}:{self.type}",
            "gptzoo train configs/run.json --out runs/first",
        ]


def new_package(name: str, kind: str, parent: Path) -> Package:
    """Create the package folder `gptzoo-<name>` in `parent`, with one working component of a kind.

    Raises InputError for an invalid name or kind, and FolderError if the folder exists or cannot be written.
    """
    _check_kind(kind)
    _check_name(name)
    package = Package(name, kind, parent / f"gptzoo-{name}")
    _check_availability(package)
    contents = _contents(package)
    if package.folder.exists() or package.folder.is_symlink():
        raise FolderError(f"{package.folder}: already exists. Choose another name or another --out.")
    try:
        with new_folder(package.folder) as folder:
            for path, text in contents.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{package.folder}: cannot write: {error.strerror}. Choose another --out.") from None
    return replace(package, files=tuple(contents))


# ---------------------------------------------------------------------- checks of the arguments


def _check_kind(kind: str) -> None:
    if kind in TEMPLATES:
        return
    known = ", ".join(TEMPLATES)
    if kind in registry.current().kinds:
        raise InputError(
            f"kind {kind!r} has no template; copy an existing package of this kind instead  (templates: {known})"
        )
    raise InputError(f"no kind named {kind!r}{did_you_mean(kind, TEMPLATES)}  (templates: {known})")


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) and len(name) <= _MAX_NAME_LENGTH and not name.startswith("gptzoo-"):
        return
    proposal = re.sub(r"[^a-z0-9]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    proposal = proposal.removeprefix("gptzoo-").lstrip("0123456789-")[:_MAX_NAME_LENGTH].strip("-")
    suggestion = f" Try {proposal!r}." if _NAME.fullmatch(proposal) else ""
    raise InputError(
        f"{name!r}: expected a package name of lower-case words and digits joined by single hyphens, starting with a "
        f"letter, of at most {_MAX_NAME_LENGTH} characters, without the prefix gptzoo-.{suggestion}"
    )


def _check_availability(package: Package) -> None:
    """Raise InputError if another component or an installed package has the name."""
    known = registry.current()
    if (existing := known.of_kind(package.kind).get(package.type)) is not None:
        raise InputError(
            f"{package.kind} {package.type!r} is already registered by {known.origin(existing)}. Choose another name."
        )
    try:
        installed = importlib.metadata.version(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return
    raise InputError(
        f"{package.distribution} {installed} is already installed, and a new package of that name would replace it. "
        "Choose another name, or uninstall it first."
    )


# ---------------------------------------------------------------------- contents of the files


def _contents(package: Package) -> dict[str, str]:
    """Return the text of each file by its path in the package folder."""
    kind, module = package.kind, package.module
    return {
        "pyproject.toml": _render("pyproject.toml", package),
        "README.md": _render("README.md", package),
        ".gitignore": _render("gitignore", package),
        ".github/workflows/test.yml": _render("workflow.yml", package),
        f"src/{module}/__init__.py": _render(f"{kind}/component.py", package),
        f"src/{module}/py.typed": "",
        f"tests/test_{package.type}.py": _render(f"{kind}/test.py", package),
        "configs/model.json": _render_json(_model_spec(package), package),
        "configs/run.json": _render_json({"name": package.name, **_RUN_SPEC, **package.template.run}, package),
    }


def _model_spec(package: Package) -> dict[str, Any]:
    spec = {"name": package.name, **_MODEL_SPEC, **package.template.model}
    return spec if "tokenizer" in package.template.run else {"vocab_size": _BYTE_VOCAB_SIZE, **spec}


def _render(template: str, package: Package) -> str:
    """Return the text of a template file with its marks and placeholder names replaced."""
    text = (files("gptzoo.scaffold") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    spec_name, fields = package.template.usage
    for mark, value in {
        "SUMMARY": package.template.summary,
        "KIND": package.kind,
        "SPEC": spec_name,
        "FIELDS": json.dumps(fields),
    }.items():
        text = text.replace(f"{{{mark}}}", value)
    return _replace_names(text, package)


def _render_json(spec: Mapping[str, Any], package: Package) -> str:
    return _replace_names(json.dumps(spec, indent=2) + "\n", package)


def _replace_names(text: str, package: Package) -> str:
    names = {
        "NewPart": package.class_name,
        PLACEHOLDER: package.type,
        PLACEHOLDER.replace("_", "-"): package.name,
    }
    return re.sub("|".join(names), lambda match: names[match[0]], text)
