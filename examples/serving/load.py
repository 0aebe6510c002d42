"""Load test of the service on loopback: a fixed number of clients, each with one request at a time.

python load.py --requests 10000 --clients 16 --url http://127.0.0.1:8080 --restart PID   # SIGHUP to PID halfway
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from itertools import count
from typing import Any

import aiohttp
import numpy as np
import psutil

# 128 tokens or more, so that a service that pads less would gain nothing
TEXT = " ".join(["The tide turned before the harbour lights were lit, and number {0} of the boats came home with the wind."] * 8)


def body(number: int, texts: int) -> bytes:
    """Return a request of the open inference protocol."""
    data = [TEXT.format(number * texts + at) for at in range(texts)]
    return json.dumps({"inputs": [{"name": "text", "shape": [texts], "datatype": "BYTES", "data": data}]}).encode()


def memory(pid: int) -> float:
    """Return what a server and its workers take of memory in MB; pages that they share count once."""
    root, taken = psutil.Process(pid), 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker ended in between
            taken += process.memory_full_info().pss
    return taken / 1e6


async def load(given: argparse.Namespace) -> dict[str, Any]:
    """Send the requests and return what came of them; a connection that closes before it answers is tried once more."""
    seconds, outcomes, numbers = [], Counter[str](), count()
    url = f"{given.url}/v2/models/embedder/infer"

    async def one(session: aiohttp.ClientSession, number: int) -> str:
        for last in (False, True):
            try:
                async with session.post(
                    url, data=body(number, given.texts), headers={"Content-Type": "application/json"}
                ) as answer:
                    found = json.loads(await answer.read())
                    return "ok" if answer.status == 200 and found["outputs"][0]["shape"] == [given.texts, 384] else "failed"
            except aiohttp.ServerDisconnectedError:
                outcomes["tried again"] += not last
            except aiohttp.ClientError as error:
                return f"failed: {type(error).__name__}"
        return "failed"

    async def client(session: aiohttp.ClientSession) -> None:
        for number in iter(lambda: next(numbers), None):
            if number >= given.requests:
                return
            if number == given.requests // 2 and given.restart:
                os.kill(given.restart, signal.SIGHUP)
            start = time.perf_counter()
            outcomes[await one(session, number)] += 1
            seconds.append(time.perf_counter() - start)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        start = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(given.clients)))
        took = time.perf_counter() - start
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    texts = given.requests * given.texts / took
    found = {"requests": given.requests, "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "texts_per_second": round(texts, 1)}
    pid = given.server or given.restart
    return found | ({"memory_mb": round(memory(pid))} if pid else {}) | dict(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--texts", type=int, default=1, help="of a request")
    parser.add_argument("--server", type=int, help="process of the server, whose memory is shown")
    parser.add_argument("--restart", type=int, help="the same, restarted gracefully halfway")
    print(json.dumps(asyncio.run(load(parser.parse_args()))))


if __name__ == "__main__":
    main()
