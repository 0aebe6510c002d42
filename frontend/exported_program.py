"""From a torch.export.ExportedProgram to an ImportedModel."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedModel, Range, TensorSpec
from tvm_balanced.core.stderr_filter import quiet_torch, quiet_tvm
from tvm_balanced.errors import ModelError, last_line
from tvm_balanced.frontend.decompositions import decompositions
from tvm_balanced.frontend.importer import Importer
from tvm_balanced.frontend.type_promotion import promote_types

ALIGNMENT = 64  # bytes, what TVM asks of a tensor whose memory it shares


@quiet_tvm()
def import_exported_program(program: ExportedProgram, source: str, keep_alive: Sequence[Any] = ()) -> ImportedModel:
    """Import an exported program; its weights stay where they are and are shared, not copied.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        With tensors as inputs and outputs.
    source : str
        Where it came from, for the manifest.
    keep_alive : sequence
        Owners of memory that the weights share.

    Raises
    ------
    ModelError
        Where an input is not a tensor, or TVM's importer does not know an operator.
    """
    inputs, outputs = _inputs(program), _outputs(program)
    examples = _examples(program, inputs)
    with quiet_torch():
        lowered = program.run_decompositions(decompositions())
    _refuse_state(lowered)
    _align(lowered)
    promote_types(lowered)
    try:
        mod = Importer().from_exported_program(
            lowered,
            keep_params_as_input=False,
            unwrap_unit_return_tuple=True,
            no_bind_return_tuple=False,
            custom_convert_map=None,
        )
    except ModelError:
        raise
    except Exception as error:  # the importer raises bare AssertionError, KeyError and TypeError
        raise ModelError(f"{source} cannot be imported: {last_line(error)}; rewrite that operator, or report it") from error
    # TVM would plan memory for the largest size that the export allowed.
    mod["main"] = mod["main"].without_attr("tir_var_upper_bound")
    return ImportedModel(
        mod=mod,
        inputs=inputs,
        outputs=outputs,
        weight_names=_weight_names(lowered),
        reference=_reference(program),
        examples=examples,
        source=source,
        ranges=_ranges(program),
        structure=_structure(program),
        keep_alive=[program, lowered, *keep_alive],
    )


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a tensor's value as an array of the same dtype, sharing memory where it can."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return bits
    array: Array = tensor.numpy()
    return array


def to_torch(array: Array) -> torch.Tensor:
    """Return an array as a tensor of the same dtype, sharing memory where it can."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _refuse_state(program: ExportedProgram) -> None:
    """Raise ModelError where a decomposed program writes to a buffer: a compiled module would forget it."""
    for name in program.graph_signature.buffers_to_mutate.values():
        raise ModelError(
            f'the model changes its buffer "{name}" while it runs; a compiled module keeps no state: return it instead'
        )


def _align(program: ExportedProgram) -> None:
    """Replace weights that are not 64-byte aligned by copies that are, tied ones by one copy.

    TVM shares the memory of aligned tensors and copies others by itself, once a name: names and ties would be lost.
    """
    moved: dict[tuple[Any, ...], torch.Tensor] = {}
    for name, tensor in program.state_dict.items():
        if tensor.data_ptr() % ALIGNMENT or not tensor.is_contiguous():
            key = (tensor.data_ptr(), tensor.shape, tensor.stride())
            if key not in moved:
                moved[key] = tensor.detach().clone(memory_format=torch.contiguous_format)
            program.state_dict[name] = (
                nn.Parameter(moved[key], requires_grad=False) if isinstance(tensor, nn.Parameter) else moved[key]
            )


def _inputs(program: ExportedProgram) -> list[TensorSpec]:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for spec in program.graph_signature.input_specs:
        if spec.kind != InputKind.USER_INPUT:
            continue
        name = getattr(spec.arg, "name", "?")
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise ModelError(f'input "{name}" is {type(value).__name__}; every input must be a tensor: fix it inside the module')
        specs.append(TensorSpec(name, _shape(value), _dtype(value)))
    return specs


def _outputs(program: ExportedProgram) -> list[TensorSpec]:
    node = next(node for node in program.graph.nodes if node.op == "output")
    leaves = pytree.tree_leaves(node.args[0], is_leaf=lambda leaf: leaf is None)
    values = [leaf.meta.get("val") if hasattr(leaf, "meta") else leaf for leaf in leaves]
    wrong = next((v for v in values if not isinstance(v, torch.Tensor)), values)
    if wrong is not values:
        raise ModelError(f"the model returns {type(wrong).__name__}; every output must be a tensor: drop it, or make it one")
    names = _output_names(program)
    return [TensorSpec(name, _shape(v), _dtype(v)) for name, v in zip(names, values, strict=True)]


def _output_names(program: ExportedProgram) -> list[str]:
    """Name each output by where it is in what the model returns: "logits", "hidden_states_2", "output_0"."""
    spec = program.call_spec.out_spec
    paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(range(spec.num_leaves), spec))
    keys = [[getattr(key, "key", getattr(key, "name", getattr(key, "idx", "?"))) for key in path] for path, _ in paths]
    names = [re.sub(r"\W", "_", "_".join(map(str, key))) or "0" for key in keys]
    names = [f"output_{name}" if name[0].isdigit() else name for name in names]
    return names if len(set(names)) == len(names) else [f"output_{i}" for i in range(len(names))]


def _structure(program: ExportedProgram) -> str | None:
    spec = program.call_spec.out_spec
    leaves = tuple(range(spec.num_leaves))
    if spec == pytree.tree_structure(leaves if len(leaves) > 1 else 0):
        return None
    try:
        written: str = pytree.treespec_dumps(spec)
    except NotImplementedError:  # a namedtuple, or a class registered without a name
        return None
    return written


def _ranges(program: ExportedProgram) -> dict[str, Range]:
    # A smallest size of 2 is torch's own: it compiles for 2 and more, and its programs take 0 and 1 all the same.
    sizes = {str(symbol): (r.lower, r.upper) for symbol, r in program.range_constraints.items()}
    limits = {
        symbol: (int(low) if low.is_Integer and low > 2 else 0, int(high) if high.is_Integer else None)
        for symbol, (low, high) in sizes.items()
    }
    return {symbol: limit for symbol, limit in limits.items() if limit != (0, None)}


def _shape(value: torch.Tensor) -> tuple[int | str, ...]:
    return tuple(int(d) if isinstance(d, int) or str(d).isdigit() else str(d) for d in value.shape)


def _dtype(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _examples(program: ExportedProgram, inputs: Sequence[TensorSpec]) -> list[Array]:
    if program.example_inputs is not None:
        return [to_numpy(leaf) for leaf in pytree.tree_leaves(program.example_inputs) if isinstance(leaf, torch.Tensor)]
    rng = np.random.default_rng(0)

    def draw(spec: TensorSpec) -> Array:
        shape = [d if isinstance(d, int) else 2 for d in spec.shape]
        if "float" in spec.dtype:
            return to_numpy(torch.from_numpy(rng.standard_normal(shape)).to(getattr(torch, spec.dtype)))
        return np.ones(shape, spec.dtype)

    return [draw(spec) for spec in inputs]


def _weight_names(program: ExportedProgram) -> dict[int, str]:
    tensors = {**program.state_dict, **program.constants}
    weights = {name: t for name, t in tensors.items() if isinstance(t, torch.Tensor) and t.numel() and not name.endswith("mask")}
    return {tensor.data_ptr(): layer_name(name) for name, tensor in weights.items()}


def layer_name(parameter: str) -> str:
    """Return the layer that a parameter belongs to: "encoder.query.weight" and "encoder.query.weight_orig" are "encoder.query".

    Cells with several weights keep the parameter's own name: "lstm.weight_hh_l0".
    """
    name = (
        parameter.replace(".parametrizations.", ".")
        .removeprefix("parametrizations.")
        .removesuffix(".original")
        .removesuffix("_orig")
    )
    return name.removesuffix(".weight") or name


def _reference(program: ExportedProgram) -> Callable[[Sequence[Array]], list[Array]]:
    module = program.module()
    spec = program.call_spec.in_spec

    def run(arrays: Sequence[Array]) -> list[Array]:
        leaves = iter(to_torch(a) for a in arrays)
        args, kwargs = pytree.tree_unflatten(list(leaves), spec)
        with torch.no_grad():
            return [to_numpy(leaf) for leaf in pytree.tree_leaves(module(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]

    return run
