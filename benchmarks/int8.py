"""How fast are 8-bit kernels and models beside dense INT8 engines? `python -m benchmarks.int8 layers|models`.

Layers: `cpu_dense_i8`, and `cpu_avx512_i8` at 8:16, 4:16 and 2:16, take turns with ONNX Runtime's dynamic
INT8 and OpenVINO's INT8 (by NNCF), each where it is installed. Models: MiniLM in float32 and in int8, with
the budget of 0.01 and with every layer rounded, beside PyTorch and the same engines. Models that were
compiled before are loaded from build/int8. Rows are appended to data/int8.csv and data/int8_models.csv.
"""

import argparse
import copy
import importlib.util
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.engines import write_onnx
from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.loss import OutputLoss, losses
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.demo.minilm import ENCODER_LINEARS, sentence_encoder, tokenize
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.testing.operands import draw_weight
from tvm_balanced.timing.paired import PAUSE, Implementation, Timing, measure_paired
from tvm_balanced.timing.rotating import rotation

DATA, MADE = Path(__file__).parent / "data", Path("build") / "int8"
SHAPES, ROWS = ((384, 1536), (1536, 384), (768, 3072), (4096, 4096)), (1, 8, 128)
OURS = {"dense": ("cpu_dense_i8", "1:1"), **{text: ("cpu_avx512_i8", text) for text in ("8:16", "4:16", "2:16")}}
ENGINES = ("onnxruntime", "openvino")
COLUMNS = ("date", "cpu", "versions", "n", "k", "m", "threads", "rival", "us", "p20", "p50", "p80")
MODEL_COLUMNS = ("date", "cpu", "versions", "batch", "threads", "rival", "ms", "p20", "p50", "p80", "relative_l2", "cosine")
PATTERNS, BUDGETS = ("8:16", "4:16", "2:16"), {"int8": 0.01, "int8 throughout": 1.0}
CALLS, CALIBRATION = 4, 32  # sentences that losses are measured on, and that a model is calibrated on


def kernel(name: str, workload: Workload, threads: int) -> Implementation:
    """Return a call of one of our kernels on random operands."""
    _, copies = rotation(workload, 0)
    func = KERNELS[name].schedule(KERNELS[name].prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    main = build(func, host_target())["main"]

    def run(_call: int) -> None:
        use_threads(threads)
        main(*copies[0])

    return run


def onnxruntime(model: Path, feeds: dict[str, Array], threads: int) -> Callable[[], Array]:
    """Return a call of a model in ONNX Runtime's dynamic INT8: per channel, signed weights."""
    import onnxruntime as ort
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    quantized = model.with_suffix(".int8.onnx")
    quantize_dynamic(str(model), str(quantized), per_channel=True, weight_type=QuantType.QInt8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(quantized), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)[0]


def openvino(model: Path, feeds: dict[str, Array], threads: int, calibration: Any, transformer: bool) -> Callable[[], Array]:
    """Return a call of a model in OpenVINO's INT8, with static scales by NNCF."""
    import nncf
    import openvino as ov

    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
    core = ov.Core()
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    quantized = nncf.quantize(core.read_model(str(model)), nncf.Dataset(calibration), model_type=kind)
    request = core.compile_model(quantized, "CPU", hints).create_infer_request()
    given = list(feeds.values())
    return lambda: request.infer(given, share_outputs=True)[0]


def installed(name: str) -> bool:
    """Whether an engine, and what quantizes for it, is there."""
    needs = ("openvino", "nncf", "onnx") if name == "openvino" else ("onnxruntime", "onnx")
    return all(importlib.util.find_spec(package) is not None for package in needs)


def layer_rivals(n: int, k: int, m: int, threads: int, folder: Path) -> dict[str, Implementation]:
    """Return calls of one layer, ours and the engines'."""
    rivals: dict[str, Implementation] = {}
    for label, (name, text) in OURS.items():
        if KERNELS[name].refuses(host_target(), n, k, "float32") is None:
            pattern = BalancedPattern.parse(text)
            rivals[label] = kernel(name, Workload(name, m, n, k, pattern.nnz, pattern.block), threads)
    rng = np.random.default_rng(0)
    weight = draw_weight(Workload("cpu_dense_i8", m, n, k, 1, 1), rng).decode()
    x = rng.standard_normal((m, k)).astype(np.float32)
    model = write_onnx(weight, m, folder / "dense.onnx")
    if installed("onnxruntime"):
        call = onnxruntime(model, {"x": x}, threads)
        rivals["onnxruntime"] = lambda _, call=call: call()  # type: ignore[misc]
    if installed("openvino"):
        calibration = [[rng.standard_normal((m, k)).astype(np.float32)] for _ in range(8)]
        call = openvino(model, {"x": x}, threads, calibration, transformer=False)
        rivals["openvino"] = lambda _, call=call: call()  # type: ignore[misc]
    return rivals


def time_layers(threads: int, seconds: float) -> None:
    """Time all layers, print them over the fastest engine of each, and append them to the CSV."""
    table = Table("N x K, M", "fastest engine, us", *(f"{label} over it" for label in OURS))
    for n, k in SHAPES:
        for m in ROWS:
            with tempfile.TemporaryDirectory() as folder:
                rivals = layer_rivals(n, k, m, threads, Path(folder))
                timing = measure_paired(rivals, 25, seconds, warm=2, pause=PAUSE if threads > 1 else 0.002)
            best = min((name for name in ENGINES if name in rivals), key=timing.microseconds, default=None)
            rows = [_row(timing, name, best) | {"n": n, "k": k, "m": m, "threads": threads} for name in rivals]
            append(DATA / "int8.csv", COLUMNS, [stamp() | {key: row[key] for key in row if key in COLUMNS} for row in rows])
            shown = [_shown(timing, label, best) for label in OURS]
            table.add_row(f"{n}x{k}, {m}", f"{best}, {timing.microseconds(best):.0f}" if best else "-", *shown)
    Console(width=150).print(table)


def _row(timing: Timing, name: str, over: str | None) -> dict[str, Any]:
    """Return one implementation's times, over another if there is one."""
    ratio = timing.speedup(name, over) if over else None
    spread = {p: "" if ratio is None else f"{getattr(ratio, p):.3f}" for p in ("p20", "p50", "p80")}
    us = timing.microseconds(name)
    return {"rival": name, "us": f"{us:.1f}", "ms": f"{us / 1e3:.2f}", **spread}


def _shown(timing: Timing, name: str, over: str | None) -> str:
    if over is None or name not in timing.times:
        return "-"
    ratio = timing.speedup(name, over)
    return f"{ratio.p50:.2f} ({ratio.p20:.2f} to {ratio.p80:.2f})"


def sentences() -> list[str]:
    """Return the sentences of the demonstration."""
    text = (Path(tb.__file__).parent / "demo" / "sentences.txt").read_text()
    return [line for line in text.split("\n") if line.strip()]


def compiled(pattern: str, label: str, batch: int, threads: int) -> Any:
    """Return MiniLM compiled at a pattern, in float32 or in int8 with the budget of `label`; loaded if it was compiled before."""
    path = MADE / f"{pattern.replace(':', '_')}-{label.replace(' ', '_')}-{batch}"
    if not path.exists():
        model, _ = sentence_encoder()
        if pattern != "dense":
            tb.prune(model, pattern, include=[ENCODER_LINEARS])
        rounding: dict[str, Any] = {}
        if label in BUDGETS:
            calibration = [tokenize(sentences()[at : at + batch]) for at in range(0, CALIBRATION, batch)]
            rounding = {"precision": "int8", "max_loss": BUDGETS[label], "calibration": calibration}
        path.parent.mkdir(parents=True, exist_ok=True)
        tb.compile(model, tokenize(sentences()[:batch]), threads=threads, **rounding).save(path)
    return tb.load(path, threads=threads)


def model_rivals(batch: int, threads: int) -> tuple[dict[str, Implementation], dict[str, OutputLoss]]:
    """Return calls of MiniLM, and what each that rounds loses on its own model in float32."""
    torch.set_num_threads(threads)
    model, _ = sentence_encoder()
    ids, mask = tokenize(sentences()[:batch])
    rivals: dict[str, Implementation] = {"pytorch": lambda _: model(ids, mask)}
    lost = {}
    with torch.inference_mode():
        want = [[model(ids, mask).numpy()]]
    path = MADE / "minilm.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and any(map(installed, ENGINES)):
        names = {"input_names": ["ids", "mask"], "output_names": ["e"]}
        sizes = {"ids": {0: "b"}, "mask": {0: "b"}}
        example = tokenize(sentences()[:2])
        torch.onnx.export(copy.deepcopy(model), example, str(path), **names, dynamic_axes=sizes, dynamo=False, opset_version=17)
    feeds = {"ids": ids.numpy(), "mask": mask.numpy()}
    calls: dict[str, Callable[[], Array]] = {}
    if installed("onnxruntime"):
        calls["onnxruntime"] = onnxruntime(path, feeds, threads)
    if installed("openvino"):
        data = [[a.numpy() for a in tokenize(sentences()[at : at + batch])] for at in range(0, CALIBRATION, batch)]
        calls["openvino"] = openvino(path, feeds, threads, data, transformer=True)
    for name, call in calls.items():
        rivals[name] = lambda _, call=call: call()  # type: ignore[misc]
        lost[name] = losses([TensorSpec("e", (batch, 384), "float32")], want, [[call()]], "main")[0]
    for pattern in ("dense", *PATTERNS):
        for label in ("float32", *BUDGETS):
            module = compiled(pattern, label, batch, threads)
            rivals[f"{pattern} {label}"] = partial(run_module, module, ids, mask)
            if module.report.precision is not None:
                lost[f"{pattern} {label}"] = module.report.precision.losses[0]
    return rivals, lost


def run_module(module: Any, ids: torch.Tensor, mask: torch.Tensor, _call: int) -> None:
    """Call MiniLM, compiled, as `measure_paired` calls an implementation."""
    module(ids, mask)


def time_models(batch: int, threads: int, seconds: float) -> None:
    """Time MiniLM, print it over the fastest engine, and append it to the CSV."""
    rivals, lost = model_rivals(batch, threads)
    with torch.inference_mode():
        timing = measure_paired(rivals, 25, seconds, pause=PAUSE if threads > 1 else 0.005)
    best = min((name for name in ENGINES if name in rivals), key=timing.microseconds, default="pytorch")
    table = Table("MiniLM", "ms", f"over {best}", "over pytorch", "relative L2", "cosine")
    for name in rivals:
        loss = lost.get(name)
        said = ("", "") if loss is None else (f"{loss.relative_l2:.4f}", f"{loss.cosine:.5f}")
        row = _row(timing, name, best) | {"batch": batch, "threads": threads, "relative_l2": said[0], "cosine": said[1]}
        append(DATA / "int8_models.csv", MODEL_COLUMNS, [stamp() | {key: row[key] for key in row if key in MODEL_COLUMNS}])
        table.add_row(name, row["ms"], _shown(timing, name, best), _shown(timing, name, "pytorch"), *said)
    Console(width=130).print(table)


def main() -> None:
    """Measure, print, and append to the CSVs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("layers", "models", "prepare"), help="prepare compiles the models and times nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40, help="of timing, for each layer or model")
    options = parser.parse_args()
    if options.what == "layers":
        time_layers(options.threads, options.seconds)
    elif options.what == "prepare":
        model_rivals(options.batch, options.threads)
    else:
        time_models(options.batch, options.threads, options.seconds)


if __name__ == "__main__":
    main()
