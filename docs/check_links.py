"""Check the links of a built site: `python docs/check_links.py SITE` fails if one leads to a missing page or anchor.

Links to other sites are not followed; `sphinx-build -b linkcheck docs OUT` follows them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {"", "top"}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.add(value)
            elif value and name in ("id", "name"):
                self.anchors.add(value)


def broken_links(site: Path) -> Iterator[str]:
    """Yield a line for each link to a file or an anchor that the site does not have."""
    pages = {file.resolve(): _Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    for file, page in pages.items():
        for link in sorted(page.links):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (file.parent / unquote(address.path)).resolve() if address.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{file.relative_to(site.resolve())}: {link}: no such file"
            elif target in pages and unquote(address.fragment) not in pages[target].anchors:
                yield f"{file.relative_to(site.resolve())}: {link}: no such anchor"


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yield a line for each script, style sheet or picture that a page loads from another site."""
    for file in sorted(site.rglob("*.html")):
        for tag in _Loads(file.read_text(encoding="utf-8")).found:
            yield f"{file.relative_to(site)}: loads {tag}"


class _Loads(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get("src") or (values.get("href") if tag == "link" else None)
        if address and urlsplit(address).netloc:
            self.found.append(address)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1], "index.html").is_file():
        sys.exit("usage: python docs/check_links.py SITE, where SITE is a folder that sphinx-build wrote")
    found = [*broken_links(Path(sys.argv[1])), *loaded_from_elsewhere(Path(sys.argv[1]))]
    print("\n".join(found) or "all links lead to pages and anchors of the site")
    sys.exit(1 if found else 0)
