import numpy as np
import pytest
import reference
import tvm

from tvm_balanced.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS, Workload

P = BalancedPattern.parse
KERNEL = KERNELS["cpu_portable"]


@pytest.mark.parametrize(
    ("pattern", "k", "n"),
    [
        ("2:16", 1500, 64),
        ("4:32", 784, 64),
        ("8:64", 40, 64),
        ("2:16", 256, 1000),
        ("10:50", 500, 64),
        ("10:50", 1500, 64),
        ("7:25", 160, 64),
        ("3:20", 130, 64),
        ("1:2", 33, 5),
        ("100:256", 600, 8),
    ],
)
@pytest.mark.parametrize("m", [1, 9])
def test_ragged_and_odd(pattern, k, n, m, rng):
    weight = reference.balanced(n, k, P(pattern), rng)
    bias, x = rng.standard_normal(n).astype(np.float32), rng.standard_normal((m, k)).astype(np.float32)
    run = reference.compile_kernel("cpu_portable", weight, P(pattern), bias, m)
    assert reference.relative_error(run(x), reference.dense(x, weight, bias)) < 1e-5


@pytest.mark.parametrize("name", ["cpu_portable", "cpu_dense"])
@pytest.mark.parametrize("target", ["aarch64", "haswell"])
def test_other_cpus_get_vector_code(name, target):
    description = (
        {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]}
        if target == "aarch64"
        else {"kind": "llvm", "mcpu": target}
    )
    kernel = KERNELS[name]
    workload = Workload(name, 16, 64, 64, *((2, 16) if name == "cpu_portable" else (1, 1)), activation="gelu")
    target_ = tvm.target.Target(description)
    assert kernel.refuses(target_, 64, 64, "float32") is None
    function = kernel.schedule(kernel.prim_func(workload), workload, target_).with_attr("global_symbol", "main")
    assembly = tvm.compile(function, target_).mod.inspect_source("asm")
    assert ("fmla\tv" if target == "aarch64" else "%ymm") in assembly
    assert "%zmm" not in assembly


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3"])
def test_code_for_an_older_cpu_runs_and_is_right(target, rng):
    weight = reference.balanced(40, 70, P("3:16"), rng)
    x = rng.standard_normal((6, 70)).astype(np.float32)
    old = tvm.target.Target({"kind": "llvm", "mcpu": target})
    for name in ("cpu_portable", "cpu_dense"):
        run = reference.compile_kernel(name, weight, P("3:16"), None, 6, target=old)
        assert reference.relative_error(run(x), reference.dense(x, weight)) < 1e-5


def test_one_row_is_not_a_gather(rng):
    from tvm_balanced.targets import host_target

    workload = Workload("cpu_portable", 1, 64, 64, 2, 16)
    function = KERNEL.schedule(KERNEL.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    assert "gather" not in tvm.compile(function, host_target()).mod.inspect_source("asm")


def test_refuses_other_dtypes_and_targets():
    cpu = tvm.target.Target({"kind": "llvm"})
    assert "bfloat16" in KERNEL.refuses(cpu, 64, 64, "bfloat16")
    assert "not a CPU" in KERNEL.refuses(tvm.target.Target({"kind": "cuda", "arch": "sm_90"}), 64, 64, "float32")
