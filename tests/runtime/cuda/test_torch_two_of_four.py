"""On the CPU, where a stand-in is called under the names that torch gives cuSPARSELt's functions."""

import ctypes
import gc

import pytest
import torch
from support import reference

from tvm_balanced.runtime.cuda import torch_library, torch_two_of_four
from tvm_balanced.runtime.cuda.prepared_weights import PreparedWeights, owner_of

N, K = 16, 64


class Weight:
    """A tensor with the one method of TVM's that is asked for."""

    def __init__(self, tensor):
        self.data_ptr = tensor.data_ptr


@pytest.fixture
def cusparselt(monkeypatch):
    """Let torch on the CPU have cuSPARSELt's operators, as they are declared; yields what was called."""
    called = []

    def compress(dense):
        assert (dense.reshape(-1, 4) != 0).sum(1).max() <= 2
        called.append("compress")
        return dense.clone()

    def multiply(packed, dense, bias=None, alpha=None, out_dtype=None, transpose_result=False, alg_id=0, split_k=1, mode=-1):
        assert dense.shape[1] % 8 == 0
        called.append(("multiply", tuple(dense.shape), transpose_result))
        product = (packed.float() @ dense.float() + bias.float()[:, None]).to(packed.dtype)
        return product.t().contiguous() if transpose_result else product

    library = torch.library.Library("aten", "IMPL")
    library.impl("_cslt_compress", compress, "CPU")
    library.impl("_cslt_sparse_mm", multiply, "CPU")
    monkeypatch.setattr(torch_two_of_four, "has_cusparselt", lambda _: True)
    yield called
    library._destroy()


def operands(rng, m, dtype):
    """x, weight, bias, residual."""
    x, weight, bias, residual = (torch.from_numpy(rng.standard_normal(s)).to(dtype) for s in ((m, K), (N, K), (N,), (m, N)))
    weight.view(-1, 4)[:, [1, 2]] = 0
    return x, weight, bias, residual


def call(given, activation="none", with_residual=False, first=1):
    x, weight, bias, residual = given
    y = torch.full((len(x), N), torch.nan, dtype=x.dtype)
    addresses = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (y, x, weight, bias)]
    added = ctypes.c_void_p(residual.data_ptr()) if with_residual else None
    shape = ("llvm", str(x.dtype).removeprefix("torch."), activation, len(x), N, K, K, first)
    return torch_two_of_four.two_of_four(*shape, *addresses, added), y


@pytest.mark.parametrize(
    ("dtype", "m", "activation", "with_residual"),
    [(torch.float16, 8, "none", False), (torch.float16, 13, "relu", True), (torch.bfloat16, 3, "silu", False)],
)
def test_against_float64(cusparselt, dtype, m, activation, with_residual, rng):
    given = x, weight, bias, residual = operands(rng, m, dtype)
    owner = PreparedWeights([Weight(weight)])
    for _ in range(2):
        done, y = call(given, activation, with_residual)
        assert done == 1
        wide = [tensor.double().numpy() for tensor in (x, weight, bias)]
        expected = reference.dense(*wide, activation, residual.double().numpy() if with_residual else None)
        assert reference.relative_error(y.double(), expected) < (2e-3 if dtype == torch.float16 else 2e-2)
    assert cusparselt == ["compress", *[("multiply", (K, -(-m // 8) * 8), True)] * 2], "compressed once"
    assert list(owner.forms) == [weight.data_ptr()]


def test_what_was_made_of_a_weight_goes_with_its_owner(cusparselt, rng):
    """Else another weight at the same address would be computed with what was made of the first."""
    given = operands(rng, 8, torch.float16)
    owner = PreparedWeights([Weight(given[1])])
    assert call(given)[0] == 1
    del owner
    gc.collect()
    assert owner_of(given[1].data_ptr()) is None
    done, y = call(given)
    assert done == 1
    assert_right(y, given)
    assert cusparselt == ["compress", ("multiply", (K, 8), True)], "nobody owns it, so that it is not compressed"
    given[1].mul_(2)
    kept = PreparedWeights([Weight(given[1])])
    done, y = call(given)
    assert done == 1
    assert_right(y, given)
    assert cusparselt.count("compress") == 2
    del kept


def assert_right(y, given):
    assert reference.relative_error(y.double(), reference.dense(*(tensor.double().numpy() for tensor in given[:3]))) < 2e-3


def test_few_rows_are_dense(cusparselt, rng):
    given = operands(rng, 8, torch.float16)
    owner = PreparedWeights([Weight(given[1])])
    done, y = call(given, first=9)
    assert done == 1
    assert_right(y, given)
    assert cusparselt == []
    del owner


def test_it_is_dense_without_cusparselt_and_nothing_is_done_where_libraries_are_turned_off(cusparselt, rng, monkeypatch):
    given = operands(rng, 8, torch.float16)
    owner = PreparedWeights([Weight(given[1])])
    monkeypatch.setattr(torch_two_of_four, "has_cusparselt", lambda _: False)
    done, y = call(given)
    assert done == 1
    assert_right(y, given)
    assert not torch_two_of_four.available()
    monkeypatch.setattr(torch_two_of_four, "has_cusparselt", lambda _: True)
    assert torch_two_of_four.available()
    monkeypatch.setenv(torch_library.SWITCH, torch_library.OWN)
    done, y = call(given)
    assert done == 0
    assert y.isnan().all()
    assert not torch_two_of_four.available()
    assert not owner.forms


def test_a_gpu_that_cusparselt_does_not_know_is_asked_once(cusparselt, rng, monkeypatch):
    tried = []

    def refuse(_):
        tried.append(1)
        raise RuntimeError("CUSPARSE_STATUS_ARCH_MISMATCH")

    monkeypatch.setattr(torch, "_cslt_compress", refuse)
    given = operands(rng, 8, torch.float16)
    owner = PreparedWeights([Weight(given[1])])
    for _ in range(3):
        done, y = call(given)
        assert done == 1
        assert_right(y, given)
    assert tried == [1]
    del owner


def test_nothing_is_compressed_while_a_graph_is_captured(rng, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    owner = PreparedWeights([])
    assert torch_two_of_four._compressed(torch, "cuda", owner, 1, None) is None
    assert not owner.forms
    owner.forms[1] = "made before"
    assert torch_two_of_four._compressed(torch, "cuda", owner, 1, None) == "made before"
