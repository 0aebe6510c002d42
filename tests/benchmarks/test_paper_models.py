import pytest

from benchmarks import paper_models as paper


def test_the_layers_are_those_of_the_papers_table():
    assert len(paper.VGG) == 13
    dense = sum(one.dense for one in paper.VGG) + sum(case.published["dense"] for case in paper.DENSE_LAYERS)
    balanced = sum(one.balanced for one in paper.VGG) + sum(case.published["balanced"] for case in paper.DENSE_LAYERS)
    assert dense == pytest.approx(6814.1, abs=0.2)  # the paper rounds
    assert balanced == pytest.approx(5213.0, abs=0.2)
    macs = sum(one.layer.macs for one in paper.VGG)
    assert macs == 15_346_630_656  # 224 pixels


def test_the_nearest_pattern():
    assert [paper.nearest(sparsity) for sparsity in (0.34, 0.5, 0.8, 0.875, 0.95, 0.99)] == [
        *("11:16", "8:16", "3:16", "2:16", "1:16", "1:16")
    ]


@pytest.mark.slow
def test_a_dense_layer_is_checked_and_timed():
    kernel, call = paper.dense_layer(64, 96, "2:16")
    found = paper.compared("2:16", kernel, call, call, 0.05)
    row = paper._row("VGG-16", "fc6", 0.93, found, 979.9, 231.1)
    assert set(row) | {"others"} == set(paper.COLUMNS)
    text = paper.page([{name: str(value) for name, value in row.items()}])
    assert f"| fc6 | 93% | 2:16 | {row['us']} |" in text
    assert "| 231.1 | 4.24 |" in text
    assert "VGG-16, 1 layers" in text
