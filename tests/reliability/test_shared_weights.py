"""Two processes with `weights="shared"` have the weights in memory once, by PSS (proportional set size) of smaps."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tvm_balanced as tb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="this system has no /proc/self/smaps"),
]

SERVER = """
import sys
sys.modules["torch"] = None
import numpy as np, tvm_balanced as tb
for weights in sys.stdin:
    module = tb.load(sys.argv[1], threads=1, weights=weights.strip())
    module(np.ones((1, 1024), np.float32))
    print("ready", flush=True)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An artifact, and the bytes of its weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024)).eval()
    tb.prune(model, "4:16")
    path = tmp_path_factory.mktemp("shared") / "m.tb"
    tb.compile(model, (torch.randn(1, 1024),), threads=1).save(path)
    return path, sum(file.stat().st_size for file in (path / "weights").iterdir())


def pss_of(process, folder):
    """Bytes of a process's share of the pages that are mapped from files of a folder."""
    total, inside = 0, False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = str(folder) in line
        elif inside and line.startswith("Pss:"):
            total += int(line.split()[1]) << 10
    return total


@pytest.fixture
def servers(saved):
    """Two processes that load the artifact anew for each line, which says where its weights are to be."""
    command = [sys.executable, "-c", SERVER, str(saved[0])]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)]
    yield started
    for process in started:
        process.communicate(timeout=60)


def test_two_processes_have_shared_weights_in_memory_once(saved, servers):
    path, nbytes = saved
    for weights, least, most in (("copied", 0.0, 0.01), ("shared", 0.95, 1.05)):
        for process in servers:
            process.stdin.write(f"{weights}\n")
        assert [process.stdout.readline() for process in servers] == ["ready\n"] * 2
        together = sum(pss_of(process, path / "weights") for process in servers)
        assert least * nbytes <= together <= most * nbytes + (1 << 16)
        print(f"{weights}: weights of {nbytes:,} bytes; mapped from their files in two processes, by PSS: {together:,} bytes")
