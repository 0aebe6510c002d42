from dataclasses import replace

import pytest
import tvm
from support import reference

from tvm_balanced.core.detection import detect
from tvm_balanced.core.layer_plan import DenseLayer
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import KERNELS
from tvm_balanced.selection import machine_profile
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.selection.machine_profile import MachineProfile, MachineTimes
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


def test_a_kernel_that_was_not_measured_is_corrected_as_the_others_are_in_the_mean():
    """The shipped profile once knew the sparse kernel of 8 bits and not the dense one, which so seemed to be faster at 8:16."""
    arithmetic = {"a float32": ((1, 2.0), (8, 4.0)), "b float32": ((1, 8.0), (8, 1.0))}
    found = MachineProfile(arithmetic, {"a float32": 1.0, "b float32": 9.0}, "a test")
    roofline = roofline_of(AVX512)
    ratios = [roofline.gmacs / found.corrected(roofline, "k", "float32", m).gmacs for m in (1, 8)]
    assert ratios == pytest.approx([4.0, 2.0])
    assert roofline.gbytes / found.corrected(roofline, "k", "float32", 1).gbytes == pytest.approx(3.0)
    assert MachineProfile({}, {}, "none").corrected(roofline, "k", "float32", 1) == roofline


def times_of(target, factor):
    """What a machine measures on which every kernel takes `factor` times as long as is modelled."""
    machine = roofline_of(target, threads=1)
    arithmetic, memory = {}, {}
    for name, kernel, dtype in machine_profile.measured_kernels(target):
        no_memory = replace(machine, gbytes=machine_profile.UNLIMITED, gbytes_all=machine_profile.UNLIMITED)
        no_arithmetic = replace(machine, gmacs=machine_profile.UNLIMITED)
        modelled = [machine_profile.modelled_seconds(kernel, dtype, shape, no_memory) for _, *shape in machine_profile.ARITHMETIC]
        arithmetic[name] = tuple(factor * seconds for seconds in modelled)
        memory[name] = 2 * factor * machine_profile.modelled_seconds(kernel, dtype, machine_profile.MEMORY, no_arithmetic)
    return MachineTimes(arithmetic, memory, "mine")


def test_a_file_has_times_which_are_compared_with_the_model_of_today(monkeypatch):
    times = times_of(AVX512, 3.0)
    gone = replace(times, arithmetic=times.arithmetic | {"gone float32": (1.0,) * 4}, memory=times.memory | {"gone float32": 1.0})
    found = MachineProfile.of(AVX512, gone)
    assert set(found.memory) == set(times.memory)
    assert [factor for _, factor in found.arithmetic["cpu_dense float32"]] == pytest.approx([3.0] * 4)
    assert found.memory["cpu_dense float32"] == pytest.approx(6.0)
    seconds = type(KERNELS["cpu_dense"]).seconds
    monkeypatch.setattr(type(KERNELS["cpu_dense"]), "seconds", lambda *args: 2 * seconds(*args))
    assert MachineProfile.of(AVX512, times).memory["cpu_dense float32"] == pytest.approx(3.0)


def test_the_users_file_comes_before_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = tvm.target.Target({"kind": "llvm", "mcpu": "znver4", "num-cores": 2})
    assert "AMD" in machine_profile.load(target).source
    machine_profile.save(times_of(target, 2.0), machine_profile.user_file(target))
    assert machine_profile.load(target) == MachineProfile.of(target, times_of(target, 2.0))
    assert target_key(target) in str(machine_profile.user_file(target))
    assert machine_profile.load(tvm.target.Target({"kind": "llvm", "mcpu": "z14", "mtriple": "s390x-linux-gnu"})) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"format": 1, "arithmetic": {"k": [[1, 1.5]]}, "memory": {"k": 1}, "source": "factors of an old model"}',
        '{"format": 2}',
        '{"format": 2, "arithmetic": {"k": [1e999, 1, 1, 1]}, "memory": {"k": 1}, "source": ""}',
        '{"format": 2, "arithmetic": {"k": [1, 1, 1, -1]}, "memory": {"k": 1}, "source": ""}',
        '{"format": 2, "arithmetic": {"k": [1, 1, 1]}, "memory": {"k": 1}, "source": ""}',
    ],
)
def test_a_damaged_file_is_named(text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = machine_profile.user_file(AVX512)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(TargetError, match="cannot be read as a machine profile"):
        machine_profile.load(AVX512)
