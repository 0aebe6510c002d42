"""The same service on ONNX Runtime with dynamic INT8, to compare with. Needs onnx and onnxruntime.

python onnx_service.py model    # writes model/minilm.int8.onnx from model/pruned.safetensors
uvicorn onnx_service:app
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from service import Array, Embed, Settings, create_app

FILE = "minilm.int8.onnx"


def write(folder: Path) -> None:
    """Write the pruned module for ONNX Runtime: any number of texts, weights in 8 bits by output channel."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from safetensors.torch import load_file

    from tvm_balanced.demo.minilm import sentence_encoder

    encoder, _ = sentence_encoder()
    encoder.load_state_dict(load_file(folder / "pruned.safetensors"))
    ones, exact = torch.ones(2, 128, dtype=torch.int64), folder / "minilm.onnx"
    names, sizes = ["ids", "mask"], {"ids": {0: "batch"}, "mask": {0: "batch"}}
    # the exporter whose graphs ONNX Runtime's fusions know
    torch.onnx.export(
        encoder.eval(), (ones, ones), str(exact), input_names=names, dynamic_axes=sizes, dynamo=False, opset_version=17
    )
    quantize_dynamic(str(exact), str(folder / FILE), per_channel=True, weight_type=QuantType.QInt8)
    exact.unlink()


def runtime(settings: Settings) -> Sequence[Embed]:
    """Return a session of one thread for each replica."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1

    def session() -> Embed:
        made = ort.InferenceSession(str(settings.model / FILE), options, providers=["CPUExecutionProvider"])
        names = [one.name for one in made.get_inputs()]

        def embed(ids: Array, mask: Array) -> Array:
            return made.run(None, dict(zip(names, (ids, mask), strict=True)))[0]

        return embed

    return [session() for _ in range(settings.replicas)]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
else:
    app = create_app(runtime)
