import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tvm_balanced.core.files import new_directory, new_file, parse_json, replace_file, require_writable
from tvm_balanced.errors import ArtifactError

WRITING = """
import os, signal, sys
from pathlib import Path
from tvm_balanced.core.files import new_directory
with new_directory(Path(sys.argv[1])) as directory:
    (directory / "half").write_text("half")
    {what}
"""


def write(path, fails=False):
    with new_directory(path) as directory:
        (directory / "whole").write_text("whole")
        if fails:
            raise OSError("disk full")


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_it_appears_whole(tmp_path):
    with new_directory(tmp_path / "m.tb") as directory:
        (directory / "whole").write_text("whole")
        assert not (tmp_path / "m.tb").exists()
    assert names(tmp_path) == ["m.tb"]
    assert names(tmp_path / "m.tb") == ["whole"]


def test_others_may_read_it_as_far_as_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "m.tb")
    finally:
        os.umask(before)
    assert (tmp_path / "m.tb").stat().st_mode & 0o777 == 0o750


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    with pytest.raises(ArtifactError, match="disk full"):
        write(tmp_path / "m.tb", fails=True)
    assert names(tmp_path) == []


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ArtifactError, match="not an empty directory"):
        write(tmp_path)
    assert names(tmp_path) == ["mine.txt"]


def test_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert names(tmp_path / "empty") == ["whole"]


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / "file" / "m.tb")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / "m.tb")


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes(tmp_path):
    script = WRITING.format(what="os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "m.tb"], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    other = tmp_path / ".other.tb.abc.saving"
    other.mkdir()
    for old in (left, other):
        os.utime(old, (0, 0))
    write(tmp_path / "m.tb")
    assert names(tmp_path) == [other.name, "m.tb"]


def test_what_a_live_process_is_writing_stays(tmp_path):
    script = WRITING.format(what="print('writing', flush=True); sys.stdin.read()")
    command = [sys.executable, "-c", script, tmp_path / "m.tb"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        (writing,) = tmp_path.iterdir()
        os.utime(writing, (0, 0))
        write(tmp_path / "m.tb")
        assert names(tmp_path) == sorted([writing.name, "m.tb"])
        process.kill()


def test_a_directory_that_is_not_locked_yet_stays(tmp_path):
    young = tmp_path / ".m.tb.abc.saving"
    young.mkdir()
    write(tmp_path / "m.tb")
    assert young.exists()


def test_a_file_appears_whole_with_the_mode_of_any_file(tmp_path):
    with new_file(tmp_path / "m.json") as file:
        file.write_text("whole")
        assert not (tmp_path / "m.json").exists()
    (tmp_path / "plain").touch()
    assert names(tmp_path) == ["m.json", "plain"]
    assert (tmp_path / "m.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def fill_the_disk(path):
    with new_file(path) as file:
        file.write_text("half")
        raise OSError("disk full")


def test_a_file_that_fails_leaves_the_old_one(tmp_path):
    replace_file(tmp_path / "m.json", b"old")
    with pytest.raises(OSError, match="disk full"):
        fill_the_disk(tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == b"old"
    assert names(tmp_path) == ["m.json"]


def test_under_a_lock_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    (tmp_path / ".m.json.new").write_text("half")
    replace_file(tmp_path / "m.json", b"whole", locked=True)
    assert names(tmp_path) == ["m.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "it is nested too deep"),
        ('{"a":' * 100_000, "it is nested too deep"),
        (b'{"a": "\xff\xfe"}', "it is no text in UTF-8"),
        ("", "it is no JSON"),
        ('{"a": 1', "it is no JSON"),
        ("9" * 5000, "it is no JSON"),
    ],
)
def test_whatever_is_no_json_is_a_value_error_of_one_sentence(content, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_json(content)
    assert "\n" not in str(error.value)
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}


def test_a_place_that_cannot_be_written_is_known_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    require_writable(tmp_path / "file")
    require_writable(Path("new"))
    require_writable(Path("no/such/folder"), folder=True)
    refused = {
        ("no/such", False): "No such file or directory",
        ("file/x", False): "Not a directory",
        ("file/x/y", True): "Not a directory",
        (".", False): "Is a directory",
    }
    for (path, folder), why in refused.items():
        with pytest.raises(ArtifactError, match=f"{path} cannot be written .{why}.; choose another place"):
            require_writable(Path(path), folder)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(ArtifactError, match="Permission denied"):
        require_writable(Path("new"))
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
