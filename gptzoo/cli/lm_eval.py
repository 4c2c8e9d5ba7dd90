"""`gptzoo lm-eval`: run lm-evaluation-harness on a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.inputs import read_model
from gptzoo.cli.options import dtype_option, model_options, plugin_option

if TYPE_CHECKING:
    from gptzoo.sampling.inference_weights import WeightFormat


@click.command(
    "lm-eval",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS OF GPTZOO AND OF LM_EVAL]",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="--tasks TASK...", nargs=-1, type=click.UNPROCESSED)
@dtype_option
@model_options
@plugin_option
def lm_eval(
    run: Path,
    arguments: tuple[str, ...],
    checkpoint: str,
    averaged: bool,
    device: str,
    dtype: WeightFormat,
) -> None:
    """Measure the model in RUN on tasks of lm-evaluation-harness.

    All options of `lm_eval run` are passed on, such as --tasks, --num_fewshot, --limit, --batch_size, --include_path,
    --gen_kwargs, --output_path and --log_samples. The scores are those of the harness's own adapter for transformers on
    the same weights. --model_args takes max_length, max_gen_toks, add_bos_token and prefix_token_id. Needs
    gptzoo[lm-eval].
    """
    from gptzoo.harness.command import check_arguments, require_lm_eval, run_harness

    if str(run).startswith("-"):
        raise click.UsageError("give RUN before the options of lm_eval")
    require_lm_eval()
    check_arguments(arguments)
    # The default keeps the modules of the spec, whose float32 results are those of training.
    loaded = read_model(
        run, checkpoint=checkpoint, averaged=averaged, device=device, dtype=None if dtype == "fp32" else dtype
    )
    run_harness(loaded, arguments)
