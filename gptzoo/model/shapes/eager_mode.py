"""The base of contexts that see every operation, without an import of torch's compiler."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class EagerMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A `TorchDispatchMode` that does not hide itself from torch's compiler: to do so, torch would import it.

    The import takes as long as that of torch. Without the compiler, nothing has to be hidden from it.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
