import subprocess
import sys

SCRIPT = """
import sys
from tvm_balanced.core.without_torch import without_torch
assert "tvm" not in sys.modules
without_torch()
import tvm, scipy.stats
assert "torch" not in sys.modules
try:
    import torch.nn
except ImportError as error:
    print(error)
"""


def test_tvm_and_scipy_do_without():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("torch is kept out of this process\n", 0), done.stderr
