"""The same service on eager PyTorch, to compare with."""

from collections.abc import Sequence

import torch
from safetensors.torch import load_file
from service import Array, Embed, Settings, create_app

from tvm_balanced.demo.minilm import sentence_encoder


def eager(settings: Settings) -> Sequence[Embed]:
    """Return the pruned PyTorch module once for each replica; it may be called by several threads."""
    torch.set_num_threads(1)
    encoder, _ = sentence_encoder()
    encoder.load_state_dict(load_file(settings.model / "pruned.safetensors"))

    @torch.inference_mode()
    def embed(ids: Array, mask: Array) -> Array:
        return encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    return [embed] * settings.replicas


app = create_app(eager)
