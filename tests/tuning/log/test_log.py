import json
import os
import signal
import stat
from dataclasses import replace

import pytest
from support.fixed_latency import forkserver
from support.log_records import RUN, TRIAL, WINNER

from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.log.log import Log, logs_in, replace_file
from tvm_balanced.tuning.log.record import to_line


@pytest.fixture
def log(tmp_path):
    log = Log(tmp_path, "key")
    log.create()
    return log


def trials(count, run="a1", start=1):
    return [replace(TRIAL, run=run, number=number) for number in range(start, start + count)]


def files(log):
    return {path.name for path in log.folder.iterdir()} - {".lock"}


def test_what_is_appended_is_read_in_order(log):
    log.append([RUN])
    log.append(trials(3))
    log.append([WINNER])
    log.create()  # again changes nothing
    read = Log(log.folder.parent, "key").read()
    assert read.records == [RUN, *trials(3), WINNER]
    assert read.damaged == []


def test_a_last_line_cut_at_any_byte_is_repaired(log):
    log.append([RUN, *trials(2)])
    whole = log.path.read_bytes()
    last = to_line(trials(2)[-1]).encode()
    for kept in range(len(last)):
        log.path.write_bytes(whole[: len(whole) - len(last) + kept])
        lost = kept < len(last) - 1  # without its end alone, nothing is lost
        assert Log(log.folder.parent, "key").read().records == [RUN, *trials(1 if lost else 2)]
        Log(log.folder.parent, "key").append([WINNER])
        read = log.read()
        assert read.records == [RUN, *trials(1 if lost else 2), WINNER]
        assert read.damaged == []
        assert log.path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("damage", [b"\0" * 40, b"[" * 100_000, b'{"kind":' * 100_000])
def test_a_damaged_line_does_not_lose_the_rest(log, damage):
    log.append([RUN, *trials(3)])
    lines = log.path.read_bytes().split(b"\n")
    lines[2] = damage
    log.path.write_bytes(b"\n".join(lines))
    read = log.read()
    assert read.records == [RUN, *trials(2, start=2)]
    assert read.damaged == [3]
    log.rewrite(lambda records: records)
    assert log.read().damaged == []
    assert log.read().records == [RUN, *trials(2, start=2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tuning log"),
        (b"something else\n", "not a tuning log"),
        (b"[1]\n", "not a tuning log"),
        (b'{"log": "tvm_balanced", "format": 1, "key": "key"}', "not a tuning log"),
        (b'{"log": "tvm_balanced", "format": 2, "key": "key"}\n', "format 2, this version reads format 1; update"),
        (b'{"log": "tvm_balanced", "format": 1, "key": "other"}\n', "made for other, not for key"),
    ],
)
def test_a_foreign_or_newer_log_is_refused_and_not_touched(log, content, message):
    log.path.write_bytes(content)
    for act in (log.read, log.create, lambda: log.append([RUN]), lambda: log.rewrite(lambda records: records)):
        with pytest.raises(TuningError, match=message):
            act()
    assert log.path.read_bytes() == content


def test_a_renamed_folder_is_another_key(log):
    renamed = log.folder.rename(log.folder.parent / "other")
    with pytest.raises(TuningError, match="made for key, not for other"):
        Log(renamed.parent, "other").read()


def test_append_says_what_others_added(log):
    log.append([RUN])
    other = Log(log.folder.parent, "key")
    other.read()
    log.append(trials(2))
    assert other.append([WINNER]) == trials(2)
    assert other.append(trials(1, "b")) == []
    assert log.append(trials(1, "c")) == [WINNER, *trials(1, "b")]
    log.rewrite(lambda records: records[:1])  # the file is shorter now
    assert other.append(trials(1, "d")) == []
    assert log.read().records == [RUN, *trials(1, "d")]


@pytest.mark.parametrize("kept", [0, 2], ids=["dropped", "kept"])
def test_append_says_what_others_added_to_a_log_that_was_rewritten_meanwhile(log, kept):
    """Whatever is where in the file now, as after a merge, which sorts: none of its own comes back as another's."""
    log.append([RUN, *trials(2)])
    others = trials(9, "b")
    Log(log.folder.parent, "key").rewrite(lambda records: [*others, *records[: 1 + kept]])
    assert log.append([WINNER]) == others
    assert log.append(trials(1, start=3)) == []
    assert log.read().records == [*others, RUN, *trials(kept), WINNER, *trials(1, start=3)]


def test_a_last_line_without_its_end_is_another_s_record_too(log):
    other = Log(log.folder.parent, "key")
    other.append([RUN, WINNER])
    log.path.write_bytes(log.path.read_bytes()[:-1])
    assert log.append(trials(1)) == [RUN, WINNER]


def _append_many(folder, run):
    log = Log(folder, "key")
    log.create()
    for number in range(1, 101):
        log.append([replace(TRIAL, run=run, number=number)])


def test_two_writers_lose_nothing(tmp_path):
    context = forkserver()
    writers = [context.Process(target=_append_many, args=(tmp_path, run)) for run in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    read = Log(tmp_path, "key").read()
    assert read.damaged == []
    for run in "ab":
        assert [record.number for record in read.records if record.run == run] == list(range(1, 101))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match="cannot be written"):
        Log(tmp_path / "file", "key").create()
    with pytest.raises(TuningError, match="cannot be read"):
        Log(tmp_path, "none").read()


def test_nothing_half_written_is_left(log, monkeypatch):
    log.append([RUN])
    before = log.path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(TuningError, match="No space left"):
        log.rewrite(lambda records: [])
    assert log.path.read_bytes() == before
    assert files(log) == {"log.jsonl"}


def test_a_file_that_is_replaced_is_readable_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "a", b"1")
        os.umask(0o022)
        replace_file(tmp_path / "b", b"2")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o644]


def _killed_while_it_writes(folder):
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    Log(folder, "key").rewrite(lambda records: [])


@pytest.mark.xdist_group("tuning")
def test_what_killed_writers_left_is_gone_after_the_next(log):
    log.append([RUN])
    for _ in range(2):
        process = forkserver().Process(target=_killed_while_it_writes, args=(log.folder.parent,))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    assert log.read().records == [RUN]
    assert len(files(log) - {"log.jsonl"}) == 1
    log.rewrite(lambda records: records)
    assert files(log) == {"log.jsonl"}


def test_the_folder_is_on_disk_after_the_file(log, monkeypatch):
    """Else a crash of the machine may bring the old file back, to which nobody appends any more."""
    synced = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    log.rewrite(lambda records: records)
    assert synced == [False, True]


def test_logs_in_a_folder(tmp_path, log):
    Log(tmp_path, "another").create()
    (tmp_path / "no log").mkdir()
    assert [found.key for found in logs_in(tmp_path)] == ["another", "key"]
    assert json.loads(log.path.read_text().splitlines()[0])["key"] == "key"
    with pytest.raises(TuningError, match="not a folder"):
        logs_in(tmp_path / "none")
