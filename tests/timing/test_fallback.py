import pytest

from tvm_balanced.core.torch_operator import TorchOperator
from tvm_balanced.timing.fallback import CALL, choose


def operator(node, microseconds):
    return TorchOperator(node, f"aten.{node}.default", "layer", microseconds, False)


SORT, SUM = operator("sort", 100.0), operator("cumsum", 50.0)


def test_what_is_slower_than_torch_by_more_than_a_call_costs_is_left():
    assert set(choose([("sort", 400.0, [SORT]), ("sums", 40.0, [SUM]), ("rest", 500.0, [])])) == {"sort"}
    assert choose([("sort", 100.0 + CALL, [SORT])]) == {}


def test_an_operator_of_several_functions_is_blamed_for_all_of_them():
    left = choose([("begins", 80.0, [SORT]), ("ends", 70.0, [SORT])])["sort"]
    assert (left.function, left.microseconds, left.torch_microseconds) == ("begins", 150.0, 100.0)


def test_a_function_of_several_operators_is_divided_by_their_times_in_torch():
    left = choose([("fused", 900.0, [SORT, SUM])])
    assert {node: one.microseconds for node, one in left.items()} == dict.fromkeys(("sort", "cumsum"), 900.0)
    assert left["sort"].torch_microseconds == 150.0


@pytest.mark.parametrize(("rest", "names"), [(10_000.0, {"sort"}), (100_000.0, set())])
def test_what_saves_less_than_a_hundredth_stays(rest, names):
    assert set(choose([("sort", 400.0, [SORT]), ("rest", rest, [])])) == names
