import json

import pytest
import tvm

from tvm_balanced.compiler import targets
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime import host, target_features
from tvm_balanced.selection import rooflines


def test_cpu_is_this_machine():
    assert targets.parse_target(None) == targets.parse_target("cpu") == host.host_target()
    assert host.runs_here(host.host_target())


def test_host_target_hides_what_the_machine_does_not_report(monkeypatch):
    full = host.host_features()
    if "avx2" not in full:
        pytest.skip("needs a CPU with AVX2")
    monkeypatch.setattr(host, "host_features", lambda: full - {"avx2"})
    host.host_target.cache_clear()
    try:
        assert "avx2" not in target_features.required_features(host.host_target())
        assert "-avx2" in [str(a) for a in host.host_target().attrs["mattr"]]
    finally:
        host.host_target.cache_clear()


def test_named_cpus_and_json():
    assert str(targets.parse_target("cpu/x86-64-v3").attrs["mcpu"]) == "x86-64-v3"
    assert str(targets.parse_target(json.dumps({"kind": "llvm", "mcpu": "haswell"})).attrs["mcpu"]) == "haswell"
    target = tvm.target.Target({"kind": "llvm"})
    assert targets.parse_target(target) is target


@pytest.mark.parametrize("description", [{"kind": "llvm", "mtriple": "zz"}, {"kind": "llvm", "mcpu": "nonsense"}, {"kind": "c"}])
def test_targets_that_would_end_the_process_are_refused(description):
    with pytest.raises(TargetError):
        targets.parse_target(tvm.target.Target(description))


@pytest.mark.parametrize(
    "text", ["tpu", "cpu/none-such", "{", "[" * 100_000, "cuda/none-such", '{"kind": "opencl"}', "", "llvm -mcpu=znver4"]
)
def test_what_is_no_target_gets_one_sentence(text):
    with pytest.raises(TargetError) as error:
        targets.parse_target(text)
    assert "\n" not in str(error.value)


def test_features():
    v3 = target_features.required_features(targets.parse_target("cpu/x86-64-v3"))
    assert {"avx2", "fma"} <= v3
    assert "avx512f" not in v3
    assert host.missing_features(["made-up", *sorted(v3 & host.host_features())]) == ["made-up"]


def test_architecture_and_key():
    arm = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"})
    assert target_features.architecture(arm) == "aarch64"
    assert target_features.target_key(arm) == "llvm-aarch64-cortex-a72"
    assert not host.runs_here(arm) or target_features.architecture(host.host_target()) == "aarch64"


def test_machine_knows_its_vectors():
    wide = rooflines.roofline_of(tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 4}))
    narrow = rooflines.roofline_of(tvm.target.Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 4}), threads=1)
    assert (wide.lanes, wide.cores) == (16, 4)
    assert (narrow.lanes, narrow.cores) == (8, 1)
    assert wide.gmacs == 2 * narrow.gmacs
