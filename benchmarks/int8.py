"""How fast are 8-bit kernels and models beside dense INT8 engines? `python -m benchmarks.int8 layers|models`.

Layers: `cpu_dense_i8`, and `cpu_avx512_i8` at 8:16, 4:16 and 2:16, take turns with ONNX Runtime's dynamic
INT8, OpenVINO's INT8 (by NNCF), each where it is installed, PyTorch's dynamic INT8, and the bound that byte
permutes and dot products give (`int8_bound.py`). Models: MiniLM, BERT-base, ViT-B/16 and ResNet-50 (`--model`) in
float32 and in int8, with the budget of 0.01 and with every layer rounded, beside PyTorch and the same engines. All
but MiniLM have random weights: times are theirs, losses are nobody's. Models that were compiled before are
loaded from build/int8. With `--target cpu/x86-64-v3` they are compiled for AVX2, beside PyTorch limited to it. Rows are
appended to data/int8.csv and data/int8_models.csv.
"""

import argparse
import copy
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import tvm_balanced as tb
from benchmarks.cell import append, stamp
from benchmarks.engines import write_onnx
from benchmarks.instruction_sets import TARGETS, restart_within
from benchmarks.int8_bound import int8_bound
from benchmarks.subjects import SUBJECTS
from tvm_balanced.compiler.build import build
from tvm_balanced.core.encoding import Array
from tvm_balanced.core.imported_model import TensorSpec
from tvm_balanced.core.loss import OutputLoss, losses
from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.runtime.host import host_target
from tvm_balanced.runtime.threads import use_threads
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.testing.operands import draw_weight
from tvm_balanced.timing.paired import PAUSE, Implementation, Timing, measure_paired
from tvm_balanced.timing.rotating import rotation

DATA, MADE = Path(__file__).parent / "data", Path("build") / "int8"
SHAPES, ROWS = ((384, 1536), (1536, 384), (768, 3072), (4096, 4096)), (1, 8, 128)
OURS = {"dense": ("cpu_dense_i8", "1:1"), **{text: ("cpu_avx512_i8", text) for text in ("8:16", "4:16", "2:16")}}
ENGINES = ("onnxruntime", "openvino", "torch int8")
COLUMNS = ("date", "cpu", "versions", "n", "k", "m", "threads", "rival", "us", "p20", "p50", "p80")
MODEL_COLUMNS = (
    "date",
    "cpu",
    "versions",
    "model",
    "batch",
    "threads",
    "rival",
    "ms",
    "p20",
    "p50",
    "p80",
    "relative_l2",
    "cosine",
    "target",
)
PATTERNS, BUDGETS = ("8:16", "4:16", "2:16"), {"int8": 0.01, "int8 throughout": 1.0}
CALIBRATION = 32  # sentences or images that a model is calibrated on, unless --calibration says otherwise
LABELS = ("float32", *BUDGETS)


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


def torch_int8(model: nn.Module, threads: int) -> nn.Module:
    """Return a model with PyTorch's dynamic INT8 in its linear layers, by its x86 backend."""
    torch.backends.quantized.engine = "x86"
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a deprecation: torchao's needs a compiler
        quantized: nn.Module = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, torch.qint8)
    return quantized


def installed(name: str) -> bool:
    """Whether an engine, and what quantizes for it, is there."""
    if name == "torch int8":
        return "x86" in torch.backends.quantized.supported_engines
    needs = ("openvino", "nncf", "onnx") if name == "openvino" else ("onnxruntime", "onnx")
    return all(importlib.util.find_spec(package) is not None for package in needs)


def layer_rivals(n: int, k: int, m: int, threads: int, folder: Path) -> dict[str, Implementation]:
    """Return calls of one layer, ours and the engines'."""
    rivals: dict[str, Implementation] = {}
    for label, (name, text) in OURS.items():
        if KERNELS[name].refuses(host_target(), n, k, "float32") is None:
            pattern = BalancedPattern.parse(text)
            rivals[label] = kernel(name, Workload(name, m, n, k, pattern.nnz, pattern.block), threads)
            if name == "cpu_avx512_i8":
                rivals[f"bound {label}"] = int8_bound(n, k, m, pattern, threads)
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
    if installed("torch int8"):
        linear = nn.Linear(k, n, bias=False)
        linear.weight = nn.Parameter(torch.from_numpy(weight))
        quantized, given = torch_int8(nn.Sequential(linear), threads), torch.from_numpy(x)
        rivals["torch int8"] = lambda _, quantized=quantized: quantized(given)  # type: ignore[misc]
    return rivals


def time_layers(threads: int, seconds: float, shapes: Sequence[tuple[int, int]], row_counts: Sequence[int]) -> None:
    """Time layers, print them over the fastest engine of each and how close they are to the bound; append them to the CSV."""
    sparse = [label for label in OURS if label != "dense"]
    heads = [*(f"{label} over it" for label in OURS), *(f"bound of {label}" for label in sparse)]
    table, over = Table("N x K, M", "fastest engine, us", *heads), dict[str, list[float]]()
    for n, k in shapes:
        for m in row_counts:
            with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
                rivals = layer_rivals(n, k, m, threads, Path(folder))
                timing = measure_paired(rivals, 25, seconds, warm=2, pause=PAUSE if threads > 1 else 0.002)
            best = min((name for name in ENGINES if name in rivals), key=timing.microseconds, default=None)
            rows = [_row(timing, name, best) | {"n": n, "k": k, "m": m, "threads": threads} for name in rivals]
            append(DATA / "int8.csv", COLUMNS, [stamp() | {key: row[key] for key in row if key in COLUMNS} for row in rows])
            shown = [_shown(timing, label, best) for label in OURS]
            for label in OURS if best else ():
                over.setdefault(label, []).append(timing.speedup(label, best).p50 if label in rivals else np.nan)
            close = [f"{timing.speedup(label, f'bound {label}').p50:.2f}" if label in rivals else "-" for label in sparse]
            table.add_row(f"{n}x{k}, {m}", f"{best}, {timing.microseconds(best):.0f}" if best else "-", *shown, *close)
    means = [f"{float(np.exp(np.log(over[label]).mean())):.2f}, least {min(over[label]):.2f}" if over else "-" for label in OURS]
    table.add_row("geometric mean", "", *means, *("" for _ in sparse))
    Console(width=190).print(table)


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


@dataclass(frozen=True)
class Setting:
    """How a model is compiled and called.

    Parameters
    ----------
    batch, threads : int
    calibration : int
        Sentences or images that ranges and losses are measured on.
    target : str
        AVX2 leaves out the engines that cannot be limited to it.
    """

    batch: int
    threads: int
    calibration: int = CALIBRATION
    target: str = "cpu"

    @property
    def engines(self) -> list[str]:
        """The engines that are measured, as far as they are installed."""
        return [name for name in ENGINES if installed(name) and (self.target == "cpu" or name == "torch int8")]


def compiled(name: str, pattern: str, label: str, setting: Setting) -> Any:
    """Return a model compiled at a pattern, in float32 or in int8 with the budget of `label`; loaded if it is there already."""
    subject, batch = SUBJECTS[name], setting.batch
    suffix = "" if setting.target == "cpu" else "-avx2"
    path = MADE / f"{name}-{pattern.replace(':', '_')}-{label.replace(' ', '_')}-{batch}-{setting.calibration}{suffix}"
    if not path.exists():
        model = subject.make()
        if pattern != "dense":
            tb.prune(model, pattern, include=[subject.include])
        rounding: dict[str, Any] = {}
        if label in BUDGETS:
            calibration = [subject.inputs(at, batch) for at in range(0, setting.calibration, batch)]
            rounding = {"precision": "int8", "max_loss": BUDGETS[label], "calibration": calibration}
        path.parent.mkdir(parents=True, exist_ok=True)
        made = tb.compile(model, subject.inputs(0, batch), target=setting.target, threads=setting.threads, race=False, **rounding)
        made.save(path)
    return tb.load(path, threads=setting.threads)


def model_rivals(
    name: str, setting: Setting, patterns: Sequence[str], labels: Sequence[str]
) -> tuple[dict[str, Implementation], dict[str, OutputLoss]]:
    """Return calls of a model, and what each that rounds loses on its own model in float32."""
    batch, threads = setting.batch, setting.threads
    torch.set_num_threads(threads)
    model, inputs = SUBJECTS[name].make(), SUBJECTS[name].inputs(0, batch)
    rivals: dict[str, Implementation] = {"pytorch": lambda _: model(*inputs)}
    lost = {}
    with torch.inference_mode():
        want = [[model(*inputs).numpy()]]
    feeds = {f"input_{place}": value.numpy() for place, value in enumerate(inputs)}
    path = MADE / f"{name}-{batch}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    engines = setting.engines
    exported = [engine for engine in ENGINES[:2] if engine in engines]
    if exported and not path.exists():
        names = {"input_names": list(feeds), "output_names": ["y"]}
        torch.onnx.export(copy.deepcopy(model), inputs, str(path), **names, dynamo=False, opset_version=17)
    calls: dict[str, Callable[[], Array]] = {}
    if "onnxruntime" in exported:
        calls["onnxruntime"] = onnxruntime(path, feeds, threads)
    if "openvino" in exported:
        data = [[a.numpy() for a in SUBJECTS[name].inputs(at, batch)] for at in range(0, setting.calibration, batch)]
        calls["openvino"] = openvino(path, feeds, threads, data, transformer=name != "resnet50")
    if "torch int8" in engines:
        quantized = torch_int8(model, threads)
        calls["torch int8"] = lambda: quantized(*inputs).numpy()
    for rival, call in calls.items():
        rivals[rival] = lambda _, call=call: call()  # type: ignore[misc]
        with torch.inference_mode():
            lost[rival] = losses([TensorSpec("y", want[0][0].shape, "float32")], want, [[call()]], "main")[0]
    for pattern in patterns:
        for label in labels:
            module = compiled(name, pattern, label, setting)
            rivals[f"{pattern} {label}"] = partial(run_module, module, inputs)
            if module.report.precision is not None:
                lost[f"{pattern} {label}"] = module.report.precision.losses[0]
    return rivals, lost


def run_module(module: Any, inputs: tuple[torch.Tensor, ...], _call: int) -> None:
    """Call a model, compiled, as `measure_paired` calls an implementation."""
    module(*inputs)


def time_models(name: str, setting: Setting, seconds: float, patterns: Sequence[str], labels: Sequence[str]) -> None:
    """Time a model, print it over the fastest engine, and append it to the CSV."""
    rivals, lost = model_rivals(name, setting, patterns, labels)
    with torch.inference_mode():
        timing = measure_paired(rivals, 25, seconds, pause=PAUSE if setting.threads > 1 else 0.005)
    best = min((rival for rival in ENGINES if rival in rivals), key=timing.microseconds, default="pytorch")
    table = Table(name, "ms", f"over {best}", "over pytorch", "relative L2", "cosine")
    for rival in rivals:
        loss = lost.get(rival)
        said = ("", "") if loss is None else (f"{loss.relative_l2:.4f}", f"{loss.cosine:.5f}")
        row = _row(timing, rival, best) | {"model": name, "batch": setting.batch, "threads": setting.threads}
        row |= {"target": setting.target}
        row |= {"relative_l2": said[0], "cosine": said[1]}
        append(DATA / "int8_models.csv", MODEL_COLUMNS, [stamp() | {key: row[key] for key in row if key in MODEL_COLUMNS}])
        table.add_row(rival, row["ms"], _shown(timing, rival, best), _shown(timing, rival, "pytorch"), *said)
    Console(width=130).print(table)


def main() -> None:
    """Measure, print, and append to the CSVs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("layers", "models", "prepare"), help="prepare compiles the models and times nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=40, help="of timing, for each layer or model")
    parser.add_argument("--shapes", nargs="+", default=[f"{n}x{k}" for n, k in SHAPES], help="of layers, N x K")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="M of layers")
    parser.add_argument("--model", choices=SUBJECTS, default="minilm")
    parser.add_argument("--patterns", nargs="+", default=("dense", *PATTERNS), help="of models")
    parser.add_argument("--labels", nargs="+", choices=LABELS, default=LABELS, help="what ours of a model are compiled in")
    parser.add_argument("--calibration", type=int, default=CALIBRATION, help="sentences or images")
    parser.add_argument("--target", choices=TARGETS, default="cpu", help="of models; with AVX2, PyTorch is limited to it as well")
    options = parser.parse_args()
    restart_within(options.target)
    setting = Setting(options.batch, options.threads, options.calibration, options.target)
    if options.what == "layers":
        shapes = [(int(n), int(k)) for n, k in (shape.split("x") for shape in options.shapes)]
        time_layers(options.threads, options.seconds, shapes, options.rows)
    elif options.what == "prepare":
        model_rivals(options.model, setting, options.patterns, options.labels)
    else:
        time_models(options.model, setting, options.seconds, options.patterns, options.labels)


if __name__ == "__main__":
    main()
