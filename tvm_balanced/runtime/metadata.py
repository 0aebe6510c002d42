"""Metadata of a compiled module: everything besides its code and weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tvm

from tvm_balanced.core.generation import Generation
from tvm_balanced.core.imported_model import ImportedFunction, Range, TensorSpec, donated_places, signature
from tvm_balanced.core.report import Report
from tvm_balanced.core.structure import Call, Tree
from tvm_balanced.runtime.stored_test import StoredTest
from tvm_balanced.runtime.target_features import target_key


@dataclass(frozen=True)
class EntryPointSpec:
    """The inputs and outputs of one entry point.

    Parameters
    ----------
    inputs, outputs : tuples of TensorSpec
    ranges : mapping
        Symbol of a dynamic dimension to the smallest and largest size that a call may give it; None
        is no limit.
    result : dict or None
        How the model nests its outputs, a tree of `core.structure`. None for one tensor, or a flat tuple.
    call : list or None
        What its forward takes, as `core.structure` has it. None where that is not known: then each input is given by itself.
    donate : mapping
        Name of an input to the name of the output that the caller's buffer of that input holds
        after a call.
    weights : tuple of int
        The weights that it takes after its inputs, in order, as indices into
        `CompiledModule.weights`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    result: Tree | None = None
    call: Call | None = None
    donate: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[int, ...] = ()

    @classmethod
    def of(cls, entry: ImportedFunction, weights: tuple[int, ...] = ()) -> "EntryPointSpec":
        """Return what a compiled module keeps of an entry point of an imported model."""
        return cls(
            inputs=tuple(entry.inputs),
            outputs=tuple(entry.outputs),
            ranges=entry.ranges,
            result=entry.result,
            call=entry.call,
            donate=entry.donate,
            weights=weights,
        )

    @cached_property
    def donated_places(self) -> dict[int, int]:
        """Places of the donated inputs, each with that of the output that takes its place."""
        return donated_places(self.inputs, self.outputs, self.donate)

    @property
    def signature(self) -> str:
        """Inputs and outputs in one line."""
        return signature(self.inputs, self.outputs)

    def same_tensors(self, other: "EntryPointSpec") -> bool:
        """Whether it takes, returns and donates the same tensors as `other`."""
        return replace(self, result=None, call=None, weights=()) == replace(other, result=None, call=None, weights=())


@dataclass(frozen=True)
class Check:
    """A comparison with the original model: a name of its inputs, the largest absolute difference, and a note."""

    inputs: str
    error: float
    note: str = ""


@dataclass(frozen=True)
class ModuleMetadata:
    """Everything about a compiled module besides its code and weights.

    Parameters
    ----------
    entry_points : mapping of EntryPointSpec
        By name; calling the module runs the first. A module with one entry point calls it "main".
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
        Largest absolute difference to the original model on any input of `checks`; None if it was
        not run.
    checks : tuple of Check
        The comparisons with the original model that were made when it was compiled.
    generation : Generation or None
        How it generates text, if it is a causal language model.
    """

    entry_points: Mapping[str, EntryPointSpec]
    report: Report
    target: str
    features: tuple[str, ...]
    threads: int
    source: str
    versions: Mapping[str, str]
    max_error: float | None = None
    checks: tuple[Check, ...] = ()
    generation: Generation | None = None

    @property
    def main(self) -> EntryPointSpec:
        """The only entry point, or the first."""
        return next(iter(self.entry_points.values()))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of calling the module."""
        return self.main.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of calling the module."""
        return self.main.outputs

    @property
    def target_key(self) -> str:
        """Kind, architecture and CPU or GPU, for instance "llvm-x86_64-x86-64-v3"."""
        return target_key(tvm.target.Target(json.loads(self.target)))

    @property
    def on_gpu(self) -> bool:
        """Whether the code runs on a GPU."""
        return bool(json.loads(self.target)["kind"] == "cuda")


@dataclass(frozen=True)
class Origin:
    """The artifact that a module was loaded from.

    Parameters
    ----------
    directory : Path
    manifest : mapping
        As it was then; the folder may hold something else by now.
    """

    directory: Path
    manifest: Mapping[str, Any]


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
    def origin(self) -> Origin | None:
        """The artifact that it was loaded from."""

    @property
    def self_tests(self) -> Mapping[str, StoredTest]:
        """What a self-test needs of each entry point; empty for a module that was loaded, whose files are copied."""
