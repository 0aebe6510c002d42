"""Metadata of a compiled module: everything besides its code and weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tvm

from tvm_balanced.core.imported_model import Range, TensorSpec
from tvm_balanced.core.report import Report
from tvm_balanced.runtime.target_features import target_key


@dataclass(frozen=True)
class ModuleMetadata:
    """Everything about a compiled module besides its code and weights.

    Parameters
    ----------
    inputs, outputs : tuples of TensorSpec
    report : Report
    target : str
        TVM's target as JSON.
    features : tuple of str
        Instruction sets that the code may use, by LLVM's names.
    threads : int
        Threads of a call.
    source : str
        Where the model came from.
    versions : dict
        Package to version, when it was compiled.
    max_error : float or None
        Largest absolute difference to the original model on the example inputs; None if it was not
        run.
    ranges : dict
        Symbol of a dynamic dimension to the smallest and largest size that a call may give it; None
        is no limit.
    structure : str or None
        How the model nests its outputs, as JSON of torch's pytree. None for one tensor, a flat
        tuple, or a structure that torch cannot serialize, such as a namedtuple.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    report: Report
    target: str
    features: tuple[str, ...]
    threads: int
    source: str
    versions: Mapping[str, str]
    max_error: float | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    structure: str | None = None

    @property
    def target_key(self) -> str:
        """Kind, architecture and CPU or GPU, for instance "llvm-x86_64-x86-64-v3"."""
        return target_key(tvm.target.Target(json.loads(self.target)))

    @property
    def on_gpu(self) -> bool:
        """Whether the code runs on a GPU."""
        return bool(json.loads(self.target)["kind"] == "cuda")


@runtime_checkable
class Saveable(Protocol):
    """What an artifact is written from. A CompiledModule has these members."""

    @property
    def executable(self) -> Any:
        """A tvm.relax.VMExecutable, or the library that it was loaded from."""

    @property
    def weights(self) -> Sequence[tuple[str, Any]]:
        """Name and tensor of each parameter."""

    @property
    def facts(self) -> ModuleMetadata:
        """The module's metadata."""

    @property
    def origin(self) -> Path | None:
        """The artifact that it was loaded from."""
