"""`EjectError`, raised for a model that cannot be ejected."""

from __future__ import annotations

from gptzoo.errors import InputError


class EjectError(InputError):
    """A model cannot be ejected. The message says which part is the reason."""
