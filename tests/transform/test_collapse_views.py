import numpy as np
import pytest
import tvm
from support.relax_modules import module
from tvm import relax

import tvm_balanced as tb
from tvm_balanced.transform.collapse_views import CollapseViews

OP = relax.op


def collapsed(build, *shapes):
    return relax.transform.CanonicalizeBindings()(CollapseViews()(module(build, *shapes)))


def test_reshapes_become_one():
    def chain(b, x):
        return OP.reshape(b.emit(OP.reshape(b.emit(OP.reshape(x, (4, 15))), (3, 20))), (12, 5))

    tvm.ir.assert_structural_equal(collapsed(chain, (3, 4, 5)), module(lambda _, x: OP.reshape(x, (12, 5)), (3, 4, 5)))


def test_a_reshape_there_and_back_goes():
    def chain(b, x):
        return OP.exp(b.emit(OP.reshape(b.emit(OP.reshape(x, (4, 15))), (3, 4, 5))))

    tvm.ir.assert_structural_equal(collapsed(chain, (3, 4, 5)), module(lambda _, x: OP.exp(x), (3, 4, 5)))


def test_a_reshape_to_another_shape_of_the_same_rank_stays():
    def chain(b, x):
        return OP.reshape(b.emit(OP.reshape(x, (60,))), (5, 4, 3))

    tvm.ir.assert_structural_equal(collapsed(chain, (3, 4, 5)), module(lambda _, x: OP.reshape(x, (5, 4, 3)), (3, 4, 5)))


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [((2, 0, 1), (0, 2, 1), (2, 1, 0)), (None, (-1, 0, 1), (0, 2, 1)), ((1, 0, 2), None, (2, 0, 1))],
)
def test_transposes_become_one(first, second, both, rng):
    def chain(b, x):
        return OP.permute_dims(b.emit(OP.permute_dims(x, first)), second)

    mod, x = collapsed(chain, (3, 4, 5)), rng.standard_normal((3, 4, 5)).astype(np.float32)
    tvm.ir.assert_structural_equal(mod, module(lambda _, x: OP.permute_dims(x, both), (3, 4, 5)))
    y = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())["main"](tvm.runtime.tensor(x)).numpy()
    np.testing.assert_array_equal(y, x.transpose(first).transpose(second))


def test_a_transpose_there_and_back_goes():
    def chain(b, x):
        return OP.exp(b.emit(OP.permute_dims(b.emit(OP.permute_dims(x, (1, 2, 0))), (2, 0, 1))))

    tvm.ir.assert_structural_equal(collapsed(chain, (3, 4, 5)), module(lambda _, x: OP.exp(x), (3, 4, 5)))


def test_a_view_that_is_read_elsewhere_stays():
    def chain(b, x):
        flat = b.emit(OP.reshape(x, (60,)))
        return OP.add(b.emit(OP.reshape(b.emit(OP.exp(flat)), (12, 5))), b.emit(OP.reshape(flat, (12, 5))))

    def expected(b, x):
        flat = b.emit(OP.exp(b.emit(OP.reshape(x, (60,)))))
        return OP.add(b.emit(OP.reshape(flat, (12, 5))), b.emit(OP.reshape(x, (12, 5))))

    tvm.ir.assert_structural_equal(collapsed(chain, (3, 4, 5)), module(expected, (3, 4, 5)))


def test_symbolic_shapes():
    n = tvm.tirx.Var("n", "int64")

    def chain(b, x):
        return OP.exp(b.emit(OP.reshape(b.emit(OP.reshape(x, (n * 4, 5))), (n, 4, 5))))

    tvm.ir.assert_structural_equal(collapsed(chain, (n, 4, 5)), module(lambda _, x: OP.exp(x), (n, 4, 5)))


def test_layers_of_a_model_share_their_views():
    """Between layers that take and give matrices no function is left that copies one."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 32))
    tb.prune(model, "2:16")
    x = torch.randn(2, 8, 64)
    names = [row.name for row in tb.compile(model, (x,)).profile(x, rounds=1).rows]
    assert len([name for name in names if "reshape" in name]) <= 1  # of the result, which is no view
    assert {"0", "2"} <= set(names)
