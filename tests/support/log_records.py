"""A record of each kind that a tuning log holds."""

from tvm_balanced.core.ratio import Ratio
from tvm_balanced.schedules import Workload
from tvm_balanced.tuning.log.record import Run, Trial, Winner

WORKLOAD = Workload("cpu_avx512", 16, 128, 64, 2, 16, activation="gelu", residual=True)
TRIAL = Trial("a1", 3, WORKLOAD, 2, "f00d", ((1, 8), (2, 4)), 1.25e-5, None, "2026-01-01T00:00:00+00:00")
WINNER = Winner("a1", WORKLOAD, 2, "f00d", ((1, 8), (2, 4)), True, Ratio(1.2, 1.1, 1.3), 1e-7, "2026-01-01T00:00:01+00:00")
RUN = Run("a1", {"trials": 64, "seed": 0}, {"apache-tvm": "0.27"}, "2026-01-01T00:00:00+00:00")
