import pytest
import tvm
from support import reference

from tvm_balanced.core.detection import detect
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.selection import machine_profile
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.machine_profile import MachineProfile
from tvm_balanced.selection.rooflines import roofline_of

AVX512 = tvm.target.Target({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2})


def bucket(rng, factors):
    """`factors`: kernel to its factors of arithmetic from M = 1 and from M = 32, and of memory."""
    weight = reference.balanced(128, 256, BalancedPattern(2, 16), rng)
    found = None
    if factors is not None:
        named = {f"{name} float32": values for name, values in factors.items()}
        arithmetic = {name: ((1, few), (32, many)) for name, (few, many, _) in named.items()}
        found = MachineProfile(arithmetic, {name: memory for name, (_, _, memory) in named.items()}, "a test")
    (made,) = KernelSelector(AVX512, roofline_of(AVX512), None, found)(DenseLayer("fc", 64, 128, 256, "float32", detect(weight)))
    return made


FAIR, SLOW = (1.0, 1.0, 1.0), (100.0, 100.0, 100.0)


def test_measured_times_overrule_the_model(rng):
    assert bucket(rng, None).verdict.source == "modelled"
    fair = bucket(rng, {"cpu_avx512": FAIR, "cpu_dense": FAIR})
    assert (fair.kernel, fair.verdict.source) == ("cpu_avx512", "measured")
    others = {"cpu_avx512_spmm": SLOW, "cpu_avx2": SLOW, "cpu_portable": SLOW, "cpu_dense": FAIR}
    assert bucket(rng, {"cpu_avx512": (1.0, 100.0, 1.0), **others}).kernel == "cpu_dense"  # M = 64 counts
    assert bucket(rng, {"cpu_avx512": (100.0, 1.0, 1.0), **others}).kernel == "cpu_avx512"
    assert bucket(rng, {"cpu_avx512": (1.0, 1.0, 1000.0), **others}).kernel == "cpu_dense"
    assert bucket(rng, {"cpu_avx512": FAIR}).verdict.source == "modelled"  # dense was not measured


def test_the_point_below_m_counts():
    found = MachineProfile({"k float32": ((1, 1.0), (8, 2.0))}, {"k float32": 4.0}, "a test")
    roofline = roofline_of(AVX512)
    ratios = [roofline.gmacs / found.corrected(roofline, "k", "float32", m).gmacs for m in (1, 7, 8, 500)]
    assert ratios == [1.0, 1.0, 2.0, 2.0]
    assert roofline.gbytes / found.corrected(roofline, "k", "float32", 1).gbytes == 4.0
    assert found.corrected(roofline, "k", "bfloat16", 1) == roofline


def test_the_users_file_comes_before_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = tvm.target.Target({"kind": "llvm", "mcpu": "z15", "mtriple": "s390x-linux-gnu"})
    assert machine_profile.load(target) is None
    machine_profile.save(
        MachineProfile({"k float32": ((1, 2.0),)}, {"k float32": 1.0}, "mine"), machine_profile.user_file(target)
    )
    assert machine_profile.load(target) == MachineProfile({"k float32": ((1, 2.0),)}, {"k float32": 1.0}, "mine")
    assert target_key(target) in str(machine_profile.user_file(target))
    assert machine_profile.load(tvm.target.Target({"kind": "llvm", "mcpu": "z14", "mtriple": "s390x-linux-gnu"})) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"format": 1, "arithmetic": {"k": [[1e999, 1]]}, "memory": {"k": 1}}',
        '{"format": 2}',
        '{"format": 1, "arithmetic": {"k": [[1, -1]]}, "memory": {"k": 1}, "source": ""}',
    ],
)
def test_a_damaged_file_is_named(text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = machine_profile.user_file(AVX512)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(TargetError, match="cannot be read as a machine profile"):
        machine_profile.load(AVX512)
