"""What is done to artifacts and readers, and what came of it: writes docs/reliability.md.

pip install atheris
python -m benchmarks.reliability --seconds 600    # of fuzzing for each reader
"""

import argparse
import collections
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.core.text_table import table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
PLACES = 64  # of a file that are damaged, one at a time


def saved_model(folder: Path) -> tuple[Path, Any]:
    """Return the artifact of a small pruned model and an input."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 40)).eval()
    tb.prune(model, "2:16")
    x = torch.randn(5, 64)
    tb.compile(model, (x,)).save(folder / "m.tb")
    return folder / "m.tb", x.numpy()


def outcome(artifact: Path, x: Any, want: Any) -> str:
    """Load an artifact and call it: what came of that."""
    try:
        (got,) = tb.load(artifact)["main"].flat(x)
    except tb.TvmBalancedError:
        return "refused with one sentence"
    except Exception as error:  # which would be a finding
        return f"{type(error).__name__}"
    return "the same bits" if np.array_equal(got, want) else "OTHER BITS"


def attacked(artifact: Path, x: Any, folder: Path) -> Iterator[str]:
    """What came of each hostile artifact."""
    from support.attacks import ATTACKS

    want = tb.load(artifact)["main"].flat(x)[0]
    for i, attack in enumerate(ATTACKS):
        copy = shutil.copytree(artifact, folder / str(i) / "m.tb")
        attack.change(copy)
        yield outcome(copy, x, want)


def damaged(artifact: Path, x: Any, folder: Path) -> Iterator[str]:
    """What came of each damage to each file."""
    from support.attacks import damages

    want, rng = tb.load(artifact)["main"].flat(x)[0], np.random.default_rng(0)
    copy = shutil.copytree(artifact, folder / "damaged.tb")
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for one in damages(content, rng, PLACES):
            path.unlink()  # the library may be mapped
            path.write_bytes(one)
            yield outcome(copy, x, want)
        path.write_bytes(content)


def fuzzed(name: str, seconds: int, corpus: Path) -> tuple[str, ...]:
    """Fuzz a reader: (reader, seconds, inputs, what was reached, findings)."""
    command = [sys.executable, "-m", "benchmarks.fuzz", name, "--seconds", str(seconds), "--corpus", str(corpus)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    said = done.stdout + done.stderr
    units = re.search(r"number_of_executed_units: (\d+)", said)
    reached = re.findall(r"cov: (\d+) ft: (\d+)", said)
    if units is None:
        return name, str(seconds), "-", "-", said.strip().splitlines()[-1][:80] if said.strip() else "it printed nothing"
    findings = "none" if done.returncode == 0 else f"ended with {done.returncode}"
    return name, str(seconds), f"{int(units[1]):,}", reached[-1][0] if reached else "-", findings


def shared(folder: Path) -> list[tuple[str, ...]]:
    """Memory of two processes with the same artifact: (weights=, bytes of weights, mapped in both together, by PSS)."""
    from reliability.test_shared_weights import pss_of, servers

    model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024)).eval()
    tb.prune(model, "4:16")
    tb.compile(model, (torch.randn(1, 1024),), threads=1).save(folder / "large.tb")
    weights = folder / "large.tb" / "weights"
    nbytes, rows = sum(file.stat().st_size for file in weights.iterdir()), []
    for how in ("shared", "copied"):
        started = servers(folder / "large.tb", how)
        together = sum(pss_of(process, weights) for process in started)
        for process in started:
            process.communicate("", timeout=60)
        rows.append((how, f"{nbytes:,}", f"{together:,}"))
    return rows


def page(seconds: int, corpus: Path) -> str:
    """Run everything and return the page."""
    from support.fuzz_targets import TARGETS

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        artifact, x = saved_model(folder)
        counts = [collections.Counter(results(artifact, x, folder)) for results in (attacked, damaged)]
        memory = shared(folder)
    fuzzing = [fuzzed(name, seconds, corpus) for name in TARGETS]
    rows = [
        (what, str(count.total()), ", ".join(f"{number} {result}" for result, number in count.most_common()))
        for what, count in zip(("hostile artifacts", f"damages, {PLACES} of each file"), counts, strict=True)
    ]
    version = tb.__version__
    return f"""# Reliability

Written by `python -m benchmarks.reliability --seconds {seconds}` on {datetime.now(UTC):%d %B %Y}: version {version}, Python
{platform.python_version()}, {platform.system()} {platform.machine()}.

Damage to what is stored for the self-test changes no answer of the model, so it is loaded; `tvm-balanced self-test` finds it.

{fenced(("what", "how many", "what came of them"), rows)}
Fuzzing guided by coverage (atheris) of the readers of what comes from elsewhere. "reached" counts branches.

{fenced(("reader", "seconds", "inputs", "reached", "findings"), fuzzing)}
Memory of two processes that load one artifact, mapped from its files, by PSS of /proc/PID/smaps:

{fenced(("weights=", "bytes of weights", "mapped, both together"), memory)}"""


def fenced(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in a block of code."""
    return f"```\n{table(header, rows)}\n```\n"


def main() -> None:
    """Run everything and write the page."""
    sys.path.insert(0, str(ROOT / "tests"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, default=ROOT / "tests" / "data" / "fuzz")
    options = parser.parse_args()
    text = page(options.seconds, options.corpus)
    PAGE.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
