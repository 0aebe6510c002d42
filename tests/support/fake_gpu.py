"""A fake GPU: tensors that NumPy cannot read, and streams and graphs that record the calls to them."""

import contextlib

import tvm


class FakeTensor:
    """A CPU tensor that claims to be on a GPU; only a copy of it can be read."""

    def __init__(self, tensor):
        self.tensor, self.device = tensor, tvm.cuda(0)
        self.shape, self.dtype = tensor.shape, tensor.dtype

    def data_ptr(self):
        return self.tensor.data_ptr()

    def copyto(self, device):
        assert device == tvm.cpu()
        return self.tensor

    def __dlpack__(self, **_):
        raise BufferError("Unsupported device in DLTensor")

    def __dlpack_device__(self):
        return (2, 0)


def with_weights_there(module):
    """Make the weights of a compiled module appear to be on a GPU."""
    module.weights = [(name, FakeTensor(tensor)) for name, tensor in module.weights]
    return module


class FakeStream:
    """One of torch's streams on a GPU."""

    def __init__(self, handle, log):
        self.cuda_stream, self.log = handle, log

    def wait_stream(self, other):
        self.log.append((self.cuda_stream, "waits for", other.cuda_stream))

    def synchronize(self):
        self.log.append(("the CPU", "waits for", self.cuda_stream))


class FakeCuda:
    """Make torch appear to use a GPU; `log` records who waited for whom, `current` is the current stream."""

    def __init__(self, monkeypatch):
        import torch

        self.log, self.capturing, self.device = [], False, 0
        self.default = self.current = FakeStream(0, self.log)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: self.device)
        monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _: self.current)
        monkeypatch.setattr(torch.cuda, "default_stream", lambda _: self.default)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)

    def stream(self, handle):
        return FakeStream(handle, self.log)


class FakeGraphs:
    """CUDA graphs of modules on the CPU: a replay calls again on the inputs that were captured, and writes to the same results.

    `happened` says what was done, in order: "call", "capture", "replay".
    """

    def __init__(self, monkeypatch, cuda):
        import torch

        from tvm_balanced.runtime import function
        from tvm_balanced.runtime.cuda import captured_call, graph_calls

        self.happened, self.recording = [], None
        flat = function.Function.flat

        def record(own, *inputs):
            if self.recording is None:
                self.happened.append("call")
                return flat(own, *inputs)
            donated = own.spec.donated_places
            before = {place: inputs[place].clone() for place in donated}
            outputs = flat(own, *inputs)
            for place, state in before.items():  # a call that is captured does not run
                inputs[place].copy_(state)
            kept = set(donated.values())

            def replay():
                self.happened.append("replay")
                for place, (old, new) in enumerate(zip(outputs, flat(own, *inputs), strict=True)):
                    if place not in kept:
                        old.copy_(new)

            self.recording.replay = replay
            return outputs

        @contextlib.contextmanager
        def capturing(graph):
            self.happened.append("capture")
            self.recording = graph
            yield
            self.recording = None

        for module in (captured_call, graph_calls):
            monkeypatch.setattr(module, "torch_stream", lambda _: cuda.current)
        monkeypatch.setattr(function.Function, "flat", record)
        monkeypatch.setattr(torch.cuda, "Stream", lambda _: cuda.stream(7))
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
        monkeypatch.setattr(torch.cuda, "graph", capturing)


class FakeGraph:
    """A graph that has captured nothing."""

    def replay(self):
        raise AssertionError("nothing was captured")
