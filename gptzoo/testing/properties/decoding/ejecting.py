"""Property: a model with the component ejects to one file that computes the same."""

from __future__ import annotations

from gptzoo.eject.eject import eject_model
from gptzoo.eject.refusal import EjectError
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.verdict import Failed, Skipped


def check_ejecting(subject: ModelPartUnderTest) -> None:
    """Check that a model with the component ejects to one file with bit-equal logits."""
    if subject.kind == "architecture" and subject.component.name != "decoder":
        raise Skipped("only the architecture 'decoder' can be ejected")
    try:
        eject_model(subject.model(supply_inputs=False))
    except EjectError as error:
        raise Failed(str(error)) from None
