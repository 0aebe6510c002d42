"""The branch alone; whole models are computed by it in test_attend_by_library.py."""

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax

from tvm_balanced.core import library_functions
from tvm_balanced.runtime.cuda import libraries, torch_attention
from tvm_balanced.transform import prefer_attention_library
from tvm_balanced.transform.attend_by_library import ATTENTION_ATTR
from tvm_balanced.transform.prefer_attention_library import PreferAttentionLibrary

HOST = tvm.target.Target("llvm")


def module(attrs):
    """main(x (rows, 4)) = 2 * x, by a private function."""
    rows, builder = tvm.tirx.Var("rows", "int64"), relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([rows, 4], "float32"))
    with builder.function("twice", [x], attrs=attrs, private=True):
        with builder.dataflow():
            y = builder.emit_output(builder.emit(relax.op.add(x, x)))
        builder.emit_func_output(y)
    func = relax.utils.copy_with_new_vars(builder.get()["twice"])
    builder = relax.BlockBuilder()
    twice = builder.add_func(func, "twice")
    x = relax.Var("x", relax.TensorType([tvm.tirx.Var("rows", "int64"), 4], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(builder.emit(relax.Call(twice, [x])))
        builder.emit_func_output(y)
    return builder.get()


@pytest.fixture
def library():
    """Answers what compiled code asks: whether there is one, and what it computes."""
    there, told = [True], []

    def attend(kind, text, x):
        told.append((kind, text))
        return tvm.runtime.tensor(x.numpy() * 3)

    tvm_ffi.register_global_func(library_functions.ATTENTION_USABLE, lambda _: there[0], override=True)
    tvm_ffi.register_global_func(library_functions.ATTENTION, attend, override=True)
    yield there, told
    libraries.register()


def test_the_library_is_asked_at_every_call(library):
    there, told = library
    with HOST:
        mod = tvm.transform.Sequential([relax.transform.LegalizeOps(), PreferAttentionLibrary()])(module({ATTENTION_ATTR: "{}"}))
        built = tvm.compile(mod, HOST)
    main = relax.VirtualMachine(built, tvm.cpu())["main"]
    x = np.ones((5, 4), np.float32)
    for there[0], factor in ((True, 3), (False, 2), (True, 3)):
        np.testing.assert_array_equal(main(tvm.runtime.tensor(x)).numpy(), factor * x)
    assert told == [("llvm", "{}")] * 2


def test_other_functions_stay_as_they_are():
    before = module({})
    with HOST:
        assert PreferAttentionLibrary()(before).same_as(before)


def test_compiled_code_and_the_runtime_mean_the_same_functions():
    names = prefer_attention_library.ATTENTION_USABLE, prefer_attention_library.ATTENTION
    assert names == (library_functions.ATTENTION_USABLE, library_functions.ATTENTION)
    assert [libraries.FUNCTIONS[name] for name in names] == [torch_attention.attention_usable, torch_attention.attend]
