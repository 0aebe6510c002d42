import os
import subprocess
import sys

SCRIPT = """
import os
from tvm_balanced.cli.console import without_noise
with without_noise():
    os.write(2, b"[14:04:26] /x/executable.cc:276: Warning: Scope Saving:\\n")
    os.write(2, b"[14:04:26] /x/other.cc:1: Warning: something real\\n")
os.write(2, b"after\\n")
"""


def test_only_known_remarks_are_dropped():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert "Scope Saving" not in result.stderr
    assert "something real" in result.stderr
    assert "after" in result.stderr
