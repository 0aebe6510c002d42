"""Speech recognition: a Wav2Vec2 of any size, from a waveform of 16 kHz to letters."""

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

import tvm_balanced as tb


def main() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 32}
    convolutions = {"conv_dim": (32, 32, 32), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4)}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**sizes, **convolutions, **positions)).eval()  # or from_pretrained
    tb.prune(model, "4:16", include=["*encoder.layers*"])
    waveform = torch.randn(1, 16000)  # a second
    module = tb.compile(model, (waveform,))
    print(module.report.title)
    got, want = module(waveform).logits, model(waveform).logits
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)
    print(f"{got.shape[1]} frames, letters {got.argmax(-1)[0, :8].tolist()}: right")


if __name__ == "__main__":
    main()
