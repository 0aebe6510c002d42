"""Import a folder of Hugging Face transformers: config.json, weights, and a tokenizer for the example inputs.

No code of the folder runs: the class of the model must be one of transformers' own, and weights are read as tensors alone.
"""

import contextlib
import importlib
import inspect
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tvm_balanced.core.files import new_directory, parse_json
from tvm_balanced.core.imported_model import ImportedModel
from tvm_balanced.core.stderr_filter import quiet_torch
from tvm_balanced.errors import ModelError, TvmBalancedError, first_line
from tvm_balanced.frontend.module import batch_dimension, import_module
from tvm_balanced.frontend.state_dict import read_state_dict

LENGTH = 128  # tokens of an example, if the model takes as many
SECOND = 16_000  # samples of an example of speech
TEXT = "The quick brown fox jumps over the lazy dog, and nobody knows why it does so every morning. "
OFFSET = 2  # places that RoBERTa and its like leave at the start of their table of positions
PIXELS = 224
# What a tokenizer of transformers is read from; vocabularies are called so by those that have no tokenizer.json.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
)
# How a tokenizer's texts, sounds and images are made ready, and how text is generated: not known to the model itself
OTHER_FILES = ("preprocessor_config.json", "processor_config.json", "normalizer.json", "generation_config.json")
OWN_IMPLEMENTATIONS = ("eager", "sdpa", "grouped_mm")  # of attention and of experts, in transformers itself


def has_encoder(folder: Path) -> bool:
    """Whether the config.json of a folder says that its model has an encoder beside a decoder."""
    try:
        said = parse_json((folder / "config.json").read_bytes())
    except (OSError, ValueError):  # which loading it reports
        return False
    return isinstance(said, dict) and said.get("is_encoder_decoder") is True


def import_huggingface(
    folder: str | Path,
    batch: int | None = None,
    length: int | None = None,
    dynamic_batch: bool = False,
    masks: str | Path | None = None,
    donate: Mapping[str, str] | None = None,
) -> ImportedModel:
    """Import the model of a folder; parameters and errors as for `load_huggingface`, `examples_of` and `import_module`."""
    model, found = load_huggingface(folder, masks)
    kwargs, said = examples_of(model, Path(folder), batch or 1, length)
    shapes = batch_dimension((), kwargs) if dynamic_batch else None
    if dynamic_batch and (batch or 1) < 2:  # torch takes a size of 1 as a constant
        kwargs = {name: torch.cat([tensor, tensor]) for name, tensor in kwargs.items()}
    imported = import_module(model, (), kwargs, shapes, donate)
    imported.source = str(folder)
    imported.recognised += [f"a folder of Hugging Face transformers, {type(model).__name__}", *found, said]
    return imported


def load_huggingface(folder: str | Path, masks: str | Path | None = None) -> tuple[nn.Module, list[str]]:
    """Return the model of a folder in eval mode, which keeps no cache, and what was recognised on the way.

    Parameters
    ----------
    folder : str or Path
        With config.json, and weights in the files that transformers writes, compressed by compressed-tensors or not.
    masks : str or Path, optional
        Of masks to multiply the weights by, as `masks.apply_masks` takes it.

    Raises
    ------
    ModelError
        If transformers is not installed, knows no such model, or the weights are missing, damaged, or for another model.
    """
    folder = Path(folder)
    config, kind = _config_and_class(folder)
    _plain_attention(config)
    _refuse_quantised(folder, config)
    tensors, found = read_state_dict(folder, set(), masks)
    for name in ("quantization_config", "compression_config"):  # its weights are plain by now
        if hasattr(config, name):
            delattr(config, name)
    model, info = _loaded(folder, kind, config, tensors)
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ModelError(f"{folder} has no weight for {lacking[0]} of {kind.__name__}; give the whole checkpoint")
    if info["unexpected_keys"]:
        unused = sorted(info["unexpected_keys"])
        found.append(f"left {len(unused)} tensors aside for which {kind.__name__} has no place, {unused[0]} first")
    for module in model.modules():
        if hasattr(getattr(module, "config", None), "use_cache"):
            module.config.use_cache = False  # type: ignore[union-attr]
    return model.eval(), found


def save_huggingface(model: Any, folder: str | Path, output: str | Path) -> None:
    """Write a model of transformers that came from `folder` to a new one, whole or not at all, with the files of its tokenizer,
    its processor and its generation.

    Raises
    ------
    ArtifactError
        If the new folder is taken, or cannot be written.
    """
    folder, output = Path(folder), Path(output)
    with new_directory(output) as written:
        with quiet_torch(), _no_bars():
            model.save_pretrained(str(written))
        for name in (*TOKENIZER_FILES, *OTHER_FILES):
            if (folder / name).is_file():
                shutil.copy(folder / name, written / name)


def class_of_folder(folder: Path) -> Any:
    """Return the class of transformers that a folder's model is of; raises ModelError as `load_huggingface`."""
    return _config_and_class(folder)[1]


def _config_and_class(folder: Path) -> tuple[Any, Any]:
    transformers = _transformers(folder)
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a config may hold anything
        raise ModelError(
            f"{folder} has a config.json that transformers does not take ({first_line(error)}); give a folder that "
            "save_pretrained wrote, of a model that is part of transformers"
        ) from None
    return config, _class_of(folder, transformers, config)


def _plain_attention(config: Any) -> None:
    """Leave the choice of attention, and of experts, to transformers: a config may name code to fetch from the hub instead."""
    for part in (config, *(value for value in vars(config).values() if hasattr(value, "model_type"))):
        for name in ("_attn_implementation", "_experts_implementation"):
            if getattr(part, name, None) not in (None, *OWN_IMPLEMENTATIONS):
                setattr(part, name, None)


def _refuse_quantised(folder: Path, config: Any) -> None:
    """Raise ModelError for weights that another tool than compressed-tensors has quantised: their names mean other things."""
    about = getattr(config, "quantization_config", None)
    method = about.get("quant_method") if isinstance(about, dict) else getattr(about, "quant_method", None)
    if about is not None and str(method) != "compressed-tensors":
        raise ModelError(
            f"{folder} is quantised by {str(method)!r:.40}, whose weights are not read here; load it, call its dequantize(), and "
            "save it again"
        )


def _loaded(folder: Path, kind: Any, config: Any, tensors: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Any]]:
    try:
        with quiet_torch(), _no_bars():
            loaded: tuple[nn.Module, Mapping[str, Any]] = kind.from_pretrained(
                None, config=config, state_dict=dict(tensors), output_loading_info=True
            )
    except Exception as error:  # transformers raises many kinds where a weight does not fit
        raise ModelError(
            f"the weights in {folder} do not fit {kind.__name__} ({first_line(error)}); give those that its config.json is of"
        ) from None
    return loaded


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Let transformers draw no progress bars meanwhile."""
    bars = importlib.import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _transformers(folder: Path) -> Any:
    try:
        import transformers
    except ImportError:
        raise ModelError(f"{folder} needs Hugging Face transformers, which is not installed; pip install transformers") from None
    return transformers


def _class_of(folder: Path, transformers: Any, config: Any) -> Any:
    """Return the class of transformers that a config names; raises ModelError where that would be code of the folder."""
    named = (getattr(config, "architectures", None) or ["AutoModel"])[0]
    kind = getattr(transformers, str(named), None)
    if named == "AutoModel":
        kind = transformers.MODEL_MAPPING.get(type(config))
        kind = kind[0] if isinstance(kind, (tuple, list)) else kind
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise ModelError(
            f"{folder} is of the class {named!r:.60}, which transformers {transformers.__version__} does not have, and code in "
            "the folder is not run; load the model yourself and give it with example arguments"
        )
    return kind


def examples_of(
    model: nn.Module, folder: Path | None = None, batch: int = 1, length: int | None = None
) -> tuple[dict[str, torch.Tensor], str]:
    """Return example inputs of a model of transformers by their names, and what they are in a phrase.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    folder : Path, optional
        Whose tokenizer makes the ids; without one they are drawn.
    batch, length : int, optional
        Rows of each input, and tokens of a row: 128, or fewer where the model takes no more.

    Raises
    ------
    ModelError
        If the model takes inputs of a kind that is not known here.
    """
    config: Any = model.config
    taken = inspect.signature(model.forward).parameters
    text, vision = getattr(config, "text_config", None), getattr(config, "vision_config", None)
    main = str(getattr(model, "main_input_name", "input_ids"))
    made: dict[str, torch.Tensor] = {}
    said = f"examples of {batch}"
    if main == "input_ids" or (text is not None and vision is not None and "input_ids" in taken):
        made |= _tokens(text or config, folder, batch, length)
        said += f" x {made['input_ids'].shape[1]} tokens"
    if main == "pixel_values" or (text is not None and vision is not None and "pixel_values" in taken):
        made["pixel_values"] = _pixels(vision or getattr(config, "encoder", None) or config, folder, batch)
        said += f" images of {'x'.join(map(str, made['pixel_values'].shape[1:]))}"
    elif main == "input_values":
        made["input_values"] = torch.randn(batch, SECOND, generator=_generator())
        said += " x 1 s of speech at 16 kHz"
    elif main == "input_features":
        made["input_features"] = _features(config, batch, length)
        said += f" x {list(made['input_features'].shape[1:])} features of speech"
    if not made:
        raise ModelError(
            f"{type(model).__name__} takes {main!r}, of which no example is known here; load the model yourself and give it with "
            "example arguments"
        )
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" in taken:
        decoder = getattr(config, "decoder", None) or config
        made["decoder_input_ids"] = _drawn(decoder, batch, min(length or 16, 16))
    return {name: tensor for name, tensor in made.items() if name in taken}, said


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _drawn(config: Any, batch: int, length: int) -> torch.Tensor:
    last = int(getattr(config, "vocab_size", 2))
    return torch.randint(min(4, last - 1), last, (batch, length), generator=_generator())


def _tokens(config: Any, folder: Path | None, batch: int, length: int | None) -> dict[str, torch.Tensor]:
    """Ids and a mask: of a sentence as long as wanted, by the folder's tokenizer; or drawn, where there is none that fits."""
    most = getattr(config, "max_position_embeddings", None)
    longest = LENGTH if not isinstance(most, int) or most >= LENGTH + OFFSET else max(1, most - OFFSET)
    length = length or longest
    made = _tokenized(folder, batch, length)
    if not made or int(made["input_ids"].max()) >= int(getattr(config, "vocab_size", 0)):
        made = {"input_ids": _drawn(config, batch, length)}
        made["attention_mask"] = torch.ones_like(made["input_ids"])
    return made


def _tokenized(folder: Path | None, batch: int, length: int) -> dict[str, torch.Tensor]:
    if folder is None or not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return {}
    from transformers import AutoTokenizer

    try:
        with quiet_torch():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            ids = tokenizer([TEXT * length] * batch, truncation=True, max_length=length, return_tensors="pt")
    except TvmBalancedError:
        raise
    except Exception:  # a tokenizer that needs a library, or is damaged: ids that are drawn do as well
        return {}
    return {str(name): tensor for name, tensor in ids.items()} if ids["input_ids"].shape == (batch, length) else {}


def _pixels(config: Any, folder: Path | None, batch: int) -> torch.Tensor:
    size = getattr(config, "image_size", None) or _processor_size(folder) or PIXELS
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    return torch.randn(batch, int(getattr(config, "num_channels", 3)), int(height), int(width), generator=_generator())


def _processor_size(folder: Path | None) -> int | list[int] | None:
    """Return the size of images that preprocessor_config.json names."""
    try:
        said = parse_json(((folder or Path()) / "preprocessor_config.json").read_bytes())
        size = said.get("crop_size") or said.get("size")
        if isinstance(size, dict):
            return [int(size["height"]), int(size["width"])] if "height" in size else int(size["shortest_edge"])
        return int(size)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _features(config: Any, batch: int, length: int | None) -> torch.Tensor:
    """Of speech: (batch, mel bins, time) of Whisper, whose time is fixed; else (batch, time, features)."""
    if hasattr(config, "num_mel_bins"):
        return torch.randn(batch, config.num_mel_bins, 2 * config.max_source_positions, generator=_generator())
    size: Any = getattr(config, "feature_projection_input_dim", None) or getattr(config, "input_feat_per_channel", 80)
    return torch.randn(batch, length or LENGTH, int(size), generator=_generator())
