import numpy as np
import pytest
import torch

from benchmarks.study import debian, page
from benchmarks.study.__main__ import COLUMNS, KEY, Point, points
from benchmarks.study.retrieval import Quality

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


def test_a_study_has_distinct_points_and_the_page_a_row_for_each():
    every = list(points(False, 4000, 9.0))
    assert len({point.key() for point in every}) == len(every) > len(list(points(True, 1000, 0.0))) == 10
    assert set(KEY) < set(COLUMNS)
    row = dict.fromkeys(COLUMNS, "0.5") | {"method": "sparsegpt", "pattern": "4:16", "minutes": "9", "queries": "1000"}
    text = page.text([row, row | {"pattern": "8:16", "minutes": "0"}])
    assert "| 4:16 | sparsegpt, then 9 minutes of distillation |" in text
    assert "| 8:16 | sparsegpt |" in text


def test_the_page_is_that_of_the_rows():
    """docs/accuracy.md is generated: nobody edits a figure."""
    import csv

    with page.DATA.open(newline="") as file:
        assert page.PAGE.read_text() == page.text(list(csv.DictReader(file)))


def test_a_point_that_is_there_has_the_key_of_its_row():
    point = Point("sparsegpt", "4:16", 9.0, 1)
    assert point.key() == ("sparsegpt", "4:16", "9", "1", "192", "1000")
