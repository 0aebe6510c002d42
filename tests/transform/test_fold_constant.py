import numpy as np
import pytest
import tvm
import tvm_ffi
from support.relax_modules import module
from tvm import relax
from tvm.ir import GenericConst

from tvm_balanced.transform import fold_constant as file
from tvm_balanced.transform.fold_constant import Builds, fold_constant


def folded(scale, width=40):
    """What `fold_constant` makes of a module that adds the product of two constants, `scale` and 0, 1, ..., to x (2, width)."""

    def layer(builder, x):
        one, other = np.full(width, scale, np.float32), np.arange(width, dtype=np.float32)
        of_weights = builder.emit(relax.op.multiply(relax.const(one), relax.const(other)))
        return relax.op.add(x, of_weights)

    mod = relax.transform.LegalizeOps()(module(layer, (2, width)))
    return relax.transform.DeadCodeElimination()(fold_constant(mod))


@pytest.fixture
def built(monkeypatch):
    """The functions that are built, beginning with none that were built before."""
    calls = []
    monkeypatch.setattr(file, "_builds", Builds(lambda *given: calls.append(given) or tvm.tirx.build(*given), kept=2))
    return calls


def constants(mod):
    found = []
    relax.analysis.post_order_visit(mod["main"], lambda e: found.append(e) if isinstance(e, GenericConst) else None)
    return [constant.value.numpy() for constant in found]


def test_a_function_is_built_once_for_two_models(built):
    for scale in (2, 3):
        (value,) = constants(folded(scale))
        np.testing.assert_array_equal(value, scale * np.arange(40))
    assert len(built) == 1


def test_llvm_optimizes_nothing_that_runs_once(monkeypatch):
    targets, build = [], tvm.tirx.build
    monkeypatch.setattr(tvm.tirx, "build", lambda func, target: targets.append(target) or build(func, target))
    (value,) = constants(folded(2, width=23))
    np.testing.assert_array_equal(value, 2 * np.arange(23))
    assert [int(target.attrs["opt-level"]) for target in targets] == [0]
    assert file.quick('{"kind": "cuda", "arch": "sm_90"}').kind.name == "cuda"


def test_another_shape_is_another_function_and_few_are_kept(built):
    for width in (8, 16, 8, 24, 16, 24):  # two are kept: 16 goes when 24 comes, then 8
        (value,) = constants(folded(2, width))
        np.testing.assert_array_equal(value, 2 * np.arange(width))
    assert [int(given[0].params[0].ty.shape[0]) for given in built] == [8, 16, 24, 16]


def test_functions_of_one_hash_are_told_apart(built, monkeypatch):
    monkeypatch.setattr(tvm_ffi, "structural_hash", lambda _: 0)
    for width in (8, 16):
        assert constants(folded(2, width))[0].shape == (width,)
    assert len(built) == 2


def test_tvm_builds_as_before_afterwards(built):
    before = tvm_ffi.get_global_func("tirx.build")
    folded(2)
    after = tvm_ffi.get_global_func("tirx.build")
    func = folded(2)["add"]
    assert len(built) == 1
    for build in (before, after):
        assert build(func.with_attr("global_symbol", "main"), tvm.target.Target("llvm")) is not None
    assert len(built) == 1
