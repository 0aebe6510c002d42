"""Calls of every operator that the importer takes, to compare with torch.

An operand is written once and drawn for each dtype; torch decides which dtypes an operator takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
FLOATS = (0.0, -0.5, 0.5, 1.5, -2.0, 3.0, 1e-3, -4e-5, 0.99, -0.7, 6.5, -9.0, 2.5, 1.0, -1.0)
WHOLE = (0, 1, 2, 3, 5, 7, 4, 6, 1, 9, 2, 8, 3, 1, 12)
SIGNED = (0, -1, 2, -3, 5, 7, -4, 6, 1, -9, 2, 8, -3, 1, 12)


@dataclass(frozen=True)
class Operand:
    """A tensor argument: its shape, its dtype (None: the one under test), and which values it has."""

    shape: tuple[int, ...] = (3, 5)
    dtype: torch.dtype | None = None
    values: str = "any"  # "any", "nonzero", "whole" (0, 1, ...), "positive", "rising", or "below LOW HIGH" for places
    seed: int = 0

    def draw(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor for a dtype under test."""
        dtype, size = self.dtype or dtype, max(1, torch.Size(self.shape).numel())
        if self.values == "rising":
            flat = 3 * torch.arange(size)  # as booleans all are alike
        elif self.values.startswith("below"):
            low, high = (int(word) for word in self.values.split()[1:])
            flat = torch.arange(size) * (7 + self.seed) % (high - low) + low
        else:
            numbers = FLOATS if dtype.is_floating_point else WHOLE if dtype in (torch.uint8, torch.bool) else SIGNED
            flat = torch.tensor(numbers, dtype=torch.float64).repeat(size // len(numbers) + 2)[self.seed : self.seed + size]
            flat = flat + (0.125 * (torch.arange(size) // len(numbers)) if dtype.is_floating_point else 0)
        if self.values in ("nonzero", "positive"):
            flat = torch.where(flat == 0, 1, flat)
        if self.values in ("whole", "positive"):
            flat = flat.abs()
        if dtype == torch.bool:
            flat = flat % 3 if self.values != "nonzero" else torch.ones(size)
        return flat[: torch.Size(self.shape).numel()].reshape(self.shape).to(dtype)


@dataclass(frozen=True)
class Case:
    """One call of an operator, and the dtypes that it is made for (None: all that torch takes)."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    dtypes: tuple[torch.dtype, ...] | None = None
    first: bool = False  # whether only the first result is asked for
    refused: str = ""  # words of the refusal, if it is one
    unlike: str = ""  # why a NaN or an infinity may be another value, if it may

    def operands(self) -> list[Operand]:
        """Return its tensor arguments."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs), is_leaf=_is_operand) if _is_operand(leaf)]

    def call(self, operator: Any, tensors: Mapping[Operand, torch.Tensor]) -> list[torch.Tensor]:
        """Call the operator, and return its results."""
        args, kwargs = pytree.tree_map(
            lambda leaf: tensors[leaf] if _is_operand(leaf) else leaf, (self.args, self.kwargs), is_leaf=_is_operand
        )
        results = pytree.tree_leaves(operator(*args, **kwargs))
        return results[:1] if self.first else results


def _is_operand(value: Any) -> bool:
    return isinstance(value, Operand)


def case(
    *args: Any,
    dtypes: tuple[torch.dtype, ...] | None = None,
    first: bool = False,
    refused: str = "",
    unlike: str = "",
    **kwargs: Any,
) -> Case:
    return Case(args, kwargs, dtypes, first, refused, unlike)


def operator_of(name: str) -> Any:
    """Return torch's operator of a converter's name, "add.Tensor"; None if torch has none."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)


X, Y, ROW, ONE = Operand(), Operand(seed=3), Operand((5,), seed=1), Operand((), seed=4)
NONZERO, NONZERO_ROW = Operand(values="nonzero", seed=2), Operand((5,), values="nonzero", seed=2)
WHOLES, POSITIVE = Operand(values="whole", seed=2), Operand(values="positive", seed=5)
INT, INT32, BOOL = (Operand(dtype=d, seed=2) for d in (torch.int64, torch.int32, torch.bool))
HALF, FULL = Operand(dtype=torch.float16, seed=2), Operand(dtype=torch.float32, seed=2)
SQUARE, CUBE, FLAT = Operand((4, 4)), Operand((2, 3, 4)), Operand((6,))
IMAGE, LINE, VOLUME = Operand((1, 4, 6, 6)), Operand((2, 4, 8)), Operand((1, 2, 4, 4, 4))
CHANNELS, POSITIVES = Operand((4,), seed=2), Operand((4,), values="positive")
BOUNDARIES = Operand((4,), values="rising")
FLOATING = (torch.float32, torch.float16, torch.bfloat16)
NUMBERS = (2, -3, 2.5, True)

INTEGERS = (torch.int64, torch.int32)
CASTS = tuple(dtype for dtype in DTYPES if dtype != torch.uint8)  # what a negative number is there, C leaves open
PLACES = "it is asked where each largest value was"
PADDED = "torch multiplies padding by a filter, and where inf * 0 is NaN, only its depthwise loop passes over it"
AT_THE_CALL = "only at the call"

UNARY = """
abs acos acosh asin asinh atan atanh bitwise_not ceil cos cosh erf exp expm1 floor isfinite isinf isnan log log10 log1p log2
logical_not neg reciprocal relu relu6 round rsqrt sigmoid sign silu sin sinh sqrt square tan tanh trunc hardsigmoid hardswish
hardtanh gelu selu celu elu leaky_relu softplus softshrink alias clone contiguous detach lift_fresh_copy zeros_like ones_like
""".split()
BINARY = "add.Tensor sub.Tensor mul.Tensor rsub.Tensor atan2.default maximum.default minimum.default max.other min.other".split()
COMPARED = "eq ne lt le gt ge".split()
BITS = "bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__".split()
SHIFTS = ("bitwise_left_shift", "bitwise_right_shift")
WRITTEN_SHIFTS = ("__lshift__", "__rshift__")  # x << 2
COUNTS = Operand(dtype=torch.uint8, seed=2)  # what a shift by a negative number is, C leaves open
LOGICAL = "logical_and.default logical_or.default logical_xor.default".split()
PAIRS = [
    case(X, Y),
    case(X, ROW),
    case(ONE, X),
    case(X, ONE),
    case(X, INT),
    case(INT32, X),
    case(X, BOOL),
    case(X, HALF),
    case(FULL, X),
]
SCALARS = [case(X, number) for number in NUMBERS]


def reductions(*more: Case) -> list[Case]:
    """Cases of a reduction over some dimensions."""
    return [case(X, [1]), case(X, [0], True), case(CUBE, [0, -1]), case(CUBE, [0, 2], True), *more]


CASES: dict[str, list[Case]] = {
    **{f"{name}.default": [case(X), case(CUBE)] for name in UNARY},
    **{name: [*PAIRS, *([] if name.startswith(("max", "min", "atan2")) else SCALARS)] for name in BINARY},
    **{f"{name}.Tensor": [*PAIRS, *SCALARS] for name in COMPARED},
    **{f"{name}.Scalar": SCALARS for name in [*COMPARED, "add", "sub", "mul", "rsub"]},
    **{f"{name}.Tensor": PAIRS for name in BITS},
    **{f"{name}.Scalar": [case(X, 3), case(X, True)] for name in BITS},
    **{f"{name}.Tensor": [case(X, COUNTS, dtypes=INTEGERS)] for name in SHIFTS},
    **{f"{name}.Tensor_Scalar": [case(X, 2, dtypes=INTEGERS)] for name in SHIFTS},
    **{f"{name}.Tensor": [case(X, COUNTS, dtypes=INTEGERS)] for name in WRITTEN_SHIFTS},
    **{f"{name}.Scalar": [case(X, 2, dtypes=INTEGERS)] for name in WRITTEN_SHIFTS},
    **dict.fromkeys(LOGICAL, PAIRS),
    "_softmax.default": [case(X, -1, False), case(CUBE, 1, False), case(X, 0, False)],
    "_log_softmax.default": [case(X, -1, False), case(CUBE, 1, False), case(X, 0, False)],
    "softmax.int": [case(X, 1), case(CUBE, 0), case(X, 1, torch.float32)],
    "log_softmax.int": [case(X, 1), case(CUBE, 0), case(X, 1, torch.float32)],
    "div.Tensor": [
        case(X, NONZERO),
        case(X, NONZERO_ROW),
        case(ONE, NONZERO),
        *SCALARS,
        case(X, Operand(dtype=torch.int64, values="nonzero")),
    ],
    "div.Scalar": SCALARS,
    "div.Tensor_mode": [
        case(X, y, rounding_mode=mode) for mode in ("floor", "trunc", None) for y in (NONZERO, NONZERO_ROW, 2, -3, 2.5)
    ],
    "floor_divide.default": [case(X, NONZERO), case(X, 2), case(X, -3), case(X, 2.5)],
    "fmod.Tensor": [case(X, NONZERO), case(X, NONZERO_ROW), case(X, Operand(dtype=torch.int64, values="nonzero"))],
    "fmod.Scalar": [case(X, 2), case(X, -3), case(X, 2.5)],
    "remainder.Tensor": [case(X, NONZERO), case(X, NONZERO_ROW), case(X, Operand(dtype=torch.int64, values="nonzero"))],
    "remainder.Scalar": [case(X, 2), case(X, -3), case(X, 2.5)],
    "pow.Tensor_Tensor": [
        case(X, WHOLES),
        case(POSITIVE, Y, dtypes=FLOATING),
        case(X, Operand(dtype=torch.int64, values="whole")),
    ],
    "pow.Tensor_Scalar": [case(X, n) for n in (0, 1, 2, 3, 5, 0.5, 2.0, -1, -0.5, 2.5)],
    "pow.Scalar": [case(2, WHOLES), case(2.5, X), case(0.5, X), case(1, WHOLES), case(-2, WHOLES)],
    "logaddexp.default": [case(X, Y), case(X, ROW)],
    "elu.default": [case(X), case(X, 0.5), case(X, 1.67, 1.05), case(X, 1.0, 1.0, 0.5)],
    "celu.default": [case(X), case(X, 2.0)],
    "leaky_relu.default": [case(X), case(X, 0.2), case(X, -0.5)],
    "gelu.default": [case(X), case(X, approximate="tanh")],
    "softplus.default": [case(X), case(X, 2.0), case(X, 1.0, 3.0)],
    "softshrink.default": [case(X), case(X, 1.5)],
    "hardtanh.default": [case(X), case(X, 0, 2), case(X, -0.5, 1.5)],
    "prelu.default": [case(Operand((2, 4, 3)), CHANNELS), case(X, Operand((1,), seed=1))],
    "round.decimals": [case(X, decimals=0), case(X, decimals=1), case(X, decimals=-1)],
    "clamp.default": [case(X, 1), case(X, 1.5), case(X, None, 2), case(X, -1, 2), case(X, 0.5, 2), case(X, 3, 1)],
    "clamp.Tensor": [case(X, Y), case(X, None, ROW), case(X, ROW, Y), case(X, INT)],
    "clamp_min.default": [case(X, 1), case(X, 1.5)],
    "clamp_max.default": [case(X, 1), case(X, 1.5)],
    "where.self": [case(BOOL, X, Y), case(BOOL, X, ROW), case(BOOL, ONE, X), case(BOOL, X, INT), case(BOOL, INT32, X)],
    "masked_fill.Scalar": [case(X, BOOL, 2), case(X, BOOL, -2.5), case(FULL, BOOL, float("-inf"))],
    "_to_copy.default": [case(X, dtype=dtype) for dtype in (*CASTS, torch.float64)],
    "to.dtype": [case(X, dtype) for dtype in CASTS],
    "to.dtype_layout": [case(X, dtype=torch.float32), case(X, dtype=torch.int64)],
    "type_as.default": [case(X, FULL), case(X, INT), case(X, HALF)],
    # reductions
    "sum.default": [case(X), case(CUBE), case(X, dtype=torch.float32)],
    "sum.dim_IntList": reductions(case(X, None), case(X, [1], dtype=torch.float32), case(X, [])),
    "mean.default": [case(X), case(X, dtype=torch.float32)],
    "mean.dim": reductions(case(X, None), case(X, [1], dtype=torch.float32)),
    "prod.default": [case(X), case(NONZERO)],
    "prod.dim_int": [case(X, 0), case(CUBE, -2, True)],
    "any.default": [case(X), case(CUBE)],
    "any.dim": [case(X, 0), case(X, -1, True)],
    "any.dims": reductions(),
    "amax.default": reductions(case(X)),
    "amin.default": reductions(case(X)),
    "max.default": [case(X)],
    "min.default": [case(X)],
    "max.dim": [case(X, 0), case(X, -1, True)],
    "min.dim": [case(X, 0), case(X, -1, True)],
    "argmax.default": [case(X), case(X, 0), case(X, -1, True)],
    "argmin.default": [case(X), case(X, 0), case(X, -1, True)],
    "median.default": [case(X), case(FLAT)],
    "median.dim": [case(X, 0), case(X, 1, True), case(SQUARE, 1)],
    "std.correction": [case(X, [1]), case(X, [0], correction=0), case(X, None, correction=1, keepdim=True)],
    "var.correction": [case(X, [1]), case(X, [0], correction=0), case(X, None, correction=1, keepdim=True)],
    "linalg_vector_norm.default": [case(X), case(X, 1, [0]), case(X, float("inf"), [1], True), case(X, 3), case(X, 2, [1])],
    "cumsum.default": [case(X, 0), case(X, -1), case(X, 1, dtype=torch.float32)],
    "cumprod.default": [case(X, 0), case(X, -1), case(NONZERO, 1)],
    # products
    "mm.default": [case(Operand((3, 4)), SQUARE)],
    "bmm.default": [case(CUBE, Operand((2, 4, 3)))],
    "matmul.default": [case(X, ROW), case(CUBE, SQUARE), case(SQUARE, SQUARE), case(ROW, ROW)],
    "linear.default": [case(CUBE, SQUARE, CHANNELS), case(CUBE, SQUARE)],
    "addmm.default": [
        case(CHANNELS, SQUARE, SQUARE),
        case(SQUARE, SQUARE, SQUARE, beta=2, alpha=3),
        case(CHANNELS, SQUARE, SQUARE, beta=0),
    ],
    "baddbmm.default": [
        case(Operand((2, 3, 3)), CUBE, Operand((2, 4, 3))),
        case(Operand((2, 3, 3)), CUBE, Operand((2, 4, 3)), beta=2, alpha=3),
    ],
    "outer.default": [case(ROW, FLAT)],
    "einsum.default": [case("bij,jk->bik", [CUBE, SQUARE]), case("ij->ji", [X]), case("bij,bij->b", [CUBE, CUBE])],
    "convolution.default": [
        case(IMAGE, Operand((3, 4, 3, 3)), Operand((3,)), [1, 1], [1, 1], [1, 1], False, [0, 0], 1, dtypes=FLOATING),
        case(IMAGE, Operand((4, 2, 2, 2)), None, [2, 2], [0, 1], [1, 2], False, [0, 0], 2, dtypes=FLOATING),
        case(LINE, Operand((3, 4, 3)), Operand((3,)), [2], [1], [1], False, [0], 1, dtypes=FLOATING),
        case(
            VOLUME, Operand((3, 2, 2, 2, 2)), Operand((3,)), [1, 1, 1], [0, 0, 0], [1, 1, 1], False, [0, 0, 0], 1, dtypes=FLOATING
        ),
        case(IMAGE, Operand((4, 3, 3, 3)), Operand((3,)), [2, 2], [1, 1], [1, 1], True, [1, 1], 1, dtypes=FLOATING),
        case(LINE, Operand((4, 3, 3)), Operand((3,)), [2], [1], [1], True, [0], 1, dtypes=FLOATING),
        case(
            VOLUME,
            Operand((3, 2, 2, 2, 2)),
            None,
            [1, 1, 1],
            [0, 0, 0],
            [1, 1, 1],
            False,
            [0, 0, 0],
            1,
            dtypes=INTEGERS,
            refused="convert its operands yourself",
        ),
    ],
    "conv1d.default": [case(LINE, Operand((3, 4, 3)), Operand((3,)), [2], [1])],
    "conv2d.default": [
        case(IMAGE, Operand((3, 4, 3, 3)), Operand((3,)), [2, 1], [1, 0]),
        case(IMAGE, Operand((4, 1, 3, 3)), None, [1, 1], [1, 1], [1, 1], 4, unlike=PADDED),
    ],
    "conv3d.default": [case(VOLUME, Operand((3, 2, 2, 2, 2)), Operand((3,)), dtypes=FLOATING)],
    "conv_transpose1d.default": [case(LINE, Operand((4, 3, 3)), Operand((3,)), [2], [1], dtypes=FLOATING)],
    "conv_transpose2d.input": [case(IMAGE, Operand((4, 3, 3, 3)), Operand((3,)), [2, 2], [1, 1], [1, 1], dtypes=FLOATING)],
    "scaled_dot_product_attention.default": [
        case(Operand((1, 2, 3, 4)), Operand((1, 2, 5, 4), seed=1), Operand((1, 2, 5, 4), seed=2))
    ],
    # norms and pooling
    "native_layer_norm.default": [case(X, [5], ROW, ROW, 1e-5, first=True), case(CUBE, [3, 4], None, None, 1e-5, first=True)],
    "layer_norm.default": [case(X, [5], ROW, ROW), case(X, [5])],
    "native_group_norm.default": [
        case(LINE, CHANNELS, CHANNELS, 2, 4, 8, 2, 1e-5, first=True),
        case(IMAGE, None, None, 1, 4, 36, 4, 1e-5, first=True),
    ],
    "group_norm.default": [case(LINE, 2, CHANNELS, CHANNELS), case(IMAGE, 4)],
    "instance_norm.default": [case(LINE, CHANNELS, CHANNELS, None, None, True, 0.1, 1e-5, False)],
    "batch_norm.default": [case(LINE, CHANNELS, CHANNELS, CHANNELS, POSITIVES, False, 0.1, 1e-5, False)],
    "_native_batch_norm_legit_no_training.default": [
        case(LINE, CHANNELS, CHANNELS, CHANNELS, POSITIVES, 0.1, 1e-5, first=True),
        case(IMAGE, None, None, CHANNELS, POSITIVES, 0.1, 1e-3, first=True),
    ],
    "_native_batch_norm_legit.no_stats": [case(LINE, CHANNELS, CHANNELS, True, 0.1, 1e-5, first=True)],
    "_native_batch_norm_legit_functional.default": [
        case(LINE, CHANNELS, CHANNELS, CHANNELS, POSITIVES, False, 0.1, 1e-5, first=True)
    ],
    "avg_pool1d.default": [case(LINE, [2]), case(LINE, [3], [2], [1]), case(LINE, [3], [2], [1], True, False)],
    "avg_pool2d.default": [
        case(IMAGE, [2, 2]),
        case(IMAGE, [3, 3], [2, 2], [1, 1]),
        case(IMAGE, [3, 3], [2, 2], [1, 1], False, False),
        case(IMAGE, [3, 2], [2, 2], [0, 0], True),
        case(IMAGE, [2, 2], [2, 2], [0, 0], False, True, 3, dtypes=FLOATING),
        case(IMAGE, [2, 2], [2, 2], [0, 0], False, True, 3, dtypes=INTEGERS, refused="it pools integers"),
    ],
    "avg_pool3d.default": [case(VOLUME, [2, 2, 2]), case(VOLUME, [3, 3, 3], [1, 1, 1], [1, 1, 1], False, False)],
    "max_pool1d.default": [case(LINE, [2]), case(LINE, [3], [2], [1])],
    "max_pool2d.default": [case(IMAGE, [2, 2]), case(IMAGE, [3, 3], [2, 2], [1, 1], [1, 1], True)],
    "max_pool3d.default": [case(VOLUME, [2, 2, 2])],
    "max_pool1d_with_indices.default": [
        case(LINE, [2], first=True),
        case(LINE, [3], [2], [1], first=True),
        case(LINE, [2], refused=PLACES),
    ],
    "max_pool2d_with_indices.default": [
        case(IMAGE, [2, 2], first=True),
        case(IMAGE, [3, 3], [1, 2], [1, 1], [2, 1], first=True),
        case(IMAGE, [2, 2], refused=PLACES),
    ],
    "max_pool3d_with_indices.default": [
        case(VOLUME, [2, 2, 2], first=True),
        case(VOLUME, [3, 3, 3], [1, 1, 1], [1, 1, 1], first=True),
        case(VOLUME, [2, 2, 2], refused=PLACES),
    ],
    **{f"{p}adaptive_avg_pool1d.default": [case(LINE, [2]), case(LINE, [1]), case(LINE, [3])] for p in ("",)},
    **{f"{p}adaptive_avg_pool2d.default": [case(IMAGE, [2, 3]), case(IMAGE, [1, 1]), case(IMAGE, [4, 5])] for p in ("", "_")},
    **{
        f"{p}adaptive_avg_pool3d.default": [case(VOLUME, [2, 1, 2]), case(VOLUME, [1, 1, 1]), case(VOLUME, [3, 3, 3])]
        for p in ("", "_")
    },
    "upsample_nearest2d.vec": [case(IMAGE, None, [2.0, 2.0]), case(IMAGE, [4, 9], None)],
    "upsample_bilinear2d.vec": [
        case(IMAGE, None, False, [2.0, 2.0], dtypes=FLOATING),
        case(IMAGE, [9, 4], True, None, dtypes=FLOATING),
        case(IMAGE, [9, 4], False, None, dtypes=FLOATING),
        case(IMAGE, [9, 4], False, None, dtypes=(torch.uint8,), refused="an image of integers"),
    ],
    "upsample_bicubic2d.vec": [
        case(IMAGE, None, False, [2.0, 2.0], dtypes=FLOATING),
        case(IMAGE, [9, 4], True, None, dtypes=FLOATING),
        case(IMAGE, [9, 4], True, None, dtypes=(torch.uint8,), refused="an image of integers"),
    ],
    "_upsample_bilinear2d_aa.default": [case(IMAGE, [3, 3], False, refused="antialias=False")],
    "grid_sampler_2d.default": [
        case(IMAGE, Operand((1, 3, 3, 2)), mode, padding, aligned)
        for mode, padding, aligned in ((0, 0, False), (1, 1, True), (0, 2, False), (2, 0, True))
    ],
    "affine_grid_generator.default": [
        case(Operand((1, 2, 3)), [1, 4, 3, 3], False, dtypes=FLOATING),
        case(Operand((1, 2, 3)), [1, 4, 3, 3], True, dtypes=FLOATING),
        case(Operand((1, 2, 3)), [1, 4, 3, 3], True, dtypes=INTEGERS, refused="a grid of integers"),
    ],
    "pixel_shuffle.default": [case(IMAGE, 2)],
    "cross_entropy_loss.default": [
        case(X, Operand((3,), torch.int64, "below 0 5")),
        case(X, Operand((3,), torch.int64, "below 0 5"), ROW, 0),
    ],
    "native_dropout.default": [case(X, 0.5, False), case(X, 0.5, True, refused="at random")],
    "dropout.default": [case(X, 0.5, False)],
    # places
    "embedding.default": [case(X, Operand((2, 4), torch.int64, "below 0 3")), case(X, Operand((4,), torch.int32, "below 0 3"))],
    "index.Tensor": [
        case(X, [Operand((4,), torch.int64, "below -3 3")]),
        case(CUBE, [None, Operand((4,), torch.int64, "below -3 3")]),
        case(CUBE, [Operand((2, 2), torch.int64, "below -2 2"), None, Operand((2,), torch.int64, "below -4 4")]),
        case(CUBE, [Operand((2,), torch.int64, "below -2 2"), Operand((2,), torch.int64, "below 0 3")]),
        case(CUBE, [None, Operand((2,), torch.int32, "below -3 2"), Operand((2,), torch.int64, "below 0 3")]),
    ],
    "index_select.default": [
        case(X, 1, Operand((4,), torch.int64, "below 0 5")),
        case(X, -2, Operand((2,), torch.int32, "below 0 3")),
    ],
    "index_put.default": [
        case(X, [Operand((2,), torch.int64, "below -3 3")], Operand((2, 5), seed=2)),
        case(X, [Operand((4,), torch.int64, "below -3 3")], Operand((4, 5), seed=2), True),
        case(CUBE, [None, Operand((2,), torch.int64, "below 0 3")], Operand((2, 2, 4), seed=2)),
        case(CUBE, [Operand((2,), torch.int64, "below 0 2"), None, Operand((2,), torch.int64, "below -4 4")], ONE),
        case(X, [BOOL], ONE),
        case(CUBE, [Operand((2, 3), torch.bool, seed=2)], Operand((4,), seed=2)),
        case(CUBE, [None, Operand((3,), torch.bool, seed=2)], Operand((2, 1, 4), seed=2), True),
        case(X, [BOOL], Operand((int(BOOL.draw(torch.bool).sum()),)), refused=AT_THE_CALL),
    ],
    "take.default": [case(X, Operand((2, 2), torch.int64, "below -15 15"))],
    "gather.default": [
        case(X, 1, Operand((3, 2), torch.int64, "below 0 5")),
        case(X, 0, Operand((2, 5), torch.int64, "below 0 3")),
    ],
    "scatter.src": [
        case(X, 1, Operand((3, 1), torch.int64, "below 0 5"), Operand((3, 1), seed=2)),
        case(X, 0, Operand((1, 5), torch.int64, "below 0 3"), Operand((2, 5), seed=2)),
    ],
    "scatter.value": [
        case(X, 1, Operand((3, 2), torch.int64, "below 0 5"), 2),
        case(X, 0, Operand((1, 5), torch.int64, "below 0 3"), -1.5, dtypes=FLOATING),
    ],
    "scatter_add.default": [
        case(X, 1, Operand((3, 4), torch.int64, "below 0 2"), Y),
        case(X, 0, Operand((2, 5), torch.int64, "below 0 3"), Y),
    ],
    "select.int": [case(X, 0, 1), case(X, 1, -1), case(CUBE, -1, -2)],
    "slice.Tensor": [
        case(X, 1, 1, 4),
        case(X, 0, -2),
        case(X, 1, 0, 9223372036854775807, 2),
        case(X, 1, -3, -1),
        case(X, -1, 4, 2),
    ],
    "slice_scatter.default": [
        case(X, Operand((3, 2), seed=2), 1, 1, 3),
        case(X, Operand((3, 3), seed=2), 1, 0, 5, 2),
        case(X, Operand((1, 5), seed=2), 0, -1),
    ],
    "diagonal.default": [case(SQUARE), case(SQUARE, 1), case(CUBE, -1, 1, 2)],
    "narrow.default": [case(X, 1, 1, 3)],
    "bucketize.Tensor": [
        case(X, BOUNDARIES),
        case(X, BOUNDARIES, out_int32=True, right=True),
    ],
    "sort.default": [case(X), case(X, 0, True), case(FLAT, -1)],
    "argsort.default": [
        case(Operand((6,), values="below 0 23", seed=1)),
        case(Operand((2, 5), values="below 0 23", seed=1), 0, True),
    ],
    "topk.default": [
        case(Operand((2, 5), values="below 0 23", seed=1), 2),
        case(Operand((5, 2), values="below 0 23", seed=1), 3, 0, False),
    ],
    "isin.Tensor_Tensor": [case(X, ROW)],
    "one_hot.default": [case(Operand((2, 4), torch.int64, "below 0 3"), 5)],
    # shapes
    "cat.default": [case([X, Y]), case([X, Y], 1), case([X, INT], -1), case([X, BOOL])],
    "concat.default": [case([X, Y], 1)],
    "stack.default": [case([X, Y]), case([X, Y], -1)],
    "chunk.default": [case(X, 2, 1)],
    "split.Tensor": [case(X, 2, 1)],
    "split_with_sizes.default": [case(X, [1, 4], 1)],
    "unbind.int": [case(X), case(X, 1)],
    "expand.default": [case(ROW, [3, 5]), case(Operand((3, 1)), [-1, 4]), case(Operand((3, 1)), [2, -1, 4])],
    "expand_as.default": [case(ROW, X)],
    "broadcast_to.default": [case(ROW, [3, 5])],
    "flatten.using_ints": [case(CUBE), case(CUBE, 1)],
    "unflatten.int": [case(CUBE, 2, [2, 2])],
    "flip.default": [case(X, [0]), case(CUBE, [0, -1])],
    "permute.default": [case(CUBE, [2, 0, 1]), case(X, [-1, 0])],
    "transpose.int": [case(CUBE, 0, -1)],
    "repeat.default": [case(X, [2, 1]), case(ROW, [2, 3])],
    "tile.default": [case(X, [2]), case(ROW, [2, 3])],
    "roll.default": [case(X, [1], [0]), case(X, [2])],
    "reshape.default": [case(X, [5, 3]), case(X, [-1])],
    "reshape_as.default": [case(Operand((5, 3)), X)],
    "view.default": [case(X, [5, 3]), case(X, [-1])],
    "squeeze.default": [case(Operand((1, 3, 1)))],
    "squeeze.dim": [case(Operand((1, 3, 1)), 0), case(X, 0)],
    "squeeze.dims": [case(Operand((1, 3, 1)), [0, 2]), case(Operand((1, 3, 1)), [0, 1])],
    "unsqueeze.default": [case(X, 0), case(X, -1)],
    "as_strided.default": [case(X, [2, 2], [5, 1]), case(X, [3, 2], [5, 2], 1), case(X, [2, 3, 2], [1, 1, 1])],
    "tril.default": [case(SQUARE), case(X, 1)],
    "triu.default": [case(SQUARE), case(X, -1)],
    "pad.default": [
        case(X, [1, 2]),
        case(X, [1, 0, 0, 1], "constant", 2),
        case(LINE, [1, 1], "reflect"),
        case(LINE, [1, 2], "replicate"),
        case(LINE, [1, 1], "circular"),
    ],
    "constant_pad_nd.default": [case(X, [1, 2]), case(X, [1, 0, 0, 1], 2), case(X, [-1, 1], 1)],
    "meshgrid.default": [case([ROW, FLAT])],
    "meshgrid.indexing": [case([ROW, FLAT], indexing="xy"), case([ROW, FLAT], indexing="ij")],
    "copy.default": [case(X, Y), case(X, ROW), case(X, INT), case(INT, X)],
    # made anew
    "arange.default": [case(5), case(5, dtype=torch.float32)],
    "arange.start": [case(2, 7), case(0.5, 3.0)],
    "arange.start_step": [case(0, 10, 3), case(5, 0, -2), case(0, 1, 0.25), case(1, 9, 2, dtype=torch.float32)],
    "linspace.default": [case(0, 1, 5), case(-2, 2, 4, dtype=torch.float32)],
    "eye.default": [case(3)],
    "eye.m": [case(2, 3, dtype=torch.int64)],
    "full.default": [
        case([2, 3], 2),
        case([2, 3], 0.5),
        case([], True),
        case([2], float("-inf")),
        case([2], 1, dtype=torch.float16),
    ],
    "full_like.default": [case(X, 2), case(X, 1.0), case(X, 0.5, dtype=torch.float32)],
    "ones.default": [case([2, 3]), case([2], dtype=torch.bool)],
    "zeros.default": [case([2, 3]), case([2], dtype=torch.int64)],
    "new_ones.default": [case(X, [2, 2])],
    "new_zeros.default": [case(X, [2, 2])],
    "fill.Scalar": [case(X, 2), case(X, 1.0)],
    "scalar_tensor.default": [case(2), case(2.5), case(True), case(2, dtype=torch.float16), case(float("-inf"))],
    "hamming_window.default": [case(6)],
    "hamming_window.periodic": [case(6, False)],
    "hamming_window.periodic_alpha": [case(6, True, 0.6)],
    "hamming_window.periodic_alpha_beta": [case(6, True, 0.6, 0.4)],
}

# Operators of the importer's table that have no case, and why.
RANDOM = "draws random numbers: refused, see test_type_promotion.py"
SPARSE = "works on sparse tensors, which no input can be; a constant one becomes dense before"
SIZE = "computes with sizes or checks them; torch calls it of itself where a dimension is dynamic"
RECURRENT = "whole layers with their states are in test_recurrent.py"
NO_CASE = {
    **{f"{name}.Scalar_Tensor": "shifts by negative numbers: see test_converters.py" for name in SHIFTS},
    "randn.default": RANDOM,
    "randn_like.default": RANDOM,
    "exponential.default": RANDOM,
    "bernoulli.p": RANDOM,
    "_sparse_mm.default": SPARSE,
    "_sparse_addmm.default": SPARSE,
    "to_sparse.default": SPARSE,
    "_assert_async.default": SIZE,
    "_assert_async.msg": SIZE,
    "_assert_scalar.default": SIZE,
    "_assert_tensor_metadata.default": SIZE,
    "sym_constrain_range_for_size.default": SIZE,
    "sym_size.int": SIZE,
    "_local_scalar_dense.default": "gives a number of Python, which torch.export takes for a size",
    "item.default": "gives a number of Python, which torch.export takes for a size",
    "masked_select.default": "gives as many elements as its values say, which torch.export refuses to fix",
    "empty.memory_format": "gives whatever is in memory; torch overwrites it at once, by full or copy",
    "empty_like.default": "gives whatever is in memory",
    "empty_permuted.default": "gives whatever is in memory",
    **{
        f"_embedding_bag{kind}.default": "gives what a gradient needs, too; tests/transform/test_legalize_bags.py has it"
        for kind in ("", "_forward_only")
    },
    "lstm.input": RECURRENT,
    "gru.input": RECURRENT,
    "rnn_tanh.input": RECURRENT,
    "rnn_relu.input": RECURRENT,
}
