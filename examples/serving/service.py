"""Sentence embeddings over HTTP by the open inference protocol (v2): a compiled module behind FastAPI, which batches texts.

Needs neither torch nor the model. Settings are environment variables, see `Settings`.
"""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from batched.aio import AsyncBatchProcessor
from fastapi import FastAPI, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client import REGISTRY as ONE_PROCESS
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tokenizers import Tokenizer

NAME, TOKENS, DIMENSIONS = "embedder", 128, 384
MOST_TEXTS, MOST_CHARACTERS = 64, 20_000  # of a request, of a text
Array = np.ndarray[Any, Any]
Embed = Callable[[Array, Array], Array]  # token ids and mask (batch, 128) int64 --> embeddings (batch, 384) float32
Replicas = Callable[["Settings"], Sequence[Embed]]

REQUESTS = Counter("embedder_requests_total", "Answered requests.", ["status"])
LATENCY = Histogram("embedder_request_seconds", "From a request to its answer.", buckets=[0.005 * 2**n for n in range(12)])
BATCHES = Histogram("embedder_batch_texts", "Texts that were computed at once.", buckets=[1, 2, 4, 8, 16, 32, 64])


@dataclass(frozen=True)
class Settings:
    """What an operator may set: EMBEDDER_MODEL, _REPLICAS, _MAX_BATCH, _WAIT_MS, _MAX_WAITING, _DRAIN_SECONDS."""

    model: Path = Path("model")  # the folder that make_artifact.py wrote
    replicas: int = 1  # clones of the module in each worker process, each with a thread of its own
    max_batch: int = 4  # texts that are computed at once: 4.4 ms each, of 8 together 4.7; and the next ones wait meanwhile
    wait_ms: float = 2.0  # how long a batch waits for more texts
    max_waiting: int = 512  # texts that may wait; requests beyond get 503
    drain_seconds: float = 1.0  # after SIGTERM: connections are told to close, then the worker ends

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the variables that are set."""
        given = {name: os.environ.get(f"EMBEDDER_{name.upper()}") for name in cls.__dataclass_fields__}
        return cls(**{name: type(getattr(cls, name))(text) for name, text in given.items() if text is not None})


class Input(BaseModel):
    """A tensor of texts, as the protocol has it."""

    name: Literal["text"]
    shape: tuple[int] | tuple[int, Literal[1]]
    datatype: Literal["BYTES"]
    data: list[Annotated[str, Field(max_length=MOST_CHARACTERS)]] = Field(min_length=1, max_length=MOST_TEXTS)


class Infer(BaseModel):
    """The body of an inference request."""

    inputs: list[Input] = Field(min_length=1, max_length=1)
    id: str | None = None


def compiled(settings: Settings) -> Sequence[Embed]:
    """Return clones of the compiled module, which share its code and weights; worker processes share the weights' pages."""
    import tvm_balanced as tb

    first = tb.load(settings.model / "minilm.tb", threads=1, weights="shared")
    return [first, *(first.clone() for _ in range(settings.replicas - 1))]


@dataclass
class Replica:
    """One clone, its thread, and the texts that wait for it."""

    embed: Embed
    settings: Settings
    waiting: int = 0
    queue: Any = field(init=False)

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.queue = AsyncBatchProcessor(self._compute, batch_size=self.settings.max_batch, timeout_ms=self.settings.wait_ms)

    async def __call__(self, tokens: list[Array]) -> list[Array]:
        """Return the embeddings of texts, each given as ids and mask (2, 128)."""
        self.waiting += len(tokens)
        try:
            return await self.queue(tokens)
        finally:
            self.waiting -= len(tokens)

    async def _compute(self, tokens: list[Array]) -> list[Array]:
        BATCHES.observe(len(tokens))
        ids, mask = np.stack(tokens, axis=1)
        loop = asyncio.get_running_loop()
        return list(await loop.run_in_executor(self._thread, self.embed, ids, mask))


class Embedder:
    """Tokenizes texts and gives them to the replica for which the fewest wait."""

    def __init__(self, settings: Settings, replicas: Sequence[Embed]) -> None:
        self.settings, self.draining = settings, False
        self._replicas = [Replica(embed, settings) for embed in replicas]
        self._tokenizer = Tokenizer.from_file(str(settings.model / "tokenizer.json"))
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.enable_padding(length=TOKENS)
        for embed in replicas:  # the first call of each size takes longer
            for size in (1, settings.max_batch):
                embed(np.ones((size, TOKENS), np.int64), np.ones((size, TOKENS), np.int64))

    async def __call__(self, texts: list[str]) -> Array:
        """Return embeddings (texts, 384) float32; raises HTTPException 503 where too many wait."""
        replica = min(self._replicas, key=lambda r: r.waiting)
        if sum(r.waiting for r in self._replicas) + len(texts) > self.settings.max_waiting:
            raise HTTPException(503, "too many texts wait; try again", headers={"Retry-After": "1"})
        encoded = self._tokenizer.encode_batch(texts)
        return np.stack(await replica([np.array([e.ids, e.attention_mask], np.int64) for e in encoded]))


def drain_on_sigterm(embedder: Embedder) -> None:
    """Let SIGTERM first tell clients to close their connections, and then do what uvicorn does: end when all is answered."""
    loop, uvicorns = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def drain() -> None:
        embedder.draining = True
        loop.call_later(embedder.settings.drain_seconds, uvicorns, signal.SIGTERM, None)

    if callable(uvicorns) and threading.current_thread() is threading.main_thread():  # not so in a test client, nor in Ray Serve
        loop.add_signal_handler(signal.SIGTERM, drain)


class Observe:
    """Counts and times inference requests, and tells clients of a worker that ends to close their connections.

    Plain ASGI, because Starlette's BaseHTTPMiddleware starts tasks for each request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["app"].state.embedder.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            if scope["path"].endswith("/infer"):
                REQUESTS.labels(status).inc()
                LATENCY.observe(time.perf_counter() - start)


def create_app(load: Replicas = compiled, settings: Settings | None = None) -> FastAPI:
    """Return the service over what `load` gives."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or Settings.from_environment()
        app.state.embedder = Embedder(chosen, load(chosen))
        drain_on_sigterm(app.state.embedder)
        yield

    app = FastAPI(title="Sentence embeddings", lifespan=lifespan)

    app.add_middleware(Observe)

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "tvm_balanced", "version": "1", "extensions": []}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    @app.get(f"/v2/models/{NAME}/ready")
    async def ready(response: Response) -> dict[str, Any]:
        response.status_code = 503 if app.state.embedder.draining else 200
        return {"name": NAME, "ready": not app.state.embedder.draining}

    @app.get(f"/v2/models/{NAME}")
    async def metadata() -> dict[str, Any]:
        texts = {"name": "text", "datatype": "BYTES", "shape": [-1]}
        outputs = {"name": "embedding", "datatype": "FP32", "shape": [-1, DIMENSIONS]}
        return {"name": NAME, "platform": "tvm_balanced", "inputs": [texts], "outputs": [outputs]}

    @app.post(f"/v2/models/{NAME}/infer")
    async def infer(body: Infer) -> Response:
        (texts,) = body.inputs
        if texts.shape[0] != len(texts.data):
            raise HTTPException(422, f"shape says {texts.shape[0]} texts and data holds {len(texts.data)}")
        found = await app.state.embedder(texts.data)
        output = {"name": "embedding", "datatype": "FP32", "shape": found.shape, "data": found.ravel()}
        content = {"model_name": NAME, "id": body.id, "outputs": [output]}
        return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    @app.get("/metrics")
    async def metrics() -> Response:
        registry = ONE_PROCESS
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # several workers: each writes its numbers there
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


app = create_app()
