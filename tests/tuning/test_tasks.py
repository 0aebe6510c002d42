import pytest
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.compiler.layers import planned
from tvm_balanced.core.row_range import RowRange
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.selection.kernel_choice import KernelSelector
from tvm_balanced.tuning.tasks import Task, shard, tasks_of, tunable


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 32)

    def forward(self, x):
        for layer in (self.a, self.b, self.b):
            x = x + layer(x)
        return torch.relu(self.out(x))


def tasks(dynamic=None, kernels=None):
    torch.manual_seed(0)
    module = Block().eval()
    tb.prune(module, "2:16", exclude="out")
    imported = tb.api.import_model(module, (torch.randn(8, 64),), None, dynamic)
    return tasks_of(planned(imported, KernelSelector.of(host_target(), 1, kernels))[1])


def test_equal_kernels_are_one_task_with_its_calls_and_layers():
    hidden, out = tasks()
    assert (hidden.calls, hidden.layers) == (3, ("a", "b"))
    assert hidden.workload.residual
    assert (out.workload.kernel, out.workload.activation, out.calls) == ("cpu_dense", "relu", 1)
    assert "+residual" in hidden.title
    assert "relu" in out.title


def test_what_is_left_to_tvm_is_no_task():
    assert [task.layers for task in tasks(kernels={"out": "none"})] == [("a", "b")]


def test_a_symbolic_m_is_tuned_at_its_small_tunable():
    found = tasks(({0: torch.export.Dim("batch")},))
    assert {task.workload.m for task in found if task.workload.kernel == "cpu_dense"} == {
        tile for _, _, tile in KERNELS["cpu_dense"].small_tiles
    }
    assert tunable(Variant(Workload("cuda_dense", None, 8, 16, 1, 1))) == []
    assert [w.m for w in tunable(Variant(Workload("cpu_dense", None, 8, 16, 1, 1), RowRange(2, 5)))] == [2, 4, 6]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_are_a_partition(count):
    all_ = [Task(Workload("cpu_dense", m, 16, 16, 1, 1)) for m in range(1, 8)]
    assert sorted(t.workload.m for i in range(count) for t in shard(all_, i + 1, count)) == list(range(1, 8))
