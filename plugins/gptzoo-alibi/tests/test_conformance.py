"""What gptzoo promises of every positional, checked by its own kit."""

from __future__ import annotations

import gptzoo.testing


class TestAlibi(gptzoo.testing.Conformance):
    component = "positional:alibi"
