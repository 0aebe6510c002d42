"""Waiting for servers of a tracker."""

import time

from tvm_balanced.tuning.rpc.tracker import RpcOptions


def wait_for_servers(fleet, count, seconds=30.0):
    end_ = time.monotonic() + seconds
    options = RpcOptions.parse(fleet.tracker, fleet.key)
    while time.monotonic() < end_:
        if options.servers() == count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{options.servers()} servers, not {count}")
