import numpy as np
import torch
import tvm
from torch import nn
from tvm import relax

from tvm_balanced.api import import_model
from tvm_balanced.transform.match_dense import constant_value
from tvm_balanced.transform.smooth_inputs import SmoothInputs


def calls_of(mod):
    calls = []
    relax.analysis.post_order_visit(mod["main"], lambda e: calls.append(e) if isinstance(e, relax.Call) else None)
    return calls


def test_x_and_weight_change_by_opposite_factors(rng):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 6, bias=False), nn.Linear(6, 6, bias=False)

        def forward(self, x):
            return self.b(self.b(self.a(x)))

    model = Shared()
    imported = import_model(model, (torch.randn(3, 8),))
    factor = np.exp2(rng.integers(-9, 9, 6)).astype(np.float32)
    names = dict(imported.weight_names)
    after = SmoothInputs({"b": factor}, names)(imported.mod)
    found = [call for call in calls_of(after) if call.op.name in ("relax.matmul", "relax.multiply")]
    assert [call.op.name for call in found] == ["relax.matmul", *["relax.multiply", "relax.matmul"] * 2]
    for multiply, matmul in (found[1:3], found[3:5]):
        np.testing.assert_array_equal(constant_value(multiply.args[1], lambda _: None)[0], factor)
        weight, (constant, *_) = constant_value(matmul.args[1], lambda _: None)
        np.testing.assert_array_equal(weight, (model.b.weight.detach().numpy() / factor).T)
        assert names[constant.address] == "b"


def test_other_layers_stay():
    imported = import_model(nn.Linear(8, 6), (torch.randn(3, 8),))
    tvm.ir.assert_structural_equal(SmoothInputs({}, dict(imported.weight_names))(imported.mod), imported.mod)
