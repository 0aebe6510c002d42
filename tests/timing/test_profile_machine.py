import json

import numpy as np
import pytest
import tvm

from tvm_balanced.errors import TargetError
from tvm_balanced.runtime.host import host_target
from tvm_balanced.selection import machine_profile
from tvm_balanced.timing import profile_machine, rotating
from tvm_balanced.timing.rotating import rotation


@pytest.mark.slow
def test_every_kernel_of_this_machine_is_measured(monkeypatch, tmp_path):
    for module in (profile_machine, machine_profile):
        monkeypatch.setattr(module, "ARITHMETIC", ((1, 64, 64, 1), (4, 64, 64, 8)))
        monkeypatch.setattr(module, "MEMORY", (64, 64, 1))
    monkeypatch.setattr(
        profile_machine, "rotation", lambda workload, _rotate: rotation(workload, 0)
    )  # thousands of copies of a small one
    monkeypatch.setattr(rotating, "SECONDS", 0.001)
    times = profile_machine.measure(host_target())
    found = machine_profile.MachineProfile.of(host_target(), times)
    assert [m for m, _ in found.arithmetic["cpu_dense float32"]] == [1, 4]
    assert set(found.arithmetic) == set(found.memory)
    assert all(np.isfinite(factor) and factor > 0 for factor in found.memory.values())
    machine_profile.save(times, tmp_path / "c.json")
    assert machine_profile._read(tmp_path / "c.json") == times
    assert json.loads((tmp_path / "c.json").read_text())["source"] == found.source
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_another_machine_cannot_be_measured():
    with pytest.raises(TargetError, match="not this machine"):
        profile_machine.measure(tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1"}))
