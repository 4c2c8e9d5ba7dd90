"""What gptzoo promises of every architecture, checked by its own kit."""

from __future__ import annotations

import gptzoo.testing


class TestEncoderDecoder(gptzoo.testing.Conformance):
    component = "architecture:encoder_decoder"
