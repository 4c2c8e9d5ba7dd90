"""`NotebookView`, the mixin of objects that notebooks show as HTML."""

from __future__ import annotations


class NotebookView:
    """A mixin for objects that `gptzoo.to_html` describes: specs, models, runs, evaluations and outcomes."""

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows in place of the repr."""
        import gptzoo  # the public name, because the views import all layers above this one

        return gptzoo.to_html(self)
