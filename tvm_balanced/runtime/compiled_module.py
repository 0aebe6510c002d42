"""CompiledModule: returned by compile and load. It takes tensors and returns tensors."""

import threading
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import tvm
from tvm import relax

from tvm_balanced.core.comparison import Comparison
from tvm_balanced.core.race import Race
from tvm_balanced.core.report import PrecisionReport, Report
from tvm_balanced.core.validation import check_threads
from tvm_balanced.errors import InputError, TargetError
from tvm_balanced.runtime import torch_operators
from tvm_balanced.runtime.cuda import libraries
from tvm_balanced.runtime.cuda.captured_call import CapturedCall
from tvm_balanced.runtime.cuda.device import current_gpu, place
from tvm_balanced.runtime.cuda.graph_calls import GraphCalls
from tvm_balanced.runtime.cuda.prepared_weights import PreparedWeights
from tvm_balanced.runtime.function import Function, WithWeights
from tvm_balanced.runtime.huge_pages import in_huge_pages
from tvm_balanced.runtime.metadata import Check, ModuleMetadata, Origin
from tvm_balanced.runtime.stored_test import StoredTest

if TYPE_CHECKING:
    from tvm_balanced.timing.profile import Profile


class CompiledModule:
    """A compiled model. Call it with the model's inputs, in order or by name.

    If there are several entry points, they have names, for instance `module["decode"]`, and calling
    the module runs the first. They share the weights. If prefill computes a layer for many rows and
    decode for one, each may have its own kernel, and then its own packed copy of the weight; with
    the same kernel they share one copy.

    On a GPU the module stays on the device that was torch's current one when it was compiled or
    loaded, or on the first device if torch had used none.

    Parameters
    ----------
    executable : tvm.relax.VMExecutable or tvm.runtime.Module
    weights : sequence of (name, tvm.runtime.Tensor)
        Parameters of the library's functions; each function takes those that its EntryPointSpec
        lists. On the CPU they are 64-byte aligned.
    facts : ModuleMetadata
    runnable : bool
        Whether this machine can run the code. A module for another machine can be saved, but not
        called.
    origin : Origin, optional
        The artifact that it was loaded from.
    shared : bool
        Whether the weights are pages of files, which stay as they are so that processes share them.
    """

    def __init__(
        self,
        executable: Any,
        weights: Sequence[tuple[str, Any]],
        facts: ModuleMetadata,
        runnable: bool = True,
        origin: Origin | None = None,
        shared: bool = False,
    ) -> None:
        self.executable, self.facts, self.origin = executable, facts, origin
        self.graphs: GraphCalls | None = None
        self.self_tests: Mapping[str, StoredTest] = {}  # what `save` stores for a self-test
        self.variables: Mapping[str, Set[str]] = {}  # name of a function to the variables of the imported model that it computes
        self.device = current_gpu() if facts.on_gpu else tvm.cpu()
        self.weights = place(weights, self.device) if runnable else list(weights)
        if runnable and not facts.on_gpu and not shared:
            self.weights = in_huge_pages(self.weights)
        on_gpu = runnable and facts.on_gpu
        self.prepared = PreparedWeights(tensor for _, tensor in self.weights) if on_gpu else None  # clones share it
        self.start(runnable)

    def start(self, runnable: bool) -> None:
        """Create what only one call at a time may use: a virtual machine, its functions with their
        weights, and a lock.
        """
        if self.facts.on_gpu:
            libraries.register()
        if self.report.left:
            torch_operators.register()
        self.machine = relax.VirtualMachine(self.executable, self.device) if runnable else None
        self.compiled: dict[str, WithWeights] = {}
        if self.machine is not None:
            for name, spec in self.facts.entry_points.items():
                self.compiled[name] = WithWeights(self.machine[name], [self.weights[place][1] for place in spec.weights])
        if self.cuda_graph:
            self.graphs = GraphCalls()  # a clone has graphs of its own
        self.captured: list[Any] = []  # memory of calls in CUDA graphs; they may be replayed as long as the module lives
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        entries = self.facts.entry_points
        listed = "; ".join(spec.signature if len(entries) == 1 else f"{name}: {spec.signature}" for name, spec in entries.items())
        total, sparse = self.report.total, self.report.sparse_layers
        layers = f"{sparse} sparse, {total - sparse} dense layers"
        return f"<CompiledModule: {listed}; {layers}; {self.facts.target_key}, threads={self.threads}>"

    def __getitem__(self, name: str) -> Function:
        """Return the entry point with this name; raises InputError if there is none."""
        known = self.facts.entry_points
        if name not in known:
            raise InputError(f'entry point "{name}" is unknown; the module has {", ".join(known)}')
        return Function(self, name)

    def clone(self) -> "CompiledModule":
        """Return a second instance with the same code and weights. Its calls do not wait for this instance's.

        This is for servers: the calls of one instance run one after another, and each thread may
        have its own instance. Each instance has its own `threads`. On a GPU, calls are still
        launched one after another, and run in the order of their streams.
        """
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin.start(self.machine is not None)
        return twin

    def __reduce__(self) -> Never:
        """Refuse pickle and copy, which cannot take compiled code along; raises InputError."""
        raise InputError(
            "a CompiledModule cannot be pickled or copied; give other processes the path that save wrote, and threads clone()"
        )

    @property
    def _main(self) -> Function:
        return Function(self, next(iter(self.facts.entry_points)))

    @property
    def report(self) -> Report:
        """The decision for every dense layer, with its reason."""
        return self.facts.report

    @property
    def threads(self) -> int:
        """Number of threads that a call uses; may be set."""
        return self.facts.threads

    @threads.setter
    def threads(self, count: int) -> None:
        check_threads(count)
        self.facts = replace(self.facts, threads=count)

    @property
    def cuda_graph(self) -> bool:
        """Whether each call of an entry point is one CUDA graph, on a GPU; may be set.

        The first call with inputs of new shapes, or of a new donated buffer, captures a graph. Later
        ones copy their inputs to it, replay it, and return copies of its results; a donated buffer is
        written where it lies. Arrays, and more than 16 graphs, are called as without; the log says so.
        A graph's memory stays taken as long as the module lives. Raises TargetError for a module that
        is not on a GPU.
        """
        return self.graphs is not None

    @cuda_graph.setter
    def cuda_graph(self, wanted: bool) -> None:
        if wanted and not self.facts.on_gpu:
            raise TargetError(f"cuda_graph is for modules on a GPU; this one is for {self.facts.target_key}: leave it out")
        self.graphs = (self.graphs or GraphCalls()) if wanted else None

    def with_checks(self, comparisons: Sequence[Comparison]) -> "CompiledModule":
        """Record what comparing with the original model has found, and return self."""
        checks = tuple(Check(one.inputs, one.error, one.note) for one in comparisons)
        self.facts = replace(self.facts, max_error=max((check.error for check in checks), default=0.0), checks=checks)
        return self

    def with_races(self, races: Sequence[Race]) -> "CompiledModule":
        """Record how fast it is beside the original model, and return self."""
        self.facts = replace(self.facts, report=replace(self.report, races=tuple(races)))
        return self

    def with_precision(self, said: PrecisionReport) -> "CompiledModule":
        """Record what rounding loses, and return self."""
        self.facts = replace(self.facts, report=replace(self.report, precision=said))
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model, or the first of its entry points.

        Torch tensors in give torch tensors out, NumPy arrays give arrays. On the CPU, contiguous
        and 64-byte aligned memory is shared; other tensors are copied once. On a GPU, torch tensors
        must already be on the device, and the call runs on torch's current stream after all earlier
        calls. NumPy arrays are copied there and back; they are complete when the call returns.
        Several threads may call; their calls run one after another.

        A call may be captured in a CUDA graph, for instance with torch.cuda.graph. The memory that
        it writes to then belongs to the graph as long as this module lives. While the graph is
        replayed, the module must live and its inputs must stay where they are.

        If an input is donated, its own buffer, contiguous and aligned or not, holds the output that
        takes its place when the call returns. The call returns that buffer for the output.

        Non-finite activations: a result is finite only if a dense layer with the pruned weights
        removed would be finite. Pruned weights are skipped, so a NaN from a dense 0 * inf may be
        missing. Unused slots hold a weight of 0, so an infinity beside kept weights may give NaN
        instead of the infinity of dense arithmetic.

        Parameters
        ----------
        *args, **kwargs
            The inputs of `facts.inputs`, with the shapes and dtypes listed there, on the module's
            device.

        Returns
        -------
        The model's result: a tensor, or a tuple, list, dict, or class that torch.export knows, with
        the same nesting. NumPy arrays in give arrays nested alike, with plain dicts
        in place of classes.

        Raises
        ------
        InputError
            If an input is missing, unknown, or has the wrong type, shape, dtype or device, or a
            size out of range, or if a donated input cannot be written.
        TargetError
            If the module was compiled for another machine.
        """
        return self._main(*args, **kwargs)

    def capture(self, *args: Any, **kwargs: Any) -> CapturedCall:
        """Return a call of the module, or of its first entry point, as one CUDA graph.

        A call from Python waits for the launch of each kernel; a graph launches all at once. The
        graph is for the shapes of these inputs; it is called as the module is, and returns the same
        tensors each time, so read them before the next call. Donated inputs must be the same buffers
        each time. `cuda_graph` makes graphs of all calls, for any shapes.

        Parameters
        ----------
        *args, **kwargs
            Inputs as for a call: torch tensors on the module's GPU.

        Raises
        ------
        TargetError
            If the module is not on a GPU that torch uses.
        InputError
            If an input is wrong.
        """
        return self._main.capture(*args, **kwargs)

    def profile(self, *args: Any, rounds: int = 20, **kwargs: Any) -> "Profile":
        """Time every layer of a call, see `timing.profile.profile`; inputs and errors as for a call."""
        return self._main.profile(*args, rounds=rounds, **kwargs)

    def save(self, path: str | Path, cc: str | None = None, sign: Any = None) -> None:
        """Write the module as an artifact, see `artifact.save`."""
        from tvm_balanced.runtime import artifact

        artifact.save(self, path, cc, sign)
