"""Drawings of models: `gptzoo.draw`."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.errors import InputError
from gptzoo.inspection.drawing.items import Content, content_of, mark_differences, texts_of
from gptzoo.inspection.drawing.layout import lay_out
from gptzoo.inspection.drawing.svg import to_svg
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec
from gptzoo.utils.atomic import new_file, write_text

SUFFIXES = (".svg", ".png", ".html")
_PNG_ZOOM = 2.0  # pixels per unit of the drawing
Source = ModelSpec | Mapping[str, Any] | str | Path


@dataclass(frozen=True)
class Drawing:
    """A drawing of one model, or of two with their differences marked. Notebooks show it as an image."""

    contents: tuple[Content, ...]

    @property
    def title(self) -> str:
        """The names of the models."""
        return " and ".join(content.name for content in self.contents)

    def svg(self) -> str:
        """Return the drawing as an SVG image, two models side by side. It suits light and dark pages."""
        texts = [text for content in self.contents for text in texts_of(content)]
        return to_svg([lay_out(content) for content in self.contents], self.title, " ".join(texts))

    def html(self) -> str:
        """Return a page that needs no other file. Two models are side by side, or above each other on a narrow page."""
        images = [
            to_svg([lay_out(content)], content.name, " ".join(texts_of(content)), identifier=f"model-{number}")
            for number, content in enumerate(self.contents, 1)
        ]
        return _PAGE.format(title=html.escape(self.title), images="\n".join(images))

    def png(self) -> bytes:
        """Return the drawing as a PNG image, with light colours. Raises InputError if `resvg_py` is not installed."""
        try:
            import resvg_py
        except ImportError:
            raise InputError("PNG images need the package `resvg_py`: pip install 'gptzoo[draw]'") from None
        return bytes(resvg_py.svg_to_bytes(svg_string=self.svg(), zoom=_PNG_ZOOM))

    def save(self, path: str | Path) -> Path:
        """Write an image or a page, by the suffix of `path`: .svg, .png or .html. Raises InputError for others."""
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: a drawing is an .svg, .png or .html file; choose one of these suffixes")
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}")
        if path.suffix == ".png":
            with new_file(path) as temporary:
                temporary.write_bytes(self.png())
        else:
            write_text(path, self.svg() if path.suffix == ".svg" else self.html())
        return path

    def _repr_svg_(self) -> str:
        return self.svg()


def draw(spec: Source, other: Source | None = None) -> Drawing:
    """Draw a model from the tokens to the logits: blocks, options, shapes and parameters of all parts, also of plugins.

    spec: a model spec with a vocab_size, as a path, a dict or a ModelSpec.
    other: a second model. Both are drawn, and what differs is marked.

    Raises SpecError if a spec is invalid or has no vocab_size.
    """
    first = _content(spec)
    return Drawing((first,) if other is None else mark_differences(first, _content(other)))


def _content(source: Source) -> Content:
    return content_of(source if isinstance(source, ModelSpec) else load_model_spec(source))


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 0; padding: 1rem; background: #fff }}
body {{ display: flex; flex-wrap: wrap; gap: 1rem; justify-content: center; align-items: flex-start }}
svg {{ max-width: 100%; height: auto }}
@media (prefers-color-scheme: dark) {{ body {{ background: #0d1117 }} }}
</style>
{images}
</html>
"""
