"""What a way in hands to the compiler, whatever framework the model came from."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from tvm_balanced.core.accounting import WeightOrigins
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.generation import Generation
from tvm_balanced.core.structure import Call, Tree
from tvm_balanced.core.tolerance import Growth
from tvm_balanced.core.torch_operator import LeftToTorch, TorchOperator
from tvm_balanced.errors import InputError

Range = tuple[int, int | None]  # smallest and largest size of a dimension; None is no limit


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and dtype of one input or output.

    A dimension that is not known until the call is a string, its symbol; equal symbols are equal sizes.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(d) for d in self.shape)}]"


def signature(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Return inputs and outputs in one line."""
    return " -> ".join(", ".join(map(str, specs)) for specs in (inputs, outputs))


@dataclass(frozen=True)
class Eager:
    """The original model as its framework runs it, and arguments of a call, to time it.

    Parameters
    ----------
    call : callable
    args, kwargs
        The examples; the model may write to them.
    running : callable
        From a number of threads to a context in which calls use them.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    running: Callable[[int], AbstractContextManager[None]]


@dataclass
class ImportedFunction:
    """One entry point of an imported model.

    Parameters
    ----------
    inputs, outputs : list of TensorSpec
    reference : callable
        Runs the original model: a list of input arrays to a list of output arrays.
    examples : list of arrays
        Inputs to check and time with.
    ranges : dict
        Symbol of a dimension to the sizes that it may have.
    result : dict or None
        How the model nests its outputs, as `metadata.EntryPointSpec` has it.
    call : list or None
        What its forward takes, as there.
    donate : dict
        Name of an input to the name of the output that takes its place, see `check_donation`.
    id_ranges : dict
        Name of an input that holds ids of a table to the smallest and the largest id.
    ranks : bool
        Whether some outputs follow from the order of values, which ties decide.
    growths : list of Growth
        How the roundings of each output grow; empty if that is not known.
    noisy : callable or None
        Runs the original model with roundings drawn anew: (list of input arrays, seed) to a list of output arrays. None if the
        framework cannot.
    original : callable or None
        Runs the model as its user calls it on the examples, to a list of output arrays, where `reference` is a program that was
        traced from it: tracing may take another way. None where there is nothing but the program.
    eager : Eager or None
        What the compiled function is raced with; None where the framework is not the one that runs the model.
    operators : callable or None
        From a number of threads to the operators that may be left to PyTorch, with what each takes there; None where it is not
        PyTorch that runs the model.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    reference: Callable[[Sequence[Array]], list[Array]]
    examples: list[Array]
    ranges: dict[str, Range] = field(default_factory=dict)
    result: Tree | None = None
    call: Call | None = None
    donate: dict[str, str] = field(default_factory=dict)
    id_ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    ranks: bool = False
    growths: list[Growth] = field(default_factory=list)
    noisy: Callable[[Sequence[Array], int], list[Array]] | None = None
    original: Callable[[], list[Array]] | None = None
    eager: Eager | None = None
    operators: Callable[[int], Sequence[TorchOperator]] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Symbol of a dimension to its size in the examples."""
        return {
            dim: int(size)
            for spec, example in zip(self.inputs, self.examples, strict=False)
            for dim, size in zip(spec.shape, example.shape, strict=False)
            if isinstance(dim, str)
        }

    @property
    def donated_places(self) -> dict[int, int]:
        """Places of the donated inputs, each with that of the output that takes its place."""
        return donated_places(self.inputs, self.outputs, self.donate)


@dataclass
class ImportedModel:
    """A Relax module with plain dense weights, and where they came from.

    Parameters
    ----------
    mod : tvm.IRModule
        One public function for each entry point, named as it; weights are constants. They may share memory with the framework's
        tensors, and functions share theirs.
    entry_points : dict of ImportedFunction
        By name, in the caller's order; a model of one has "main".
    weight_names : dict
        Address of a weight's first byte to the name it has in the model.
    source : str
        Where the model came from, for the manifest.
    keep_alive : list
        Objects whose memory the constants share.
    recognised : list of str
        What the way in understood the model to be, and what it did for that, a phrase each.
    generation : Generation or None
        How it generates text, if it is a causal language model with entry points prefill and decode.
    experts : dict
        Address of an expert's weight to how many experts share the rows of x among them. Each computes all rows, and the model
        asks for each row once.
    origins : WeightOrigins
        What folded weights are made of, and which weights nothing reads.
    left : list of LeftToTorch
        What is left to PyTorch at run time.
    """

    mod: Any
    entry_points: dict[str, ImportedFunction]
    weight_names: dict[int, str]
    source: str
    keep_alive: list[Any] = field(default_factory=list)
    recognised: list[str] = field(default_factory=list)
    generation: Generation | None = None
    experts: dict[int, int] = field(default_factory=dict)
    origins: WeightOrigins = field(default_factory=WeightOrigins)
    left: list[LeftToTorch] = field(default_factory=list)

    @property
    def main(self) -> ImportedFunction:
        """The only entry point, or the first."""
        return next(iter(self.entry_points.values()))

    @property
    def ranges(self) -> dict[str, Range]:
        """Symbol of a dimension to the sizes that it may have, of all entry points: none has another's symbols."""
        return {symbol: sizes for entry in self.entry_points.values() for symbol, sizes in entry.ranges.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Symbol of a dimension to its size in the examples, of all entry points."""
        return {symbol: size for entry in self.entry_points.values() for symbol, size in entry.sizes.items()}


def donated_places(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], donate: Mapping[str, str]) -> dict[int, int]:
    """Return the places of donated inputs, each with that of the output that takes its place."""
    sources, results = ([spec.name for spec in specs] for specs in (inputs, outputs))
    return {sources.index(name): results.index(result) for name, result in donate.items()}


def check_donation(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], donate: Mapping[str, str]) -> None:
    """Raise InputError unless each donated input has an output of its own, of the same shape and dtype."""
    sources, results = ({spec.name: spec for spec in specs} for specs in (inputs, outputs))
    for name, result in donate.items():
        if name not in sources or result not in results:
            kind, unknown, known = ("output", result, results) if name in sources else ("input", name, sources)
            raise InputError(f'donate names {kind} "{unknown}"; the model has {", ".join(map(str, known.values()))}')
        source, output = sources[name], results[result]
        if (source.shape, source.dtype) != (output.shape, output.dtype):
            raise InputError(f"input {source} cannot hold output {output}; donate inputs of the output's shape and dtype")
    if len(set(donate.values())) < len(donate):
        raise InputError(f"donate gives one output to several inputs: {dict(donate)}; give each input an output of its own")
