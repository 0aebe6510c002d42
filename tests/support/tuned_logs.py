"""Logs that hold winners of one small kernel of this machine."""

from dataclasses import replace

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import Workload
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Winner

WORKLOAD = Workload("cpu_dense", 16, 128, 64, 1, 1)
TARGET = host_target()
KEY = target_key(TARGET)


def winner(workload=WORKLOAD, **changes):
    space = space_of(workload, TARGET)
    decisions = next(point for point in space if point != space.default)
    made = Winner("a1", workload, 1, space.fingerprint, decisions, True, Ratio(1.2, 1.1, 1.3), 1e-7, "2026-01-01T00:00:00+00:00")
    return replace(made, **changes)


def log_of(folder, *winners, key=KEY):
    log = Log(folder, key)
    log.create()
    log.append(winners)
    return log
