"""An RPC tracker or server process that lives as long as its parent: `python -m tvm_balanced.tuning.rpc.process ...`.

TVM's own commands each start a worker process that outlives them, and a server whose session
crashed stays there without serving. Here the process is the server, and it ends with it, so that
its parent can start another.
"""

import argparse
import os
import signal
import threading
import time

from tvm_balanced.core.without_torch import without_torch


def main() -> None:
    """Serve until the serving thread ends; print the port first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=("tracker", "server"))
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--tracker", default="")
    parser.add_argument("--parent", type=int, required=True, help="process id of who starts it")
    options = parser.parse_args()
    _die_with_parent(options.parent)
    thread, port = _serve(options)
    print(port, flush=True)
    thread.join()
    os._exit(1)  # skip threads that a dead session left


def _die_with_parent(parent: int) -> None:
    """End this process and its sessions when its parent ends for any reason.

    This does not use PR_SET_PDEATHSIG: a session is a fork, and the kernel would leave it running,
    with a candidate that may hang.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():  # as `serve` starts it
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(options: argparse.Namespace) -> tuple[threading.Thread, int]:
    """Start serving at the first free port, beginning at the given one."""
    without_torch()  # servers measure kernels alone, on CPUs
    last = options.port + 1000
    if options.role == "tracker":
        from tvm.rpc.tracker import PopenTrackerServerState

        tracker = PopenTrackerServerState(options.host, options.port, last, silent=True)
        return tracker.thread, tracker.port
    from tvm.rpc.server import PopenRPCServerState

    from tvm_balanced.tuning.rpc import server_info

    server_info.offer()
    host, _, port = options.tracker.rpartition(":")
    server = PopenRPCServerState(options.host, options.port, last, tracker_addr=(host, int(port)), key=options.key, silent=True)
    return server.thread, server.port


if __name__ == "__main__":
    main()
