from pathlib import Path

import pytest
from support.readme import run, snippets

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.slow
def test_the_snippets_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(README.read_text())
    assert (tmp_path / "model.tb" / "manifest.json").is_file()


def test_prune_compile_and_deploy_have_a_snippet_each():
    assert ["tb.prune" in s or "tb.compile" in s or "tb.load" in s for s in snippets(README.read_text())] == [True] * 3
