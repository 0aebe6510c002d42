import json

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
