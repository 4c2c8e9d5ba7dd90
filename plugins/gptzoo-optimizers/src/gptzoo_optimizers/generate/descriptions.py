"""Descriptions of options: from the library's docstrings, or from a glossary where those say nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

_MIN_WORDS = 4  # fewer do not explain an option that is read alone
_MAX_SENTENCES = 2
_WHETHER_TO = re.compile(r"^Whether to ")
_FRAGMENT = re.compile(r"(the )?(whether|what|how|of|which|where|if)\b", re.IGNORECASE)
_ENTRY = re.compile(r"^\s*(\w+)(?: \(.*?\))?:\s*(.*)$")
_REMARKS = re.compile(r"\s*\((?:default|optional)[^()]*(?:\([^()]*\))?[^()]*\)|`")

GLOSSARY: Mapping[str, str] = {
    "adam": "Update with Adam, not with the momentum of the gradient.",
    "amsgrad": "Divide by the largest second moment so far (AMSGrad).",
    "correct_bias": "Correct the bias of running means towards their initial value of zero.",
    "grokfast": "Amplify the slow components of the gradient (Grokfast).",
    "optimize_1d": "Update vectors with MARS as well, not with AdamW.",
    "preconditioning_compute_steps": "Number of steps between two computations of the preconditioner.",
    "ps": "Strength of the prior on the variance of the gradient.",
    "relative_step": "Compute the learning rate from the step, in place of that of the schedule.",
    "scale_parameter": "Scale the learning rate by the root mean square of the weights.",
    "silent_sgd_phase": "Skip the updates of RAdam's first steps, in which its variance is unknown.",
    "trust_coefficient": "Ratio of the norms of update and weights, for each layer.",
    "update_scale": "Scaling of the normalised update: its former norm, or the size of AdamW's updates.",
    "alpha": "Weight of the slow running mean of the gradient in the update.",
    "alpha_warmup": "Steps over which the weight of the slow running mean rises to `alpha`. Null: none.",
    "ams_bound": "Divide by the largest second moment so far (AMSGrad).",
    "beta": "Decay rate of the running mean of the gradient.",
    "beta2": "Decay rate of the running mean of the squared gradient.",
    "beta2_scale": "Exponent of the PaLM schedule of the second decay rate, 1 - step^-beta2_scale.",
    "beta3_warmup": "Steps over which the slowest decay rate rises to its value. Null: none.",
    "betas": "Decay rates of the running means of the gradient and of its square.",
    "bias_correction": "Correct the bias of running means towards their initial value of zero.",
    "cached": "Keep the product of the preconditioner's factors, which saves time and takes memory.",
    "caution": "Drop the elements of an update whose sign differs from that of the gradient.",
    "cautious_weight_decay": "Decay only the weights whose update has the same sign as the weight.",
    "centered": "Subtract the squared mean of the gradient from its second moment.",
    "d0": "Initial estimate of the distance to the solution.",
    "dampening": "Constant added to the preconditioner, for numerical stability.",
    "decay_at_z": "Compute the weight decay at the point z of the schedule-free iteration, not at y.",
    "decay_rate": "Exponent of the decay rate of the second moment, which is 1 - step^decay_rate.",
    "decoupled_weight_decay": "Apply weight decay to the weights, not to the gradient.",
    "delayed": "Apply the preconditioner of the step before, so that fitting it does not delay the update.",
    "delta": "Threshold of the cosine similarity of weights and gradient for projecting the update.",
    "density": "Fraction of the elements of the state that is kept.",
    "eps": "Constant added to the denominator, for numerical stability.",
    "eps1": "Constant added to the squared gradient, for numerical stability.",
    "eps2": "Lower bound of the weights' root mean square in scaling the step.",
    "exp_avg_input": "Give the preconditioner the running mean of the gradient, not the gradient.",
    "gamma": "Factor of the bounds of the step size or of the correction, as in the paper.",
    "growth_rate": "Largest factor by which the estimated distance grows in one step.",
    "heavyball_momentum": "Use heavy-ball momentum, not a running mean.",
    "init_factor": "Factor of the identity from which the preconditioner starts.",
    "lower_bound_beta": "Decay rate of the lower bound of the preconditioner's norm.",
    "mars": "Reduce the variance of the gradient by the gradient of the step before (MARS).",
    "mars_gamma": "Strength of the variance reduction of MARS.",
    "matrix_eps": "Constant added to the preconditioning matrices, for numerical stability.",
    "max_lr": "Highest learning rate, by which the weight decay is scaled. Null: the initial one.",
    "max_precond_dim": "Largest dimension that gets a preconditioning matrix.",
    "max_size_triangular": "Largest dimension that gets a full factor of the preconditioner; larger ones a diagonal.",
    "memory_save_mode": "Dimensions whose factor of the preconditioner is diagonal, to save memory. Null: none.",
    "merge_dims": "Merge small dimensions of a tensor before preconditioning.",
    "min_ndim_triangular": "Least number of dimensions of a tensor that gets full factors of the preconditioner.",
    "momentum": "Momentum: decay rate of the running mean of the gradient.",
    "momentum_decay": "Rate at which the momentum schedule of NAdam rises.",
    "momentum_into_precond_update": "Fit the preconditioner to the running mean of the gradient.",
    "n_sma_threshold": "Length of the running mean above which the step is rectified, as in RAdam.",
    "nesterov": "Use Nesterov momentum.",
    "ns_steps": "Number of Newton-Schulz iterations. Each brings the update closer to an orthogonal matrix.",
    "palm": "Let the second decay rate grow with the step, as PaLM does.",
    "precond_grad_accum": "Fit the preconditioner to the mean gradient since its last update.",
    "precond_init_scale": "Scale of the initial preconditioner. Null: computed from the first gradient.",
    "precond_init_scale_power": "Exponent of the scale that is computed from the first gradient. Null: the default.",
    "precond_init_scale_scale": "Factor of the scale that is computed from the first gradient.",
    "precond_lr": "Learning rate of the preconditioner.",
    "precond_scheduler": "Exponent and factor of the schedule by which the preconditioner is updated less often.",
    "precond_update_power_iterations": "Number of power iterations for the norm of the preconditioner's update.",
    "precondition_1d": "Precondition vectors as well as matrices.",
    "precondition_frequency": "Number of steps between two updates of the preconditioner.",
    "q_dtype": "Data type of the preconditioner.",
    "r": "Power of the step by which it is weighted in the average of the weights.",
    "rank": "Rank of the approximation. Null: chosen by the number of parameters.",
    "sam_step_size": "Length of the step to the point where the gradient is computed.",
    "scale": "Factor of the update.",
    "shampoo_beta": "Decay rate of the preconditioning matrices. Null: the second of `betas`.",
    "split": "Split tensors with a long dimension before preconditioning.",
    "store_triu_as_line": "Store triangular factors without their zeros.",
    "use_precond_schedule": "Update the preconditioner less and less often, by `precond_scheduler`.",
    "warmup_steps": "Steps over which the optimizer raises its learning rate, in addition to the schedule's warmup.",
    "weight_decay_at_y": "Weight decay at the point y of the schedule-free iteration.",
    "weight_decouple": "Apply weight decay to the weights, as AdamW does, not to the gradient.",
    "weight_lr_power": "Power of the learning rate by which a step is weighted in the average of the weights.",
}


def describe_option(cls: type, option: str) -> str:
    """Return the description of an option as one or more sentences."""
    documented = _WHETHER_TO.sub("", _documented(cls).get(option, ""))
    is_clear = len(documented.split()) >= _MIN_WORDS and not _FRAGMENT.match(documented)
    text = documented if is_clear else GLOSSARY.get(option, documented)
    if not text:
        raise LookupError(f"{cls.__name__}: the option {option} has no description: add it to the glossary")
    sentences = re.split(r"(?<=[a-z)])\. ", text)[:_MAX_SENTENCES]
    text = ". ".join(sentences)
    return text[0].upper() + text[1:].rstrip(".") + "."


def _documented(cls: type) -> dict[str, str]:
    """Return the descriptions of arguments in a docstring in the style of Google, as one line each."""
    found: dict[str, str] = {}
    in_arguments, name, indent = False, "", 0
    for line in inspect.cleandoc(cls.__doc__ or "").splitlines():
        depth = len(line) - len(line.lstrip())
        if not depth:
            in_arguments, name = line.strip() in ("Args:", "Arguments:"), ""
        elif in_arguments and (match := _ENTRY.match(line)) and (not name or depth <= indent):
            name, indent = match[1], depth
            found[name] = match[2].strip()
        elif in_arguments and name:
            found[name] += f" {line.strip()}"
    return {name: _REMARKS.sub("", text).strip() for name, text in found.items()}
