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
    weights, layers = [], []
    pipeline = relax.get_pipeline("tvm_balanced", weights=weights, layers=layers)
    tvm.compile(mod, host_target(), relax_pipeline=pipeline)
    assert [w.name.split(".")[1] for w in weights] == ["values", "indices", "bias"]
    assert layers[0].verdict.sparse


def test_registration_is_idempotent():
    importlib.reload(tvm_balanced.transform)
    assert relax.get_pipeline("tvm_balanced") is not None


def test_all_loops_are_in_one_function_for_each_layer(rng):
    """Bias and activation are fused: nothing is left for TVM to compute."""
    mod, *_ = build(rng)
    source = tvm.compile(mod, host_target(), relax_pipeline="tvm_balanced").as_text()
    assert source.count("cpu_avx512") + source.count("cpu_portable") >= 1
    assert "relu" not in source
    assert "add" not in source


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
