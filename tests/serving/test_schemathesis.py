"""Random requests from the server's OpenAPI document: no server error, and responses as the document describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serving.conftest import CHAT_TEMPLATE, Served, serving

from gptzoo.checkpoint.model_folder import LoadedModel

schemathesis = pytest.importorskip("schemathesis")
MAX_EXAMPLES = 150  # by operation and mode
GUARD_SECONDS = 60  # against hanging only


@pytest.fixture(scope="module")
def target(loaded: LoadedModel) -> Iterator[Served]:
    with serving(loaded, rows=4, draft=loaded, chat_template=CHAT_TEMPLATE) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_the_server_does_what_its_document_says(target: Served, mode: str) -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode

    schema = schemathesis.openapi.from_url(target.url + "/openapi.json")
    checks = [not_a_server_error, *conformance_checks()]
    n_operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode == "NEGATIVE" and operation.method == "get":  # there is nothing to make wrong
            continue
        strategy = operation.as_strategy(generation_mode=GenerationMode[mode])

        @settings(
            max_examples=MAX_EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def check(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = "tiny"  # any other name gets status 404
            if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
                case.body["max_tokens"] = min(case.body["max_tokens"], 8)
            response = case.call(timeout=GUARD_SECONDS)
            is_stream = response.headers["content-type"][0].startswith("text/event-stream")
            # Its schema describes the whole text, not each event, as schemathesis takes it.
            case.validate_response(response, checks=checks[:-1] if is_stream else checks)

        check()
        n_operations += 1
    assert n_operations >= (8 if mode == "POSITIVE" else 4)


def conformance_checks() -> list[Any]:
    from schemathesis.specs.openapi import checks

    return [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
