"""The cells that are measured on a GPU, the most valuable first."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from benchmarks.gpu.device import Device
from benchmarks.gpu.layer import Cell
from tvm_balanced.core.detection import Detection
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.schedules import Workload

PATTERNS = ("8:16", "4:16", "2:16", "1:16")


@dataclass(frozen=True)
class Shapes:
    """Sizes (N, K) of the cells of one device.

    Parameters
    ----------
    single : size
        About the paper's size; measured in float32.
    large : size
        At least 400 MB dense in half precision.
    layers : sizes
        Layers of common language models, the smallest first.
    projection : size
        A projection of keys in groups of heads, of few rows and a long K.
    rows : tuple of int
        M in half precision at which the large layer falls short of what is wanted, the farthest first.
    many : tuple of int
        M of prefill.
    """

    single: tuple[int, int]
    large: tuple[int, int]
    layers: tuple[tuple[int, int], ...]
    projection: tuple[int, int]
    rows: tuple[int, ...]
    many: tuple[int, ...]


GPU_SHAPES = Shapes(
    single=(16384, 8192),
    large=(28672, 8192),  # from a 70B model: 470 MB in half precision
    layers=((4096, 4096), (5120, 5120), (4096, 14336), (14336, 4096), (8192, 28672), (152064, 5120)),
    projection=(1024, 8192),
    rows=(2, 4, 16, 64, 8),
    many=(256, 64, 16),
)
SMALL = 3  # of the layers, those with too few rows of the weight for all multiprocessors
STAND_IN_SHAPES = Shapes(single=(64, 200), large=(48, 256), layers=((32, 64),), projection=(16, 128), rows=(2, 9), many=(33,))


def kernels_for(device: Device, n: int, k: int, m: int, pattern: str, dtype: str) -> list[str]:
    """Return the kernels that store a pattern unchanged, by the time of their cost model, the fastest first."""
    wanted = BalancedPattern.parse(pattern)
    found = Detection((n, k), n * wanted.blocks(k) * wanted.nnz, {wanted.block: wanted.nnz})
    seconds = {
        kernel.name: kernel.seconds(Workload(kernel.name, m, n, k, wanted.nnz, wanted.block, dtype), m, device.machine)
        for kernel in device.kernels(dtype)
        if kernel.fit(found) == wanted
    }
    return sorted(seconds, key=lambda name: seconds[name])


def by_section(device: Device, shapes: Shapes) -> dict[str, list[Cell]]:
    """Return the cells of each section of the plan; none stands in two of them.

    "short" are those that have not run yet or fall short of what is wanted, and small layers; "bfloat16"; "2:4" are many
    rows of x, where cuSPARSELt is beside them; "rest".
    """
    half = "float16" if "float16" in device.dtypes else "bfloat16"

    def best(size: tuple[int, int], m: int, pattern: str, dtype: str) -> Cell:
        return Cell(*size, m, pattern, dtype, kernels_for(device, *size, m, pattern, dtype)[0])

    small = [best(size, m, pattern, half) for size in shapes.layers[:SMALL] for m, pattern in product((1, 16), ("8:16", "2:16"))]
    large = [best(shapes.large, m, pattern, half) for m, pattern in product(shapes.rows, PATTERNS[:3])]
    # what has not run on a GPU yet: masks that are looked up, values in 8 bits, thread blocks that share K
    new = [Cell(*shapes.large, m, "8:16", half, "cuda_gemv") for m in (1, 2)]
    new += [Cell(*shapes.large, 1, pattern, half, "cuda_gemv_w8") for pattern in ("2:16", "8:16")]
    new += [Cell(*size, 16, "2:16", half, "cuda_decode_mma") for size in (*shapes.layers[SMALL - 1 : SMALL], shapes.projection)]
    short = [*new, *large[: -len(PATTERNS[:3])], best(shapes.large, 1, "4:32", half), *small, *large]
    bfloat16 = [best(shapes.large, m, pattern, "bfloat16") for m, pattern in product((1, 4, 16, 64), ("8:16", "2:16"))]
    many = [best(shapes.large, m, "8:16", half) for m in shapes.many]
    rest = [best(shapes.large, 1, pattern, half) for pattern in PATTERNS[:3]]
    rest += [best(shapes.single, 1, pattern, "float32") for pattern in reversed(PATTERNS)]
    rest += [best(size, m, pattern, half) for size in shapes.layers[SMALL:] for m, pattern in product((1, 16), ("2:16", "8:16"))]
    rest += _alternatives(device, shapes, half)
    rest += [best(shapes.single, m, "2:16", "float32") for m in (8, 64)]
    found: dict[str, list[Cell]] = {}
    for name, cells in {"short": short, "bfloat16": bfloat16, "2:4": many, "rest": rest}.items():
        before = {cell for section in found.values() for cell in section}
        found[name] = [cell for cell in dict.fromkeys(cells) if cell not in before]
    return found


def _alternatives(device: Device, shapes: Shapes, half: str) -> Iterator[Cell]:
    """Yield cells for the kernels that the cost model ranks second, where it may be wrong."""
    for m, pattern in product((4, 8, 16), ("2:16", "8:16")):
        for name in kernels_for(device, *shapes.large, m, pattern, half)[:2]:
            yield Cell(*shapes.large, m, pattern, half, name)
