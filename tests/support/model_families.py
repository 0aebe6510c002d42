"""Families of models, and the ways in which one may come, for the matrix of docs/support.md."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support.layer_kinds import difference
from torch import nn

import tvm_balanced as tb
from tvm_balanced.compiler.compile import CompileOptions, compile_imported
from tvm_balanced.frontend.sources import Request, import_source

BATCH, LENGTH = 2, 8
LAYERS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 60}


@dataclass(frozen=True)
class Family:
    """How a model is made, its inputs by name for a batch, and whether it is one of transformers."""

    make: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, torch.Tensor]]
    transformers: bool = False


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 16)

    def forward(self, x):
        return self.down(self.up(x).relu())


class Images(nn.Module):
    """A convolution with batch normalisation, a pool, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.Linear(32, 16)

    def forward(self, x):
        return self.out(self.norm(self.conv(x)).relu().mean((2, 3)))


class Steps(nn.Module):
    """An LSTM, and a linear layer on its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 16)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def bert() -> nn.Module:
    """A classifier of one layer."""
    import transformers

    return transformers.BertForSequenceClassification(transformers.BertConfig(**LAYERS))


def llama() -> nn.Module:
    """A language model of one layer, which gives logits."""
    import transformers

    config = transformers.LlamaConfig(**LAYERS, num_key_value_heads=1, use_cache=False)
    return transformers.LlamaForCausalLM(config)


def _x(*shape: int) -> Callable[[int], dict[str, torch.Tensor]]:
    return lambda batch: {"x": torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))}


def _ids(batch: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 60, (batch, LENGTH), generator=torch.Generator().manual_seed(batch))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


FAMILIES = {
    "linear layers": Family(Mlp, _x(32)),
    "convolutions": Family(Images, _x(16, 6, 6)),
    "LSTM": Family(Steps, _x(5, 32)),
    "BERT": Family(bert, _ids, transformers=True),
    "Llama": Family(llama, _ids, transformers=True),
}
Call = Callable[..., Any]


def _compiled(model: Any, **request: Any) -> Call:
    module = compile_imported(import_source(model, Request(**request)), CompileOptions(threads=1, logs=False))

    def call(**inputs: torch.Tensor) -> Any:
        return module(**{spec.name: inputs[spec.name] for spec in module.facts.main.inputs})

    return call


def _examples(family: Family, dynamic: bool) -> dict[str, Any]:
    return {"kwargs": family.inputs(BATCH), "dynamic_batch": dynamic}


def _module(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    return _compiled(model, **_examples(family, dynamic))


def _masked(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    """The weights as they are, each with a mask of torch.nn.utils.prune."""
    from torch.nn.utils import prune

    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            prune.custom_from_mask(layer, "weight", layer.weight != 0)
    return _compiled(model, **_examples(family, dynamic))


def _program(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    inputs = family.inputs(BATCH)
    batch = torch.export.Dim("batch", max=64)
    shapes = {name: {0: batch} for name in inputs} if dynamic else None
    torch.export.save(torch.export.export(model, (), inputs, dynamic_shapes=shapes), folder / "m.pt2")
    return _compiled(folder / "m.pt2")


def _factory(family: Family, folder: Path) -> str:
    """A factory of a model with other weights, and its examples by name."""
    (folder / "made.py").write_text(
        "from support.model_families import FAMILIES\n"
        f"FAMILY = FAMILIES[{next(name for name, other in FAMILIES.items() if other is family)!r}]\n"
        f"def model():\n    return FAMILY.make().eval(), (), FAMILY.inputs({BATCH})\n"
    )
    sys.modules.pop("made", None)
    importlib.invalidate_caches()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return "made:model"


def _state_dict(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}, folder / "w.pt")
    return _compiled(_factory(family, folder), weights=folder / "w.pt", dynamic_batch=dynamic)


def _safetensors(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    """Dense weights, and a file of masks beside them."""
    from safetensors.torch import save_file

    masks = {name: tensor != 0 for name, tensor in model.state_dict().items() if tensor.dim() > 1}
    dense = {name: tensor + ~masks[name] if name in masks else tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(dense, folder / "w.safetensors")
    torch.save(masks, folder / "masks.pt")
    request = {"weights": folder / "w.safetensors", "masks": folder / "masks.pt"}
    return _compiled(_factory(family, folder), **request, dynamic_batch=dynamic)


def _transformers(family: Family, model: Any, folder: Path, dynamic: bool) -> Call:
    model.save_pretrained(folder / "hf")
    return _compiled(folder / "hf", batch=BATCH, length=LENGTH, dynamic_batch=dynamic)


def _bitmasks(family: Family, model: Any, folder: Path, dynamic: bool) -> Call:
    """A folder of transformers whose linear layers are compressed as compressed-tensors does it."""
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder / "hf")
    file = folder / "hf" / "model.safetensors"
    tensors = load_file(file)
    for name in [name for name in tensors if name.endswith("_proj.weight") or ".dense.weight" in name]:
        weight = tensors.pop(name)
        tensors[f"{name}.shape"] = torch.tensor(weight.shape)
        tensors[f"{name}.compressed"] = weight[weight != 0]
        tensors[f"{name}.bitmask"] = torch.from_numpy(np.packbits(weight.numpy() != 0, axis=-1, bitorder="little"))
    save_file(tensors, file, {"format": "pt"})
    return _compiled(folder / "hf", batch=BATCH, length=LENGTH, dynamic_batch=dynamic)


def _onnx(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    inputs = family.inputs(BATCH)
    shapes = {name: {0: torch.export.Dim("batch", max=64)} for name in inputs} if dynamic else None
    torch.onnx.export(model, (), folder / "m.onnx", kwargs=inputs, dynamic_shapes=shapes, dynamo=True, verbose=False)
    return _compiled(folder / "m.onnx")


def _torch_compile(family: Family, model: nn.Module, folder: Path, dynamic: bool) -> Call:
    from torch._dynamo.utils import counters

    from tvm_balanced.frontend.dynamo import tvm_balanced

    torch._dynamo.reset()
    counters.clear()
    options = {"threads": 1, "logs": False, "cache": False}
    fast = torch.compile(model, backend=tvm_balanced, options=options, dynamic=dynamic)

    def call(**inputs: torch.Tensor) -> Any:
        result = fast(**inputs)
        if counters["tvm_balanced"]["graphs that fell back"]:
            raise AssertionError("a graph fell back to PyTorch")
        return result

    return call


SOURCES = {
    "nn.Module": _module,
    "nn.Module with masks of torch.nn.utils.prune": _masked,
    "ExportedProgram in a .pt2": _program,
    "factory and a state dict": _state_dict,
    "factory, safetensors and masks": _safetensors,
    "folder of transformers": _transformers,
    "the same, with bitmasks of compressed-tensors": _bitmasks,
    "ONNX of torch.onnx": _onnx,
    "torch.compile": _torch_compile,
}
ONLY_TRANSFORMERS = {"folder of transformers", "the same, with bitmasks of compressed-tensors"}
NEEDS = {"ONNX of torch.onnx": ("onnx", "onnxscript")}


def outcome(source: str, family: str, dynamic: bool, folder: Path) -> str:
    """What comes of a model that comes in some way: "yes" where all calls equal torch's, else what is wrong."""
    about = FAMILIES[family]
    if source in ONLY_TRANSFORMERS and not about.transformers:
        return "no model of transformers"
    torch.manual_seed(0)
    model = about.make().eval()
    tb.prune(model, "4:16")
    plain = about.make().eval()
    plain.load_state_dict(model.state_dict())
    try:
        with torch.no_grad():
            call = SOURCES[source](about, model, folder, dynamic)
            for batch in (BATCH, 3, 1) if dynamic else (BATCH,):
                inputs = about.inputs(batch)
                got, want = (_first(call(**inputs)), _first(plain(**inputs)))
                fault = difference(torch.as_tensor(got), want, torch.float32)
                if fault is not None:
                    return fault
    except tb.TvmBalancedError as error:
        return str(error).splitlines()[0].replace(f"{folder}/", "")
    return "yes"


def _first(result: Any) -> Any:
    """The first tensor of a result."""
    if isinstance(result, dict):
        return next(iter(result.values()))
    return result if hasattr(result, "shape") else result[0]
