"""The service of examples/serving, installed and started as its Containerfile says, in an environment where nothing else is.
`make serving-test` runs this: it installs packages, which takes minutes and a package index.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVING = ROOT / "examples" / "serving"
INSTRUCTIONS = re.findall(r"^(COPY|RUN|ENV|CMD) (.*)$", (SERVING / "Containerfile").read_text(), re.MULTILINE)
TEXTS = ["A cat sleeps on the roof.", "Rain tonight.", "x " * 400]
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif("TVM_BALANCED_INSTALL" not in os.environ, reason="installs packages: make serving-test"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder as make_artifact.py writes it, of an encoder of one layer, and the torch module."""
    import torch
    from transformers import BertConfig, BertModel

    import tvm_balanced as tb
    from tvm_balanced.demo.minilm import SentenceEncoder, model_directory, tokenize

    torch.manual_seed(0)
    config = BertConfig(hidden_size=384, num_hidden_layers=1, num_attention_heads=4, intermediate_size=256)
    encoder = SentenceEncoder(BertModel(config, add_pooling_layer=False)).eval()
    tb.prune(encoder, "2:16", include=["model.encoder.*"])
    batch = torch.export.Dim("batch", max=64)
    module = tb.compile(encoder, tokenize(TEXTS), dynamic_shapes=({0: batch}, {0: batch}), threads=1)
    folder = tmp_path_factory.mktemp("model")
    module.save(folder / "minilm.tb")
    shutil.copy(model_directory() / "tokenizer.json", folder)
    return folder, encoder


@pytest.fixture(scope="module")
def image(model, tmp_path_factory):
    """(folder, variables) of what the Containerfile builds: what it copies, what it runs, what it sets."""
    work = tmp_path_factory.mktemp("image")
    venv.create(work / "env", with_pip=True)
    surroundings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    surroundings["PATH"] = f"{work / 'env' / 'bin'}:{surroundings['PATH']}"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", work / "dist", ROOT]
    subprocess.run(command, check=True)
    (work / "srv").mkdir()
    for name, words in INSTRUCTIONS:
        if name == "COPY":
            *sources, destination = words.split()
            for source in sources:
                copy(source, work, model[0], work / "srv" / destination)
        elif name == "RUN":
            subprocess.run(words, shell=True, check=True, cwd=work / "srv", env=surroundings)
        elif name == "ENV":
            surroundings |= dict(pair.split("=", 1) for pair in words.split())
    return work / "srv", surroundings


def copy(source, work, model, destination):
    if source == "dist/*.whl":
        (wheel,) = (work / "dist").glob("*.whl")
        shutil.copy(wheel, destination)
    elif source == "build/serving/model":
        shutil.copytree(model, destination)
    else:
        shutil.copy(ROOT / source, destination)


@pytest.fixture(scope="module")
def server(image):
    """(address, process) of the running service."""
    folder, surroundings = image
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (command,) = (json.loads(words) for name, words in INSTRUCTIONS if name == "CMD")
    command = ["127.0.0.1" if word == "0.0.0.0" else port if word == "8080" else word for word in command]
    command[0] = str(folder.parent / "env" / "bin" / command[0])
    process = subprocess.Popen(command, cwd=folder, env=surroundings, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: get(f"{address}/v2/health/ready")[0] == 200, process)
        yield address, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait(happens, process, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None
        with contextlib.suppress(OSError):
            if happens():
                return
        time.sleep(0.2)
    raise AssertionError("it did not happen")


def get(url, body=None):
    """(status, text) of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def texts(data, **other):
    return {"inputs": [{"name": "text", "shape": [len(data)], "datatype": "BYTES", "data": data} | other], "id": "7"}


def workers(process):
    import psutil

    children = psutil.Process(process.pid).children()  # multiprocessing has one of its own among them
    found = set()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended in between; a zombie is one of these
            if not any("resource_tracker" in word for word in child.cmdline()):
                found.add(child.pid)
    return found


def test_embeddings_are_those_of_pytorch(server, model):
    import torch

    from tvm_balanced.demo.minilm import tokenize

    status, text = get(f"{server[0]}/v2/models/embedder/infer", texts(TEXTS))
    assert status == 200
    answer = json.loads(text)
    (output,) = answer["outputs"]
    assert (answer["id"], output["datatype"], output["shape"]) == ("7", "FP32", [3, 384])
    with torch.no_grad():
        want = model[1](*tokenize(TEXTS)).numpy()
    np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), want, rtol=1e-3, atol=1e-5)


def test_the_protocol_describes_itself(server):
    assert get(f"{server[0]}/v2/health/live")[0] == 200
    assert get(f"{server[0]}/v2/models/embedder/ready")[0] == 200
    described = json.loads(get(f"{server[0]}/v2/models/embedder")[1])
    assert described["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}]
    assert get(f"{server[0]}/v2/models/other")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        texts([]),
        texts(["a"] * 65),
        texts(["a" * 20_001]),
        texts(["a"], shape=[2]),
        texts(["a"], datatype="FP32"),
        texts([1]),
        {"inputs": texts(["a"])["inputs"] * 2},
    ],
)
def test_bad_requests_are_refused(server, body):
    assert get(f"{server[0]}/v2/models/embedder/infer", body)[0] == 422


def test_no_request_fails_during_a_graceful_restart(server, image):
    address, process = server
    before = workers(process)
    python = image[0].parent / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "aiohttp", "psutil"], check=True)
    options = ["--url", address, "--requests", "2000", "--clients", "8", "--restart", str(process.pid)]
    done = subprocess.run([python, SERVING / "load.py", *options], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout)
    print(found)
    assert found["ok"] == 2000
    assert not any(outcome.startswith("failed") for outcome in found)
    wait(lambda: not before & workers(process) and len(workers(process)) == len(before), process)  # each was replaced
    counted = re.search(r'embedder_requests_total\{status="200"\} (\d+)', get(f"{address}/metrics")[1])
    assert int(counted[1]) >= 2000  # of workers that have ended, too


def test_sigterm_ends_it(server):
    _, process = server
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)
