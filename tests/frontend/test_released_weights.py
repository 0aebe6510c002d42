import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tvm_balanced.core.mapped_files import PAGE
from tvm_balanced.frontend import released_weights
from tvm_balanced.frontend.mapped_safetensors import read_safetensors
from tvm_balanced.frontend.released_weights import releasing


def test_each_operator_gives_its_weights_back(tmp_path, monkeypatch):
    source, x = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 256)), torch.randn(2, 256)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    model = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 256))
    model.load_state_dict(read_safetensors(tmp_path / "w.safetensors"), assign=True)
    given, release = [], released_weights.release_range
    monkeypatch.setattr(released_weights, "release_range", lambda *place: (given.append(place), release(*place)))
    with torch.no_grad(), releasing(model.parameters()):
        got = model(x)
    assert torch.equal(got, source(x))
    assert {(p.data_ptr(), p.nbytes) for p in model.parameters()} <= set(given)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True))


def test_a_model_in_memory_runs_as_it_is():
    assert not isinstance(releasing(nn.Linear(4, 4).parameters()), released_weights.ReleasedWeights)
    weight = np.ones(4 * PAGE, np.float32)
    assert torch.from_numpy(weight).sum() == 4 * PAGE
