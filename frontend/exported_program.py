"""Convert a torch.export.ExportedProgram to an ImportedModel."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import tvm
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree
from tvm import relax

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import Eager, ImportedFunction, ImportedModel, Range, TensorSpec, check_donation
from tvm_balanced.core.stderr_filter import quiet_torch, quiet_tvm
from tvm_balanced.errors import ModelError, first_line, last_line
from tvm_balanced.frontend import linear_scans, recurrent, torch_operators
from tvm_balanced.frontend.arrays import to_numpy, to_torch
from tvm_balanced.frontend.constant_folding import fold_constants
from tvm_balanced.frontend.decompositions import decompositions, devices_of, listed_once, own_kept, types_kept
from tvm_balanced.frontend.eager import running
from tvm_balanced.frontend.error_growth import error_growths
from tvm_balanced.frontend.experts import expert_products, expert_weights
from tvm_balanced.frontend.importer import Importer
from tvm_balanced.frontend.input_domains import id_ranges, ranks
from tvm_balanced.frontend.refusals import without_cache
from tvm_balanced.frontend.released_weights import releasing
from tvm_balanced.frontend.rounding_noise import with_noise
from tvm_balanced.frontend.scans import lower_scans
from tvm_balanced.frontend.structures import call_of, drop_constants, filled, result_of
from tvm_balanced.frontend.transposed_convolution import split_phases
from tvm_balanced.frontend.type_promotion import promote_types
from tvm_balanced.frontend.weight_origins import weight_origins, weights_read

DTYPES = "float32 float16 bfloat16 float64 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
Moved = dict[tuple[Any, ...], torch.Tensor]  # from address, shape and strides of a tensor to a contiguous copy of it


@quiet_tvm()
def import_exported_program(
    program: ExportedProgram,
    source: str,
    keep_alive: Sequence[Any] = (),
    donate: Mapping[str, str] | None = None,
    moved: Moved | None = None,
) -> ImportedModel:
    """Import an exported program. Its weights are shared, not copied.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        Inputs that are no tensors are fixed at their example values.
    source : str
        Where it came from, for the manifest.
    keep_alive : sequence
        Owners of memory that the weights share.
    donate : mapping, optional
        Name of an input to the name of the output that takes its place. An input that the model
        itself writes to and returns is always donated.
    moved : dict, optional
        Contiguous copies of weights from earlier programs of the same model; this program's copies are
        added.

    Raises
    ------
    InputError
        If an input cannot be donated.
    ModelError
        If an input is a size that changes from call to call, or TVM's importer does not support an operator.
    """
    inputs, outputs = _inputs(program), _outputs(program)
    examples = _examples(program, inputs)
    lowered = _lowered(program, source, keep_alive)
    drop_constants(lowered)
    lower_scans(lowered)
    _refuse_dtypes(lowered)
    _refuse_state(lowered)
    donated = _written(lowered, outputs) | dict(donate or {})
    check_donation(inputs, outputs, donated)
    moved = {} if moved is None else moved
    split_phases(lowered)
    products = expert_products(lowered)
    read = weights_read(lowered)
    folded = fold_constants(lowered, moved)
    _make_contiguous(lowered, moved)
    promote_types(lowered)
    growths = error_growths(lowered)
    linear_scans.roll(lowered)
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
    _hide_branches(mod)
    module = program.module()
    reference = _reference(program, module)
    main = ImportedFunction(
        inputs=inputs,
        outputs=outputs,
        reference=reference,
        noisy=with_noise(reference),
        examples=examples,
        ranges=_ranges(program),
        result=result_of(program),
        call=call_of(program),
        donate=donated,
        id_ranges=id_ranges(lowered),
        ranks=ranks(lowered),
        growths=growths,
        eager=Eager(module, *_arguments(program, examples), running),
        operators=lambda threads: torch_operators.operators(lowered, list(map(to_torch, examples)), _layers(lowered), threads),
    )
    names = _weight_names(lowered)
    return ImportedModel(
        mod,
        {"main": main},
        names,
        source,
        [program, lowered, *keep_alive],
        experts=expert_weights(lowered, products),
        origins=weight_origins(lowered, folded, names, read),
    )


def _lowered(program: ExportedProgram, source: str, keep_alive: Sequence[Any]) -> ExportedProgram:
    """Return a program in core ATen operators; raises ModelError."""
    try:
        with quiet_torch(), listed_once(), types_kept(), devices_of(program), own_kept(), recurrent.any_length():
            return program.run_decompositions(decompositions())
    except Exception as error:  # torch runs the program on fake tensors: any operator may raise anything
        advice = "export it with fixed sizes, or give an example of each argument that it would make up itself, as attention_mask"
        if "Cache" in str(program.call_spec.out_spec):
            advice = without_cache(next((owner for owner in keep_alive if isinstance(owner, nn.Module)), None))
        raise ModelError(f"torch cannot break {source} down into its core operators: {first_line(error)}; {advice}") from error


def _hide_branches(mod: tvm.IRModule) -> None:
    """Make the branches of torch.cond private, because public functions are entry points."""
    for var, func in mod.functions_items():
        if isinstance(func, relax.Function) and var.name_hint != "main":
            mod[var] = func.without_attr("global_symbol")


def _refuse_dtypes(program: ExportedProgram) -> None:
    """Raise ModelError for a weight or an input of a dtype that no compiled code has."""
    for node in program.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and _dtype(value) not in DTYPES:
            names = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
            what = f"weight {names[node.name]}" if node.name in names else f"input {node.name}"
            raise ModelError(f"{what} is {_dtype(value)}, which no compiled code has; convert it to one of {', '.join(DTYPES)}")


def _refuse_state(program: ExportedProgram) -> None:
    """Raise ModelError if a decomposed program writes to a buffer: a compiled module would lose that state."""
    for name in program.graph_signature.buffers_to_mutate.values():
        raise ModelError(
            f'the model changes its buffer "{name}" while it runs; a compiled module keeps no state: return it instead'
        )


def _written(program: ExportedProgram, outputs: Sequence[TensorSpec]) -> dict[str, str]:
    """Return the inputs that a decomposed program writes to, each with the output that has its final value.

    Raises ModelError if there is no such output.
    """
    signature = program.graph_signature
    results = {name: spec.name for name, spec in zip(signature.user_outputs, outputs, strict=True)}
    written = {}
    for value, name in signature.user_inputs_to_mutate.items():
        if value not in results:
            raise ModelError(
                f'the model changes its input "{name}" while it runs, and does not return it: return it, or work on a copy'
            )
        written[name] = results[value]
    return written


def _make_contiguous(program: ExportedProgram, moved: Moved) -> None:
    """Replace weights that are not contiguous by copies that are; tied weights share one copy.
    `moved` has earlier copies and receives new ones.

    Others are shared, aligned or not: `AlignConstants` copies those that compiled code reads as they are.
    """
    for name, tensor in program.state_dict.items():
        if not tensor.is_contiguous():
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
        if isinstance(spec.arg, ConstantArgument):  # fixed
            continue
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f'input "{name}" is {value!r:.40}, a size that changes from call to call; give a tensor, or let it be static'
            )
        specs.append(TensorSpec(name, _shape(value), _dtype(value)))
    _check_sizes(specs)
    return specs


def _check_sizes(inputs: Sequence[TensorSpec]) -> None:
    """Raise ModelError for a size such as 2*s0 whose s0 is no size of any input: a call could not tell it."""
    sizes = [(spec.name, size) for spec in inputs for size in spec.shape if isinstance(size, str)]
    plain = {size for _, size in sizes if size.isidentifier()}
    for name, size in sizes:
        if not set(re.findall(r"[A-Za-z_]\w*", size)) <= plain:
            raise ModelError(
                f"input {name} has the size {size}, of which no input has the symbol alone; leave that dimension static, or "
                "try torch.export.Dim.AUTO for it"
            )


def _outputs(program: ExportedProgram) -> list[TensorSpec]:
    node = next(node for node in program.graph.nodes if node.op == "output")
    leaves = pytree.tree_leaves(node.args[0], is_leaf=lambda leaf: leaf is None)
    values = [leaf.meta.get("val") if hasattr(leaf, "meta") else leaf for leaf in leaves]
    names = _output_names(program)
    specs = []
    for name, value in zip(names, values, strict=True):
        if isinstance(value, torch.Tensor):
            specs.append(TensorSpec(name, _shape(value), _dtype(value)))
        elif not (value is None or isinstance(value, (bool, int, float, str))):  # those are fixed
            raise ModelError(
                f'the model returns {value!r:.40} as "{name}"; every output must be a tensor, or the same in every call: '
                "wrap the module in one that returns its tensors alone"
            )
    if not specs:
        raise ModelError("the model returns no tensor; let it return what is to be computed")
    return specs


def _output_names(program: ExportedProgram) -> list[str]:
    """Name each output by its place in the model's result: "logits", "hidden_states_2", "output_0"."""
    spec = program.call_spec.out_spec
    try:
        paths, _ = pytree.tree_flatten_with_path(pytree.tree_unflatten(range(spec.num_leaves), spec))
    except Exception:  # a class that is made of tensors alone, as DynamicCache of transformers, or whose parts have no names
        return [f"output_{i}" for i in range(spec.num_leaves)]
    keys = [[getattr(key, "key", getattr(key, "name", getattr(key, "idx", "?"))) for key in path] for path, _ in paths]
    names = [re.sub(r"\W", "_", "_".join(map(str, key))) or "0" for key in keys]
    names = [f"output_{name}" if name[0].isdigit() else name for name in names]
    return names if len(set(names)) == len(names) else [f"output_{i}" for i in range(len(names))]


def _ranges(program: ExportedProgram) -> dict[str, Range]:
    # A minimum of 2 is torch's own: it compiles for sizes of at least 2, but its programs also accept 0 and 1.
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


def _layers(program: ExportedProgram) -> dict[str, str]:
    """Return for each placeholder of a weight the name of its layer."""
    signature = program.graph_signature
    held = signature.inputs_to_parameters | signature.inputs_to_buffers
    return {node: layer_name(weight) for node, weight in held.items()}


def layer_name(parameter: str) -> str:
    """Return the layer of a parameter: "encoder.query.weight" and "encoder.query.weight_orig"
    belong to "encoder.query".

    Cells with several weights keep the parameter's own name: "lstm.weight_hh_l0".
    """
    name = (
        parameter.removesuffix(".folded")
        .replace(".parametrizations.", ".")
        .removeprefix("parametrizations.")
        .removesuffix(".original")
        .removesuffix("_orig")
    )
    return name.removesuffix(".weight") or name


def _reference(program: ExportedProgram, module: nn.Module) -> Callable[[Sequence[Array]], list[Array]]:
    def run(arrays: Sequence[Array]) -> list[Array]:
        args, kwargs = _arguments(program, arrays)
        with torch.no_grad(), releasing(program.state_dict.values()):
            return [to_numpy(leaf) for leaf in pytree.tree_leaves(module(*args, **kwargs)) if isinstance(leaf, torch.Tensor)]

    return run


def _arguments(program: ExportedProgram, arrays: Sequence[Array]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a program is called with, of copies of arrays: a model may write to its inputs."""
    args, kwargs = pytree.tree_unflatten(filled(program, [to_torch(a.copy()) for a in arrays]), program.call_spec.in_spec)
    return tuple(args), dict(kwargs)
