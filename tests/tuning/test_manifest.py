import json

import pytest

from tvm_balanced import environment
from tvm_balanced.errors import TuningError
from tvm_balanced.targets import host_target, parse_target, target_key
from tvm_balanced.tuning import manifest
from tvm_balanced.tuning.log import Log

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


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningError, match=r"file/.* cannot be written \(Not a directory\); choose another folder"):
        manifest.write(Log(tmp_path / "file", KEY), host_target())
