import json
from dataclasses import replace

from tvm_balanced.core.report import FunctionReport, LayerReport, OperatorReport, Report
from tvm_balanced.core.text_table import table

LAYER = LayerReport("fc", 64, 128, None, 2, 0.875, "2:16", "4:32", 0.1, "cpu_portable", "sparse", "because", "modelled", 3.0)


def test_report_survives_json():
    report = Report((LAYER,))
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_report_reads_as_a_table():
    text = str(Report((LAYER,)))
    assert text.startswith("1 of 1 layers run in sparse kernels")
    assert "2:16 as 4:32" in text
    assert "because (modelled)" in text


WHOLE = Report(
    (
        replace(LAYER, m=4, weights=600, macs=800, seconds=2e-6),
        replace(LAYER, layer="head", m=4, verdict="dense", stored="-", weights=200, macs=100, seconds=1e-6),
    ),
    (OperatorReport("conv", "convolution 2d", (8, 3, 2, 2), 1, 0.5, 200, 100, "dense", "no kernel"),),
    (FunctionReport("fused_conv2d", 1, 5e-6, False), FunctionReport("scheduled functions (3)", 7, 2e-6, True)),
)


def test_the_headline_has_the_shares_of_sparse_kernels():
    assert (WHOLE.weights, WHOLE.macs) == (1000, 1000)
    assert WHOLE.headline == (
        "60.0% of the weights and 80.0% of the multiply-adds run in sparse kernels, 80.0% of the time is expected elsewhere"
    )
    assert str(WHOLE).splitlines()[:2] == [WHOLE.headline, "1 of 2 layers run in sparse kernels"]
    assert Report(()).headline == "no operator with a constant weight"
    assert str(Report(())) == "no operator with a constant weight"


def test_every_part_has_a_row_with_its_shares():
    rows = [dict(zip(WHOLE.header, cells, strict=True)) for cells in WHOLE.cells()]
    shares = {row["layer"]: (row["weights"], row["multiply-adds"], row["time"], row["verdict"]) for row in rows}
    assert shares == {
        "fc": ("60.0%", "80.0%", "20.0%", "sparse"),
        "head": ("20.0%", "10.0%", "10.0%", "dense"),
        "conv": ("20.0%", "10.0%", "-", "dense"),
        "fused_conv2d": ("-", "-", "50.0%", "NAIVE LOOP"),
        "scheduled functions (3)": ("-", "-", "20.0%", "scheduled"),
    }
    assert rows[2]["shape"] == "8x3x2x2"


def test_a_whole_report_survives_json():
    data = json.loads(json.dumps(WHOLE.to_json()))
    assert Report.from_json(data) == WHOLE
    assert (data["headline"], data["sparse_weights"], data["sparse_macs"]) == (WHOLE.headline, 0.6, 0.8)
    assert data["time_elsewhere"] == WHOLE.time_elsewhere


def test_a_report_of_an_earlier_version_was_a_list_of_layers():
    report = Report.from_json(json.loads(json.dumps([LAYER.to_json()])))
    assert report == Report((LAYER,))
    assert report.headline == ""


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
