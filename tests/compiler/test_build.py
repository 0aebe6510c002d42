import json
import re

import pytest
import tvm
from support import reference

from tvm_balanced.compiler.build import CONFIG, GPU_PASSES, OPTIONS, build, plain_passes, with_llvm_options
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.schedules import KERNELS, Workload


def options(target):
    return list(target.attrs.get("cl-opt", []))


def test_llvm_is_told(rng):
    target = parse_target("cpu/x86-64-v3")
    assert options(with_llvm_options(target)) == list(OPTIONS)
    assert options(target) == []
    assert {k: v for k, v in with_llvm_options(target).export().items() if k != "cl-opt"} == dict(target.export())


def test_what_a_user_tells_llvm_stays():
    own = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64", "cl-opt": ["-unroll-threshold:uint=100"]})
    assert options(with_llvm_options(own)) == ["-unroll-threshold:uint=100", *OPTIONS]


def test_of_a_gpu_the_host_is_told():
    target = parse_target("cuda/h200")
    assert options(with_llvm_options(target).host) == list(OPTIONS)
    assert json.loads(str(with_llvm_options(target)))["arch"] == "sm_90"


def test_passes_that_a_cpu_does_not_need_are_left_out_beside_what_a_user_says():
    own = {"tirx.disable_vectorize": True}
    for name, more, gone in (("cpu/x86-64-v3", CONFIG, GPU_PASSES), ("cuda/h200", {}, ())):
        with tvm.transform.PassContext(opt_level=1, disabled_pass=["some.Pass"], config=own):
            with plain_passes(parse_target(name)):
                now = tvm.transform.PassContext.current()
                assert (now.opt_level, dict(now.config)) == (1, own | more)
                assert list(now.disabled_pass) == ["some.Pass", *gone]
            assert dict(tvm.transform.PassContext.current().config) == own


@pytest.mark.parametrize("m", [8, 64])
def test_indices_are_not_loaded_as_vectors(m):
    """With TVM's own compile they are, of all rows at once, and a shuffle takes out each."""
    target, workload = parse_target("cpu/x86-64-v3"), Workload("cpu_portable", m, 3072, 384, 4, 16)
    kernel = KERNELS["cpu_portable"]
    func = kernel.schedule(kernel.prim_func(workload), workload, target).with_attr("global_symbol", "main")
    loop = reference.innermost_loop(build(func, target).mod.inspect_source("asm").splitlines())
    assert not any("vpextr" in line for line in loop)


def code_of(built):
    """What goes to LLVM, without the addresses that TVM calls its buffers by."""
    return re.sub(r"0x[0-9a-f]{6,}", "", built.mod.inspect_source("ll"))


@pytest.mark.parametrize("name", ["cpu_avx512", "cpu_portable_i8"])
def test_without_passes_for_gpus_the_code_is_the_same(name, monkeypatch):
    target, workload = parse_target("cpu/x86-64-v4"), Workload(name, 16, 64, 128, 4, 16, activation="gelu", residual=True)
    func = KERNELS[name].schedule(KERNELS[name].prim_func(workload), workload, target).with_attr("global_symbol", "main")
    without = code_of(build(func, target))
    ran = []

    @tvm.ir.instrument.pass_instrument
    class Names:
        def run_after_pass(self, _mod, info):
            ran.append(info.name)

    monkeypatch.setattr("tvm_balanced.compiler.build.GPU_PASSES", ())
    with tvm.transform.PassContext(instruments=[Names()]):
        assert code_of(build(func, target)) == without
    assert set(GPU_PASSES) <= set(ran)  # all of them exist, and are of TVM's pipeline
