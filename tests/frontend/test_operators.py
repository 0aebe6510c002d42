"""Every operator that the importer takes, with operands of every dtype, beside torch: dtypes, shapes and values."""

import itertools
import os
from functools import partial

import pytest
import torch
from support.aten_cases import CASES, DTYPES, NO_CASE, operator_of
from torch import nn

import tvm_balanced as tb
from tvm_balanced.api import import_model
from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.importer import Importer

NIGHTLY = "TVM_BALANCED_NIGHTLY" in os.environ
# One case of each operator with one of these, in turns, or with two if it has many; at night all cases with all dtypes.
FIRST = (torch.float32, torch.int64, torch.float16, torch.bool)
TOGETHER = 128  # cases of a module: a whole one is compiled at once, because each costs little and a module much
ULPS = {torch.float32: 8, torch.float16: 1, torch.bfloat16: 1}  # float32: exp, erf, tanh are polynomials

# Operators of which a NaN or an infinity may be another value, and why; single cases of others say it themselves.
UNLIKE = {
    "gelu.default": "torch's vectors have NaN for gelu(inf)",
    "conv_transpose2d.input": "it is the convolution of an image with zeros between its pixels, and 0 * inf is NaN",
    "upsample_bilinear2d.vec": "torch multiplies a neighbour that counts for nothing by 0",
    "convolution.default": "the same, if it is transposed",
    "scaled_dot_product_attention.default": "torch's product of half precision passes over what has no weight",
    **dict.fromkeys(("_to_copy.default", "to.dtype", "to.dtype_layout", "type_as.default"), "C leaves the integer of NaN open"),
}
INSIDE = {"gelu.default"}  # 1 + erf(x): what is left of a sum is as far off as its terms


def missing():
    """Names of the importer's table that torch leaves in no exported program, and those that have neither a case nor a reason."""
    for name in Importer().convert_map:
        operator = operator_of(name)
        # a function of Python on sizes has no dot; torch lacks some operators, and export replaces those that change a tensor
        if "." in name and operator is not None and not operator._schema.is_mutable and name not in CASES and name not in NO_CASE:
            yield name


def test_every_operator_has_a_case_or_a_reason():
    assert not list(missing())
    assert not set(CASES) & set(NO_CASE)
    assert not {name for name in CASES if operator_of(name) is None}


class Calls(nn.Module):
    """Calls of operators on operands that they share."""

    def __init__(self, calls, operands):
        super().__init__()
        self.calls, self.operands = calls, operands

    def forward(self, *given):
        tensors = dict(zip(self.operands, given, strict=True))
        return [case.call(operator_of(name), tensors) for name, case in self.calls]


def taken(name, case, dtype):
    """Whether torch takes a case with operands of a dtype."""
    if case.dtypes is not None and dtype not in case.dtypes:
        return False
    if dtype != DTYPES[0] and all(operand.dtype is not None for operand in case.operands()):
        return False  # the same as with the first dtype
    try:
        results = case.call(operator_of(name), {operand: operand.draw(dtype) for operand in case.operands()})
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
        return False
    return not any(result.is_sparse for result in results)


def chosen(dtype, refused=False):
    """Yield (name, case) to run for a dtype: all at night and of those that are refused, else a part of them."""
    for place, (name, cases) in enumerate(CASES.items()):
        right = [case for case in cases if bool(case.refused) == refused]
        good = [case for case in right if taken(name, case, dtype)]
        if NIGHTLY or refused:
            yield from ((name, case) for case in good)
        elif good:
            takers = [other for other in FIRST if other == dtype or any(taken(name, case, other) for case in right)]
            turns = range(place, place + (2 if len(cases) > len(FIRST) else 1))
            if dtype in [takers[turn % len(takers)] for turn in turns]:
                yield from ((name, case) for case in good[place % len(good) :: 2 * len(FIRST)])


@pytest.mark.slow
def test_every_operator_runs():
    assert {name for dtype in DTYPES if NIGHTLY or dtype in FIRST for name, _ in chosen(dtype)} == {
        name for name, cases in CASES.items() if not all(case.refused for case in cases)
    }


def test_torch_takes_every_operator_with_some_dtype():
    assert not [name for name, cases in CASES.items() if not any(taken(name, case, dtype) for case in cases for dtype in DTYPES)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", DTYPES if NIGHTLY else FIRST, ids=str)
def test_operators_are_as_torch_has_them(dtype):
    wrong = []
    for calls in itertools.batched(chosen(dtype), TOGETHER) if hasattr(itertools, "batched") else _batched(list(chosen(dtype))):
        operands = list(dict.fromkeys(operand for _, case in calls for operand in case.operands()))
        tensors = {operand: operand.draw(dtype) for operand in operands}
        module = tb.compile(Calls(calls, operands), tuple(tensors.values()), tolerance=float("inf"))
        for given in (tensors, {operand: with_specials(operand, t) for operand, t in tensors.items()}):
            find = faults if given is tensors else special_faults
            for (name, case), got in zip(calls, module(*given.values()), strict=True):
                found = find(name, case, given, got, case.call(operator_of(name), given))
                wrong += [f"{name}{case.args}{case.kwargs or ''}: {what}" for what in found if what]
    assert not wrong, "\n".join(wrong)


def _batched(calls):
    return [calls[start : start + TOGETHER] for start in range(0, len(calls), TOGETHER)]


def faults(name, case, tensors, got, want):
    """What is wrong with each result of a call, or None."""
    right, moved = exact(name, case, tensors, want)
    return [fault(*of_result) for of_result in zip(got, want, right, moved, strict=True)]


def with_specials(operand, tensor):
    """A tensor of floats with NaN and infinities here and there; any other as it is, and what has to rise."""
    if not tensor.is_floating_point() or tensor.numel() < 2 or operand.values == "rising":
        return tensor
    flat = tensor.flatten().clone()
    for start, value in ((1, float("nan")), (4, float("inf")), (6, -float("inf"))):
        flat[start::8] = value
    return flat.reshape(tensor.shape)


def special_faults(name, case, tensors, got, want):
    """Which results have a NaN or an infinity where torch has another value."""
    if name in UNLIKE or case.unlike:
        return
    for g, w in zip(got, want, strict=True):
        if not w.is_floating_point():
            yield None if torch.equal(g, w) else f"{g.tolist()}, torch {w.tolist()}"
            continue
        other = (g != w) & ~(g.isnan() & w.isnan()) & ~(g.isfinite() & w.isfinite())
        if other.any():
            at = int(other.flatten().int().argmax())
            yield f"with NaN and infinities {g.flatten()[at]} at {at}, torch {w.flatten()[at]}"


def exact(name, case, tensors, want):
    """(The results in float64, what gives how much each is moved by its operands' roundings); torch's where it has no float64."""
    results, operands = in_float64(name, case, tensors)
    if results is None:
        return want, [partial(torch.zeros, ())] * len(want)
    mixes, moved = name in INSIDE or torch.Tag.pointwise not in operator_of(name).tags, []
    for result in results:
        slopes = result.requires_grad and type(result.grad_fn).__name__ != "NotImplemented"  # a quotient that is rounded has none
        moved.append(partial(condition, result, operands) if mixes and slopes else partial(torch.zeros, ()))
    has = [r.dtype == torch.float64 and r.shape == w.shape for r, w in zip(results, want, strict=True)]
    return [r.detach() if h else w for r, w, h in zip(results, want, has, strict=True)], moved


def in_float64(name, case, tensors):
    """(The results, the operands that they have slopes by); (None, []) if torch does not take the operands in float64."""
    for slopes in (True, False):  # a batch norm has none by its running mean
        wide = {operand: t.double().requires_grad_(slopes) if t.is_floating_point() else t for operand, t in tensors.items()}
        try:
            results = case.call(operator_of(name), wide)
        except RuntimeError:  # one operand became float64 and another did not
            continue
        return results, [wide[operand] for operand in dict.fromkeys(case.operands()) if wide[operand].requires_grad]
    return None, []


def condition(result, operands):
    """Sum of |dy/dx| |x|: how far y moves, to first order, where each x moves by its size; of a sum, that of absolute values."""
    total = torch.zeros(result.numel(), dtype=torch.float64)
    for place, value in enumerate(result.flatten()):
        try:
            slopes = torch.autograd.grad(value, operands, retain_graph=True, allow_unused=True)
        except RuntimeError:  # torch gives a source that scatter takes a part of a gradient of that part's shape; it moves values
            return torch.zeros(())
        moves = [(slope * x.detach()).abs().sum() for slope, x in zip(slopes, operands, strict=True) if slope is not None]
        total[place] = sum(moves, torch.zeros(())).nan_to_num(0)
    return total.reshape(result.shape)


def fault(got, want, exactly, moved):
    """What is wrong with a result; None if nothing is.

    It may be off by ULPS of itself, by what torch's is off, and, if it is made of several values, as far as it moves where all of
    them are off by ULPS of float32: sums run in float32, and a sum computed in any order is the exact one of terms that far off
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). `moved` gives that; it takes a slope of each value, so it is
    asked only where the rest does not explain a difference.
    """
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"is {got.dtype}{list(got.shape)}, and torch has {want.dtype}{list(want.shape)}"
    if not want.dtype.is_floating_point or want.dtype == torch.float64:
        same = torch.allclose(got.double(), want.double(), rtol=1e-6, atol=0, equal_nan=True)
        return None if same else f"{got.tolist()}, torch {want.tolist()}"
    limits, g, w, e = torch.finfo(want.dtype), got.double(), want.double(), exactly.double()
    size = e.abs().clamp(min=limits.smallest_normal).nan_to_num(1).clamp(max=limits.max)
    unit = 2 ** size.log2().floor() * limits.eps
    off, torchs = (((side - e).abs() / unit).nan_to_num(float("inf")) for side in (g, w))
    allowed = ULPS[want.dtype] + torchs.where(torchs.isfinite(), torch.zeros_like(torchs))
    other = ~((g == w) | (g.isnan() & w.isnan()))
    if not (other & ~(off <= allowed)).any():
        return None
    allowed = allowed + ULPS[torch.float32] * torch.finfo(torch.float32).eps * moved() / unit
    bad = other & ~(off <= allowed)
    if not bad.any():
        return None
    at = int(torch.where(bad, off, torch.zeros_like(off)).argmax())
    g, w, e, off, allowed = (each.expand_as(e).flatten()[at] for each in (g, w, e, off, allowed))
    return f"{g:.9g} is {off:.3g} units from {e:.9g}, and may be {allowed:.3g}; torch has {w:.9g}"


def refusals():
    dtypes = (torch.float32, torch.int64, torch.uint8)
    cases = [(name, case, dtype) for dtype in dtypes for name, case in chosen(dtype, refused=True)]
    return [(name, case, dtype) for name, case, dtype in cases if dtype != torch.uint8 or case.dtypes == (dtype,)]


@pytest.mark.parametrize(("name", "case", "dtype"), refusals(), ids=str)
def test_what_is_refused_is_named(name, case, dtype):
    tensors = {operand: operand.draw(dtype) for operand in case.operands()}
    with pytest.raises(ModelError, match=case.refused) as error:
        import_model(Calls([(name, case)], list(tensors)), tuple(tensors.values()))
    assert "the operator aten." in str(error.value)
