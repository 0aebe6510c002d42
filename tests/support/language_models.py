"""Tiny language models whose text is worth comparing."""

import torch

import tvm_balanced as tb


def pruned(make, scale=4):
    """A model whose weights are large enough that its text has several tokens, and which writes without an end."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.dim() > 1 else 1)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = None, 0
    tb.prune(model, "4:16", exclude=["lm_head"])
    return model
