"""docs/tvm.md: the way of somebody who knows TVM, by TVM's own importer, tuner and compiler."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from tvm.support import popen_pool

PAGE = Path(__file__).parents[2] / "docs" / "tvm.md"
FAILED = 1e9  # seconds that MetaSchedule notes for a candidate that could not be measured


@pytest.mark.slow
@pytest.mark.avx2
def test_the_program_of_the_page_tunes_and_is_right(tmp_path, monkeypatch):
    pytest.importorskip("xgboost")
    monkeypatch.chdir(tmp_path)
    started = []
    counted = SimpleNamespace(Popen=lambda command, **options: started.append(command) or subprocess.Popen(command, **options))
    monkeypatch.setattr(popen_pool, "subprocess", counted)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"__name__": "program"}
    exec(compile(program, "tvm.md", "exec"), names)
    records = names["database"].get_all_tuning_records()
    assert len(records) == 16
    assert len(started) == 2  # one builds and one measures, in all batches
    assert all(float(seconds) < FAILED for record in records for seconds in record.run_secs)
    kernels = [func for func in names["mod"].functions.values() if "tvm_balanced.workload" in (func.attrs or {})]
    assert len(kernels) == 2
    assert all(func.attrs["tirx.is_scheduled"] for func in kernels)
