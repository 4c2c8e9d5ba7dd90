"""gptzoo\'s conformance tests for every architecture of this package."""

from __future__ import annotations

import gptzoo.testing


class TestEncoderDecoder(gptzoo.testing.Conformance):
    component = "architecture:encoder_decoder"
