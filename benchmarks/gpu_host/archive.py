"""Make and unpack the archive of pack.sh: `python -m benchmarks.gpu_host.archive pack SITE FILE`, or `unpack FILE SITE`.

The archive is a tar file in xz, and nearly all of it is the code of one library. Code names data by its
distance from the instruction, so that every use of the same data looks different. Before compressing,
distances become places in the file, which saves 7% of the code; unpacking makes them distances again.
Parts of the library that are no code are compressed with settings of their own. Needs NumPy.
"""

import argparse
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LIBRARY = "tvm/lib/libtvm_compiler.so"
MAY_TRAVEL, SPARE = 64 << 20, 2 << 20  # bytes of all that goes to the host, and how many of them are to stay free
DICTIONARY = 384 << 20
# Opcodes before a byte that says "the distance to data follows": with a prefix of 64 bits, without one, and of vectors
WIDE = (0x01, 0x03, 0x0B, 0x23, 0x2B, 0x39, 0x3B, 0x63, 0x83, 0x85, 0x89, 0x8B, 0x8D)
PLAIN = (0x39, 0x3B, 0x83, 0x89, 0x8B, 0xC6, 0xC7)
VECTOR = (0x10, 0x11, 0x28, 0x29, 0x6F, 0x7F, 0xB6)
LENGTH = 7  # of prefix, opcode, that byte and the distance
EXECUTABLE, PROGBITS, RELOCATIONS = 4, 1, 4  # of a section in ELF: a flag, and types

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def convert(code: Bytes, sign: int) -> Bytes:
    """Return code whose distances are places (`sign` 1), or places distances (-1): each undoes the other."""
    code, at = code.copy(), _places(code)
    distances = sum(code[at + 3 + byte].astype(np.int64) << (8 * byte) for byte in range(4))
    places = (distances + sign * (at + LENGTH)).astype(np.uint32)
    for byte in range(4):
        code[at + 3 + byte] = (places >> np.uint32(8 * byte)).astype(np.uint8)
    return code


def _places(code: Bytes) -> Any:
    """Return where instructions with distances seem to begin; those that overlap an earlier one are left out.

    What is converted is never part of how a place was found, and what it looks like is skipped. So both directions find the same.
    """
    if len(code) < LENGTH:
        return np.zeros(0, np.int64)
    first, second, third = code[: -LENGTH + 1], code[1 : -LENGTH + 2], code[2 : -LENGTH + 3]
    near = third & 0xC7 == 5
    found = (first & 0xF8 == 0x48) & np.isin(second, WIDE) | np.isin(second, PLAIN) | (first == 0x0F) & np.isin(second, VECTOR)
    found |= (second == 0x80) & (third == 0x3D) | (second == 0xFF) & ((third == 0x15) | (third == 0x25))
    kept, free = [], 0
    for place in np.flatnonzero(found & near).tolist():
        if place >= free:
            kept.append(place)
            free = place + LENGTH
    return np.array(kept, np.int64)


def sections(library: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield ("code", "relocations" or "data", offset, bytes) of an ELF file's parts, in order, without gaps."""
    (table,), (size, count) = struct.unpack_from("<Q", library, 0x28), struct.unpack_from("<HH", library, 0x3A)
    end = 0
    headers = [struct.unpack_from("<IIQQQQ", library, table + size * place) for place in range(count)]
    for _, kind, flags, _, offset, length in sorted(headers, key=lambda header: header[4]):
        what = "code" if kind == PROGBITS and flags & EXECUTABLE else "relocations" if kind == RELOCATIONS else "data"
        if what == "data" or length < 4096:
            continue
        if offset > end:
            yield "data", end, offset - end
        yield what, offset, length
        end = offset + length
    yield "data", end, len(library) - end


def filters(what: str, preset: int) -> list[dict[str, int]]:
    """Return the settings of xz for a part."""
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": DICTIONARY}
    if what == "code":
        return [{"id": lzma.FILTER_X86}, lzma2 | {"lc": 4, "pb": 0}]
    if what == "relocations":  # of 24 bytes each: a place, a kind, an address
        return [{"id": lzma.FILTER_DELTA, "dist": 24}, lzma2 | {"lc": 0, "lp": 3, "pb": 3}]
    return [lzma2 | {"lc": 3, "lp": 1, "pb": 1}]


def pack(site: Path, archive: Path, preset: int = 9 | lzma.PRESET_EXTREME) -> None:
    """Write all files below `site` to `archive`, the library last."""
    others = sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    others.remove(LIBRARY)
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as made:
        for name in (*others, LIBRARY):
            made.add(site / name, name, filter=_plain)
    tar.seek(0)
    with tarfile.open(fileobj=tar) as read:
        start = read.getmember(LIBRARY).offset_data
    whole, library = tar.getvalue(), (site / LIBRARY).read_bytes()
    part = archive.with_name(archive.name + ".part")
    with part.open("wb") as out:
        out.write(lzma.compress(whole[:start], filters=filters("data", preset)))
        for what, offset, length in sections(library):
            held = library[offset : offset + length]
            held = convert(np.frombuffer(held, np.uint8), 1).tobytes() if what == "code" else held
            out.write(lzma.compress(held, filters=filters(what, preset)))
            print(f"{what}: {length} bytes, {out.tell()} written", flush=True)
        out.write(lzma.compress(whole[start + len(library) :], filters=filters("data", preset)))
    part.rename(archive)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


def unpack(archive: Path, site: Path) -> None:
    """Write the files of an archive of `pack` below `site`."""
    with tarfile.open(archive, "r:xz") as made:
        made.extractall(site, filter="data")
    library = bytearray((site / LIBRARY).read_bytes())
    for what, offset, length in sections(bytes(library)):
        if what == "code":
            held = np.frombuffer(library[offset : offset + length], np.uint8)
            library[offset : offset + length] = convert(held, -1).tobytes()
    (site / LIBRARY).write_bytes(library)


def travelling(archive: Path, root: Path, others: Sequence[Path] = ()) -> dict[str, int]:
    """Return the bytes of what goes to the host: the archive, other files beside it, and the tracked files of the tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout.split(b"\0")
    tracked = [root / os.fsdecode(name) for name in listed if name]
    found = {archive.name: archive.stat().st_size, "tracked files": sum(p.lstat().st_size for p in tracked if not p.is_dir())}
    return found | {path.name: path.stat().st_size for path in others if path.exists()}


def check(sizes: dict[str, int]) -> None:
    """Print the sizes of what travels; exit with a sentence if less than SPARE is left."""
    for name, size in (*sizes.items(), ("together", sum(sizes.values()))):
        print(f"{size / 2**20:6.2f} MiB  {name}")
    if (over := sum(sizes.values()) - (MAY_TRAVEL - SPARE)) > 0:
        sys.exit(f"{over} bytes too many: {(MAY_TRAVEL - SPARE) >> 20} MiB may travel; leave a package out, or files of the tree")


def main() -> None:
    """Pack or unpack, or only check the sizes."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_host.archive", description=__doc__)
    parser.add_argument("what", choices=("pack", "unpack", "check"))
    parser.add_argument(
        "paths", nargs="+", type=Path, help="pack SITE FILE, unpack FILE SITE, or check FILE and others beside it"
    )
    options = parser.parse_args()
    first, *others = options.paths
    if options.what == "unpack":
        unpack(first, others[0])
        return
    if options.what == "pack":
        pack(first, others[0])
        first, *others = others
    check(travelling(first, Path(__file__).parents[2], others))


if __name__ == "__main__":
    main()
