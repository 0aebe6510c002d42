"""Baselines on a GPU: torch's ways to call NVIDIA's libraries. On the CPU the same calls stand in for them.

Each function takes a weight (N, K), x (M, K) and a function from the bytes of a weight to the
number of copies that calls rotate through.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, pad

from tvm_balanced.bench.pytorch_baselines import onednn as packed_onednn
from tvm_balanced.timing.paired import Implementation

Rotate = Callable[[int], int]
BLOCK = 16  # edge of the blocks of block sparsity: as tensor cores and vendors' libraries need them
TF32 = 1e-2  # error allowed to TF32, relative to the largest result
# Not captured in a CUDA graph: torch's products of CSR and BSR allocate outside its pool, and a
# failed capture leaves torch in an unknown state
UNCAPTURED = ("csr", "block")


@dataclass(frozen=True)
class Made:
    """A baseline that returns y (M, N), and the weight that it multiplies with, which its own
    pattern may have changed.
    """

    run: Implementation
    weight: torch.Tensor
    rounding: float = 0.0


Maker = Callable[[torch.Tensor, torch.Tensor, Rotate], Made]


def cublas(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate) -> Made:
    """torch.nn.functional.linear; float32 without TF32."""
    return Made(_linear(weight, x, rotate, "highest"), weight)


def cublas_tf32(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate) -> Made:
    """The same in float32 with TF32, which rounds both operands to 10 bits."""
    if weight.dtype != torch.float32:
        raise ValueError(f"TF32 is for float32, not {weight.dtype}")
    return Made(_linear(weight, x, rotate, "high"), weight, TF32)


def _linear(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate, precision: str) -> Implementation:
    weights = _copies(weight, rotate(weight.numel() * weight.element_size()))

    def run(call: int) -> torch.Tensor:
        torch.set_float32_matmul_precision(precision)  # read when a call is made or captured
        return linear(x, weights[call % len(weights)])

    return run


def onednn(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate) -> Made:
    """OneDNN with packed weights, the fair dense baseline on a CPU."""
    return Made(packed_onednn(weight.numpy(), x.numpy(), rotate(weight.numel() * weight.element_size())), weight)


def csr(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate) -> Made:
    """A torch CSR weight with 32-bit indices: cuSPARSE on a GPU, MKL on a CPU."""
    with _quiet():
        wide = weight.to_sparse_csr()
        sparse = torch.sparse_csr_tensor(wide.crow_indices().int(), wide.col_indices().int(), wide.values(), wide.shape)
    nbytes = sparse.values().numel() * (weight.element_size() + 4)
    return Made(_times(sparse, x, rotate(nbytes), len(weight)), weight)


def triton_bitmask(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate) -> Made:
    """Unstructured sparsity for decoding: one bit per column, and the nonzeros one after another (Triton)."""
    from benchmarks.gpu.triton_bitmask import Bitmask

    encoded = Bitmask(weight)
    weights = [encoded, *(encoded.clone() for _ in range(rotate(encoded.nbytes) - 1))]
    return Made(lambda call: weights[call % len(weights)].times(x), weight)


def semi_structured(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate) -> Made:
    """cuSPARSELt on its own weight with two of every four kept: 8 of 16 is in general not 2 of 4."""
    scores = torch.rand(*weight.shape[:1], weight.shape[1] // 4, 4, device=weight.device)
    kept = torch.zeros_like(scores).scatter_(2, scores.topk(2, dim=2).indices, 1).reshape(weight.shape)
    own = (torch.randn(weight.shape, device=weight.device) * kept).to(weight.dtype)
    sparse = [
        torch.sparse.to_sparse_semi_structured(own) for _ in range(rotate(weight.numel() * weight.element_size() * 9 // 16))
    ]
    return Made(lambda call: linear(x, sparse[call % len(sparse)]), own)


def block_sparse(weight: torch.Tensor, x: torch.Tensor, rotate: Rotate, sparsity: float | None = None) -> Made:
    """A torch BSR weight of its own in blocks of 16x16, by default as sparse as `weight`. N and K
    are padded to whole blocks.
    """
    n, k = weight.shape
    density = float((weight != 0).float().mean()) if sparsity is None else 1 - sparsity
    padded = pad(torch.randn(n, k, device=weight.device, dtype=weight.dtype), (0, -k % BLOCK, 0, -n % BLOCK))
    rows, columns = padded.shape[0] // BLOCK, padded.shape[1] // BLOCK
    kept = torch.rand(rows, columns, device=weight.device).argsort(dim=1) < round(density * columns)
    padded *= kept.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    with _quiet():
        sparse = padded.to_sparse_bsr((BLOCK, BLOCK))
    given = pad(x, (0, -k % BLOCK))
    return Made(_times(sparse, given, rotate(sparse.values().numel() * weight.element_size()), n), padded[:n, :k])


def _times(sparse: torch.Tensor, x: torch.Tensor, copies: int, n: int) -> Implementation:
    """A sparse weight (N, K) times x^T. One row of x is passed as a vector, for which the libraries have a kernel."""
    weights = _copies(sparse, copies)
    given = x[0].contiguous() if len(x) == 1 else x.T.contiguous()

    def run(call: int) -> torch.Tensor:
        product = weights[call % len(weights)] @ given
        return product[:n][None] if product.dim() == 1 else product.T[:, :n]

    return run


def _copies(tensor: torch.Tensor, count: int) -> list[torch.Tensor]:
    with _quiet():
        return [tensor, *(tensor.clone() for _ in range(count - 1))]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "CSR support is in beta"
        yield


BASELINES: Mapping[str, Maker] = {
    "cublas": cublas,
    "eager": cublas,  # the name of the same call on a CPU
    "cublas_tf32": cublas_tf32,
    "onednn": onednn,
    "csr": csr,
    "cusparselt_2:4": semi_structured,
    "triton_bitmask": triton_bitmask,
    "block": block_sparse,
}


def rivals_of(dtype: str, pattern: str, m: int) -> tuple[str, ...]:
    """Return the baselines of a GPU cell."""
    half = dtype != "float32"
    sparse = ("cusparselt_2:4",) if half and pattern == "8:16" else ()
    few = ("triton_bitmask",) if m in (1, 2, 4, 8) else ()
    return ("cublas", *(() if half else ("cublas_tf32",)), "csr", *sparse, *few)
