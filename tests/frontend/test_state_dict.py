import argparse
import warnings

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from tvm_balanced.errors import ModelError
from tvm_balanced.frontend.state_dict import load_weights, save_weights


def model():
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))


def test_safetensors_round_trip(tmp_path):
    source, copy = model(), model()
    save_weights(source, tmp_path / "w.safetensors")
    load_weights(copy, tmp_path / "w.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), copy.parameters(), strict=True))


def test_torch_state_dict(tmp_path):
    source, copy = model(), model()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(copy, tmp_path / "w.pt")
    assert torch.equal(source[0].weight, copy[0].weight)


def test_tied_weights_are_written(tmp_path):
    tied = model()
    tied[1] = tied[0]
    save_weights(tied, tmp_path / "w.safetensors")
    load_weights(tied, tmp_path / "w.safetensors")


def test_bad_files_get_one_sentence(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\x05")
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    torch.save([1], tmp_path / "list.pt")
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "other.pt")
    torch.save({"0.parametrizations.weight.original": torch.ones(2)}, tmp_path / "unsquashed.pt")
    for name, message in [
        ("none.pt", "not a file"),
        ("broken.safetensors", "not a readable weight file"),
        ("broken.pt", "not a readable weight file"),
        ("list.pt", "holds list"),
        ("other.pt", "does not fit"),
        ("unsquashed.pt", "squash_mask"),
    ]:
        with pytest.raises(ModelError, match=message):
            load_weights(model(), tmp_path / name)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(ModelError, match="cannot be written"):
        save_weights(model(), tmp_path / "no" / "w.safetensors")


def as_prune_writes(state):
    """The names that torch.nn.utils.prune gives the weight of layer 0."""
    state = dict(state)
    weight = state.pop("0.weight")
    mask = (torch.arange(8) % 2 == 0).float().expand(8, 8)
    return {"0.weight_orig": weight, "0.weight_mask": mask, **state}, weight * mask


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
def test_what_training_loops_put_around_a_state_dict(tmp_path, nest):
    source, copy = model(), model()
    torch.save({nest: source.state_dict(), "epoch": 3}, tmp_path / "w.pt")
    assert load_weights(copy, tmp_path / "w.pt") == (f'took "{nest}" of what the file holds',)
    assert torch.equal(source[0].weight, copy[0].weight)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_prefixes_of_wrapped_modules(tmp_path, prefix):
    source, copy = model(), model()
    torch.save({prefix + name: tensor for name, tensor in source.state_dict().items()}, tmp_path / "w.pt")
    said = load_weights(copy, tmp_path / "w.pt")
    assert len(said) == prefix.count(".")
    assert all(phrase.startswith("dropped the prefix") for phrase in said)
    assert torch.equal(source[1].weight, copy[1].weight)


def test_masks_of_pruning_are_multiplied(tmp_path):
    source, copy = model(), model()
    state, product = as_prune_writes(source.state_dict())
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pt")
    said = load_weights(copy, tmp_path / "w.pt")
    assert said[-1] == "multiplied 1 weights by their masks (X_orig by X_mask)"
    assert len(said) == 3
    assert torch.equal(copy[0].weight, product)
    pruned = model()
    torch.nn.utils.prune.identity(pruned[0], "weight")  # has the pair itself: it is loaded as it is
    torch.save(state, tmp_path / "pair.pt")
    assert load_weights(pruned, tmp_path / "pair.pt") == ()
    assert torch.equal(pruned[0].weight_mask, state["0.weight_mask"])


def other_files(folder):
    """Write files that people take for a state dict; return what is said of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript and torch.ao are deprecated
        torch.jit.script(model()).save(folder / "script.pt")
        quantised = torch.ao.quantization.quantize_dynamic(model(), {nn.Linear}, dtype=torch.qint8)
    torch.save(quantised.state_dict(), folder / "dynamic.pt")
    torch.save(model(), folder / "module.pt")
    torch.export.save(torch.export.export(model(), (torch.ones(2, 8),)), folder / "model.pt2")
    torch.save({0: torch.ones(2)}, folder / "numbers.pt")
    torch.save({"state_dict": model().state_dict(), "options": argparse.Namespace(lr=0.1)}, folder / "objects.pt")
    torch.save({"0.qweight": torch.ones(1, 8, dtype=torch.int32)}, folder / "gptq.pt")
    torch.save({"0.weight": [1.0]}, folder / "lists.pt")
    torch.save({**model().state_dict(), "0.weight": torch.ones(8, 8, dtype=torch.int8)}, folder / "int8.pt")
    torch.save({"0.weight": torch.ones(8, 8, dtype=torch.int8), "0.weight_scale": torch.ones(8)}, folder / "scaled.pt")
    torch.save({"0.bitmask": torch.ones(8, 1, dtype=torch.uint8)}, folder / "bitmask.pt")
    torch.save({"0.weight_orig": torch.ones(8, 8)}, folder / "orig.pt")
    (folder / "model.onnx").write_bytes(b"\x08\x07")
    (folder / "llama.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    (folder / "hf").mkdir()
    (folder / "hf" / "config.json").write_text("{}")
    return {
        "script.pt": "is a TorchScript program; write torch.jit.load",
        "module.pt": "is a whole pickled module, which runs code when it is read; load it where you trust it, and write",
        "model.pt2": "is an exported program, a .pt2; give it as the model, without --weights",
        "objects.pt": "is a file with objects among its tensors, which runs code when it is read; load it where you trust it",
        "gptq.pt": "holds 0.qweight, a weight packed by GPTQ or AWQ; load the model with the tool",
        "numbers.pt": "has 0 \\(int\\) where names belong",
        "lists.pt": 'holds list as "0.weight"',
        "int8.pt": "holds 0.weight in int8, where Sequential has float32; give the float weights, and kernels=",
        "scaled.pt": "does not fit Sequential",
        "dynamic.pt": "_packed_params, a packed, quantised weight; give the float weights",
        "bitmask.pt": "has a damaged weight, 0 \\(shape is missing\\)",
        "orig.pt": "holds 0.weight_orig, a weight without its mask; call torch.nn.utils.prune.remove",
        "model.onnx": "is an ONNX model; give the state dict",
        "llama.gguf": "is a GGUF file; write the state dict",
        "hf/config.json": "is the config.json of a folder of transformers; give the folder",
        "hf": "is a folder of Hugging Face transformers; it has no weights under a name",
    }


def test_other_files_are_named(tmp_path):
    for name, message in other_files(tmp_path).items():
        with pytest.raises(ModelError, match=message) as error:
            load_weights(model(), tmp_path / name)
        assert "\n" not in str(error.value)


def test_what_is_said_of_other_files_works(tmp_path):
    other_files(tmp_path)
    torch.save(torch.load(tmp_path / "module.pt", weights_only=False).state_dict(), tmp_path / "w.pt")
    load_weights(model(), tmp_path / "w.pt")
    torch.save(torch.load(tmp_path / "objects.pt", weights_only=False)["state_dict"], tmp_path / "w.pt")
    load_weights(model(), tmp_path / "w.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(torch.jit.load(tmp_path / "script.pt").state_dict(), tmp_path / "w.pt")
    load_weights(model(), tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["model.", "net.encoder."])
def test_a_part_of_a_larger_model_is_found(tmp_path, prefix):
    """As a LightningModule keeps it, with a loss beside it; under a name of the user's own; without one weight it is refused."""
    state = {f"{prefix}{name}": tensor for name, tensor in model().state_dict().items()}
    held, mine = {**state, "loss.weight": torch.ones(2)}, model()
    torch.save({"epoch": 1, "weights": held, "optimizer": {"state": {}}}, tmp_path / "w.ckpt")
    assert load_weights(mine, tmp_path / "w.ckpt") == (
        'took "weights" of what the file holds',
        f'dropped the prefix "{prefix}"',
        "left 1 tensors aside that are not of this module, loss.weight first",
    )
    for name, tensor in mine.state_dict().items():
        assert torch.equal(tensor, state[f"{prefix}{name}"])
    del held[f"{prefix}0.bias"]
    torch.save(held, tmp_path / "w.ckpt")
    with pytest.raises(ModelError, match="does not fit Sequential"):
        load_weights(model(), tmp_path / "w.ckpt")


def test_of_two_parts_that_fit_none_is_chosen(tmp_path):
    state = {f"{part}.{name}": tensor for part in ("student", "teacher") for name, tensor in model().state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="does not fit Sequential"):
        load_weights(model(), tmp_path / "w.pt")


def test_a_cast_is_said(tmp_path):
    torch.save({name: tensor.to(torch.float8_e4m3fn) for name, tensor in model().state_dict().items()}, tmp_path / "w.pt")
    assert load_weights(model(), tmp_path / "w.pt") == ("converted 4 weights from float8_e4m3fn to float32",)
