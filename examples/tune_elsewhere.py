"""Tuning on another machine, which here is this one: candidates are compiled here and timed by a server there."""

import tempfile

import torch
from torch import nn

import tvm_balanced as tb
from tvm_balanced.tuning.rpc.serve import serve


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 64)).eval()
    tb.prune(model, "2:16")
    x = torch.randn(8, 256)
    with serve("127.0.0.1", "box", 1) as fleet, tempfile.TemporaryDirectory() as logs:
        # there: tvm-balanced serve-rpc --key box; here: ssh -L for the ports of the tracker and its servers
        remote = tb.RpcOptions.parse(fleet.tracker, "box")
        result = tb.tune(model, (x,), rpc=remote, work_dir=logs, trials=6, strategy="replay")
        print(f"{result.ended} after {result.trials} trials")
        module = tb.compile(model, (x,), logs=logs)
    print(module.report)
    torch.testing.assert_close(module(x), model(x), rtol=1e-4, atol=1e-5)
    assert result.trials > 0
    print("tuned and compiled: right")


if __name__ == "__main__":
    main()
