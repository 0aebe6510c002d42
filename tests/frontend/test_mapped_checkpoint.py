"""A sharded checkpoint is compiled layer by layer: what is in memory is what was packed, and little more than one layer."""

import sys

import numpy as np
import pytest
import torch
import transformers

import tvm_balanced as tb
from tvm_balanced.compiler.compile import CompileOptions, compile_imported, inspect_imported
from tvm_balanced.core.mapped_files import is_mapped
from tvm_balanced.frontend.sources import Request, import_source
from tvm_balanced.testing.peak_memory import peak_memory

HIDDEN, LAYERS, VOCABULARY = 768, 4, 256
LAYER = 2 * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * HIDDEN // 2 + 3 * HIDDEN * 4 * HIDDEN)  # bytes
BASE = 48 << 20  # machine code, activations, graphs of torch and TVM
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its peak")]


def config():
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "intermediate_size": 4 * HIDDEN, "vocab_size": VOCABULARY}
    return transformers.LlamaConfig(**sizes, num_attention_heads=12, num_key_value_heads=6, dtype="bfloat16", use_cache=False)


def values(shape, rng):
    """Two of 16 columns, one of eight values: fast to make."""
    small = (rng.integers(-4, 5, shape) / 64).astype(np.float32)
    return torch.from_numpy(small * (np.arange(shape[-1]) % 8 == 0)).to(torch.bfloat16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model of 70 MB in four files."""
    folder, rng = tmp_path_factory.mktemp("llama"), np.random.default_rng(0)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config())
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state = {name: values(shape, rng) if len(shape) > 1 else torch.ones(shape).bfloat16() for name, shape in shapes.items()}
    model.load_state_dict(state, assign=True)
    model.save_pretrained(folder, max_shard_size="20MB")
    assert len(list(folder.glob("*.safetensors"))) >= 4
    return folder


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """Modules, tables and code of torch and TVM are loaded by a small model first."""
    small = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(hidden_size=64, num_hidden_layers=1, intermediate_size=64, vocab_size=64, num_attention_heads=1)
    )
    folder = tmp_path_factory.mktemp("small")
    small.save_pretrained(folder)
    inspect_imported(import_source(str(folder), Request(length=8)), CompileOptions(threads=1, logs=False))


def test_a_checkpoint_takes_one_layer_to_inspect_and_its_packed_weights_and_two_layers_to_compile(checkpoint):
    options = CompileOptions(threads=1, logs=False)
    with peak_memory() as looked:
        imported = import_source(str(checkpoint), Request(length=8))
        report = inspect_imported(imported, options)
    assert report.sparse_layers == 7 * LAYERS + 1
    assert all(is_mapped(address) for address, name in imported.weight_names.items() if "proj" in name)
    with peak_memory() as compiled:
        module = compile_imported(imported, options)
    packed = sum(tensor.numel() * tensor.dtype.itemsize for _, tensor in module.weights)
    assert packed < LAYERS * LAYER // 4
    assert looked[0] < LAYER + BASE
    assert compiled[0] < packed + 2 * LAYER + BASE
    ids = torch.arange(8)[None]
    with torch.no_grad():
        want = transformers.LlamaForCausalLM.from_pretrained(checkpoint)(ids).logits
    torch.testing.assert_close(module(ids, torch.ones_like(ids)).logits, want, rtol=0.05, atol=0.05)


def test_inspect_does_not_copy_a_live_module():
    model, x = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(4))).eval(), torch.ones(1, 2048)
    tb.inspect(model[:1], (x,), threads=1)
    with peak_memory() as peak:
        tb.inspect(model, (x,), threads=1)
    assert peak[0] < 4 * 2048 * 2048 * 4 // 2
