"""A causal language model that writes text, its keys and values cached."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "vocab_size": 100}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()
    tb.prune(model, "4:16", exclude=["lm_head"])
    lm = tb.compile_causal_lm(model, max_length=64, chunk=16)  # or the folder of a model
    prompt = torch.randint(3, 100, (1, 20))
    got = lm.generate(prompt, max_new_tokens=12, streamer=lambda token: print(token[0], end=" ", flush=True))
    want = model.generate(prompt, max_new_tokens=12, do_sample=False)
    print("\ngreedy text:", "right" if torch.equal(got, want) else "wrong")
    print("drawn:", lm.generate(prompt, max_new_tokens=12, do_sample=True, temperature=0.8, top_k=20, seed=1)[0, 20:].tolist())


if __name__ == "__main__":
    main()
