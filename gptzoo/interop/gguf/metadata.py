"""`GgufMetadata`, the settings of a GGUF file, read in such a way that no key is overlooked."""

from __future__ import annotations

from gptzoo.errors import FolderError, Problem, SpecError
from gptzoo.interop.gguf.reader import GgufFile, GgufTensor
from gptzoo.interop.settings import Settings

NO_EFFECT = frozenset({"vocab_size", "rope.scaling.finetuned", "tensor_data_layout", "nextn_predict_layers"})
"""Metadata keys that do not change the logits, or that follow from the tensors."""


class GgufMetadata(Settings):
    """The metadata of the architecture in a GGUF file, by keys without its name, and the shapes of the tensors."""

    def __init__(self, content: GgufFile):
        self.content = content
        self.architecture = read_architecture(content)
        prefix = f"{self.architecture}."
        values = {key.removeprefix(prefix): value for key, value in content.metadata.items() if key.startswith(prefix)}
        super().__init__(values, content.file.name, self.architecture)

    def required_count(self, key: str) -> int:
        """Return a whole number above 0 that has no default. Raises SpecError if it is missing or invalid."""
        if self.value(key) is None:
            self._add_problem(key, "is required")
        count = self.count(key, 1)
        if self._problems:  # at once, because sizes follow from it
            raise SpecError(self._problems)
        return count

    def n_layers(self) -> int:
        """Return the number of layers. Raises SpecError if the file has fewer tensors than layers."""
        n_layers = self.required_count("block_count")
        if n_layers > len(self.content.tensors):
            self._add_problem(
                "block_count", f"is {n_layers}, but the file has only {len(self.content.tensors)} tensors"
            )
            raise SpecError(self._problems)
        return n_layers

    def n_experts(self) -> int:
        """Return the number of experts. Raises SpecError if the first router has another number of rows."""
        n_experts, n_rows = self.required_count("expert_count"), self.rows("blk.0.ffn_gate_inp.weight")
        if n_experts != n_rows:
            self._add_problem("expert_count", f"is {n_experts}, but blk.0.ffn_gate_inp.weight has {n_rows} rows")
            raise SpecError(self._problems)
        return n_experts

    def has(self, tensor: str) -> bool:
        """Return True if the file has a tensor of this name."""
        return tensor in self.content.tensors

    def tensor(self, name: str) -> GgufTensor:
        """Return a tensor. Raises FolderError if the file does not have it."""
        if name not in self.content.tensors:
            raise FolderError(f"{self.content.file}: {name} is missing")
        return self.content.tensors[name]

    def rows(self, name: str) -> int:
        """Return the first dimension of a tensor. Raises FolderError if the file does not have it."""
        return self.tensor(name).shape[0]


def read_architecture(content: GgufFile) -> str:
    """Return the name of the architecture. Raises SpecError if it is missing."""
    name = content.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise SpecError([Problem(content.file.name, "general.architecture", "expected the name of an architecture")])
    return name
