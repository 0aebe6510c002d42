import threading
from contextlib import nullcontext

import pytest
from tvm.ir import assert_structural_equal
from tvm.script import tirx as T
from tvm.script.parser.core import doc, entry, evaluator, parser

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import KERNELS
from tvm_balanced.schedules.base import kernel, script_parsing
from tvm_balanced.schedules.base.script_parsing import evaluate, quick_parsing

BOTH = pytest.mark.parametrize("context", [quick_parsing, nullcontext], ids=["quick", "by TVM"])


@pytest.mark.parametrize("name", ["cpu_avx512", "cpu_portable", "cuda_gemv"])
def test_functions_are_those_of_tvm_which_is_hardly_asked(name, monkeypatch):
    workloads = [KERNELS[name].workload(m, n, 64, BalancedPattern(2, 16)) for m, n in ((3, 40), (None, 48))]
    asked, by_tvm = [], script_parsing.evaluate_by_tvm
    monkeypatch.setattr(script_parsing, "evaluate_by_tvm", lambda *given: asked.append(given) or by_tvm(*given))
    ours = [KERNELS[name].prim_func(workload) for workload in workloads]
    of_ours = len(asked)
    monkeypatch.setattr(kernel, "quick_parsing", nullcontext)
    monkeypatch.setattr(evaluator, "_eval_expr", script_parsing.evaluate_by_tvm)
    for func, workload in zip(ours, workloads, strict=True):
        assert_structural_equal(func, KERNELS[name].prim_func(workload))
    assert 10 * of_ours < len(asked)


@T.inline
def add_to(values, i, amount=1):
    values[i] = values[i] + T.float32(amount)


@BOTH
def test_macros_stars_and_names_of_python(context):
    three, options, pair = (3, 4), {"dtype": "float32"}, [1, 2]
    with context():

        @T.prim_func(s_tir=True)
        def func(x: T.Buffer(three, **options), y: T.Buffer((4,), "float32")):
            for i, j in T.grid(*three):
                x[i, j] = x[i, j] * T.float32(max(*pair) + len(pair[0:2]))
            for i in range(4):
                add_to(y, i, amount=pair[-1])

    @T.prim_func(s_tir=True)
    def wanted(x: T.Buffer((3, 4), "float32"), y: T.Buffer((4,), "float32")):
        for i, j in T.grid(3, 4):
            x[i, j] = x[i, j] * T.float32(4)
        for i in range(4):
            y[i] = y[i] + T.float32(2)

    assert_structural_equal(func.without_attr("global_symbol"), wanted.without_attr("global_symbol"))


def scaled(factor):
    """A function that adds, whose source is the same for all factors."""

    @T.prim_func(s_tir=True)
    def func(x: T.Buffer((4,), "float32")):
        for i in range(4):
            x[i] += T.float32(factor)

    return func


def test_a_source_is_kept_for_other_values_and_nobody_has_one_that_is_in_use(monkeypatch):
    monkeypatch.setattr(script_parsing, "_kept", {})
    made, funcs = [], {}
    monkeypatch.setattr(script_parsing.Source, "__init__", lambda self, given: made.append(1) or original(self, given))
    original = script_parsing.TVMS_SOURCE.__init__

    def parse(factor):
        with quick_parsing():
            funcs[factor] = scaled(factor)

    with quick_parsing():
        funcs[1] = scaled(1)
        other = threading.Thread(target=parse, args=(2,))
        other.start()
        other.join()
    assert len(made) == 2  # two at once
    parse(3)
    parse(4)
    assert len(made) == 2
    for factor, func in funcs.items():
        assert_structural_equal(func, scaled(factor))
    assert len(made) == 2  # and none outside


@BOTH
def test_what_cannot_be_evaluated_raises_as_it_does_in_tvm(context):
    expression = doc.parse("a.missing", mode="eval").body
    with context(), pytest.raises(AttributeError, match="missing"):
        evaluator._eval_expr(expression, {"a": 1})
    with context(), pytest.raises(NameError, match="'a' is not defined"):
        evaluator._eval_expr(expression, {})


def test_a_call_is_evaluated_once():
    calls = []
    call = doc.parse("f(1, *rest, key=f(2))", mode="eval").body
    assert evaluate(call, {"f": lambda *given, key=None: calls.append((given, key)), "rest": (2, 3)}) is None
    assert calls == [((2,), None), ((1, 2, 3), None)]


def test_tvm_is_left_as_it_was():
    def now():
        return evaluator._eval_expr, evaluator._eval_assign, entry.Source, parser.Parser.with_source_span

    before = now()
    with pytest.raises(ZeroDivisionError), quick_parsing():  # noqa: PT012
        assert not set(before) & set(now())
        raise ZeroDivisionError
    assert now() == before
