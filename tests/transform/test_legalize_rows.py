"""Norms, softmax and means by rows: right beside float64 for rows of any length, and taken by a rule."""

from functools import partial

import numpy as np
import tvm
from support.relax_modules import module
from tvm import relax

from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import RULES
from tvm_balanced.transform.legalize import LEGALIZE
from tvm_balanced.transform.pipeline import CollapseViews
from tvm_balanced.transform.workarounds.propagate_nan import PropagateNaN

OP = relax.op
LENGTHS = (5, 32, 33, 100, 197)


def scheduled(mod):
    """Legalize a module and schedule every function of it, with maxima from -inf on; fails where no rule takes one."""
    mod = tvm.transform.Sequential([relax.transform.LegalizeOps(LEGALIZE), CollapseViews(), relax.transform.LegalizeOps()])(mod)
    for var, func in mod.functions_items():
        if not isinstance(func, relax.Function):
            taken = next((found for rule in RULES if (found := rule.apply(func, host_target())) is not None), None)
            assert taken, func.script()
            mod[var] = taken.mod["main"]
    return PropagateNaN()(mod)


def outputs(cases):
    """Compile cases (build, arrays) together, once, and return the result of each."""
    builder, given = relax.BlockBuilder(), [array for _, arrays in cases for array in arrays]
    inputs = [relax.Var(f"x{i}", relax.TensorType(array.shape, str(array.dtype))) for i, array in enumerate(given)]
    with builder.function("main", inputs):
        with builder.dataflow():
            left, results = iter(inputs), []
            for build, arrays in cases:
                results.append(builder.emit(build(*(next(left) for _ in arrays))))
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    machine = relax.VirtualMachine(tvm.compile(scheduled(builder.get()), host_target()), tvm.cpu())
    return [y.numpy() for y in machine["main"](*map(tvm.runtime.tensor, given))]


def check(cases, wanted, allowed):
    for (_, arrays), y, want, most in zip(cases, outputs(cases), wanted, allowed, strict=True):
        np.testing.assert_allclose(y, want, rtol=0, atol=most, err_msg=str(arrays[0].shape))


def normal(rng, shape, mean=0.0, scale=1.0):
    return (rng.standard_normal(shape) * scale + mean).astype(np.float32)


def test_softmax(rng):
    places = [*(((3, length), -1) for length in LENGTHS), ((3, 5, 33), 1), ((20, 3), 0)]
    cases, wanted, allowed = [], [], []
    for shape, axis in places:
        x = normal(rng, shape, 100, 10)
        power = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
        want = power / power.sum(axis, keepdims=True)
        cases += [(partial(OP.nn.softmax, axis=axis), [x]), (partial(OP.nn.log_softmax, axis=axis), [x])]
        wanted += [want, np.log(want)]
        allowed += [5e-6, 2e-5]
    check(cases, wanted, allowed)


def test_mean(rng):
    cases, wanted = [], []
    for shape, axes in (((2, 3, 7, 7), (2, 3)), ((2, 5, 4, 4), (-1, -2)), ((2, 2, 3, 5, 9), (2, 3, 4))):
        x = normal(rng, shape)
        for keepdims in (False, True):
            cases.append((partial(OP.mean, axis=axes, keepdims=keepdims), [x]))
            wanted.append(x.astype(np.float64).mean(axes, keepdims=keepdims))
    check(cases, wanted, [1e-6] * len(cases))


def test_reductions_over_the_last_axes_and_over_all(rng):
    cases, wanted, allowed = [], [], []
    for name, shape, axes in (
        ("sum", (2, 3, 7, 7), (2, 3)),
        ("max", (2, 5, 4, 9), (-1, -2)),
        ("min", (6, 37), None),
        ("sum", (133,), None),
        ("mean", (3, 50), None),
        ("max", (5, 100), (0, 1)),
    ):
        x = normal(rng, shape)
        for keepdims in (False, True):
            cases.append((partial(getattr(OP, name), axis=axes, keepdims=keepdims), [x]))
            wanted.append(getattr(x.astype(np.float64), name)(axes, keepdims=keepdims))
            allowed.append(2e-5 if name == "sum" else 1e-6)
    check(cases, wanted, allowed)


def normed(x, axes, gamma, beta):
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) * gamma + beta


def test_layer_norm(rng):
    """TVM's own loses a tenth of the result where numbers lie around 1000."""
    cases, wanted, allowed = [], [], []
    for rows, tail in (*(((4,), (length,)) for length in LENGTHS), ((2, 3), (5, 9)), ((2,), (4, 5, 7)), ((), (6, 7))):
        axes = [-1 - place for place in range(len(tail))][::-1]
        for mean in (0.0, 1000.0):
            x, gamma, beta = normal(rng, (*rows, *tail), mean), normal(rng, tail), normal(rng, tail)
            cases.append((partial(OP.nn.layer_norm, axes=axes, epsilon=1e-5), [x, gamma, beta]))
            wanted.append(normed(x, tuple(axes), gamma, beta))
            allowed.append(2e-3 if mean else 3e-6)
    check(cases, wanted, allowed)


GROUPS = (
    *(((2, 12, 7, 7), 4), ((1, 6, 5), 2), ((2, 6), 3), ((2, 8, 4, 4), 8)),
    *(((1, 4, 3, 5, 6), 2), ((3, 5, 33), 5), ((2, 4, 8, 8), 1)),
)


def test_group_norm(rng):
    cases, wanted, allowed = [], [], []
    for shape, groups in GROUPS:
        axes, wide = list(range(2, len(shape))), (-1, *[1] * (len(shape) - 2))
        for mean in (0.0, 1000.0):
            x, gamma, beta = normal(rng, shape, mean), normal(rng, shape[1]), normal(rng, shape[1])
            norm = partial(OP.nn.group_norm, num_groups=groups, channel_axis=1, axes=axes, epsilon=1e-5)
            cases.append((norm, [x, gamma, beta]))
            grouped = normed(x.reshape(shape[0], groups, -1), 2, 1.0, 0.0).reshape(shape)
            wanted.append(grouped * gamma.reshape(wide) + beta.reshape(wide))
            allowed.append(2e-3 if mean else 5e-6)
    check(cases, wanted, allowed)


def test_instance_norm(rng):
    x, gamma, beta = normal(rng, (1, 6, 9, 7), 50), normal(rng, 6), normal(rng, 6)
    axes = ([2, 3], [0, 2, 3])  # torch's images come as channels of one
    cases = [(partial(OP.nn.instance_norm, channel_axis=1, axes=a, epsilon=1e-5), [x, gamma, beta]) for a in axes]
    check(cases, [normed(x, (2, 3), gamma[:, None, None], beta[:, None, None])] * 2, [5e-5] * 2)


def test_where_the_best_value_is(rng):
    """The first of equal values, and of NaN; infinities and rows that are no multiple of a vector."""
    wide, narrow = normal(rng, (3, 2, 133)), rng.integers(-4, 4, (4, 70)).astype(np.int8)
    wide[0, 0, [5, 80]], wide[0, 1, [90, 132]], wide[1, 0], wide[2, 1, 7] = np.inf, np.nan, -np.inf, -np.inf
    cases = [
        (lambda x: OP.argmax(x, -1), [wide]),
        (lambda x: OP.argmin(x, 2, keepdims=True), [wide]),
        (lambda x: OP.argmax(x, 1), [narrow]),
    ]
    wanted = [wide.argmax(-1), wide.argmin(2)[..., None], narrow.argmax(1)]
    for got, want in zip(outputs(cases), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_axis_of_unknown_length_is_left_to_tvm():
    length = tvm.tirx.Var("n", "int64")
    mod = module(lambda b, x, g, h: OP.nn.layer_norm(x, g, h, [-1], 1e-5), (3, length), (length,), (length,))
    tvm.ir.assert_structural_equal(relax.transform.LegalizeOps(LEGALIZE)(mod), relax.transform.LegalizeOps()(mod))


def test_rows_of_a_known_length_may_be_any_number():
    count = tvm.tirx.Var("n", "int64")
    mod = scheduled(module(lambda b, x, g, h: OP.nn.layer_norm(x, g, h, [-1], 1e-5), (count, 100), (100,), (100,)))
    x = np.random.default_rng(0).standard_normal((7, 100)).astype(np.float32)
    gamma, beta = np.ones(100, np.float32), np.zeros(100, np.float32)
    machine = relax.VirtualMachine(tvm.compile(mod, host_target()), tvm.cpu())
    y = machine["main"](*map(tvm.runtime.tensor, (x, gamma, beta))).numpy()
    np.testing.assert_allclose(y, normed(x, 1, gamma, beta), rtol=0, atol=3e-6)
