import base64
import re

import pytest
from support.fixed_latency import TASKS, FixedLatencyRunner, tune

from tvm_balanced.errors import ArtifactError
from tvm_balanced.tuning.report_page import write_page


def test_the_page_shows_every_kernel(tmp_path):
    result = tune(tmp_path, trials=30, strategy="replay", runner=FixedLatencyRunner(0, fails=lambda d: d[0][1] == 2))
    write_page(result, tmp_path / "new" / "report.html")
    page = (tmp_path / "new" / "report.html").read_text()
    for task in TASKS:
        assert page.count(task.title) >= 2
    plots = [base64.b64decode(data) for data in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", page)]
    assert len(plots) == 1 + 2 * len(TASKS)
    assert all(b"<svg" in plot for plot in plots)
    assert "best so far" not in page  # it is in the plots


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    result = tune(tmp_path, trials=4, strategy="replay")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_page(result, tmp_path / "file" / "report.html")
