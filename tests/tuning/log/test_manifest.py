import json

import pytest

from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.errors import TuningError
from tvm_balanced.runtime import environment
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.target_features import target_key
from tvm_balanced.tuning.log import manifest
from tvm_balanced.tuning.log.log import Log

KEY = target_key(host_target())


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path, KEY)


def test_what_is_written_is_read(log, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/usr/bin/tvm-balanced", "tune", "a model.pt2"])
    manifest.write(log, host_target())  # before the log
    facts = manifest.read(log)
    assert facts["key"] == KEY
    assert facts["device"]
    assert facts["command"] == "tvm-balanced tune 'a model.pt2'"
    assert target_key(parse_target(json.loads(facts["target"]))) == KEY
    assert facts["versions"] == environment.versions()
    manifest.write(log, host_target(), "a GPU")
    assert manifest.read(log)["device"] == "a GPU"


def test_what_a_killed_writer_left_is_removed(log):
    log.folder.mkdir(parents=True, exist_ok=True)
    (log.folder / ".manifest.json.new").write_text("{")
    manifest.write(log, host_target())
    assert {path.name for path in log.folder.iterdir()} <= {"manifest.json", ".lock", "log.jsonl"}


def test_it_is_copied_where_there_is_none(log, tmp_path):
    into = Log(tmp_path / "into", KEY)
    manifest.copy(log, into)  # has none either
    assert not into.folder.exists()
    manifest.write(log, host_target(), "one")
    manifest.copy(log, into)
    assert manifest.read(into)["device"] == "one"
    manifest.write(log, host_target(), "two")
    manifest.copy(log, into)
    assert manifest.read(into)["device"] == "one"


@pytest.mark.parametrize("name", ["format", "key", "device", "target", "date"])
@pytest.mark.parametrize("value", [None, 7])
def test_one_that_lacks_a_field_or_has_another_s_is_refused(name, value, log):
    manifest.write(log, host_target())
    path = log.folder / manifest.FILE
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in facts.items() if k != name} | ({} if value is None else {name: value})))
    with pytest.raises(TuningError, match=r"manifest\.json cannot be read as a manifest .*; tune writes it anew"):
        manifest.read(log)


@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"null", b"\xff", b"{}"])
def test_what_is_no_manifest_is_refused(content, log):
    with pytest.raises(TuningError, match="No such file"):
        manifest.read(log)
    log.create()
    (log.folder / manifest.FILE).write_bytes(content)
    with pytest.raises(TuningError, match="cannot be read as a manifest"):
        manifest.read(log)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match=r"file/.* cannot be written \(Not a directory\); choose another folder"):
        manifest.write(Log(tmp_path / "file", KEY), host_target())
