"""`Conformance` makes one pytest test for each property, and a failure shows only the verdict."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

PYTEST_OPTIONS = ("-v", "-rs", "--strict-markers", "-p", "no:cacheprovider")


def test_each_property_is_a_test_of_its_name(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import gptzoo.testing

        class TestSilu(gptzoo.testing.Conformance):
            component = "activation:silu"
            skip = {"rows": "checked elsewhere"}
    """)
    result = pytester.runpytest_inprocess(
        *PYTEST_OPTIONS, "-k", "causality or options or rows or sharding", "-m", "not slow"
    )
    result.stdout.fnmatch_lines_random(
        [
            "*::TestSilu::test_property[[]causality[]] PASSED*",
            "*::TestSilu::test_property[[]options[]] SKIPPED*",
            "SKIPPED*it has no options",
            "SKIPPED*checked elsewhere",
        ]
    )
    result.assert_outcomes(passed=1, skipped=2)


def test_a_second_slow_test_of_a_property_tries_the_cases_of_gptzoo_check(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import torch
        import gptzoo
        import gptzoo.testing

        class WrongAtWidth(gptzoo.FeedForward):
            '''Repeats the first half of its input in wide models.'''
            name = "wrong_at_width"
            def forward(self, x, context, state=None):
                return x.roll(1, 1) * (x.shape[2] > 100)

        class TestWrongAtWidth(gptzoo.testing.Conformance):
            component = WrongAtWidth
    """)
    result = pytester.runpytest_inprocess(*PYTEST_OPTIONS, "-k", "causality", "-m", "slow")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["causality FAILED: with d_model 136, *: changing token 1 of 2 changes *"])


def test_a_failure_shows_the_verdict_without_lines_of_the_kit(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import gptzoo
        import gptzoo.testing

        class Pooled(gptzoo.FeedForward):
            '''Adds the mean of all tokens.'''
            name = "pooled"
            class Config(gptzoo.FeedForward.Config):
                share: float = 1.0
            def forward(self, x, context, state=None):
                return self.config.share * x.mean(1, keepdim=True)

        class TestPooled(gptzoo.testing.Conformance):
            component = Pooled
            options = [{}, {"share": 0.5}, {"shar": 0.5}]
    """)
    result = pytester.runpytest_inprocess(*PYTEST_OPTIONS, "-k", "causality", "-m", "not slow")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["causality FAILED: changing token 1 of 6 changes the logits of token 0 in row 0 by *"])
    result.stdout.fnmatch_lines(["*TestPooled::test_property[[]share=0.5-causality[]]*"])
    result.stdout.fnmatch_lines(["ffn:pooled: $.shar: 'pooled' has no option 'shar'; did you mean 'share'?"])
    result.stdout.no_fnmatch_line("*gptzoo/testing*")


def test_loading_the_pytest_plugin_does_not_import_torch() -> None:
    code = "import gptzoo.testing.pytest_plugin, sys; print({'torch', 'pydantic', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
