"""torch.compile with this compiler as its backend: the model keeps its class, its arguments and its results."""

import torch
from torch._dynamo.utils import counters
from transformers import BertConfig, BertModel

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 100}
    model = BertModel(BertConfig(**sizes)).eval()
    tb.prune(model, "4:16")
    fast = torch.compile(model, backend="tvm_balanced", options={"threads": 1})
    with torch.no_grad():  # weights are constants, so no gradients
        for length in (12, 20, 31):  # the second length makes torch compile for any
            ids = torch.randint(0, 100, (2, length))
            got, want = fast(input_ids=ids), model(input_ids=ids)
            same = torch.allclose(got.last_hidden_state, want.last_hidden_state, atol=1e-5)
            print(f"{type(got).__name__} of {length} tokens:", "right" if same else "wrong")
    print(dict(counters["tvm_balanced"]))


if __name__ == "__main__":
    main()
