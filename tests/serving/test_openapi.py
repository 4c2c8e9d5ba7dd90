"""The OpenAPI document: valid, complete, and true for the requests and responses of the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from serving.test_completions import OFF
from serving.test_isolation import FAILING, FailsAtThirdToken
from serving.test_limits import wait_until
from support import admit

from gptzoo import registry
from gptzoo.serving.chat.request import ChatRequest
from gptzoo.serving.openapi import openapi_document
from gptzoo.serving.protocol import CompletionRequest

BASE = {"model": "tiny", "prompt": "Once", "max_tokens": 4}


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    with registry.use(registry.discover("none")):
        admit(FailsAtThirdToken)
        yield


@pytest.fixture(scope="module")
def document(plain: Any, plugin: None) -> dict[str, Any]:
    answer = httpx.get(plain.url + "/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def is_valid_request(document: dict[str, Any], value: Any) -> bool:
    schema = {"$ref": "#/components/schemas/CompletionRequest", "components": document["components"]}
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def check_response(document: dict[str, Any], path: str, answer: httpx.Response) -> None:
    """Validate a response against what the document says for its path, method and status."""
    operation = document["paths"][path][answer.request.method.lower()]
    described = operation["responses"][str(answer.status_code)]
    media_type = answer.headers["content-type"].split(";")[0]
    schema = described["content"][media_type]["schema"]
    if media_type == "application/json":
        check(document, schema, answer.json())
        return
    events = answer.text.removesuffix("\n\n").split("\n\n")
    for event in events:
        data = event.removeprefix("data: ")
        if data != "[DONE]":
            check(document, schema["contentSchema"], json.loads(data))


@pytest.mark.parametrize("requires_key", [False, True])
def test_the_document_is_valid(requires_key: bool) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    document = openapi_document(requires_key=requires_key)
    validator.validate(document, cls=validator.OpenAPIV31SpecValidator)
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        for field, described in schema.get("properties", {}).items():
            assert described.get("description") or "$ref" in described or field == "type", (name, field)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == ("security" in operation)
    assert ("securitySchemes" in document["components"]) == requires_key


def test_every_path_of_the_server_is_described(plain: Any, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        described = {method.upper() for method in methods}
        answer = httpx.request("TRACE", plain.url + path.replace("{name}", "tiny"))
        assert answer.status_code == 405  # so the path exists
        assert {method.strip() for method in answer.headers["allow"].split(",")} - {"HEAD"} == described
    assert set(document["components"]["schemas"]["CompletionRequest"]["properties"]) == set(
        CompletionRequest.model_fields
    )


COMPLETIONS: list[dict[str, Any]] = [
    *OFF,
    {},
    {"n": 2, "logprobs": 3, "echo": True},
    {"prompt": ["a", "é"], "best_of": 2, "logprobs": 0},
    {"prompt": [[1, 2], [3]], "max_tokens": 0, "echo": True, "logprobs": 2},
    {"stop": ["a", "b"], "min_tokens": 2, "ignore_eos": True, "stop_token_ids": [5]},
    {"strategy": {"type": "beams", "n_beams": 2}, "n": 2, "logprobs": 1},
    {"processors": ["top_k", {"type": "min_p", "p": 0.1}]},
    {"processors": [FailsAtThirdToken.name]},
    {"stream": True, "logprobs": 2},
    {"stream": True, "echo": True, "stream_options": {"include_usage": True}},
    {"stream": True, "n": 2, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"stream": True, **FAILING},
    {"prompt": []},
    {"prompt": [-1]},
    {"prompt": [[]]},
    {"model": None},
    {"min_tokens": -1},
    {"ignore_eos": 1},
    {"temperature": 2.5},
    {"stop": [""]},
    {"stop": ["a"] * 17},
    {"logprobs": True},
    {"logit_bias": {"1": 101}},
    {"strategy": {"type": "beams", "n_beams": 0}},
    {"stream_options": {"usage": True}},
    {"processors": [{"type": "min_p"}]},
    {"suffix": "end"},
    {"absent": 1},
]


@pytest.mark.parametrize("fields", COMPLETIONS)
def test_the_schemas_are_true_for_completions(plain: Any, document: dict[str, Any], fields: dict[str, Any]) -> None:
    body = {**BASE, **fields}
    answer = httpx.post(plain.url + "/v1/completions", json=body)
    assert is_valid_request(document, body) == (answer.status_code != 400)
    check_response(document, "/v1/completions", answer)


def test_the_schemas_are_true_for_the_other_paths(serve: Any) -> None:
    running = serve(api_key="sesame", max_body=300, rows=1, max_waiting=0)
    document = httpx.get(running.url + "/openapi.json").json()
    key = {"Authorization": "Bearer sesame"}

    def call(method: str, path: str, status: int, described: str = "", **options: Any) -> None:
        answer = httpx.request(method, running.url + path, **{"headers": key, **options})
        assert answer.status_code == status
        check_response(document, described or path, answer)

    call("GET", "/health", 200, headers={})
    call("GET", "/v1/models", 200)
    call("GET", "/v1/models", 401, headers={})
    call("GET", "/v1/models/tiny", 200, "/v1/models/{name}")
    call("GET", "/v1/models/other", 404, "/v1/models/{name}")
    call("GET", "/tokenizer_info", 200)
    call("GET", "/tokenizer_info", 401, headers={})
    call("POST", "/tokenize", 200, json={"prompt": "é", "return_token_strs": True})
    call("POST", "/tokenize", 200, json={"prompt": ""})
    call("POST", "/tokenize", 400, json={"prompt": 1})
    call("POST", "/detokenize", 200, json={"tokens": [65, 195]})
    call("POST", "/detokenize", 400, json={"tokens": [999]})
    call("POST", "/detokenize", 413, json={"tokens": [999] * 999})
    call("POST", "/v1/completions", 401, json=BASE, headers={})
    call("POST", "/v1/completions", 404, json={**BASE, "model": "other"})
    call("POST", "/v1/completions", 413, json={**BASE, "prompt": "a" * 999})
    call("POST", "/v1/completions", 429, json={**BASE, "n": 2})
    wait_until(lambda: running.scheduler.n_open == 0)


def test_the_page_lists_every_field_and_path() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    fields = set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE))
    assert set(CompletionRequest.model_fields) <= fields
    assert set(ChatRequest.model_fields) <= fields
    for path in openapi_document(requires_key=False)["paths"]:
        assert f"{path.removesuffix('/{name}')}`" in page
