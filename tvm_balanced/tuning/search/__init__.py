"""Search strategies, by name."""

from collections.abc import Callable
from typing import Any

import tvm

from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.base.space import Space
from tvm_balanced.tuning.search.base import Strategy
from tvm_balanced.tuning.search.exhaustive import Exhaustive
from tvm_balanced.tuning.search.model import Model
from tvm_balanced.tuning.search.random import Replay


def evolutionary(space: Space, seed: int, workload: Workload, target: tvm.target.Target) -> Strategy:
    """Return MetaSchedule's evolutionary search with its XGBoost cost model."""
    from tvm_balanced.tuning.search.evolutionary import Evolutionary

    return Evolutionary(space, seed, workload, target)


Make = Callable[[Space, int, Workload, tvm.target.Target], Strategy]
STRATEGIES: dict[str, Make] = {
    "model": lambda space, seed, *_: Model(space, seed),
    "replay": lambda space, seed, *_: Replay(space, seed),
    "exhaustive": lambda space, seed, *_: Exhaustive(space, seed),
    "evolutionary": evolutionary,
}
DEFAULT: Any = "model"
