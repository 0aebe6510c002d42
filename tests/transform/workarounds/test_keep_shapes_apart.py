import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from tvm_balanced.transform.workarounds.keep_shapes_apart import KeepShapesApart


def of_two_sizes() -> tvm.IRModule:
    """y = a + m, with a of n + 1 elements: two symbols, and a size that becomes a value."""
    builder = relax.BlockBuilder()
    n, m = tirx.Var("n", "int64"), tirx.Var("m", "int64")
    sizes = {"c": n, "b": m, "a": n + 1}
    c, b, a = (relax.Var(name, relax.TensorType((size,), "int64")) for name, size in sizes.items())
    with builder.function("main", [c, b, a]):
        with builder.dataflow():
            size = builder.emit(relax.op.reshape(builder.emit(relax.op.shape_to_tensor(relax.ShapeExpr([m]))), []))
            y = builder.emit_output(builder.emit(relax.op.add(a, size)))
        builder.emit_func_output(y)
    return builder.get()


def fused(*passes: tvm.transform.Pass) -> tvm.IRModule:
    legal = [relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern()]
    return tvm.transform.Sequential([*legal, *passes, relax.transform.FuseOps(), relax.transform.FuseTIR()])(of_two_sizes())


def test_a_size_as_a_value():
    run = relax.VirtualMachine(tvm.compile(fused(KeepShapesApart()), "llvm"), tvm.cpu())["main"]
    c, b, a = (tvm.runtime.tensor(np.arange(size)) for size in (4, 7, 5))
    np.testing.assert_array_equal(run(c, b, a).numpy(), np.arange(5) + 7)


def test_plain_tvm_cannot_fuse_a_size():
    with pytest.raises(tvm.error.InternalError, match="VarRemapGet"):
        fused()
