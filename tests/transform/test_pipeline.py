import importlib

import numpy as np
import torch
import tvm
from support import reference
from support.relax_modules import module
from tvm import relax

import tvm_balanced as tb
import tvm_balanced.transform
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.transform import lower_dense_ops
from tvm_balanced.transform.pipeline import DUMP, lower


def build(rng):
    weight = reference.balanced(64, 128, BalancedPattern(2, 16), rng)
    bias = rng.standard_normal(64).astype(np.float32)

    def layer(b, x):
        y = b.emit(relax.op.matmul(x, b.emit(relax.op.permute_dims(relax.const(weight)))))
        return relax.op.nn.relu(b.emit(relax.op.add(y, relax.const(bias))))

    return module(layer, (6, 128)), weight, bias


def test_named_pipeline_works_with_plain_tvm(rng):
    mod, weight, bias = build(rng)
    executable = tvm.compile(mod, host_target(), relax_pipeline="tvm_balanced")
    x = rng.standard_normal((6, 128)).astype(np.float32)
    got = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    assert reference.relative_error(got, reference.dense(x, weight, bias, "relu")) < 1e-5


def test_weights_leave_the_library_when_asked(rng):
    mod, *_ = build(rng)
    lowered = lower(mod, host_target())
    assert [w.name.split(".")[1] for w in lowered.weights] == ["values", "indices", "bias"]
    assert [bucket.sparse for plan in lowered.plans for bucket in plan.buckets] == [True]
    assert [(call.index, call.variants[0].workload.activation) for call in lowered.calls] == [(0, "relu")]
    assert lower(mod, host_target(), lift=False).weights == []


def test_phases_are_told_and_dumped(rng, tmp_path, monkeypatch):
    monkeypatch.setenv(DUMP, str(tmp_path / "dump"))
    mod, *_ = build(rng)
    told = []
    lower(mod, host_target(), progress=told.append)
    assert [path.name for path in sorted((tmp_path / "dump").iterdir())] == [f"phase{i}.py" for i in range(1, len(told) + 1)]
    assert "R.packed_dense" in (tmp_path / "dump" / "phase1.py").read_text()
    assert (tmp_path / "dump" / "phase1.py").read_text().startswith(f"# {told[0]}\n")


def test_registration_is_idempotent():
    importlib.reload(tvm_balanced.transform)
    assert relax.get_pipeline("tvm_balanced") is not None


def test_all_loops_are_in_one_function_for_each_layer(rng):
    """Bias and activation are fused: nothing is left for TVM to compute."""
    mod, *_ = build(rng)
    lowered = lower(mod, host_target())
    functions = [var.name_hint for var, func in lowered.mod.functions_items() if isinstance(func, tvm.tirx.PrimFunc)]
    assert functions == [lowered.calls[0].function]


def test_a_weight_is_packed_once(monkeypatch):
    """FoldConstant legalizes every operator only to look whether its result is constant."""
    calls, lower = [], lower_dense_ops.lower_dense_op

    def counted(*args):
        calls.append(args)
        return lower(*args)

    monkeypatch.setattr(lower_dense_ops, "lower_dense_op", counted)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)).eval()
    tb.prune(model, "4:16")
    tb.compile(model, (torch.randn(4, 64),))
    assert len(calls) == 2
