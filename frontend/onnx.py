"""Import an ONNX model. Needs onnx, and no torch; what it computes is checked against ONNX Runtime, or onnx's own evaluator."""

import contextlib
import hashlib
import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from tvm import relax

from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedFunction, ImportedModel, TensorSpec, check_donation
from tvm_balanced.core.stderr_filter import quiet_tvm
from tvm_balanced.core.structure import Call
from tvm_balanced.core.validation import check_path
from tvm_balanced.errors import InputError, ModelError, first_line, last_line
from tvm_balanced.frontend.onnx_dequantize import dequantised
from tvm_balanced.frontend.onnx_folding import folded
from tvm_balanced.runtime.tensors import address_of, view

SIZE = 2  # of a dimension that the file leaves open, in drawn examples
THROUGH = frozenset(("Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Flatten"))
RANKING = frozenset(("ArgMax", "ArgMin", "TopK", "NonMaxSuppression"))
NUMBERS = (bool, int, float)
INSTALL = "onnx is not installed; pip install 'tvm-balanced[onnx]'"


@quiet_tvm()
def import_onnx(model: Any, args: Sequence[Any] = (), donate: Mapping[str, str] | None = None) -> ImportedModel:
    """Import an ONNX model.

    Parameters
    ----------
    model : str, Path or onnx.ModelProto
        Weights in files beside it must lie in its folder or below.
    args : sequence of arrays, torch tensors or numbers
        Examples of its inputs, in order. Their shapes replace sizes that the file leaves open; without any, these stay open and
        examples are drawn. An input that is given as a plain number is fixed to it, and the branches that it chooses are taken.
    donate : mapping, optional
        Name of an input to the name of the output that takes its place.

    Raises
    ------
    InputError
        If the examples do not fit the inputs, or an input cannot be donated.
    ModelError
        If onnx is not installed, the file is missing, damaged or points outside its folder, or has an operator that TVM's
        importer does not know.
    """
    whole, source = _read(model)
    proto, call, numbers = _with_numbers(whole, args)
    examples = [_array(value) for value in args if not isinstance(value, NUMBERS)]
    proto = _with_shapes(proto, examples) if examples else proto
    plain = folded(dequantised(proto))
    mod = _converted(plain, source)
    main = mod["main"]
    inputs = [_spec(name, var.ty) for name, var in zip(_input_names(proto), main.params, strict=True)]
    outputs = _outputs(proto, main)
    donated = dict(donate or {})
    check_donation(inputs, outputs, donated)
    ids = _id_ranges(proto)
    function = ImportedFunction(
        inputs=inputs,
        outputs=outputs,
        reference=_reference(whole if numbers else proto, source, numbers),  # ONNX Runtime fails where a number is stored
        examples=examples or _drawn(inputs, ids),
        donate=donated,
        call=call,
        id_ranges=ids,
        ranks=any(node.op_type in RANKING for node in proto.graph.node),
    )
    said = f"an ONNX model of {len(proto.graph.node)} operators, checked against {_checker()}"
    return ImportedModel(mod, {"main": function}, _weight_names(plain, mod), source, recognised=[said])


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ModelError(INSTALL) from None


def _read(model: Any) -> tuple[Any, str]:
    """Return a model with its weights, and where it came from."""
    onnx = _onnx()
    if not isinstance(model, (str, Path)):
        return model, "an ONNX model"
    path = check_path(model)
    if not path.is_file():
        raise ModelError(f"{path} is not a file; give a .onnx file", usage=True)
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own kinds
        raise ModelError(f"{path} is not a readable ONNX model ({type(error).__name__}); export it again") from None
    if not proto.graph.node or not proto.graph.output:
        raise ModelError(f"{path} is not a readable ONNX model (it has no operators); export it again")
    for tensor in _tensors(proto.graph):
        _check_external(onnx, path, tensor)
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except Exception as error:
        raise ModelError(f"the weights beside {path} cannot be read ({first_line(error)}); copy all of its files again") from None
    return proto, str(path)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph stores, also in attributes and in the graphs of its branches."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def _check_external(onnx: Any, path: Path, tensor: Any) -> None:
    """Raise ModelError where the data of a tensor lies outside the folder of the model, or is no plain file."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    said = {entry.key: entry.value for entry in tensor.external_data}
    folder, place = path.parent.resolve(), said.get("location", "")
    file = (folder / place).resolve()
    if not place or Path(place).is_absolute() or not file.is_relative_to(folder):
        raise ModelError(
            f"{path} has the weight {tensor.name!r:.60} in {place!r:.80}, outside its own folder, which is not read; put that "
            "file beside it, and its name into the model"
        )
    if not file.is_file():
        raise ModelError(f"{file} is missing, where {path.name} has its weights; copy all of its files")
    try:
        start, length = int(said.get("offset", 0)), int(said.get("length", 0))
    except ValueError:
        start = length = -1
    if min(start, length) < 0 or start + length > file.stat().st_size:
        raise ModelError(f"{file} is shorter than {path.name} says of {tensor.name!r:.60}; copy all of its files again")


def _with_numbers(proto: Any, args: Sequence[Any]) -> tuple[Any, Call | None, dict[str, Array]]:
    """Return a model whose inputs that were given as plain numbers are stored ones, how it is called then, and those numbers."""
    inputs = _graph_inputs(proto)
    if len(args) != len(inputs) or not any(isinstance(value, NUMBERS) for value in args):
        return proto, None, {}
    onnx, fixed, call, stored = _onnx(), type(proto)(), Call(), dict[str, Array]()
    fixed.CopyFrom(proto)
    for value, given in zip(inputs, args, strict=True):
        if not isinstance(given, NUMBERS):
            call.append([_identifier(value.name), {"tensor": sum("tensor" in tree for _, tree in call)}])
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in kind.shape.dim]
        stored[value.name] = np.full(shape, given, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        fixed.graph.initializer.append(onnx.numpy_helper.from_array(stored[value.name], value.name))
        fixed.graph.input.remove(value)
        call.append([_identifier(value.name), {"value": given}])
    return fixed, call, stored


def _with_shapes(proto: Any, arrays: Sequence[Array]) -> Any:
    """Return a model whose inputs have the shapes of examples; raises InputError where these do not fit."""
    fixed = type(proto)()
    fixed.CopyFrom(proto)
    inputs = _graph_inputs(fixed)
    if len(arrays) != len(inputs):
        raise InputError(f"{len(arrays)} examples were given; the model takes {len(inputs)}: {', '.join(v.name for v in inputs)}")
    numpy_dtype = _onnx().helper.tensor_dtype_to_np_dtype
    known: dict[str, int] = {}
    for value, array in zip(inputs, arrays, strict=True):
        kind = value.type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        fits = len(sizes) == array.ndim and all(want in (None, have) for want, have in zip(sizes, array.shape, strict=True))
        want = np.dtype(numpy_dtype(kind.elem_type))
        if not fits or want != array.dtype:
            raise InputError(f"the example for {value.name} is {array.dtype}{list(array.shape)}; the model takes {want}{sizes}")
        known |= {dim.dim_param: size for dim, size in zip(kind.shape.dim, array.shape, strict=True) if dim.dim_param}
        for dim, size in zip(kind.shape.dim, array.shape, strict=True):
            dim.dim_value = size
    for value in (*fixed.graph.output, *fixed.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in known:
                dim.dim_value = known[dim.dim_param]
    return fixed


def _converted(proto: Any, source: str) -> tvm.IRModule:
    """Return the Relax module of a model, its weights constants."""
    from tvm.relax.frontend.onnx import from_onnx

    from tvm_balanced.frontend.onnx_operators import our_operators

    converting: list[str] = []
    try:
        with warnings.catch_warnings(), our_operators() as converting, contextlib.redirect_stdout(io.StringIO()):  # it prints
            warnings.filterwarnings("ignore", "Renaming name")  # "input.1" becomes "input_1", as `run` says where it is asked
            return from_onnx(proto)  # weights as inputs would hide the sizes that they hold from the importer
    except Exception as error:  # TVM and onnx raise many kinds
        raise ModelError(f"{source} cannot be imported{_why(error, converting, _is_open(proto))}") from None


def _why(error: Exception, converting: Sequence[str], is_open: bool) -> str:
    """Return why a model cannot be imported, and what to do.

    Parameters
    ----------
    converting : sequence of str
        The operators that were being converted, innermost last.
    is_open : bool
        Whether the model leaves sizes open: with known ones, less is computed of them.
    """
    unknown = re.search(r"not supported for frontend ONNX:?\s*([\w, .]+)", str(error))
    said = last_line(error)
    if unknown:
        return (
            f" (TVM's importer does not know the operators {unknown[1].strip()}); export it with other operators or a lower opset"
        )
    if converting:
        said = f"the operator {converting[-1]}: {said}"
        if isinstance(error, NotImplementedError) and ";" in said:  # by a converter of ours, with the way that works
            return f": {said}"
    advice = "give example inputs, which fix the sizes that it leaves open, or " if is_open else ""
    return f" ({said}); {advice}export it with other operators or a lower opset"


def _is_open(proto: Any) -> bool:
    """Whether an input of a model has a size that the file leaves open."""
    dims = [dim for value in _graph_inputs(proto) for dim in value.type.tensor_type.shape.dim]
    return any(not dim.HasField("dim_value") for dim in dims)


def _weight_names(proto: Any, mod: tvm.IRModule) -> dict[int, str]:
    """Return the names of constants by their addresses: the importer forgets them, so they are known by their values."""
    to_array = importlib.import_module("onnx.numpy_helper").to_array
    known: dict[Any, str] = {}
    for tensor in proto.graph.initializer:
        if len(tensor.dims) > 1:
            known.setdefault(_content(to_array(tensor)), tensor.name.removesuffix(".weight"))
    names: dict[int, str] = {}

    def visit(part: Any) -> None:
        tensor = getattr(part, "value", None)
        if isinstance(tensor, tvm.runtime.Tensor) and len(tensor.shape) > 1:
            name = known.get(_content(view(tensor)))
            if name is not None:
                names[address_of(tensor)] = name

    relax.analysis.post_order_visit(mod["main"], visit)
    return names


def _content(array: Array) -> tuple[Any, ...]:
    whole = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return array.shape, str(array.dtype), hashlib.sha256(whole.data).digest()


def _graph_inputs(proto: Any) -> list[Any]:
    stored = {tensor.name for tensor in proto.graph.initializer}  # old files list weights as inputs too
    return [value for value in proto.graph.input if value.name not in stored]


def _input_names(proto: Any) -> list[str]:
    return [_identifier(value.name) for value in _graph_inputs(proto)]


def _identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name)
    return plain if plain.isidentifier() else f"input_{plain}"


def _outputs(proto: Any, main: relax.Function) -> list[TensorSpec]:
    names = [re.sub(r"\W", "_", value.name) for value in proto.graph.output]
    kind = main.ret_ty
    fields = [kind] if isinstance(kind, relax.TensorType) else list(kind.fields)
    return [_spec(name, field) for name, field in zip(names, fields, strict=True)]


def _spec(name: str, kind: relax.TensorType) -> TensorSpec:
    if kind.shape is None:
        raise ModelError(
            f"{name} of the model has a shape that is known only at the call; give example inputs, whose shapes fix it"
        )
    shape = tuple(int(d) if isinstance(d, tvm.tirx.IntImm) else str(d) for d in kind.shape)
    return TensorSpec(name, shape, str(kind.dtype.dtype))


def _array(value: Any) -> Array:
    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu()
        return value.float().numpy().astype(ml_dtypes.bfloat16) if "bfloat16" in str(value.dtype) else np.asarray(value)
    if not isinstance(value, np.ndarray):
        raise InputError(f"an example is {type(value).__name__}; give NumPy arrays, torch tensors or numbers")
    return value


def _drawn(inputs: Sequence[TensorSpec], ids: Mapping[str, tuple[int, int]]) -> list[Array]:
    rng = np.random.default_rng(0)
    drawn = []
    for spec in inputs:
        shape = [d if isinstance(d, int) else SIZE for d in spec.shape]
        dtype = np.dtype(getattr(ml_dtypes, spec.dtype, spec.dtype))
        if "float" in spec.dtype:
            drawn.append(rng.standard_normal(shape).astype(dtype))
        elif spec.name in ids:
            drawn.append(rng.integers(0, ids[spec.name][1] + 1, shape).astype(dtype))
        else:
            drawn.append(np.ones(shape, dtype))
    return drawn


def _id_ranges(proto: Any) -> dict[str, tuple[int, int]]:
    """Return for each input that a table is read with the smallest and the largest place that every such table has."""
    sizes = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if tensor.dims}
    made = {out: node for node in proto.graph.node for out in node.output}
    inputs = {value.name for value in _graph_inputs(proto)}
    ranges: dict[str, tuple[int, int]] = {}
    for node in proto.graph.node:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if node.op_type != "Gather" or node.input[0] not in sizes or axis != 0:
            continue
        name = node.input[1]
        while name in made and made[name].op_type in THROUGH:
            name = made[name].input[0]
        if name in inputs:
            last = sizes[node.input[0]] - 1
            ranges[_identifier(name)] = (0, min(last, ranges.get(_identifier(name), (0, last))[1]))
    return ranges


def _checker() -> str:
    has_runtime = importlib.util.find_spec("onnxruntime") is not None
    return "ONNX Runtime" if has_runtime else "the reference evaluator of onnx, which is slow: pip install onnxruntime"


def _reference(proto: Any, source: str, numbers: Mapping[str, Array]) -> Callable[[Sequence[Array]], list[Array]]:
    """Return a function that runs the model, given all inputs but `numbers`, by ONNX Runtime or else by onnx's own evaluator."""
    given = [value.name for value in _graph_inputs(proto) if value.name not in numbers]
    runner: list[Any] = []
    by_runtime = _checker() == "ONNX Runtime"

    def start() -> Any:
        if by_runtime:
            runtime = importlib.import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.log_severity_level = 4
            return runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return importlib.import_module("onnx.reference").ReferenceEvaluator(proto)

    def run(arrays: Sequence[Array]) -> list[Array]:
        feed = {**numbers, **dict(zip(given, arrays, strict=True))}
        try:
            if not runner:
                runner.append(start())
            return [np.asarray(value) for value in runner[0].run(None, feed)]
        except Exception as error:  # each of them has operators that it does not know
            who = "ONNX Runtime" if by_runtime else "the reference evaluator of onnx"
            advice = "export it with a lower opset" if by_runtime else "pip install onnxruntime, which checks it then"
            raise ModelError(f"{who} cannot run {source} ({first_line(error)}), so it cannot be checked; {advice}") from None

    return run
