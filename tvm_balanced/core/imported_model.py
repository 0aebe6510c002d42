"""What a way in hands to the compiler, whatever framework the model came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm_balanced.core.encoding import Array

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


@dataclass
class ImportedModel:
    """A Relax module with plain dense weights, and where they came from.

    Parameters
    ----------
    mod : tvm.IRModule
        One function `main`; weights are constants. They may share memory with the framework's tensors.
    inputs, outputs : list of TensorSpec
    weight_names : dict
        Address of a weight's first byte to the name it has in the model.
    reference : callable
        Runs the original model: a list of input arrays to a list of output arrays.
    examples : list of arrays
        Inputs to check and time with.
    source : str
        Where the model came from, for the manifest.
    ranges : dict
        Symbol of a dimension to the sizes that it may have.
    structure : str or None
        How the model nests its outputs, as `compiled_module.ModuleMetadata` has it.
    keep_alive : list
        Objects whose memory the constants share.
    """

    mod: Any
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    weight_names: dict[int, str]
    reference: Callable[[Sequence[Array]], list[Array]]
    examples: list[Array]
    source: str
    ranges: dict[str, Range] = field(default_factory=dict)
    structure: str | None = None
    keep_alive: list[Any] = field(default_factory=list)
