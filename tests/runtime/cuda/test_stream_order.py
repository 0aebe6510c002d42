import threading

import pytest
import tvm
import tvm_ffi
from support.fake_gpu import FakeCuda

from tvm_balanced.runtime.cuda import stream_order
from tvm_balanced.runtime.cuda.stream_order import in_stream_order

GPU = tvm.cuda(0)


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(stream_order, "_last", {})
    return FakeCuda(monkeypatch)


def call(cuda, stream):
    cuda.current = stream
    with in_stream_order(GPU):
        cuda.log.append((stream.cuda_stream, "runs", tvm_ffi.get_raw_stream(tvm_ffi.device("cuda", 0))))


def test_a_call_on_another_stream_waits_for_the_last(cuda):
    one, two = cuda.stream(1), cuda.stream(2)
    for stream in (one, one, two, one):
        call(cuda, stream)
    waits = [(1, "waits for", 0), (2, "waits for", 1), (1, "waits for", 2)]
    assert [event for event in cuda.log if "waits for" in event] == waits
    assert cuda.log.index(waits[1]) == cuda.log.index((2, "runs", 2)) - 1


def test_calls_on_the_default_stream_wait_for_none_until_there_is_another(cuda):
    call(cuda, cuda.default)
    call(cuda, cuda.default)
    assert not [event for event in cuda.log if "waits for" in event]


def test_a_captured_call_neither_waits_nor_is_waited_for(cuda):
    one, two = cuda.stream(1), cuda.stream(2)
    call(cuda, one)
    cuda.log.clear()
    cuda.capturing = True
    call(cuda, two)
    cuda.capturing = False
    call(cuda, one)
    assert [event[1] for event in cuda.log] == ["runs", "runs"]


def test_threads_take_turns(cuda):
    entered = threading.Event()

    def other():
        with in_stream_order(GPU):
            entered.set()

    thread = threading.Thread(target=other)
    with in_stream_order(GPU):
        thread.start()
        assert not entered.wait(0.1)
    thread.join(10)
    assert entered.is_set()


def test_calls_on_the_cpu_are_free(cuda):
    with in_stream_order(tvm.cpu()):
        thread = threading.Thread(target=lambda: in_stream_order(tvm.cpu()).__enter__())
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
    assert cuda.log == []
