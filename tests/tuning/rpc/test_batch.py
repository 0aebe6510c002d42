from pathlib import Path

from tvm_balanced.schedules import Workload
from tvm_balanced.tuning.log.record import Measured
from tvm_balanced.tuning.rpc.batch import ATTEMPTS, Batch, Job


def test_a_job_that_fails_is_left_to_another_worker_until_it_was_tried_often_enough():
    batch, job = Batch(Workload("cpu_dense", 1, 8, 8, 1, 1)), Job(((0, 1),), Path("library.so"))
    for attempt in range(1, ATTEMPTS):
        job.attempts = attempt
        batch.failed(job, "its server died")
        assert batch.jobs.get_nowait() is job
    job.attempts = ATTEMPTS
    batch.failed(job, "its server died")
    assert batch.jobs.empty()
    assert batch.results.get_nowait() == Measured(job.decisions, None, "its server died")
