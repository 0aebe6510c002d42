"""The archive for a GPU host, on a small library."""

import _ctypes
import lzma
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_host import archive

PRESET = 1  # of xz: the fastest


def elf():
    """Some library with code: Python's own of ctypes."""
    return Path(_ctypes.__file__).read_bytes()


def test_distances_become_places_and_distances_again(rng):
    call = np.frombuffer(bytes.fromhex("488d0510000000 90 488b1d08000000".replace(" ", "")), np.uint8)
    there = archive.convert(call, 1)
    assert there[3:7].view("<u4")[0] == there[11:15].view("<u4")[0] == 0x17, "both name the same place"
    np.testing.assert_array_equal(archive.convert(there, -1), call)
    opcodes = np.array([0x48, 0x8B, 0x8D, 0x05, 0x0F, 0x80, 0x3D, 0xFF, 0x15, 0x00], np.uint8)
    for length in (0, 3, 7, 100, 50_000):  # what looks like code overlaps what looks like code, all the time
        code = opcodes[rng.integers(len(opcodes), size=length)]
        there = archive.convert(code, 1)
        np.testing.assert_array_equal(archive.convert(there, -1), code)
    assert (there != code).mean() > 0.05


def test_sections_are_the_whole_file():
    library = elf()
    found = list(archive.sections(library))
    assert [offset for _, offset, _ in found] == [0, *np.cumsum([length for *_, length in found])[:-1]]
    assert sum(length for *_, length in found) == len(library)
    assert "code" in {what for what, *_ in found}


def test_what_is_unpacked_is_what_was_packed(tmp_path):
    site, back, packed = tmp_path / "site", tmp_path / "back", tmp_path / "site.tar.xz"
    (site / "tvm" / "lib").mkdir(parents=True)
    (site / archive.LIBRARY).write_bytes(elf())
    (site / "tvm" / "__init__.py").write_text("a = 1\n")
    archive.pack(site, packed, PRESET)
    archive.unpack(packed, back)
    assert (back / archive.LIBRARY).read_bytes() == elf()
    assert (back / "tvm" / "__init__.py").read_text() == "a = 1\n"
    assert sum(path.is_file() for path in back.rglob("*")) == 2
    assert elf()[:4096] in lzma.decompress(packed.read_bytes())


def test_what_travels_is_added_up_and_checked(tmp_path, capsys):
    (tmp_path / "tracked").write_bytes(b"x" * 100)
    for command in (("init", "-q"), ("add", ".")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "site.tar.xz").write_bytes(b"y" * 1000)
    (tmp_path / "kernels.zip").write_bytes(b"z" * 10)
    sizes = archive.travelling(tmp_path / "site.tar.xz", tmp_path, [tmp_path / "kernels.zip", tmp_path / "absent"])
    assert sizes == {"site.tar.xz": 1000, "tracked files": 100, "kernels.zip": 10}
    archive.check(sizes)
    assert "0.00 MiB  together" in capsys.readouterr().out
    most = archive.MAY_TRAVEL - archive.SPARE
    archive.check({"a": most})
    with pytest.raises(SystemExit, match="1 bytes too many: 62 MiB may travel"):
        archive.check({"a": most, "b": 1})
