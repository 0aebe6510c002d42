"""Hostile artifacts: what is done to a good one, and the sentence that loading it must end with, in Python and in C++.

Each attack changes a copy of an artifact with one entry point. Where it changes the manifest or a listed file it corrects the
checksums too, as somebody would who means harm, so that the check in question is what refuses it.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass

import numpy as np

from tvm_balanced.runtime.manifest import read_manifest, write_manifest


@dataclass(frozen=True)
class Attack:
    """A name, what is done to a folder, and what the sentence must say (a regular expression)."""

    name: str
    change: object
    said: str


def edited(change):
    """An attack that changes the manifest and seals it again."""

    def attack(directory):
        manifest = read_manifest(directory)
        change(manifest)
        write_manifest(directory, manifest)

    return attack


def raw(change):
    """An attack that changes the bytes of the manifest."""

    def attack(directory):
        path = directory / "manifest.json"
        path.write_bytes(change(path.read_bytes()))

    return attack


def sealed(change):
    """An attack that changes the text of the manifest behind its first line, and seals it again."""

    def attack(directory):
        path = directory / "manifest.json"
        text = change(path.read_bytes().split(b"\n", 1)[1])
        path.write_bytes(b'{"checksum": "' + hashlib.sha256(text).hexdigest().encode() + b'",\n' + text)

    return attack


def set_(*keys, value):
    """Set the value at the end of these keys."""

    def change(manifest):
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = value

    return edited(change)


def row_of(manifest):
    """The first weight of two dimensions or more in float32."""
    return next(row for row in manifest["weights"] if len(row["shape"]) > 1 and row["dtype"] == "float32")


def weight(change, verify=True):
    """An attack that changes the bytes of a weight's file, and its checksum as well."""

    def attack(directory):
        manifest = read_manifest(directory)
        row = row_of(manifest)
        path = directory / row["file"]
        content = change(path.read_bytes(), row)
        path.write_bytes(content)
        if verify:
            manifest["sha256"][row["file"]] = hashlib.sha256(content).hexdigest()
            write_manifest(directory, manifest)

    return attack


def header(text, version=(1, 0)):
    """A weight with another header before the same data."""

    def change(content, row):
        data = content[10 + int.from_bytes(content[8:10], "little") :]
        body = (text.format(**row) if "{" in text and "{{" in text else text).encode("latin1")
        size = 2 if version[0] == 1 else 4
        body += b" " * (-(len(body) + 9 + size) % 64) + b"\n"
        return b"\x93NUMPY" + bytes(version) + len(body).to_bytes(size, "little") + body + data

    return weight(change)


def with_shape(shape, dtype="<f4", order="False"):
    return header(f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}")


def file_of(directory, which):
    return directory / (row_of(read_manifest(directory))["file"] if which == "weight" else which)


def linked(which, target=None):
    """An attack that puts a symbolic link in the place of a file or folder."""

    def attack(directory):
        path = file_of(directory, which)
        elsewhere = directory.parent / f"elsewhere of {directory.name}"
        elsewhere.mkdir()
        shutil.move(path, elsewhere / path.name)
        path.symlink_to(target or elsewhere / path.name)

    return attack


def fifo(which):
    def attack(directory):
        path = file_of(directory, which)
        path.unlink()
        os.mkfifo(path)

    return attack


def add(name, content=b""):
    def attack(directory):
        (directory / name).write_bytes(content)

    return attack


def moved_outside(place):
    """An attack whose manifest lists a weight at another place, with its checksum."""

    def change(manifest):
        row = row_of(manifest)
        manifest["sha256"][place] = manifest["sha256"].pop(row["file"])
        row["file"] = place

    return edited(change)


def library(content):
    def attack(directory):
        path = directory / "lib.so"
        path.unlink()
        path.write_bytes(content)
        manifest = read_manifest(directory)
        manifest["sha256"]["lib.so"] = hashlib.sha256(content).hexdigest()
        write_manifest(directory, manifest)

    return attack


def self_test_of(shape):
    def change(manifest):
        manifest["self_test"]["entry_points"]["main"]["inputs"][0]["of"] = shape

    return edited(change)


def swapped(manifest):
    manifest["entry_points"]["main"]["weights"][:2] = reversed(manifest["entry_points"]["main"]["weights"][:2])


UNREADABLE, WHOLE = "has no readable manifest.json", "is not a whole artifact"
MAIN = ("entry_points", "main")
ATTACKS = (
    # the manifest as text
    Attack("empty manifest", raw(lambda _: b""), UNREADABLE),
    Attack("truncated manifest", raw(lambda text: text[: len(text) // 2]), UNREADABLE),
    Attack("manifest that is no text", raw(lambda _: b"\xff\xfe{"), UNREADABLE),
    Attack("manifest in UTF-16", raw(lambda text: text.decode().encode("utf-16")), UNREADABLE),
    Attack("manifest that is a list", raw(lambda _: b"[]"), "has format"),
    Attack("nested too deep", raw(lambda _: b'{"format":5,"a":' * 100_000), UNREADABLE),
    Attack("nested too deep in lists", raw(lambda _: b"[" * 1_000_000), UNREADABLE),
    Attack("key twice", sealed(lambda text: b' "format": 5,\n' + text), f"{UNREADABLE}.*twice"),
    Attack("key twice inside", sealed(lambda text: text.replace(b'"weights": [', b'"weights": [], "weights": [', 1)), "twice"),
    Attack("NaN", sealed(lambda text: text.replace(b'"threads": ', b'"threads": NaN, "a": ', 1)), UNREADABLE),
    Attack("Infinity", sealed(lambda text: text.replace(b'"threads": ', b'"threads": Infinity, "a": ', 1)), UNREADABLE),
    Attack("half of a pair", sealed(lambda text: text.replace(b'"source": "', b'"source": "\\ud800', 1)), UNREADABLE),
    Attack("text behind the end", sealed(lambda text: text + b"{}"), UNREADABLE),
    Attack("more than 64 MiB", raw(lambda text: text + b" " * (64 << 20)), UNREADABLE),
    Attack("another format", raw(lambda _: b'{"format": 99}'), "has format 99; this version reads formats . to"),
    Attack("format that is no number", raw(lambda _: b'{"format": "5"}'), "has format"),
    Attack("altered text", raw(lambda text: text.replace(b'"source": "', b'"source": "!', 1)), "its manifest was altered"),
    Attack("no checksum", raw(lambda text: b"{" + text.split(b"\n", 1)[1]), "its manifest was altered"),
    Attack(
        "equal weights changed places", raw(lambda t: t.replace(b'"weights": [\n    0', b'"weights": [\n    1', 1)), "altered"
    ),
    # what the manifest says
    Attack("no weights", edited(lambda m: m.pop("weights")), f"{WHOLE}.*weights"),
    Attack("threads below zero", set_("threads", value=-1), f"{WHOLE}.*threads is -1"),
    Attack("too many threads", set_("threads", value=2**31), f"{WHOLE}.*threads is 2147483648"),
    Attack("dtype that is none", set_("weights", 0, "dtype", value="float31"), f"{WHOLE}.*float31"),
    Attack("size below zero", set_("weights", 0, "shape", value=[-1]), f"{WHOLE}.*shape of"),
    Attack("huge size", set_("weights", 0, "shape", value=[2**62, 2**62]), f"{WHOLE}.*the manifest says"),
    Attack("size that is no whole number", set_("weights", 0, "shape", value=[1.5]), f"{WHOLE}.*shape of"),
    Attack("weight that is not there", set_(*MAIN, "weights", value=[0, 99]), f"{WHOLE}.*weights of main"),
    Attack("weight below zero", set_(*MAIN, "weights", value=[-1]), f"{WHOLE}.*weights of main"),
    Attack("too few weights", set_(*MAIN, "weights", value=[0]), f"{WHOLE}.*takes 7 tensors; the manifest lists 2"),
    Attack("donated to nothing", set_(*MAIN, "donate", value={"input": "nothing"}), f"{WHOLE}.*donate is"),
    Attack("left to torch by number", edited(lambda m: m.update(left_to_torch=[1])), f"{WHOLE}.*left_to_torch is"),
    Attack("entry point without code", edited(lambda m: m["entry_points"].update(no=m["entry_points"]["main"])), WHOLE),
    Attack("self-test of a huge input", self_test_of([5, 2**40]), f"{WHOLE}.*self_test"),
    Attack("checksum that is none", set_("sha256", "lib.so", value="0"), f"{WHOLE}.*checksum of lib.so"),
    # places
    Attack("weight above the folder", moved_outside("../outside.npy"), f"{WHOLE}.*a file is"),
    Attack("weight at an absolute path", moved_outside("/etc/passwd"), f"{WHOLE}.*a file is"),
    Attack("weight through a folder above", moved_outside("weights/../../outside.npy"), f"{WHOLE}.*a file is"),
    Attack("weight with a backslash", moved_outside("..\\outside.npy"), f"{WHOLE}.*a file is"),
    Attack("weight with a NUL", moved_outside("weights/a\0.npy"), f"{WHOLE}.*a file is"),
    Attack("weight with an escape sequence", moved_outside("weights/\x1b[31m.npy"), f"{WHOLE}.*a file is"),
    Attack("the manifest as a weight", moved_outside("manifest.json"), f"{WHOLE}.*a file is"),
    Attack("weight that is not listed", set_("weights", 0, "file", value="weights/other.npy"), f"{WHOLE}.*a weight's file"),
    Attack("shared file above", edited(lambda m: m.update(shared={"lib.so": "../lib.so"})), f"{WHOLE}.*a shared file is"),
    Attack("variant above", raw(lambda _: json.dumps({"format": 4, "variants": ["../a"]}).encode()), f"{WHOLE}.*a variant is"),
    Attack("library is a link", linked("lib.so"), "lib.so is a symbolic link"),
    Attack("folder is a link", linked("weights"), "weights is a symbolic link"),
    Attack("weight is a link", linked("weight"), "is a symbolic link"),
    Attack("weight is /dev/zero", linked("weight", "/dev/zero"), "is a symbolic link"),
    Attack("manifest is a link", linked("manifest.json"), UNREADABLE),
    Attack("library is a fifo", fifo("lib.so"), "neither a file nor a directory"),
    Attack("weight is a fifo", fifo("weight"), "neither a file nor a directory"),
    Attack("manifest is a fifo", fifo("manifest.json"), UNREADABLE),
    Attack("file that is not listed", add("weights/more.npy"), "holds weights/more.npy, which its manifest does not list"),
    Attack("file with a line feed in its name", add("a\nb"), r"holds 'a\\nb', which its manifest does not list"),
    Attack("missing library", lambda directory: (directory / "lib.so").unlink(), "lacks lib.so"),
    # files
    Attack("altered weight", weight(lambda c, _: c[:-1] + bytes([c[-1] ^ 1]), verify=False), "was altered"),
    Attack("truncated weight", weight(lambda c, _: c[: len(c) // 2], verify=False), "was altered"),
    Attack("shorter weight", weight(lambda c, _: c[:-4]), f"{WHOLE}.*bytes of data"),
    Attack("longer weight", weight(lambda c, _: c + b"more"), f"{WHOLE}.*bytes of data"),
    Attack("empty weight", weight(lambda c, _: b""), f"{WHOLE}.*damaged header"),
    Attack("no magic", weight(lambda c, _: b"PK" + c[2:]), f"{WHOLE}.*damaged header"),
    Attack("version 9 of NPY", weight(lambda c, _: c[:6] + b"\x09" + c[7:]), f"{WHOLE}.*damaged header"),
    Attack("header longer than the file", weight(lambda c, _: c[:8] + b"\xff\xff" + c[10:]), f"{WHOLE}.*damaged header"),
    Attack("huge shape", with_shape((2**62, 2**62)), f"{WHOLE}.*the manifest says"),
    Attack("shape whose bytes overflow to 0", with_shape((2**32, 2**32)), f"{WHOLE}.*the manifest says"),
    Attack("negative shape", with_shape((-1, 64)), f"{WHOLE}.*(the manifest says|damaged header)"),
    Attack("object dtype", with_shape((2, 2), "|O"), f"{WHOLE}.*(the manifest says|damaged header)"),
    Attack("other dtype", with_shape((2, 2), "<i4"), f"{WHOLE}.*the manifest says"),
    Attack("other byte order", with_shape((2, 2), ">f4"), f"{WHOLE}.*(the manifest says|damaged header)"),
    Attack("code in a header", header("__import__('os').system('touch ran')"), f"{WHOLE}.*damaged header"),
    Attack("deep header", header("(" * 3000), f"{WHOLE}.*damaged header"),
    Attack("header of 60,000 bytes", header(" " * 60_000), f"{WHOLE}.*damaged header"),
    Attack("library that is none", library(b"\x7fELF but nothing more"), WHOLE),
    Attack("empty library", library(b""), WHOLE),
    # the machine
    Attack("another architecture", set_("target", value='{"kind":"llvm","mtriple":"mips64-linux-gnu"}'), "is for mips64"),
    Attack(
        "a GPU that is not here",
        set_("target", value='{"kind":"cuda","arch":"sm_30","host":{"kind":"llvm","mtriple":"x86_64-pc-linux-gnu"}}'),
        "is for a GPU of sm_30, which this machine does not have; ",
    ),
    Attack("instructions that no CPU has", set_("features", value=["avx", "made-up"]), "needs made-up, which this CPU"),
    Attack(
        "another TVM", set_("versions", value={"apache-tvm": "0.26", "apache-tvm-ffi": "0.1.14"}), "was built with apache-tvm"
    ),
)


def damages(content, rng, places=64):
    """Yield copies of bytes, each damaged at one of so many places: a bit flipped, a byte lost, or one put in."""
    for i, place in enumerate(rng.integers(0, len(content), places)):
        kind = i % 3
        if kind == 0:
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(rng.integers(0, 8))
            yield bytes(flipped)
        else:
            yield (
                content[:place]
                + (b"" if kind == 1 else np.uint8(rng.integers(0, 256)).tobytes())
                + content[place + (kind == 1) :]
            )
