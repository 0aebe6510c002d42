import json
import shutil
from dataclasses import replace

import pytest
from filelock import FileLock
from support.fixed_latency import tune
from support.log_records import RUN
from support.tuned_logs import KEY, TARGET, WORKLOAD, log_of, winner

from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.log import manifest, tools
from tvm_balanced.tuning.log.log import Log
from tvm_balanced.tuning.log.record import Run, Trial, Winner


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    for shard in (1, 2):
        tune(folder / str(shard), trials=16, shard=(shard, 2))
    return folder


def test_shards_are_merged_and_nothing_comes_in_twice(tuned, tmp_path):
    sources = [tuned / "1", tuned / "2"]
    assert sum(tools.merge(sources, tmp_path).values()) == sum(len(Log(s, KEY).read().records) for s in sources)
    assert tools.merge(sources, tmp_path) == {KEY: 0}
    assert tools.verify(tmp_path) == []
    (row,) = tools.listed(tmp_path)
    assert (row.key, row.runs, row.trials, row.winners) == (KEY, 2, 32, 3)
    records = Log(tmp_path, KEY).read().records
    assert [r.at for r in records] == sorted(r.at for r in records)


def test_a_source_without_a_log_gets_a_sentence(tuned, tmp_path):
    with pytest.raises(TuningError, match=r"is the folder of one target key; name the folder that it is in"):
        tools.merge([tuned / "1" / KEY], tmp_path / "into")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TuningError, match="empty holds no tuning log"):
        tools.merge([tuned / "1", tmp_path / "empty"], tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_prune_keeps_the_last_winners_and_their_runs(tuned, tmp_path):
    tools.merge([tuned / "1"], tmp_path)
    log = Log(tmp_path, KEY)
    before = tools.winners_of(log.read().records)
    log.append(replace(w, won=False) for w in before.values())
    tools.compact(tmp_path, trials=True)
    assert sum(isinstance(r, Trial) for r in log.read().records) == 16
    assert tools.compact(tmp_path) == 16
    records = log.read().records
    assert {type(r) for r in records} == {Run, Winner}
    assert [w.won for w in records if isinstance(w, Winner)] == [False] * len(before)
    assert tools.verify(tmp_path) == []


def test_a_run_that_begins_while_its_log_is_pruned_is_kept(tuned, tmp_path, monkeypatch):
    """However late it begins: whether a run is under way is asked under the lock that its first record waits for."""
    tools.merge([tuned / "1"], tmp_path)
    log, rewrite = Log(tmp_path, KEY), Log.rewrite
    before = log.path.read_bytes()
    run = FileLock(log.folder / ".run-late.lock")
    monkeypatch.setattr(Log, "rewrite", lambda log, select: (run.acquire(), rewrite(log, select)))
    with pytest.raises(TuningError, match="is being written by run late; compact it when that has ended"):
        tools.compact(tmp_path)
    assert log.path.read_bytes() == before
    run.release()
    monkeypatch.undo()
    assert tools.compact(tmp_path) > 0


def test_a_tuner_goes_on_where_its_log_is_merged_into(tuned, tmp_path):
    """Its trials count once, wherever in the file they are afterwards."""

    def on_progress(tuner):
        if tuner.trials == 8:
            tools.merge([tuned / "2"], tmp_path)

    result = tune(tmp_path, trials=32, shard=(1, 2), on_progress=on_progress)
    assert result.trials == 32
    assert sum(row.trials for row in result.kernels) == 32
    assert tools.verify(tmp_path) == []


def test_verify_names_what_is_wrong(tmp_path):
    with pytest.raises(TuningError, match="not a folder"):
        tools.verify(tmp_path / "none")
    assert "holds no tuning log" in tools.verify(tmp_path)[0]
    log = log_of(tmp_path, winner())
    assert "cannot be read as a manifest" in tools.verify(tmp_path)[0]
    log.path.unlink()
    tune(tmp_path, trials=3)
    trial = next(r for r in log.read().records if isinstance(r, Trial))
    log.append([trial, winner(run="lost"), winner(WORKLOAD, space="0000")])
    with log.path.open("ab") as file:
        file.write(b"\0\0\n")
    faults = "\n".join(tools.verify(tmp_path))
    for fault in ("is damaged; logs compact drops it", "run lost is not described", "is there twice", "of another version"):
        assert fault in faults
    log.path.write_bytes(b"x")
    assert "not a tuning log" in tools.verify(tmp_path)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "nope"}, "is of no workload that its kernel has"),
        ({"activation": "nope"}, "is of no workload that its kernel has"),
        ({"kernel": "none"}, "is of another version"),
    ],
)
def test_verify_names_a_winner_of_what_cannot_be(change, message, tmp_path):
    """And goes on with the others."""
    log = log_of(tmp_path, RUN, replace(winner(), workload=replace(WORKLOAD, **change)), winner(space="0000"))
    manifest.write(log, TARGET)
    first, second = tools.verify(tmp_path)
    assert message in first
    assert "is of another version" in second


def test_a_manifest_that_lacks_a_field_is_named(tmp_path):
    log = log_of(tmp_path, RUN, winner())
    manifest.write(log, TARGET)
    path = log.folder / manifest.FILE
    for name in ("target", "device"):
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != name}))
        assert any(f"(it has no {missing})" in tools.verify(tmp_path)[0] for missing in ("target", "device"))
        assert tools.listed(tmp_path)[0].device == "no manifest"


def test_diff_shows_winners_that_differ(tmp_path):
    for name, made in (("a", winner()), ("b", winner(won=False)), ("c", winner())):
        log_of(tmp_path / name, RUN, made)
    assert tools.diff(tmp_path / "a", tmp_path / "c") == []
    (row,) = tools.diff(tmp_path / "a", tmp_path / "b")
    assert row["kernel"] == "cpu_dense 128x64 M=16, 1 thread"
    assert (row["left"].endswith("1.20x"), row["right"]) == (True, "default")
    shutil.rmtree(tmp_path / "c" / KEY)
    assert tools.diff(tmp_path / "c", tmp_path / "a")[0]["left"] == "-"
