"""Creation of a starter project: a run on the user's text, a model, a component and an ablation."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gptzoo.errors import FolderError, InputError
from gptzoo.utils.atomic import write_text

FILES = ("README.md", "run.yaml", "model.yaml", "ablation.yaml", "my_attention.py", ".gitignore")
TOKENIZERS = ("bpe", "char", "byte")


@dataclass(frozen=True)
class Size:
    """The size of a starter model and the length of its run."""

    d_model: int
    n_layers: int
    n_heads: int
    context_length: int
    batch_size: int
    steps: int

    @property
    def description(self) -> str:
        """The size in words."""
        return f"{self.n_layers} layers of width {self.d_model}, {self.steps} steps"


SIZES = {
    "tiny": Size(64, 2, 4, 64, 16, 300),
    "small": Size(128, 4, 4, 128, 16, 600),
    "medium": Size(384, 6, 6, 256, 32, 3000),
}


@dataclass(frozen=True)
class Project:
    """A starter project that was written to a folder."""

    folder: Path

    @property
    def next_commands(self) -> list[str]:
        """The commands to start with."""
        enter = [] if self.folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(self.folder))}"]
        return [
            *enter,
            "gptzoo build run.yaml",
            "gptzoo train run.yaml --out runs/first",
            "gptzoo sample runs/first --max-new-tokens 100",
            "gptzoo check attention:my_attention --plugin my_attention.py",
            "gptzoo ablate ablation.yaml --plugin my_attention.py --dry-run",
        ]


def new_project(folder: Path, text: Path | None = None, tokenizer: str = "bpe", size: str = "small") -> Project:
    """Write a starter project to a folder, which is created if necessary.

    text: A UTF-8 file, or a folder of .txt files, to train on. Default: generated stories.

    Raises InputError for an invalid argument, and FolderError if a file exists already or cannot be written. Nothing is
    written then.
    """
    for name, value, known in (("tokenizer", tokenizer, TOKENIZERS), ("size", size, tuple(SIZES))):
        if value not in known:
            from gptzoo.strict_model import did_you_mean  # which imports pydantic, and the help needs this module

            raise InputError(f"no {name} named {value!r}{did_you_mean(value, known)}  (known: {', '.join(known)})")
    if text is not None:
        check_text_path(text)
    if existing := [name for name in FILES if os.path.lexists(folder / name)]:
        raise FolderError(
            f"{folder}: has {', '.join(existing)} already. Choose another folder, or move these files away."
        )
    marks = {"NAME": _name(folder), "CORPUS": _corpus(folder, text), "TOKENIZER": tokenizer}
    contents = {name: _render(name, {**marks, **_size_marks(SIZES[size])}) for name in FILES}
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_text(folder / name, content)
            written.append(folder / name)
    except OSError as error:
        for file in written:
            with contextlib.suppress(OSError):
                file.unlink()
        raise FolderError(f"{folder}: cannot be written: {error.strerror}. Choose another folder.") from None
    return Project(folder)


def check_text_path(text: Path) -> None:
    """Raise InputError unless a path is that of a file or folder to train on."""
    if not text.exists():
        raise InputError(f"{text}: no such file. Give a text file in UTF-8, or a folder of .txt files.")
    if text.is_dir() and not any(text.rglob("*.txt")):
        raise InputError(f"{text}: the folder has no .txt files. Give a text file in UTF-8, or a folder of .txt files.")


def _name(folder: Path) -> str:
    """Return the name of the folder in characters that need no quotes in YAML."""
    words = re.findall(r"[A-Za-z0-9]+", folder.resolve().name)
    name = "-".join(words).lower()
    return name if name[:1].isalpha() and name not in ("true", "false", "null") else f"gpt-{name}".rstrip("-")


def _corpus(folder: Path, text: Path | None) -> str:
    """Return the lines of the run spec that describe the text."""
    if text is None:
        return (
            "# Generated stories. For a text of your own, write: corpus: {type: text, path: input.txt}\n"
            "corpus: {type: stories, n_stories: 4000}"
        )
    path = Path(os.path.relpath(text.resolve(), folder.resolve())).as_posix()
    held_out = "Some of the files are" if text.is_dir() else "The last tenth of the text is"
    return (
        f"# {held_out} held out for validation.\ncorpus: {{type: text, path: {json.dumps(path, ensure_ascii=False)}}}"
    )


def _size_marks(size: Size) -> dict[str, str]:
    return {
        "D_MODEL": str(size.d_model),
        "N_LAYERS": str(size.n_layers),
        "N_HEADS": str(size.n_heads),
        "CONTEXT_LENGTH": str(size.context_length),
        "BATCH_SIZE": str(size.batch_size),
        "STEPS": str(size.steps),
        "EVERY": str(size.steps // 6),
    }


def _render(name: str, marks: Mapping[str, str]) -> str:
    """Return the text of a file with the marks of its template replaced."""
    template = (files("gptzoo.scaffold") / "templates" / "project" / f"{name.lstrip('.')}.txt").read_text("utf-8")
    return re.sub(r"\{([A-Z_]+)\}", lambda match: marks[match[1]], template)
