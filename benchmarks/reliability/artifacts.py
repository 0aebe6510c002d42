"""Load artifacts that are hostile or damaged, in this process: each is refused with one sentence, or gives the same bits."""

import collections
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tvm_balanced as tb
from benchmarks.reliability import rows

PLACES = 64  # of a file that are damaged, one at a time
GOOD = ("refused with one sentence", "the same bits")


def run(label: str) -> bool:
    """Try all, print and record what came of them, and return whether nothing else than what is allowed did."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        artifact, x = saved_model(folder)
        want = tb.load(artifact)["main"].flat(x)[0]
        found = {"hostile": attacked(artifact, x, want, folder), "damaged": damaged(artifact, x, want, folder)}
        counts = {kind: collections.Counter(outcomes) for kind, outcomes in found.items()}
    for kind, count in counts.items():
        for outcome, number in count.most_common():
            row = {"kind": kind, "outcome": outcome, "count": number}
            rows.write("artifacts", label, row)
            print(row, flush=True)
    return set().union(*counts.values()) <= set(GOOD)


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
    except tb.TvmBalancedError as error:
        return GOOD[0] if "\n" not in str(error) else "refused with several lines"
    except Exception as error:  # which would be a finding
        return f"{type(error).__name__}"
    return GOOD[1] if np.array_equal(got, want) else "OTHER BITS"


def attacked(artifact: Path, x: Any, want: Any, folder: Path) -> Iterator[str]:
    """What came of each hostile artifact."""
    from support.attacks import ATTACKS

    for i, attack in enumerate(ATTACKS):
        copy = shutil.copytree(artifact, folder / str(i) / "m.tb")
        attack.change(copy)
        yield outcome(copy, x, want)


def damaged(artifact: Path, x: Any, want: Any, folder: Path) -> Iterator[str]:
    """What came of each damage to each file."""
    from support.attacks import damages

    rng, copy = np.random.default_rng(0), shutil.copytree(artifact, folder / "damaged.tb")
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for one in damages(content, rng, PLACES):
            path.unlink()  # the library may be mapped
            path.write_bytes(one)
            yield outcome(copy, x, want)
        path.write_bytes(content)
