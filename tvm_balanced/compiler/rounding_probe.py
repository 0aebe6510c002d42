"""Running a model with some of its layers rounded, to measure what that costs before any kernel is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_balanced.compiler.build import build
from tvm_balanced.core.dtypes import numpy_dtype
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.tensors import aligned, as_tvm, view
from tvm_balanced.runtime.threads import run_with_threads
from tvm_balanced.schedules.layouts.rounded_weight import round_weight
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.transform.lift_weights import places_of
from tvm_balanced.transform.pipeline import lower
from tvm_balanced.transform.probe_rounding import ProbeRounding

SMOOTHING = 0.5  # the exponent of SmoothQuant: how much of a column's size moves from x into the weight

UNUSED = 1e-6  # the size, relative to the largest weight, that a column of zeros counts as


@dataclass(frozen=True, eq=False)
class Rounding:
    """How a layer rounds.

    Parameters
    ----------
    precision : str
        "int8" rounds x and weight, "bfloat16" the weight alone.
    factor : array (K,) float32 or None
        x is multiplied by it first, the weight divided.
    """

    precision: str
    factor: Array | None = None

    def weight(self, exact: Array) -> Array:
        """Return a weight (N, K) as the layer computes with it, float32."""
        exact = exact if self.factor is None else exact / self.factor
        if self.precision == "bfloat16":
            return exact.astype(numpy_dtype("bfloat16")).astype(np.float32)
        numbers, scales, _ = round_weight(exact)
        return numbers.astype(np.float32) * scales[:, None]


class RoundingProbe:
    """A model of which each call says how its layers round; it runs on this machine, whatever the model is compiled for.

    Parameters
    ----------
    imported : ImportedModel
    layers : collection of str
        The layers that may round.
    threads : int
    """

    def __init__(self, imported: ImportedModel, layers: Sequence[str], threads: int) -> None:
        target, names = host_target(), dict(imported.weight_names)
        probing = ProbeRounding(names, set(layers))
        selector = KernelSelector.of(target, threads)
        mod = tvm.transform.Sequential([probing])(imported.mod)
        lowered = lower(mod, target, selector, names, imported.ranges, sizes=imported.sizes)
        self._machine = relax.VirtualMachine(build(lowered.mod, target, relax_pipeline=None), tvm.cpu())
        self._functions, self._threads = probing.functions, threads
        self._lifted = {
            name: [lowered.weights[place].tensor for place in places_of(lowered.weights, name)] for name in probing.functions
        }
        self.weights = probing.weights
        self._dense = {name for probed in probing.functions.values() for name in probed.dense}
        self._made: dict[tuple[str, Rounding], tuple[Any, ...]] = {}
        self._exact = {name: self._tensors(name, None) for name in self.weights}

    @property
    def layers(self) -> list[str]:
        """The layers that may round, in the order in which they are computed."""
        return list(self.weights)

    def run(self, entry: str, inputs: Sequence[Array], rounded: Mapping[str, Rounding]) -> tuple[list[Array], dict[str, Array]]:
        """Call an entry point with some layers rounded; return its outputs, and for each dense layer the largest |x| of each
        column.
        """
        layers, dense = self._functions[entry].layers, self._functions[entry].dense
        given = [tensor for name in layers for tensor in self._arguments(name, rounded.get(name))]
        tensors = [as_tvm(aligned(array.copy())) for array in inputs]
        result = run_with_threads(self._threads, self._machine[entry], *tensors, *given, *self._lifted[entry])
        outputs, *peaks = list(result)
        outputs = [outputs] if isinstance(outputs, tvm.runtime.Tensor) else list(outputs)
        arrays = [view(tensor).copy() for tensor in outputs]
        return arrays, {name: view(peak).copy() for name, peak in zip(dense, peaks, strict=True)}

    def factor(self, layer: str, peak: Array) -> Array:
        """Return what smooths the columns of a layer: powers of two, which round nothing."""
        widest = np.abs(self.weights[layer]).max(axis=0)
        widest = np.maximum(widest, UNUSED * widest.max())  # what meets no weight takes no part in a row's step
        known = (peak > 0) & (widest > 0) & np.isfinite(peak)
        ratio = np.where(known, widest, 1.0) ** (1 - SMOOTHING) / np.where(known, peak, 1.0) ** SMOOTHING
        return np.exp2(np.clip(np.round(np.log2(ratio)), -60, 60)).astype(np.float32)

    def _arguments(self, layer: str, rounding: Rounding | None) -> tuple[Any, ...]:
        if rounding is None:
            return self._exact[layer]
        key = (layer, rounding)
        if key not in self._made:
            self._made[key] = self._tensors(layer, rounding)
        return self._made[key]

    def _tensors(self, layer: str, rounding: Rounding | None) -> tuple[Any, ...]:
        """Return the flag of a layer, and of a dense one factor and weight (K, N)."""
        weight = self.weights[layer]
        factor = None if rounding is None else rounding.factor
        flag = np.float32(rounding is not None and rounding.precision == "int8")
        if layer not in self._dense:
            return (tvm.runtime.tensor(np.array(flag)),)
        arrays = (
            np.array(flag),
            np.ones(weight.shape[1], np.float32) if factor is None else factor,
            (weight if rounding is None else rounding.weight(weight)).T,
        )
        return tuple(tvm.runtime.tensor(np.array(array, np.float32, order="C")) for array in arrays)
