import torch

import tvm_balanced as tb
from benchmarks import inspect_time


def test_all_layers_of_its_model_are_found(capsys):
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 32}
    bert = inspect_time.model(**sizes)
    report = inspect_time.timed("small", lambda: tb.inspect(bert, kwargs={"input_ids": torch.arange(8)[None]}, threads=1))
    assert report.total == 7
    assert capsys.readouterr().out.endswith(f" CPU seconds, {report.sparse_layers} of 7 layers sparse\n")
