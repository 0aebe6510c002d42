import pytest

from tvm_balanced.errors import TuningError
from tvm_balanced.tuning.rpc import tracker
from tvm_balanced.tuning.rpc.tracker import RpcOptions, Session


@pytest.mark.parametrize("wrong", ["", "host", "host:", ":9190", "host:port", "host:0", "host:65536", "host:-1", "host:\u0663"])
def test_an_address_that_is_none_is_named(wrong):
    with pytest.raises(TuningError, match="is not of the form HOST:PORT; write for instance"):
        RpcOptions.parse(wrong, "box")


def test_an_address_is_read():
    assert RpcOptions.parse("::1:9190", "box", 3) == RpcOptions("::1", 9190, "box", 3)


@pytest.mark.parametrize("host", ["a..b", "no-such-host.invalid", "127.0.0.1"])
def test_where_no_tracker_is_it_is_said(host):
    with pytest.raises(TuningError, match=rf"no RPC tracker answers at {host}:1 .*; start one"):
        RpcOptions(host, 1, "box").servers()


def test_a_session_gets_old(monkeypatch):
    monkeypatch.setattr(tracker.time, "monotonic", lambda: 100.0)
    assert not Session(None, None, 100.0 - tracker.RENEW_SECONDS).is_old()
    assert Session(None, None, 99.9 - tracker.RENEW_SECONDS).is_old()


def test_sessions_that_are_renewed_have_time_for_a_measurement():
    assert tracker.SESSION_SECONDS - tracker.RENEW_SECONDS >= 20
