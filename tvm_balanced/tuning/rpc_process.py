"""A process that is an RPC tracker or server until its parent ends: `python -m tvm_balanced.tuning.rpc_process ...`.

TVM's own commands start a worker process each, which outlives them, and a server whose session crashed stays there but serves no
more. Here the process is the server, and it ends when that does, so that its parent can start another.
"""

import argparse
import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the serving thread ends; prints the port first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("tracker", "server"))
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--tracker", default="")
    options = parser.parse_args()
    _die_with_parent()
    thread, port = _serve(options)
    print(port, flush=True)
    thread.join()
    os._exit(1)  # not through threads that a dead session left


def _die_with_parent() -> None:
    """Let the kernel end this process when its parent ends, however that does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _serve(options: argparse.Namespace) -> tuple[threading.Thread, int]:
    """Start serving at the first free port from the one given on."""
    last = options.port + 1000
    if options.role == "tracker":
        from tvm.rpc.tracker import PopenTrackerServerState

        tracker = PopenTrackerServerState(options.host, options.port, last, silent=True)
        return tracker.thread, tracker.port
    from tvm.rpc.server import PopenRPCServerState

    host, _, port = options.tracker.rpartition(":")
    server = PopenRPCServerState(options.host, options.port, last, tracker_addr=(host, int(port)), key=options.key, silent=True)
    return server.thread, server.port


if __name__ == "__main__":
    main()
