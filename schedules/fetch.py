"""Fetching weights before they are used: software prefetches that cost a kernel nothing but their own instruction.

TVM's prefetch becomes LLVM's, for which LLVM takes any memory to change: sums that it keeps in registers were stored at every
step, 0.55x the speed. So it is an instruction of its own, which is said to touch no memory of the program.
"""

from typing import Any

from tvm.s_tir import Schedule
from tvm.script import tirx as T

INTO_SECOND_LEVEL = """
define linkonce_odr i32 @tvm_balanced_fetch(ptr %line) alwaysinline nounwind willreturn {
  call void asm sideeffect "prefetcht1 ($0)", "r"(ptr %line) nounwind willreturn memory(inaccessiblemem: readwrite)
  ret i32 0
}
"""


def fetch(element: Any) -> Any:
    """Return the expression that brings the cache line of a buffer's element into the second-level cache of an x86 CPU.

    The element may lie past the buffer's end. The schedule must call `import_fetch`.
    """
    return T.call_extern("int32", "tvm_balanced_fetch", T.address_of(element))


def import_fetch(sch: Schedule, block: str) -> None:
    """Let the function whose schedule is `sch` use `fetch`; `block` is any of its blocks."""
    sch.annotate(sch.get_loops(sch.get_sblock(block))[0], "pragma_import_llvm", INTO_SECOND_LEVEL)
