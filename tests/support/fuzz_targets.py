"""Readers of what comes from elsewhere, each as a function of bytes: a result or an error of ours, in one sentence.

`benchmarks/fuzz.py` searches by coverage with atheris; `tests/test_fuzz.py` runs what it kept, and mutations, in the suite.
"""

import contextlib
import hashlib
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import ArtifactError, TvmBalancedError
from tvm_balanced.frontend.compressed_tensors import decompressed
from tvm_balanced.frontend.state_dict import read_state_dict
from tvm_balanced.runtime.manifest import parse_manifest
from tvm_balanced.runtime.weight_files import read_weight
from tvm_balanced.tuning.log.log import Log

FOLDER = Path(tempfile.mkdtemp(prefix="tvm_balanced-fuzz-"))


@contextlib.contextmanager
def one_sentence():
    said = ""
    try:
        yield
    except TvmBalancedError as error:
        said = str(error)
    assert "\n" not in said, f"an error of several lines: {said}"


def manifest(data):
    """The text behind the first line, sealed, so that what it says is read."""
    seal = b'{"checksum": "' + hashlib.sha256(data).hexdigest().encode() + b'",\n'
    for content in (seal + data, data):
        with one_sentence():
            parse_manifest(Path("m.tb"), content)


def npy(data):
    (FOLDER / "w.npy").write_bytes(data)
    with contextlib.suppress(OSError, ValueError, ArtifactError):  # which load makes one sentence of
        read_weight(FOLDER / "w.npy", {"name": "w", "file": "w.npy", "dtype": "float32", "shape": [2, 3]}, None)


def pattern(data):
    with one_sentence():
        BalancedPattern.parse(data.decode("utf-8", "replace"))


def state_dict(data):
    with one_sentence():
        (FOLDER / "w.safetensors").write_bytes(data)
        read_state_dict(FOLDER / "w.safetensors", set())


def checkpoint(data):
    with one_sentence():
        (FOLDER / "w.pt").write_bytes(data)
        read_state_dict(FOLDER / "w.pt", set())


DTYPES = (torch.float32, torch.uint8, torch.int64, torch.int32, torch.float16, torch.bool, torch.int8, torch.bfloat16)


def bitmask(data):
    """The four tensors of a sparse bitmask: of each a byte for its dtype, one for its dimensions, two for sizes, then values."""
    tensors = {}
    for name in ("shape", "compressed", "bitmask", "row_offsets"):
        kind, rank, *sizes = (*data[:4], 0, 0, 0, 0)[:4]
        shape = [size % 17 for size in sizes[: rank % 3]]
        count = int(np.prod(shape, dtype=int))
        values = [byte - 256 if byte > 250 else byte for byte in data[4 : 4 + count]]
        data = data[4 + count :]
        tensors[f"fc.{name}"] = torch.tensor((values + [1] * count)[:count]).reshape(shape).to(DTYPES[kind % len(DTYPES)])
    with one_sentence():
        decompressed(Path("w.safetensors"), tensors, {}, [])


def log(data):
    (FOLDER / "key").mkdir(exist_ok=True)
    written = Log(FOLDER, "key")
    written.path.write_bytes(data)
    with one_sentence():
        written.read()


TARGETS = {one.__name__: one for one in (manifest, npy, pattern, state_dict, checkpoint, bitmask, log)}


def seeds(name, artifact=None):
    """Good inputs to begin with, as bytes."""
    if name == "manifest":
        old = Path(__file__).parent.parent / "data" / "format4.tb" / "manifest.json"
        content = json.loads(old.read_text()) | {"shared": {}}
        variants = {"format": 5, "variants": ["a"], "sha256": {"a/manifest.json": "0" * 64}}
        return [
            old.read_bytes().split(b"\n", 1)[1],
            *(json.dumps(one | {"format": 5}).encode()[1:] for one in (content, variants)),
        ]
    if name == "npy":
        np.save(FOLDER / "seed.npy", np.ones((2, 3), np.float32))
        return [(FOLDER / "seed.npy").read_bytes()]
    if name == "pattern":
        return [b"2:16", b" 16 : 16 ", "٢:١٦".encode()]
    if name == "state_dict":
        header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
        return [struct.pack("<Q", len(header)) + header + bytes(24)]
    if name == "checkpoint":
        torch.save({"state_dict": {"module.w_orig": torch.ones(2, 3), "module.w_mask": torch.ones(2, 3)}}, FOLDER / "seed.pt")
        return [(FOLDER / "seed.pt").read_bytes()]
    if name == "bitmask":
        return [bytes([2, 1, 2, 0, 2, 9, 0, 1, 3, 0, 1, 2, 3, 1, 2, 2, 2, 1, 0, 6, 0, 2, 1, 2, 0, 0, 1])]
    return [b'{"log": "tvm_balanced", "format": 1, "key": "key"}\n{"record": "run"}\n']
