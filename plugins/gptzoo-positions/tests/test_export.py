"""A model with `scaled_rope` exports as the family that computes the same function."""

from __future__ import annotations

import gptzoo
from gptzoo.interop.export import native_export


def test_a_llama_with_it_exports_as_llama() -> None:
    importer = gptzoo.registered("importer")["llama"].Config().build()
    spec = importer.spec(gptzoo.Settings({"num_hidden_layers": 2}))
    spec["positional"]["type"] = "scaled_rope"
    export = native_export(gptzoo.load_model_spec(spec))
    assert (export.family, export.settings["num_hidden_layers"]) == ("llama", 2)
