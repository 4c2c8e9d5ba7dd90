"""Parameters that a training step may skip, for which DDP has to look in each step.

DDP averages the gradients in buckets and waits until every parameter of a bucket has its gradient. A parameter that the
loss does not depend on gets none. With `find_unused_parameters`, DDP walks the autograd graph of each step to find such
parameters, and torch prints a warning if the first step has none. So it is on only for models with a part that declares
`may_skip_parameters`.
"""

from __future__ import annotations

import re

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gptzoo.components.part import Part
from gptzoo.errors import PluginError

_INDICES = re.compile(r"did not receive grad for rank \d+:((?: \d+)+)")  # in torch's message
_MAX_NAMES = 6


def may_skip_parameters(model: nn.Module) -> bool:
    """Return True if a part of the model declares that it may skip parameters in a training step."""
    return any(isinstance(module, Part) and module.may_skip_parameters for module in model.modules())


def check_all_reduced(ddp: DistributedDataParallel) -> None:
    """Raise PluginError if the last backward pass left gradients that DDP has not averaged over the ranks.

    Without this check, DDP would report them in the next forward pass, after an optimizer step with these gradients.
    """
    try:
        ddp._check_reducer_finalized()
    except RuntimeError as error:
        found = _INDICES.search(str(error))
        if found is None:
            raise
        trained = [name for name, parameter in ddp.module.named_parameters() if parameter.requires_grad]
        names = [trained[int(index)] for index in found[1].split()]
        owner = _owner(ddp.module, names[0])
        listed = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        raise PluginError(
            f"the loss of this step does not depend on {listed}, so their gradients cannot be averaged over the "
            f"processes. {owner.kind} {owner.name!r} may skip parameters and must declare it: set "
            "may_skip_parameters = True in the class"
        ) from None


def _owner(model: nn.Module, name: str) -> Part:
    """Return the innermost part that has a parameter."""
    module, owner = model, model
    for attribute in name.split(".")[:-1]:
        module = getattr(module, attribute)
        owner = module if isinstance(module, Part) else owner
    assert isinstance(owner, Part)  # the architecture is one
    return owner
