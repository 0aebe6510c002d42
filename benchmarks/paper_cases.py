"""The paper's measurements of dense layers: the computations, and the reported times.

Yao, Cao, Xiao, Zhang, Nie: Balanced Sparsity for Efficient DNN Inference on GPU, AAAI 2019;
float32. The micro-benchmark was read off its plots, to 0.02 ms. The paper does not name the GPU.
"random" is cuSPARSE on weights without a pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """Dense layers that run one after another.

    Parameters
    ----------
    name : str
    batch : int
        Rows of x.
    layers : tuple of (N, K)
    sparsity : float
        Of balanced and of random sparsity.
    block_sparsity : float or None
        Of block sparsity, if the paper gives it another one, at which the model is as accurate;
        else the same.
    published : mapping of "dense", "random", "block" and "balanced" to float
        The paper's times in microseconds; empty if it reports none at this sparsity.
    """

    name: str
    batch: int
    layers: tuple[tuple[int, int], ...]
    sparsity: float
    block_sparsity: float | None = None
    published: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}, batch {self.batch}, {self.sparsity:.2%}"


KINDS = ("dense", "balanced", "random", "block")
MICRO = {  # by batch and sparsity: microseconds in the order of KINDS
    1: {0.5: (1100, 1000, 1200, 1600), 0.75: (1100, 530, 620, 800), 0.875: (1100, 310, 350, 440), 0.9375: (1100, 170, 220, 240)},
    8: {
        0.5: (2090, 1070, 5250, 1730),
        0.75: (2090, 630, 3400, 860),
        0.875: (2090, 370, 2330, 490),
        0.9375: (2090, 260, 1840, 250),
    },
}
MICRO_SPARSITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.875, 0.9, 0.9375, 0.95)


def _published(*times: float) -> dict[str, float]:
    return dict(zip(KINDS, times, strict=False))


def _micro() -> tuple[Case, ...]:
    return tuple(
        Case("16384x8196", batch, ((16384, 8196),), s, None, _published(*MICRO[batch].get(s, ())))
        for batch in MICRO
        for s in MICRO_SPARSITIES
    )


CASES = (
    *_micro(),
    # the products of both layers' gates with x and with h; the paper's times include the operators between them
    Case("LSTM-1500", 1, ((6000, 1500),) * 4, 0.8, 0.4, _published(294.1, 120.2, 370.9, 326.3)),
    # both directions; K of x is assumed to be 1024 too, because the paper does not say
    Case("Bi-LSTM-1024", 1, ((4096, 1024),) * 4, 0.875, 0.7, _published(117.9, 83.9, 190.5, 212.8)),
    Case("VGG-16 fc6", 1, ((4096, 25088),), 0.93, 0.75, _published(979.9, 231.1, 1084.6, 841.8)),
    Case("VGG-16 fc7", 1, ((4096, 4096),), 0.93, 0.75, _published(265.5, 70.3, 251.0, 238.6)),
    Case("VGG-16 fc8", 1, ((1000, 4096),), 0.75, 0.6, _published(144.5, 58.9, 294.5, 120.6)),
)
