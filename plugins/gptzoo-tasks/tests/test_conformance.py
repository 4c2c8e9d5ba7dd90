"""gptzoo's conformance tests for every task of this package."""

from __future__ import annotations

import pytest

import gptzoo.testing


class TestMqar(gptzoo.testing.Conformance):
    component = "corpus:mqar"


@pytest.mark.slow
class TestInContextRecall(gptzoo.testing.Conformance):
    component = "corpus:in_context_recall"


@pytest.mark.slow
class TestNoisyRecall(gptzoo.testing.Conformance):
    component = "corpus:noisy_recall"


@pytest.mark.slow
class TestFuzzyRecall(gptzoo.testing.Conformance):
    component = "corpus:fuzzy_recall"


@pytest.mark.slow
class TestSelectiveCopying(gptzoo.testing.Conformance):
    component = "corpus:selective_copying"


@pytest.mark.slow
class TestCompression(gptzoo.testing.Conformance):
    component = "corpus:compression"


@pytest.mark.slow
class TestMemorization(gptzoo.testing.Conformance):
    component = "corpus:memorization"


@pytest.mark.slow
class TestInductionHeads(gptzoo.testing.Conformance):
    component = "corpus:induction_heads"


@pytest.mark.slow
class TestPasskey(gptzoo.testing.Conformance):
    component = "corpus:passkey"


@pytest.mark.slow
class TestStateTracking(gptzoo.testing.Conformance):
    component = "corpus:state_tracking"


@pytest.mark.slow
class TestModularAddition(gptzoo.testing.Conformance):
    component = "corpus:modular_addition"
