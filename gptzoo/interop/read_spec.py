"""The spec that an importer reads from the settings of a checkpoint."""

from __future__ import annotations

from gptzoo.errors import Problem, SpecError
from gptzoo.interop.importer import Importer
from gptzoo.interop.settings import Settings
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec

IMPORTERS_ARE_PLUGINS = (
    "Importers are plugins: the package gptzoo-families has more, and docs/importing.md shows how to write one"
)


def read_spec(importer: Importer, settings: Settings, *, name: str, file: str) -> ModelSpec:
    """Return the spec that `settings` describe, with a name.

    Raises SpecError with every setting that a spec cannot express, or what is wrong with the spec of `file`.
    """
    spec = importer.spec(settings)
    settings.require_all_read(importer.no_effect)
    try:
        return load_model_spec({"name": name, **spec})
    except SpecError as error:
        source = f"{file}, translated to a gptzoo spec"
        raise SpecError(Problem(source, problem.path, problem.reason) for problem in error.problems) from None
