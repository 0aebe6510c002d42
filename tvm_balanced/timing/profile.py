"""Profile a call: the time of each layer, compared with the limits of the machine."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm
from tvm import relax

from tvm_balanced.core.report import LayerReport
from tvm_balanced.core.text_table import table
from tvm_balanced.runtime.cuda.device import wait
from tvm_balanced.runtime.tensors import address_of
from tvm_balanced.selection import rooflines
from tvm_balanced.timing.rates import Rates, measure

if TYPE_CHECKING:
    from tvm_balanced.runtime.compiled_module import CompiledModule
    from tvm_balanced.runtime.function import Function


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

    def leave_out(self, others: Container[int]) -> None:
        """Do not count the bytes of the tensors at these addresses: weights of kernels for other M."""
        self.nbytes = [0 if address in others else size for address, size in zip(self.addresses, self.nbytes, strict=True)]


def profile(function: "Function", arguments: Sequence[Any], rounds: int) -> Profile:
    """Time every function of a call.

    Parameters
    ----------
    function : Function
        An entry point of a compiled module.
    arguments : sequence of tvm.runtime.Tensor
        Inputs and weights.
    rounds : int
        Calls; times are medians over them.
    """
    module = function.module
    calls, seconds = _record(function, arguments, rounds)
    addresses = [address_of(tensor) for _, tensor in module.weights]
    reports = module.report.layers
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    macs: dict[tuple[str, str], int] = defaultdict(int)
    for i, call in enumerate(calls):
        report, others = _report_of(call, reports, addresses)
        if report is None:
            groups[call.symbol, "tvm"].append(i)
            continue
        groups[report.layer, report.kernel].append(i)
        macs[report.layer, report.kernel] += call.rows * report.pixels * report.slots
        call.leave_out(others)
    medians = {key: float(np.median(seconds[:, places].sum(axis=1))) for key, places in groups.items()}
    total = sum(medians.values())  # not the median call: on a busy machine every call is interrupted somewhere
    rows = []
    for (name, kernel), places in groups.items():
        median = medians[name, kernel]
        nbytes = sum(sum(calls[i].nbytes) for i in places) if kernel != "tvm" else 0
        rows.append(ProfileRow(name, kernel, len(places), median * 1e6, median / total, macs[name, kernel], nbytes))
    rows.sort(key=lambda row: -row.microseconds)
    return Profile(tuple(rows), _rates(module), module.threads)


def _report_of(call: _Call, reports: Sequence[LayerReport], addresses: Sequence[int]) -> tuple[LayerReport | None, set[int]]:
    """Return a call's row of the report (None if it is none of our kernels), and the weights that it does not read.

    A function may compute several layers, and a layer may have several functions: both must match.
    If a layer's weight is so small that it stayed in the library, only its function is known.
    """
    fitting = [row for row in reports if call.symbol in row.functions and row.serves(call.rows * row.pixels)]
    given = set(call.addresses)
    used = next((row for row in fitting if row.parameters and {addresses[p] for p in row.parameters} & given), None)
    used = used or next((row for row in fitting if not row.parameters), None)
    if used is None:
        return None, set()
    return used, {addresses[p] for row in reports if row is not used for p in row.parameters} - {
        addresses[p] for p in used.parameters
    }


def _rates(module: "CompiledModule") -> Rates:
    """Return the rates of the module's device: measured on a CPU, the vendor's figures on a GPU."""
    if not module.facts.on_gpu:
        return measure(module.threads)
    roofline = rooflines.machine(tvm.target.Target(json.loads(module.facts.target)))
    return Rates(roofline.gmacs, roofline.gbytes)


def _record(function: "Function", arguments: Sequence[Any], rounds: int) -> tuple[list[_Call], Any]:
    """Call an entry point `rounds` times; return the functions that it calls, in order, and their
    seconds as (rounds, functions).
    """
    device = function.module.device
    machine = relax.VirtualMachine(function.module.executable, device)  # its own: the module's stays without instruments
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

    main = machine[function.name]
    main(*arguments)
    machine.set_instrument(instrument)
    for _ in range(rounds):
        times.append([])
        main(*arguments)
    return calls, np.array(times)
