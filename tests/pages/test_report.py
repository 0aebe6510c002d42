import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from tvm_balanced.core.race import Race
from tvm_balanced.core.ratio import Ratio
from tvm_balanced.errors import ArtifactError
from tvm_balanced.pages.report import EntryPointTimes, write_report_page
from tvm_balanced.timing.profile import Profile, ProfileRow
from tvm_balanced.timing.rates import Rates

PROFILE = Profile(
    (
        ProfileRow("0", "cpu_avx2", 1, 30.0, 0.6, 4000, 2000),
        ProfileRow("2", "cpu_dense", 1, 15.0, 0.3, 9000, 500),
        ProfileRow("fused_<gelu>", "tvm", 1, 5.0, 0.1, 0, 0),
    ),
    Rates(100.0, 30.0),
    1,
)


@pytest.fixture
def page(compiled_mlp, tmp_path):
    def write(times, module=compiled_mlp):
        write_report_page(module, times, "a <model>", tmp_path / "new" / "page.html")
        return (tmp_path / "new" / "page.html").read_text()

    return write


def test_it_shows_layers_times_and_zeros(page, compiled_mlp):
    text = page([EntryPointTimes("main", PROFILE, [("addmm", 80.0), ("gelu", 7.0)])])
    assert "a &lt;model&gt;" in text
    assert "fused_&lt;gelu&gt;" in text
    assert compiled_mlp.report.headline in text
    for layer in compiled_mlp.report.layers:
        assert layer.layer in text
        assert layer.reason in text
    assert text.count("a block of 16 weights holds 2 nonzeros") == 2
    assert len(re.findall('src="data:image/svg', text)) == 1 + 3 + 2  # shares; times twice and roofline; a map of each layer


def test_a_module_of_another_machine_has_no_times(page):
    text = page([])
    assert "this machine cannot run it" in text
    assert "roofline" not in text


def test_a_slower_module_is_shown_in_red(page, compiled_mlp):
    slow = compiled_mlp.clone()
    slow.facts = replace(slow.facts, report=replace(slow.report, races=(Race("main", 9, 10.0, Ratio(0.8, 0.7, 0.9)),)))
    assert 'class="big slow">0.80x' in page([], slow)


def test_a_page_that_cannot_be_written_is_one_sentence(compiled_mlp, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_report_page(compiled_mlp, [], "m", tmp_path / "file" / "page.html")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed (Debian: chromium)")
@pytest.mark.parametrize("width", [420, 1300])
def test_a_browser_draws_it(page, tmp_path, width):
    page([EntryPointTimes("main", PROFILE, [("addmm", 80.0)])])
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={picture}", f"--window-size={width},2600"]
    subprocess.run(
        ["chromium", *options, (tmp_path / "new" / "page.html").as_uri()], check=True, timeout=120, capture_output=True
    )
    from matplotlib import image

    drawn = image.imread(picture)[..., :3]
    assert drawn.shape[1] == width
    green = np.all(np.abs(drawn - np.array([0x1A, 0x7F, 0x5A]) / 255) < 0.02, axis=-1)
    assert green.sum() > 500  # the bars of sparse layers
