"""TVM's importer, held to what torch says of every node."""

from collections.abc import Callable, Collection
from typing import Any

import torch
import tvm
from torch import fx
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tvm_balanced.errors import ModelError, last_line
from tvm_balanced.frontend import torch_operators
from tvm_balanced.frontend.converters import converters
from tvm_balanced.frontend.refusals import EIGHT_BITS
from tvm_balanced.runtime.tensors import shared

# Drawn once, at import, or left out by TVM's importer.
RANDOM = {"randn.default", "randn_like.default", "exponential.default", "bernoulli.p"}
KINDS = ("int", "uint"), ("float", "bfloat")
# How many elements these return, their inputs' values decide.
SIZED_BY_VALUES = {
    "nonzero.default",
    "_unique2.default",
    "unique_dim.default",
    "unique_consecutive.default",
    "masked_select.default",
}
# Where operators of quantised models are, as PyTorch and torchao make them, and what multiplies their weights.
QUANTISED = {"quantized_decomposed", "quantized", "torchao"}
PRODUCTS_OF_BYTES = {"_int_mm.default", "_weight_int8pack_mm.default", "_weight_int4pack_mm.default"}


class Importer(ExportedProgramImporter):
    """Converts a program node by node, and refuses one whose dtype or shape comes out other than torch has it.

    A refusal is a ModelError that names the operator, the layer that it is in, and what to do.
    """

    # names of the nodes that are parameters, buffers or constants: variables while a program is imported, constants afterwards
    constants: Collection[str] = ()
    block_builder: Any  # TVM's, which names variables of Relax

    def create_convert_map(self) -> dict[str, Callable[..., relax.Expr]]:
        """Return TVM's converters and ours by the name of their operator, each of them checked."""
        tvms = {name: self._checked(convert) for name, convert in super().create_convert_map().items()}
        return tvms | {name: self._checked(convert, self) for name, convert in converters().items()}

    @staticmethod
    def _convert_pytorch_tensor_to_tvm(tensor_value: torch.Tensor) -> Any:
        """Return a weight as a constant that shares its memory: TVM itself copies one that is not aligned."""
        return shared(tensor_value.detach())

    def _checked(self, convert: Callable[..., relax.Expr], *args: Any) -> Callable[[fx.Node], relax.Expr]:
        def run(node: fx.Node) -> relax.Expr:
            if name_of(node) in RANDOM:
                raise refusal(
                    node, "draws random numbers, which a compiled module cannot: draw them outside and give them as an input"
                )
            try:
                return self._left_to_torch(node, lambda: self._as_torch_has_it(node, convert(node, *args)))
            except ModelError:
                raise
            except Exception as error:  # bare AssertionError, KeyError and TypeError, and what Relax finds wrong
                said = last_line(error)
                if isinstance(error, NotImplementedError) and ";" in said:  # by a converter of ours, with the way that works
                    raise refusal(node, f"cannot be imported: {said}") from error
                raise refusal(node, f"cannot be imported ({said}): write it in other operators") from error

        return run

    def _left_to_torch(self, node: fx.Node, convert: Callable[[], Any]) -> Any:
        """Return what a node becomes, a call of PyTorch where it is left to it; variables have its name where somebody asks."""
        names = torch_operators.left()
        if names is None:
            return convert()
        plain: Any = self.block_builder
        self.block_builder = torch_operators.Naming(plain, node.name)
        try:
            compiled = convert()
            return torch_operators.convert(node, self, compiled) if node.name in names else compiled
        finally:
            self.block_builder = plain

    def _as_torch_has_it(self, node: fx.Node, converted: Any) -> Any:
        """Return what a node became: cast where it only has more or fewer bits than torch says, refused where it differs."""
        value, got = node.meta.get("val"), getattr(converted, "ty", None)
        if not (isinstance(value, torch.Tensor) and isinstance(got, relax.TensorType)):
            return converted
        if not _same_shape(value, got):
            shapes = f"with the shape {got.shape}, and torch has {list(value.shape)}"
            raise refusal(node, f"comes out of TVM's importer {shapes}: write it in other operators")
        have, want = str(got.dtype.dtype), str(value.dtype).removeprefix("torch.")
        if have == want:
            return converted
        if not any(have.startswith(kind) and want.startswith(kind) for kind in KINDS):
            raise refusal(node, f"comes out of TVM's importer as {have}, and torch has {want}: convert its operands yourself")
        return self.block_builder.emit(relax.op.astype(converted, want))

    def from_exported_program(self, exported_program: Any, *args: Any, **kwargs: Any) -> tvm.IRModule:
        """Convert a program; an operator that is unknown is named before anything else that is wrong with it.

        Branches of torch.cond are graphs of their own, which TVM converts without a look at their operators first.
        """
        for module in exported_program.graph_module.modules():
            if isinstance(module, fx.GraphModule):
                self._check_unsupported_func_type(list(module.graph.nodes))
        signature = exported_program.graph_signature
        lifted = signature.inputs_to_parameters, signature.inputs_to_buffers, signature.inputs_to_lifted_tensor_constants
        self.constants = {name for names in lifted for name in names}
        return super().from_exported_program(exported_program, *args, **kwargs)

    def _check_unsupported_func_type(self, nodes: list[fx.Node]) -> None:
        for node in nodes:
            if node.op != "call_function":
                continue
            if name_of(node) in SIZED_BY_VALUES:
                why = (
                    "returns as many elements as the values say, which no compiled code can: keep all, and choose by torch.where"
                )
                raise refusal(node, why)
            if getattr(node.target, "namespace", "") in QUANTISED or name_of(node) in PRODUCTS_OF_BYTES:
                raise refusal(node, f"is that of a quantised model; {EIGHT_BITS}")
            if name_of(node) not in self.convert_map:
                raise refusal(node, "cannot be imported (TVM's importer does not know it): write it in other operators")


def refusal(node: fx.Node, why: str) -> ModelError:
    """Return the error that says why a node cannot be imported, with its operator and its layer."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    layer = stack[-1][0] if stack else ""
    return ModelError(f"the operator {node.target} {f'in layer {layer!r}' if layer else 'in the model itself'} {why}")


def name_of(node: fx.Node) -> str:
    """Return the name that converters are kept under: "add.Tensor"."""
    return str(node.target.__name__)  # type: ignore[union-attr]


def _same_shape(value: torch.Tensor, got: relax.TensorType) -> bool:
    if got.ndim == -1 or got.shape is None:
        return got.ndim in (-1, value.ndim)
    pairs = zip(value.shape, got.shape, strict=False)
    return len(got.shape) == value.ndim and all(
        int(have) == want for want, have in pairs if isinstance(want, int) and isinstance(have, tvm.tirx.IntImm)
    )
