import runpy
from pathlib import Path

import pytest

NEEDS = {"onnx_model": "onnx"}
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path, capsys):
    pytest.importorskip(NEEDS.get(path.stem, "torch"))
    runpy.run_path(str(path), run_name="__main__")
    assert "right" in capsys.readouterr().out


def test_every_example_is_listed():
    listed = (EXAMPLES[0].parent / "README.md").read_text()
    assert all(path.name in listed for path in EXAMPLES)
