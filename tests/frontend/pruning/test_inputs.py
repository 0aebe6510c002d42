import pytest
import torch
from torch import nn
from torch.nn import functional

from tvm_balanced.frontend.pruning.inputs import InputRecorder, Rows, patches, written_out
from tvm_balanced.frontend.pruning.weights import EXPERTS_TRANSPOSED, prunable_weights


def watch(module, *args, include=("*",), **options):
    """Call a module; return (name, rows, x) of each use of a weight, and the weights."""
    weights, seen = list(prunable_weights(module, include)), []
    with torch.no_grad(), written_out(module), InputRecorder(weights, lambda w, rows, x: seen.append((w.name, rows, x.clone()))):
        module(*args, **options)
    return seen, weights


@pytest.mark.parametrize("shape", [(32,), (5, 32), (2, 5, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_sees_its_input(shape, bias):
    x = torch.randn(shape)
    ((name, rows, seen),), _ = watch(nn.Linear(32, 8, bias=bias), x)
    assert (name, rows) == ("Linear", Rows(0, 8))
    assert torch.equal(seen, x.reshape(-1, 32))


def test_attention_to_others_uses_rows_of_one_weight():
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x, memory = torch.randn(1, 3, 16), torch.randn(1, 5, 16)
    seen, _ = watch(attention, x, memory, memory)
    assert [(name, rows) for name, rows, _ in seen] == [
        ("in_proj_weight", Rows(0, 16)),
        ("in_proj_weight", Rows(16, 48)),
        ("out_proj", Rows(0, 16)),
    ]
    assert torch.equal(seen[0][2], x[0])
    assert torch.equal(seen[1][2], memory[0])


def test_a_recurrent_weight_sees_the_hidden_states():
    lstm, x = nn.LSTM(8, 4), torch.randn(6, 3, 8)
    y, _ = lstm(x)
    seen, _ = watch(lstm, x)
    hidden = torch.stack([x for name, _, x in seen if name == "weight_hh_l0"])
    torch.testing.assert_close(hidden, torch.cat([torch.zeros(1, 3, 4), y[:-1]]))
    assert torch.backends.mkldnn.is_available() == torch._C._get_mkldnn_enabled()


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, (2, 3), dilation=2), nn.Conv1d(4, 6, 3, padding=2)])
def test_patches_times_the_weight_are_the_convolution(layer):
    x = torch.randn(10, 4, 9, 9)[..., slice(None) if isinstance(layer, nn.Conv2d) else 0]
    seen, (weight,) = watch(layer, x)
    got = torch.cat([part for _, _, part in seen]) @ weight.matrix().T + layer.bias
    expected = layer(x).flatten(2).transpose(1, 2).reshape(-1, 6)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_patches_have_the_order_of_the_weight_matrix():
    x = torch.arange(2 * 9, dtype=torch.float32).reshape(1, 2, 3, 3)
    assert patches(x, (3, 3), (1, 1), (0, 0), (1, 1)).tolist() == x.permute(0, 2, 3, 1).reshape(1, 18).tolist()


def test_autocast_multiplies_by_copies():
    x = torch.randn(5, 32)

    class Cast(nn.Linear):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    seen, _ = watch(Cast(32, 8), x)
    assert [(name, rows) for name, rows, _ in seen] == [("Cast", Rows(0, 8))]


def test_inference_mode_hides_nothing():
    layer, seen = nn.Linear(32, 8), []
    with torch.inference_mode(), InputRecorder(prunable_weights(layer), lambda *use: seen.append(use)):
        layer(torch.randn(5, 32))
    assert len(seen) == 1


@pytest.mark.parametrize("times", ["bmm", "einsum", "loop", "other order"])
def test_experts_are_told_apart(times):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.Parameter(torch.randn(3, *((16, 12) if times == "other order" else (12, 16))))

        def forward(self, x):
            if times == "loop":
                return [functional.linear(x[e], self.up[e]) for e in range(3)]
            if times == "einsum":
                return torch.einsum("emk,enk->emn", x, self.up)
            return torch.bmm(x, self.up if times == "other order" else self.up.transpose(1, 2))

    x = torch.randn(3, 5, 16)
    seen, (weight,) = watch(Experts(), x)
    assert [rows for _, rows, _ in seen] == [Rows(0, 12), Rows(12, 24), Rows(24, 36)]
    assert all(torch.equal(x[e], part) for e, (_, _, part) in enumerate(seen))
    assert (weight.view is EXPERTS_TRANSPOSED) == (times == "other order")
    assert weight.matrix().shape == (36, 16)
