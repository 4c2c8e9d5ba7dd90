"""A Sphinx extension by which pages that are written for GitHub become a site.

The pages stay plain Markdown. Three things differ between the repository and the site:

- The front page is the README of the repository.
- The navigation follows the lists in docs/README.md, and in the `index.md` of a folder, so it is written once.
- Links to files outside docs/ lead to the repository if its address is known, as in a GitHub workflow. Elsewhere, only
  their text is left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r'(!\[[^\]]*\]\(|<img [^>]*?src=")([^)"\s]+)')
_LIST_LINK = re.compile(r"^- \[([^\]]+)\]\(([\w/-]+)\.md\)", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", _read_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read_source(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "index":
        for file in (README, DOCS / "README.md"):
            app.env.note_dependency(str(file))
        navigation = "\n\n".join(_toctrees((DOCS / "README.md").read_text(encoding="utf-8")))
        source[0] = f"{_rewrite_links(README.read_text(encoding='utf-8'), README)}\n\n{navigation}\n"
    else:
        navigation = _toctree(source[0]) if name.endswith("/index") else ""
        source[0] = f"{_rewrite_links(source[0], DOCS / f'{name}.md')}\n\n{navigation}\n"


def _toctrees(text: str) -> Iterator[str]:
    """Yield a table of contents for each section of docs/README.md."""
    for section in text.split("\n## ")[1:]:
        yield _toctree(section, caption=section.partition("\n")[0])


def _toctree(text: str, caption: str | None = None) -> str:
    """Return a hidden table of contents with the pages that the lists of a text link."""
    lines = [f"{title.replace('`', '')} <{page}>" for title, page in _LIST_LINK.findall(text)]
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *lines, "```"])


def _rewrite_links(text: str, page: Path) -> str:
    """Return a page with links that are right on the site. `page` is the file that the links are relative to."""

    def rewrite(match: re.Match[str]) -> str:
        label, target = match.groups()
        new = _target(target, page)
        return label if new is None else f"[{label}]({new})"

    def rewrite_image(match: re.Match[str]) -> str:
        return f"{match[1]}{_target(match[2], page)}"

    parts = re.split(_FENCED, text)  # code is at the odd places
    parts[::2] = [_IMAGE.sub(rewrite_image, _LINK.sub(rewrite, part)) for part in parts[::2]]
    return "".join(parts)


def _target(target: str, page: Path) -> str | None:
    """Return a link for the site, or None for a file that is not on it."""
    if "://" in target or target.startswith(("#", "mailto:")):
        return target
    path, hash_sign, anchor = target.partition("#")
    file = (page.parent / path).resolve()
    here = DOCS if page == README else page.parent
    if file in (README, DOCS / "README.md", DOCS):
        return f"{os.path.relpath(DOCS / 'index.md', here)}{hash_sign}{anchor}"
    if file.is_relative_to(DOCS):
        return f"{os.path.relpath(file, here)}{hash_sign}{anchor}"
    return _address_in_repository(file, hash_sign + anchor)


def _address_in_repository(file: Path, anchor: str) -> str | None:
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository is None:
        return None
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    form = "tree" if file.is_dir() else "blob"
    return f"{server}/{repository}/{form}/main/{file.relative_to(ROOT)}{anchor}"
