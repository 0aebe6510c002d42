"""Run the Python of README.md in order, as somebody would who has a model; `python readme.py README.md` does so anywhere.

Only the standard library is imported here, because this also runs where nothing but the package is installed.
"""

import re
import sys
from pathlib import Path

# what the README's reader has
READER = """
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 32)).eval()
x = torch.randn(4, 64)
batches = [(torch.randn(16, 64),) for _ in range(4)]
"""
# what the reader would then see; the loaded module is the one that was compiled
AGREES = """
assert "2 of 2 layers run in sparse kernels" in module.report.title, module.report.title
torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
assert torch.equal(module(x), y)
"""


def snippets(text):
    """Return the blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def run(text):
    """Run a page's Python in order in the working directory, with two seconds of tuning in place of minutes."""
    names = {}
    shorter, times = re.subn(r"\bminutes=\d+", "minutes=0.03", "\n".join(snippets(text)))
    assert times == 1
    for code in (READER, shorter, AGREES):
        exec(code, names)  # the project's own page


if __name__ == "__main__":
    run(Path(sys.argv[1]).read_text())
    print("the README's snippets run")
