"""The conformance check of an optimizer, by which it is registered or left out, and options that change nothing."""

from __future__ import annotations

import dataclasses
import re

import gptzoo.testing
from gptzoo_optimizers.catalog import Signature
from gptzoo_optimizers.components import component_of

_WITHOUT_EFFECT = re.compile(r"option '(\w+)' changes nothing")
_LAST = ("options", "resuming")  # they take longest


def check(signature: Signature) -> tuple[Signature, str | None]:
    """Return the signature without options that change nothing, and the reason to leave it out, or None."""
    names = [prop.name for prop in gptzoo.testing.properties_of("optimizer")]
    for name in (*(name for name in names if name not in _LAST), *_LAST):
        (verdict,) = gptzoo.testing.check(component_of(signature), only=[name])
        if verdict.outcome != "failed":
            continue
        idle = set(_WITHOUT_EFFECT.findall(verdict.text)) if name == "options" else set()
        if not idle or not idle <= signature.options.keys():
            return signature, f"it fails the property `{name}` of `gptzoo check`: {_first_line(verdict.text)}"
        kept = {option: value for option, value in signature.options.items() if option not in idle}
        signature = dataclasses.replace(signature, options=kept)
    return signature, None


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip(". ")
