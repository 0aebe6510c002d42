"""A compiled module beside the model that it was compiled from."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from tvm_balanced.compiler.compare import rounding_of
from tvm_balanced.core.comparison import (
    RUNS,
    Comparison,
    OutputDifference,
    beside_noise,
    compare_outputs,
    moves_of,
    note_on,
    settled,
)
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.tolerance import UNIT
from tvm_balanced.core.validation import check_tolerance, require
from tvm_balanced.frontend.arrays import to_numpy
from tvm_balanced.frontend.inference import inference
from tvm_balanced.frontend.rounding_noise import RoundingNoise
from tvm_balanced.runtime.compiled_module import CompiledModule


def compare(
    module: CompiledModule,
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Compare the outputs of both on the same inputs; see `api.compare`."""
    require("module", module, CompiledModule, "a compiled module, as compile returns it")
    require("model", model, nn.Module, "the torch.nn.Module that it was compiled from")
    check_tolerance(tolerance)
    args = (args,) if isinstance(args, torch.Tensor) else tuple(args)
    given = args, dict(kwargs or {})
    want = _run(model, given)
    args, kwargs = _clones(given)
    got = _leaves(module(*args, **kwargs))
    specs, rounding = module.facts.outputs, rounding_of(module)
    outputs = compare_outputs(specs, want, got, tolerance, rounding)
    note = ""
    if tolerance is None and not any(output.fault for output in outputs) and not all(output.ok for output in outputs):
        note = _note(model, given, outputs, want, got, rounding)
    return Comparison("the given inputs", outputs, note)


def _run(model: nn.Module, given: Any) -> list[Array]:
    args, kwargs = _clones(given)
    with inference(model):
        return _leaves(model(*args, **kwargs))


def _clones(given: Any) -> Any:
    """Return copies of all tensors: a donated input holds an output after a call, and a model may write to its inputs."""
    return pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, given)


def _note(
    model: nn.Module, given: Any, outputs: Sequence[OutputDifference], want: list[Array], got: list[Array], rounding: float
) -> str:
    """Return that roundings drawn anew explain all differences, as where a tie chooses an expert; empty if they do not."""
    runs = []
    for seed in range(RUNS):
        with RoundingNoise(seed):
            runs.append(_run(model, given))
    moves = moves_of(want, runs)
    explained = all(output.ok for output in compare_outputs((), want, settled(want, got, moves), None, rounding))
    halves = [place for place, array in enumerate(want) if UNIT.get(str(array.dtype), 0) > UNIT["float32"]]
    far = [place for place in halves if not outputs[place].ok]
    held = (beside_noise(outputs[place], want[place], got[place], [run[place] for run in runs], math.inf) for place in far)
    return note_on(moves) if explained and all(output.ok for output in held) else ""


def _leaves(outputs: Any) -> list[Array]:
    return [to_numpy(leaf) for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
