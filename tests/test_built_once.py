import numpy as np
import pytest
import tvm
from support import built_once
from support.built_once import BuiltOnce, Shared
from tvm.script import tirx as T

from tvm_balanced.compiler.build import CONFIG
from tvm_balanced.runtime.host import host_target

BUILD = tvm.tirx.build
HOST = host_target()


def plus(number):
    @T.prim_func(s_tir=True)
    def main(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("add"):
                vi = T.axis.spatial(4, i)
                y[vi] = x[vi] + T.float32(number)

    return main


@pytest.fixture
def build():
    return BuiltOnce(BUILD)


def added(module):
    x, y = (tvm.runtime.tensor(np.zeros(4, np.float32)) for _ in "xy")
    tvm.runtime.Executable(module)["main"](x, y)
    return y.numpy()[0]


@pytest.mark.slow
def test_equal_code_is_built_once_and_other_code_again(build):
    assert [added(build(plus(number), HOST)) for number in (1, 1, 2, 1)] == [1, 1, 2, 1]
    assert (build.asked, build.built) == (4, 2)
    assert added(build(tvm.IRModule({"main": plus(2)}), HOST)) == 2  # a module of the function is not the function
    assert build.built == 3


def test_another_target_is_other_code(build):
    for target in (HOST, tvm.target.Target("llvm"), HOST):
        assert added(build(plus(1), target)) == 1
    assert build.built == 2


def test_settings_of_the_passes_are_told_apart(build):
    for config in ({}, CONFIG, {}, CONFIG):
        with tvm.transform.PassContext(config=config):
            assert added(build(plus(1), HOST)) == 1
    assert build.built == 2


def test_what_another_process_has_built_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(built_once, "WORTH", 0)
    first, second = (BuiltOnce(BUILD, Shared(tmp_path)) for _ in "ab")
    codes = [build(plus(1), HOST) for build in (first, second)]
    assert (first.built, second.built, second.found) == (1, 0, 1)
    assert codes[0].inspect_source("asm") == codes[1].inspect_source("asm")
    assert added(codes[1]) == 1
    assert added(second(plus(2), HOST)) == 2
    assert added(second(plus(1), tvm.target.Target("llvm"))) == 1
    with tvm.transform.PassContext(config=CONFIG):
        second(plus(1), HOST)
    assert second.built == 3
    assert {path.suffix for path in tmp_path.iterdir()} == {".ll"}


def test_what_costs_little_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(built_once, "WORTH", 1e9)
    BuiltOnce(BUILD, Shared(tmp_path))(plus(1), HOST)
    assert not list(tmp_path.iterdir())


def test_what_passes_of_a_test_change_is_always_built():
    calls = []
    build = BuiltOnce(lambda *given: calls.append(given))
    build(plus(1), HOST, "a pipeline of its own")
    build(plus(1), tvm.target.Target({"kind": "cuda", "arch": "sm_90"}, host="llvm"))
    with tvm.transform.PassContext(config={"tirx.disable_vectorize": True}):
        build(plus(1), HOST)
    for _ in range(2):
        with tvm.transform.PassContext(instruments=[tvm.ir.instrument.PassTimingInstrument()]):
            build(plus(1), HOST)
    assert len(calls) == build.built == 5
