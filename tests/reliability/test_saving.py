"""Saving where it cannot succeed: a full disk, and a process that is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import tvm_balanced as tb
from tvm_balanced.errors import ArtifactError

SAVES = """
import sys
sys.modules["torch"] = None
import tvm_balanced as tb
module = tb.load(sys.argv[1])
print("ready", flush=True)
for i in range(10**6):
    module.save(f"{sys.argv[2]}/{i}.tb")
"""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_said_and_nothing_is_left(artifact, small_disk):
    module, saved = tb.load(artifact), 0
    with pytest.raises(ArtifactError, match=r"cannot be written.*No space left"):  # noqa: PT012
        for saved in range(100):
            module.save(small_disk / f"{saved}.tb")
    assert saved >= 1
    assert sorted(path.name for path in small_disk.iterdir()) == sorted(f"{i}.tb" for i in range(saved))
    for path in small_disk.iterdir():
        assert tb.load(path).facts == module.facts


@pytest.mark.slow
def test_what_a_killed_process_has_saved_is_whole(artifact, tmp_path):
    for wait in (0.05, 0.11, 0.23):
        place = tmp_path / str(wait)
        place.mkdir()
        process = subprocess.Popen([sys.executable, "-c", SAVES, str(artifact), str(place)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        while not any(path.suffix == ".tb" for path in place.iterdir()):
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        whole = [path for path in place.iterdir() if not path.name.startswith(".")]
        assert whole
        for path in (whole[0], max(whole, key=lambda path: path.stat().st_mtime_ns)):
            assert tb.self_test(path, threads=1).ok
        tb.load(artifact).save(place / "after.tb")  # what was half written is in nobody's way
        assert tb.load(place / "after.tb").facts == tb.load(artifact).facts
