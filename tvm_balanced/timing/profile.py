"""Profile a call: the time of each layer, compared with the limits of the machine."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm
from tvm import relax

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.core.report import LayerReport
from tvm_balanced.core.text_table import table
from tvm_balanced.runtime.cuda.device import wait
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.schedules import KERNELS
from tvm_balanced.selection import rooflines
from tvm_balanced.timing.rates import Rates, measure

if TYPE_CHECKING:
    from tvm_balanced.runtime.compiled_module import CompiledModule


@dataclass(frozen=True)
class ProfileRow:
    """One dense layer, or all calls of one of TVM's own functions.

    Parameters
    ----------
    name : str
    kernel : str
        "tvm" if it is not one of our kernels.
    calls : int
        Number of calls in one call of the model.
    microseconds : float
        Median over the rounds, for all its calls together.
    share : float
        Share of the whole call.
    macs, nbytes : int
        Multiply-adds on stored slots, and bytes of x, weight, bias and y. They are 0 for TVM's own
        functions, because a lookup, for instance, does not read all of its operands.
    """

    name: str
    kernel: str
    calls: int
    microseconds: float
    share: float
    macs: int
    nbytes: int

    @property
    def gmacs(self) -> float:
        """Rate in 10^9 multiply-adds a second."""
        return self.macs / self.microseconds / 1e3

    @property
    def gbytes(self) -> float:
        """Rate in 10^9 bytes a second."""
        return self.nbytes / self.microseconds / 1e3


@dataclass(frozen=True)
class Profile:
    """A profiled call: its rows, slowest first, and the machine's rates measured in the same process."""

    rows: tuple[ProfileRow, ...]
    rates: Rates
    threads: int

    @property
    def microseconds(self) -> float:
        """All rows together. A plain call is faster, because timing itself costs about 2 us per function."""
        return sum(row.microseconds for row in self.rows)

    @property
    def header(self) -> tuple[str, ...]:
        """Column titles of `cells`."""
        return ("what", "kernel", "calls", "us", "share", "GMAC/s", "of peak", "GB/s", "of memory")

    def cells(self) -> list[tuple[str, ...]]:
        """Return the rows as text. More than 100% of memory means that the data was loaded from a cache."""

        def text(row: ProfileRow) -> tuple[str, ...]:
            known = (
                f"{row.gmacs:.1f}",
                f"{row.gmacs / self.rates.gmacs:.0%}",
                f"{row.gbytes:.1f}",
                f"{row.gbytes / self.rates.gbytes:.0%}",
            )
            cells = known if row.macs else ("-",) * 4
            return (row.name, row.kernel, str(row.calls), f"{row.microseconds:.1f}", f"{row.share:.1%}", *cells)

        return [text(row) for row in self.rows]

    def to_json(self) -> dict[str, Any]:
        """Return the whole profile as plain data."""
        return {"rows": [asdict(row) for row in self.rows], "rates": asdict(self.rates), "threads": self.threads}

    @property
    def title(self) -> str:
        """A one-line description of the measurement."""
        rates = f"{self.rates.gmacs:.0f} GMAC/s and {self.rates.gbytes:.0f} GB/s at most"
        return f"{self.microseconds / 1e3:.3f} ms with {self.threads} threads; this machine does {rates}"

    def __str__(self) -> str:
        return f"{self.title}\n{table(self.header, self.cells())}"


@dataclass
class _Call:
    """One function that the virtual machine called, its tensors, and the contents of each."""

    symbol: str
    addresses: tuple[int, ...]
    rows: int
    nbytes: list[int]

    def leave_out(self, parts: Sequence[LayerReport], used: LayerReport) -> None:
        """Do not count the weights of kernels for other M. They follow x one after another."""
        start = 1
        for part in parts:
            stop = start + len(KERNELS[part.kernel].parts) + 1  # and the bias
            if part is not used:
                self.nbytes[start:stop] = [0] * (stop - start)
            start = stop


def profile(module: "CompiledModule", arguments: Sequence[Any], rounds: int) -> Profile:
    """Time every function of a call.

    Parameters
    ----------
    module : CompiledModule
    arguments : sequence of tvm.runtime.Tensor
        Inputs and weights.
    rounds : int
        Calls; times are medians over them.
    """
    calls, seconds = _record(module, arguments, rounds)
    layers = {address_of(tensor): name.rpartition(".")[0] for name, tensor in module.weights}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    macs: dict[tuple[str, str], int] = defaultdict(int)
    for i, call in enumerate(calls):
        # the longest match: cpu_avx512_bf16 begins with cpu_avx512
        kernel = max((name for name in KERNELS if call.symbol.startswith(name)), key=len, default="tvm")
        # a kernel takes x, then its weight; a weight so small that it stayed in the library has no name
        name = layers.get(call.addresses[1]) if kernel != "tvm" else None
        if name is None:
            groups[call.symbol, kernel].append(i)
            continue
        parts = module.report.of(name, call.rows)
        report = next(part for part in parts if part.serves(call.rows))
        groups[name, report.kernel].append(i)
        macs[name, report.kernel] += call.rows * _slots(report)
        call.leave_out(parts, report)
    medians = {key: float(np.median(seconds[:, places].sum(axis=1))) for key, places in groups.items()}
    total = sum(medians.values())  # not the median call: on a busy machine every call is interrupted somewhere
    rows = []
    for (name, kernel), places in groups.items():
        median = medians[name, kernel]
        nbytes = sum(sum(calls[i].nbytes) for i in places) if kernel != "tvm" else 0
        rows.append(ProfileRow(name, kernel, len(places), median * 1e6, median / total, macs[name, kernel], nbytes))
    rows.sort(key=lambda row: -row.microseconds)
    return Profile(tuple(rows), _rates(module), module.threads)


def _rates(module: "CompiledModule") -> Rates:
    """Return the rates of the module's device: measured on a CPU, the vendor's figures on a GPU."""
    if not module.facts.on_gpu:
        return measure(module.threads)
    machine = rooflines.machine(tvm.target.Target(json.loads(module.facts.target)))
    return Rates(machine.gmacs, machine.gbytes)


def _slots(layer: LayerReport) -> int:
    """Return the slots of a layer's stored weight; for a dense weight, its elements."""
    if layer.stored == "-":
        return layer.n * layer.k
    pattern = BalancedPattern.parse(layer.stored)
    return layer.n * pattern.blocks(layer.k) * pattern.nnz


def _record(module: "CompiledModule", arguments: Sequence[Any], rounds: int) -> tuple[list[_Call], Any]:
    """Call the module `rounds` times; return its functions in order, and their seconds as (rounds, functions)."""
    device = module.device
    machine = relax.VirtualMachine(module.executable, device)  # its own: the module's stays without instruments
    calls: list[_Call] = []
    times: list[list[float]] = []
    start = 0.0

    def instrument(_function: Any, symbol: str, before: bool, _result: Any, *values: Any) -> int:
        nonlocal start
        if symbol.startswith("vm."):  # the virtual machine's own: allocation and checks of shapes
            return 0
        wait(device)  # functions are launched faster than a GPU computes them
        if before:
            start = time.perf_counter()
            return 0
        times[-1].append(time.perf_counter() - start)
        if len(times) == 1:
            tensors = [v for v in values if isinstance(v, tvm.runtime.Tensor)]
            rows = int(tensors[0].shape[0]) if tensors and len(tensors[0].shape) else 0
            nbytes = [math.prod(t.shape) * np.dtype(str(t.dtype)).itemsize for t in tensors]
            calls.append(_Call(symbol, tuple(address_of(t) for t in tensors), rows, nbytes))
        return 0

    main = machine["main"]
    main(*arguments)
    machine.set_instrument(instrument)
    for _ in range(rounds):
        times.append([])
        main(*arguments)
    return calls, np.array(times)
