import json
from dataclasses import replace

from tvm_balanced.core.report import LayerReport, Report
from tvm_balanced.core.text_table import table

LAYER = LayerReport("fc", 64, 128, None, 2, 0.875, "2:16", "4:32", 0.1, "cpu_portable", "sparse", "because", "modelled", 3.0)


def test_report_survives_json():
    report = Report((LAYER,))
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_report_reads_as_a_table():
    text = str(Report((LAYER,)))
    assert text.startswith("1 of 1 dense layers are sparse")
    assert "2:16 as 4:32" in text
    assert "because (modelled)" in text


def test_table_aligns():
    assert table(("a", "bbb"), [("cc", "d")]) == "a   bbb\n-------\ncc  d"


def test_entry_points_are_told_apart():
    assert "entry point" not in Report((LAYER,)).header
    report = Report((LAYER, replace(LAYER, entry_point="decode")))
    assert report.header[0] == "entry point"
    assert [row[0] for row in report.cells()] == ["main", "decode"]
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_row_of_an_earlier_version_is_read():
    row = LAYER.to_json()
    for name in ("entry_point", "functions", "parameters"):
        del row[name]
    assert LayerReport.from_json(row) == LAYER
