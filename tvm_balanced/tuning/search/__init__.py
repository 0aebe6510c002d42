"""Search strategies and their cost models, by name."""

from collections.abc import Callable
from typing import Any

from tvm.s_tir import meta_schedule as ms

from tvm_balanced.tuning.search.base import Strategy
from tvm_balanced.tuning.search.decision_trees import DecisionTrees
from tvm_balanced.tuning.search.exhaustive import exhaustive
from tvm_balanced.tuning.search.meta_schedule import evolutionary, replay
from tvm_balanced.tuning.search.ranked import ranked

# of a space, a seed, a workload, a target and the run's cost model, None for one of its own
STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "model": ranked,
    "transfer": ranked,
    "replay": replay,
    "exhaustive": exhaustive,
    "evolutionary": evolutionary,
}
WARM_UP = 8  # MetaSchedule's own 100 are more than most of our spaces have
COST_MODELS: dict[str, Callable[[int], Any]] = {
    "model": DecisionTrees,
    "transfer": lambda seed: DecisionTrees(seed, transfer=True),
    "evolutionary": lambda _seed: ms.cost_model.XGBModel(num_warmup_samples=WARM_UP, num_tuning_cores=1),
}
DEFAULT: Any = "model"
TRANSFER = "transfer"  # the strategy that begins with what is known of other shapes


def cost_model(strategy: str, seed: int) -> Any:
    """Return a new cost model for a strategy, one for all kernels of a run; None if it needs none."""
    return COST_MODELS[strategy](seed) if strategy in COST_MODELS else None
