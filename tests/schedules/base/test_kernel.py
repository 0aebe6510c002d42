from dataclasses import replace

from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.base.kernel import built_once


def test_a_function_is_built_once_for_the_layers_of_models_and_anew_elsewhere():
    kernel = KERNELS["cpu_dense"]
    workload = kernel.workload(3, 16, 32, None)
    with built_once():
        built = kernel.prim_func(workload)
    with built_once():
        assert kernel.prim_func(replace(workload)) is built
        assert Workload.of(kernel.prim_func(replace(workload, n=32))).n == 32
    assert kernel.prim_func(workload) is not built
