"""The command line of lm-evaluation-harness, run on a model of gptzoo."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import GptzooError, InputError

MODEL_NAME = "gptzoo"  # in the results of the harness
_log = logging.getLogger(__name__)


def require_lm_eval(purpose: str = "gptzoo lm-eval") -> None:
    """Raise InputError, which names the purpose, unless the package `lm_eval` is installed."""
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise InputError(f"{purpose} needs the package {error.name}: pip install 'gptzoo[lm-eval]'") from None


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise InputError for options of the harness that choose a model."""
    for argument in arguments:
        name = argument.partition("=")[0]
        if name == "--model" or argument == "-M":
            raise InputError(f"{argument}: the model is RUN. Leave the option out, or call lm_eval for another model.")


def run_harness(loaded: LoadedModel, arguments: Sequence[str]) -> None:
    """Run `lm_eval run` with these arguments on a loaded model. Raises InputError for an error of the harness."""
    from lm_eval.__main__ import cli_evaluate

    from gptzoo.harness.adapter import register_loaded

    register_loaded(MODEL_NAME, loaded)
    given = {argument.partition("=")[0] for argument in arguments}
    # The harness reads one row at a time unless it is told otherwise.
    batch = [] if given & {"--batch_size", "-b"} else ["--batch_size", "auto"]
    folder = json.dumps({"pretrained": str(loaded.folder)})
    program = ["lm-eval", "run", "--model", MODEL_NAME, "--model_args", folder, *batch, *arguments]
    before, sys.argv = sys.argv, program  # the harness reads its command line from there
    try:
        cli_evaluate()
    except (GptzooError, MemoryError):
        raise
    except Exception as error:
        if os.environ.get("LMEVAL_LOG_LEVEL", "").upper() == "DEBUG":
            _log.exception("lm_eval failed")
        text = str(error).strip() or "no message"
        raise InputError(
            f"lm_eval: {type(error).__name__}: {text}\nSet LMEVAL_LOG_LEVEL=DEBUG for the traceback."
        ) from error
    finally:
        sys.argv = before
