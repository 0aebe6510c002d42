"""CompiledModule: returned by compile and load. It takes tensors and returns tensors."""

import copy
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax

from tvm_balanced.core.report import Report
from tvm_balanced.core.validation import check_count
from tvm_balanced.errors import InputError
from tvm_balanced.runtime.cuda.device import current_gpu, place
from tvm_balanced.runtime.function import Function, WithWeights
from tvm_balanced.runtime.huge_pages import in_huge_pages
from tvm_balanced.runtime.metadata import ModuleMetadata

if TYPE_CHECKING:
    from tvm_balanced.timing.profile import Profile


class CompiledModule:
    """A compiled model. Call it with the model's inputs, in order or by name.

    One with several entry points has them by name, as `module["decode"]`; they share its weights, and calling the module runs the
    first. A layer that prefill computes for many rows and decode for one may have a kernel for each, and then a packed copy of
    its weight for each kernel; where both have the same kernel, they share one.

    On a GPU it stays where torch's current device was when it was compiled or loaded, the first where torch had used none.

    Parameters
    ----------
    executable : tvm.relax.VMExecutable or tvm.runtime.Module
    weights : sequence of (name, tvm.runtime.Tensor)
        Parameters of the library's functions, of which each takes those that its EntryPointSpec lists; on the CPU, 64-byte
        aligned.
    facts : ModuleMetadata
    runnable : bool
        Whether this machine can run the code. A module for another machine can be saved, but not
        called.
    origin : Path, optional
        The artifact that it was loaded from.
    """

    def __init__(
        self,
        executable: Any,
        weights: Sequence[tuple[str, Any]],
        facts: ModuleMetadata,
        runnable: bool = True,
        origin: Path | None = None,
    ) -> None:
        self.executable, self.facts, self.origin = executable, facts, origin
        self.device = current_gpu() if facts.on_gpu else tvm.cpu()
        self.weights = place(weights, self.device) if runnable else list(weights)
        if runnable and not facts.on_gpu:
            self.weights = in_huge_pages(self.weights)
        self.start(runnable)

    def start(self, runnable: bool) -> None:
        """Make what only one call at a time may use: a virtual machine, its functions with their weights, and a lock."""
        self.machine = relax.VirtualMachine(self.executable, self.device) if runnable else None
        self.compiled: dict[str, WithWeights] = {}
        if self.machine is not None:
            for name, spec in self.facts.entry_points.items():
                self.compiled[name] = WithWeights(self.machine[name], [self.weights[place][1] for place in spec.weights])
        self.captured: list[Any] = []  # memory of calls in CUDA graphs, which may be replayed as long as the module lives
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        entries = self.facts.entry_points
        listed = "; ".join(spec.signature if len(entries) == 1 else f"{name}: {spec.signature}" for name, spec in entries.items())
        total, sparse = self.report.total, self.report.sparse_layers
        layers = f"{sparse} sparse, {total - sparse} dense layers"
        return f"<CompiledModule: {listed}; {layers}; {self.facts.target_key}, threads={self.threads}>"

    def __getitem__(self, name: str) -> Function:
        """Return an entry point by its name; raises InputError where there is none of it."""
        known = self.facts.entry_points
        if name not in known:
            raise InputError(f'entry point "{name}" is unknown; the module has {", ".join(known)}')
        return Function(self, name)

    def clone(self) -> "CompiledModule":
        """Return a second instance on the same code and weights, whose calls do not wait for this one's.

        For servers: calls of one instance take turns, and each thread may have an instance of its own. `threads` of each may be
        set apart. On a GPU calls are launched one after another still, and run in the order of their streams.
        """
        twin = copy.copy(self)
        twin.start(self.machine is not None)
        return twin

    def __copy__(self) -> "CompiledModule":
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __reduce__(self) -> Any:
        """Refuse pickle and copy.deepcopy: the library and its memory belong to this process."""
        raise InputError("a compiled module cannot be pickled or copied; save it and load it, or call clone() for another thread")

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
        check_count("threads", count)
        self.facts = replace(self.facts, threads=count)

    def with_error(self, max_error: float) -> "CompiledModule":
        """Record the largest absolute difference to the original model, and return self."""
        self.facts = replace(self.facts, max_error=max_error)
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

        A donated input's own buffer, contiguous and aligned or not, holds the output that takes its place when the call returns,
        and is what is returned for it.

        Non-finite activations: a result is finite only where dense arithmetic without the pruned weights is. Pruned weights
        are skipped, so that dense arithmetic's 0 * inf = NaN may be missing; unused slots hold a weight of 0, so that an
        infinity beside kept weights may give NaN where dense arithmetic gives an infinity.

        Parameters
        ----------
        *args, **kwargs
            The inputs of `facts.inputs`, with the shapes and dtypes listed there, on the module's
            device.

        Returns
        -------
        The model's result: a tensor, or a tuple, list, dict, or class that torch.export knows, with the
        same nesting. NumPy arrays in give one array, or a flat tuple in the order of `facts.outputs`,
        whose names tell where each was.

        Raises
        ------
        InputError
            Where an input is missing, unknown, or has the wrong type, shape, dtype or device, or a size out of range; where a
            donated one cannot be written.
        TargetError
            If the module was compiled for another machine.
        """
        return self._main(*args, **kwargs)

    def profile(self, *args: Any, rounds: int = 20, **kwargs: Any) -> "Profile":
        """Time every layer of a call, see `timing.profile.profile`; inputs and errors as for a call."""
        return self._main.profile(*args, rounds=rounds, **kwargs)

    def save(self, path: str | Path, cc: str | None = None) -> None:
        """Write the module as an artifact, see `artifact.save`."""
        from tvm_balanced.runtime import artifact

        artifact.save(self, path, cc)
