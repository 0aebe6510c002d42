import gc
import weakref

import numpy as np
import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.comparison import difference
from tvm_balanced.errors import EnvironmentFaultError, InputError, TargetError, ToleranceError


def test_a_result_beyond_the_tolerance_is_refused(mlp):
    with pytest.raises(ToleranceError, match="differs from the original model by"):
        tb.compile(*mlp, tolerance=1e-12)


def test_a_wrong_kernel_is_refused(mlp, monkeypatch):
    """The check is real: a kernel that drops its last block does not get through."""
    from tvm_balanced.schedules.kernels.cpu_portable import CpuPortable

    good = CpuPortable.pack

    def broken(self, weight):
        values, indices = good(self, weight)
        values[:, -2:] = 0
        return values, indices

    monkeypatch.setattr(CpuPortable, "pack", broken)
    with pytest.raises(ToleranceError):
        tb.compile(*mlp, kernels={"*": "cpu_portable"})


def test_forced_kernels(mlp):
    model, (x,) = mlp
    for name in ("cpu_portable", "cpu_dense", "none"):
        module = tb.compile(model, (x,), kernels={"0": name})
        torch.testing.assert_close(module(x), model(x).detach(), rtol=1e-4, atol=1e-5)
        layer = module.report.layers[0]
        assert layer.kernel == ("tvm" if name == "none" else name)
        assert layer.source == "forced"
        assert module.report.layers[1].source in ("measured", "modelled")


def test_a_name_that_is_no_layer(mlp):
    with pytest.raises(TargetError, match=r'"encoder\.\*", which is no dense layer'):
        tb.compile(*mlp, kernels={"encoder.*": "cpu_dense"})


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(mlp, threads):
    with pytest.raises(InputError, match="1 or more"):
        tb.compile(*mlp, threads=threads)


def test_unknown_kernels_and_targets(mlp):
    for options in (
        {"kernels": {"*": "magic"}},
        {"target": "tpu"},
        {"target": "cpu/no-such-cpu"},
        {"target": {"kind": "opencl"}},
        {"target": "cuda/no-such-gpu"},
    ):
        with pytest.raises(TargetError):
            tb.compile(*mlp, **options)


def test_a_kernel_that_cannot_compute_the_layer(mlp):
    with pytest.raises(TargetError, match="asked for on layer 0, but the target has no AVX-512"):
        tb.compile(*mlp, kernels={"0": "cpu_avx512"}, target="cpu/x86-64-v3")


def test_a_broken_tvm_is_refused_before_anything_is_compiled(mlp, monkeypatch):
    monkeypatch.setattr(
        "tvm_balanced.runtime.environment.versions", lambda: {"apache-tvm": "0.27.0", "apache-tvm-ffi": "0.1.15.post2"}
    )
    with pytest.raises(EnvironmentFaultError, match=r"apache-tvm-ffi 0\.1\.15\.post2 does not work"):
        tb.compile(*mlp)


def test_inspect_says_what_compile_would_do(mlp, compiled_mlp):
    assert tb.inspect(*mlp) == compiled_mlp.report


def test_model_with_nothing_to_rewrite():
    module = tb.compile(nn.ReLU(), (torch.randn(3, 4),))
    assert str(module.report).startswith("no operator with a constant weight\n")
    assert (module(torch.full((3, 4), -1.0)) == 0).all()


def test_odd_patterns_are_covered_where_that_is_cheaper():
    torch.manual_seed(0)
    for text in ("10:50", "7:25", "3:20"):
        model = nn.Linear(300, 64)
        tb.prune(model, text)
        module = tb.compile(model, (torch.randn(2, 300),))
        layer = module.report.layers[0]
        assert layer.pattern == text
        assert layer.stored == text or "padding" in layer.reason
        assert module.facts.max_error < 1e-5


def test_gpu_code_is_compiled_for_its_target_whatever_gpu_is_here(arches):
    torch.manual_seed(0)
    model = nn.Linear(64, 96).half().eval()
    tb.prune(model, "2:16")
    for name, arch in (("a100", "sm_80"), ("h200", "sm_90")):
        arches.clear()
        tb.compile(model, (torch.randn(5, 64).half(),), target=f"cuda/{name}")
        assert set(arches) == {arch}


@pytest.mark.parametrize(
    ("want", "got", "error", "scale"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5, 2.0),
        ([0.1], [0.1], 0.0, 1.0),
        ([np.nan, np.inf], [np.nan, np.inf], 0.0, 1.0),
        ([np.nan], [1.0], np.inf, 1.0),
        ([1.0], [np.nan], np.inf, 1.0),
        ([np.inf], [-np.inf], np.inf, 1.0),
        ([], [], 0.0, 1.0),
    ],
)
def test_difference(want, got, error, scale):
    assert difference(np.array(want), np.array(got)) == (error, scale)


def test_a_model_is_let_go_when_its_owner_does():
    """Not when Python next collects garbage: large models would be in memory twice."""

    def compiled():
        model = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 40))
        tb.prune(model, "2:16")
        return tb.compile(model, (torch.randn(4, 64),)), weakref.ref(model)

    gc.collect()
    gc.disable()
    try:
        module, model = compiled()
        assert model() is None
        assert module(torch.zeros(4, 64)).shape == (4, 40)
    finally:
        gc.enable()
