"""Logs and databases of MetaSchedule: what one holds, the other gets."""

from dataclasses import replace

import pytest
import tvm
import tvm_ffi
from support.tuned_logs import KEY, TARGET, WORKLOAD, log_of, winner
from tvm import relax
from tvm.s_tir import meta_schedule as ms

from tvm_balanced.compiler.targets import cuda_target
from tvm_balanced.compiler.tuned_schedules import TunedSchedules
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.base.space import decisions_of
from tvm_balanced.schedules.multi_kernel import Variant
from tvm_balanced.schedules.spaces import space_of
from tvm_balanced.transform.annotate_schedule_rule import annotated
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.database import FAILED, LogDatabase, module_of
from tvm_balanced.tuning.log.exchange import FILES, Imported, export_database, import_database
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Run, Trial
from tvm_balanced.tuning.log.tools import verify

SPACE = space_of(WORKLOAD, TARGET)
OTHER = replace(WORKLOAD, n=48)
NOW = "2026-01-01T00:00:00+00:00"
RUN = Run("a1", {"source": "a test"}, {}, NOW)


def trial(number, decisions, seconds, workload=WORKLOAD):
    error = None if seconds else "it failed"
    return Trial("a1", number, workload, 1, space_of(workload, TARGET).fingerprint, decisions, seconds, error, NOW)


@pytest.fixture
def logs(tmp_path):
    """A log of four trials, one of them failed, and a winner that is not the fastest trial."""
    trials = [trial(i, SPACE.at(i), seconds) for i, seconds in enumerate((3e-6, 1e-6, None, 2e-6))]
    manifest.write(log_of(tmp_path / "logs", RUN, *trials, winner(decisions=SPACE.at(3))), TARGET)
    return tmp_path / "logs"


def scheduled(mod):
    """The kernel of a module after TVM's own pass, named as in a model."""
    with TARGET:
        return relax.transform.MetaScheduleApplyDatabase()(mod)["kernel7"]


def kernel():
    return KERNELS[WORKLOAD.kernel].prim_func(WORKLOAD)


def same(func, decisions):
    """Whether a function is scheduled by decisions, whatever it says of itself."""
    return tvm_ffi.structural_equal(func.body, SPACE.replay(decisions).body, map_free_vars=True)


@pytest.mark.parametrize("annotate", [False, True])
def test_tvms_pass_applies_an_exported_log(annotate, logs, tmp_path):
    assert export_database(logs, tmp_path / "db") == 1
    func = annotated(kernel()) if annotate else kernel()
    with ms.database.JSONDatabase(work_dir=str(tmp_path / "db")):
        found = scheduled(tvm.IRModule({"kernel7": func}))
    assert found.attrs["tirx.is_scheduled"]
    expected = tvm.s_tir.Schedule(annotated(kernel()) if annotate else kernel())
    SPACE.trace_of(SPACE.at(3)).apply_to_schedule(expected, remove_postproc=False)
    assert tvm_ffi.structural_equal(found.body, expected.mod["main"].body, map_free_vars=True)


def test_tvms_pass_applies_a_log_as_it_is(logs):
    with LogDatabase(Log(logs, KEY), TARGET, 1):
        assert same(scheduled(tvm.IRModule({"kernel7": kernel()})), SPACE.at(3))
        other = tvm.IRModule({"kernel7": KERNELS[OTHER.kernel].prim_func(OTHER)})
        assert "tirx.is_scheduled" not in scheduled(other).attrs


def test_there_and_back(logs, tmp_path):
    assert export_database(logs, tmp_path / "db", trials=True) == 3
    assert import_database(tmp_path / "db", tmp_path / "back") == Imported(3, 3, 0)  # each function is there twice
    back = [r for r in Log(tmp_path / "back", KEY).read().records if isinstance(r, Trial)]
    assert {(r.decisions, r.seconds) for r in back} == {(SPACE.at(i), s) for i, s in ((0, 3e-6), (1, 1e-6), (3, 2e-6))}
    assert {r.threads for r in back} == {int(TARGET.attrs["num-cores"])}
    assert import_database(tmp_path / "db", tmp_path / "back").added == 0
    assert verify(tmp_path / "back") == []


def test_compile_reads_a_database_of_metaschedule(logs, tmp_path):
    export_database(logs, tmp_path / "db", trials=True)
    found = TunedSchedules.of(TARGET, 1, tmp_path / "db")
    assert found(WORKLOAD) == SPACE.at(1)
    assert found.source(Variant(WORKLOAD)) == "tuned: MetaSchedule's database"
    assert found(OTHER) is None


def test_what_is_not_ours_or_of_another_version_is_left_out(tmp_path):
    (tmp_path / "db").mkdir()
    database = ms.database.JSONDatabase(work_dir=str(tmp_path / "db"))
    ours, theirs = module_of(WORKLOAD), tvm.IRModule({"main": module_of(WORKLOAD)["main"].without_attr("tvm_balanced.workload")})
    empty = tvm.s_tir.Schedule(ours).trace
    for mod, trace, seconds in (
        (ours, SPACE.trace_of(SPACE.at(1)), 1e10),
        (theirs, SPACE.trace_of(SPACE.at(1)), 1e-6),
        (ours, empty, 1e-6),
    ):
        arguments = ms.arg_info.ArgInfo.from_prim_func(mod["main"])
        record = ms.database.TuningRecord(trace, database.commit_workload(mod), [seconds], TARGET, arguments)
        database.commit_tuning_record(record)
    assert import_database(tmp_path / "db", tmp_path / "logs", threads=1) == Imported(1, 0, 2)
    (failed,) = [r for r in Log(tmp_path / "logs", KEY).read().records if isinstance(r, Trial)]
    assert (failed.seconds, failed.error) == (None, "it failed")
    assert TunedSchedules.of(TARGET, 1, tmp_path / "db")(WORKLOAD) is None  # it has only failed


def test_a_database_whose_last_line_is_torn_is_read(logs, tmp_path):
    export_database(logs, tmp_path / "db", trials=True)
    path = tmp_path / "db" / FILES[1]
    path.write_bytes(path.read_bytes()[:-5])
    assert import_database(tmp_path / "db", tmp_path / "back").added == 3
    path.write_bytes(b"{\n")
    with pytest.raises(TuningError, match=r"the database of MetaSchedule in .*db cannot be read"):
        import_database(tmp_path / "db", tmp_path / "back")


def test_metaschedule_writes_into_a_log(logs):
    """Its own callback commits each measurement; one that failed has a time of 1e10 s there."""
    database = LogDatabase(Log(logs, KEY), TARGET, 1, run="a1")
    arguments = ms.arg_info.ArgInfo.from_prim_func(module_of(WORKLOAD)["main"])
    workload = database.commit_workload(module_of(WORKLOAD))
    for place, seconds in ((5, 1e-7), (6, 10 * FAILED)):
        trace = SPACE.trace_of(SPACE.at(place))
        database.commit_tuning_record(ms.database.TuningRecord(trace, workload, [seconds], TARGET, arguments))
    *_, fast, failed = (r for r in Log(logs, KEY).read().records if isinstance(r, Trial))
    assert (fast.decisions, fast.seconds, fast.number) == (SPACE.at(5), 1e-7, 4)
    assert (failed.decisions, failed.seconds) == (SPACE.at(6), None)
    assert [float(r.run_secs[0]) for r in database.get_top_k(workload, 2)] == [1e-7, 1e-6]
    assert len(database) == 4
    assert database.has_workload(module_of(WORKLOAD))
    assert not database.has_workload(module_of(OTHER))
    assert verify(logs) == []


def test_what_must_be_said_is_named(logs, tmp_path):
    Log(logs, KEY).append([replace(winner(), threads=2)])
    with pytest.raises(TuningError, match=r"has numbers of threads 1, 2; choose one with --threads"):
        export_database(logs, tmp_path / "db")
    with pytest.raises(TuningError, match=r"has logs .*, not other; choose one with --key"):
        export_database(logs, tmp_path / "db", key="other")
    assert export_database(logs, tmp_path / "db", threads=2) == 1
    with pytest.raises(TuningError, match="exists and is not an empty directory"):
        export_database(logs, tmp_path / "db", threads=2)
    with pytest.raises(TuningError, match="holds no database of MetaSchedule"):
        import_database(logs, tmp_path / "back")


def test_a_database_has_what_schedules_the_form_that_is_asked_for(tmp_path):
    """A trace of MetaSchedule cannot change the function that it schedules."""
    target, workload = cuda_target("h200"), Workload("cuda_decode_mma", 16, 64, 128, 2, 16, "float16")
    kernel, space = KERNELS[workload.kernel], space_of(workload, target)
    points = [(form, *space.default[1:]) for form in space.forms[:2]]
    log = Log(tmp_path, target_key(target))
    log.create()
    log.append([Trial("a1", i, workload, 1, space.fingerprint, point, 1e-6 / i, None, NOW) for i, point in enumerate(points, 1)])
    database = LogDatabase(log, target, 1)
    for point in points:
        mod = tvm.IRModule({"main": kernel.in_form(workload, point[0]).with_attr("global_symbol", "main")})
        (record,) = database.get_top_k(ms.database.Workload(mod), 9)
        assert decisions_of(record.trace, mod) == point
        assert decisions_of(database.query_tuning_record(mod, target, "main").trace, mod) == point
