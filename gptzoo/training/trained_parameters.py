"""The parameters that a run trains, by the patterns of `train_only` and `freeze`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from gptzoo.errors import InputError
from gptzoo.utils.name_patterns import describe_names, matching, matching_across_dots

_MAX_NAMES = 6  # parameters named in a message


def freeze_parameters(model: nn.Module, freeze: Sequence[str], train_only: Sequence[str] = ()) -> list[str]:
    """Freeze the parameters that match `freeze`, and those that do not match `train_only` unless it is empty.

    Returns the names of the parameters to train. Raises InputError for a pattern that matches nothing, and if no
    parameter is left to train.
    """
    parameters = dict(model.named_parameters())
    trained = _matched(parameters, "train_only", train_only, matching) if train_only else set(parameters)
    trained -= _matched(parameters, "freeze", freeze, matching_across_dots)
    if not trained:
        raise InputError("$.freeze: every parameter is frozen. Leave at least one to train")
    for name in parameters.keys() - trained:
        parameters[name].requires_grad_(False)
    return [name for name in parameters if name in trained]


def describe_trained(model: nn.Module) -> list[str]:
    """Return a note with the number and names of the parameters that are trained, if others are frozen."""
    parameters = dict(model.named_parameters())
    trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    if len(trained) == len(parameters):
        return []
    n_trained, n_all = (sum(p.numel() for p in group.values()) for group in (trained, parameters))
    return [f"training {n_trained:,} of {n_all:,} parameters, the others are frozen: {describe_names(trained)}"]


def _matched(
    names: Iterable[str], field: str, patterns: Sequence[str], find: Callable[[Iterable[str], str], list[str]]
) -> set[str]:
    matched: set[str] = set()
    for index, pattern in enumerate(patterns):
        if not (found := find(names, pattern)):
            known = [name for name in names if not name.startswith("blocks.") or name.startswith("blocks.0.")]
            more = ", …" if len(known) > _MAX_NAMES else ""
            raise InputError(
                f"$.{field}[{index}]: {pattern!r} matches no parameter. Parameters: "
                f"{', '.join(known[:_MAX_NAMES])}{more}"
            )
        matched.update(found)
    return matched
