import pytest
import torch
from support.decoder import decoder, entry_points
from torch import nn
from tvm import relax

import tvm_balanced as tb
from tvm_balanced.core.imported_model import TensorSpec, check_donation
from tvm_balanced.errors import InputError, ModelError
from tvm_balanced.frontend.entry_points import import_entry_points, method_of
from tvm_balanced.frontend.module import export, import_module, plain_copy


class Gate(nn.Module):
    """Forward calls a method, a method calls forward, and a branch is a function of its own in the module."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.register_buffer("scale", torch.full((64,), 2.0))

    def forward(self, x):
        return self.tail(self.first(x))

    def tail(self, x):
        return self.second(x) * self.scale

    def twice(self, x, again=None):
        y = self(x)
        return y if again is None else self.forward(y)

    def either(self, x):
        return torch.cond(x.sum() > 0, lambda v: v * 2 + 1, lambda v: v * 3, (x,)) + self.second(x)


@pytest.fixture
def gate():
    torch.manual_seed(0)
    return Gate().eval()


def test_a_method_has_the_names_and_weights_of_the_module(gate):
    copy = plain_copy(gate)
    wrapper = method_of(copy, "tail")
    assert [name for name, _ in wrapper.named_parameters()] == [name for name, _ in gate.named_parameters()]
    assert all(a is b for a, b in zip(wrapper.parameters(), copy.parameters(), strict=True))
    program = export(wrapper, (torch.ones(3, 64),))
    assert set(program.state_dict) == set(gate.state_dict())
    assert torch.equal(wrapper(torch.ones(3, 64)), gate.tail(torch.ones(3, 64)))


@pytest.mark.slow
def test_methods_agree_with_the_module(gate):
    x = torch.randn(3, 64)
    given = {
        "forward": tb.EntryPoint((x,)),
        "tail": tb.EntryPoint(x, method="tail"),
        "twice": tb.EntryPoint((x,), {"again": x}, method="twice"),
        "either": tb.EntryPoint((x,), method="either"),
    }
    module = tb.compile(gate, entry_points=given)
    with torch.no_grad():
        torch.testing.assert_close(module["forward"](x), gate(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module["tail"](x), gate.tail(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module["twice"](x, again=x), gate.twice(x, x), rtol=1e-4, atol=1e-5)
        for sign in (x.abs(), -x.abs()):
            torch.testing.assert_close(module["either"](sign), gate.either(sign), rtol=1e-4, atol=1e-5)
    assert {name.split(".")[0] for name, _ in module.weights} == {"first", "second", "scale"}
    assert "forward" in vars(type(gate))
    assert "forward" not in vars(gate)


@pytest.mark.slow
def test_hooks_of_the_module_belong_to_its_call_not_to_a_method(gate):
    gate.register_forward_hook(lambda *_: _[-1] + 100)
    x = torch.randn(3, 64)
    module = tb.compile(gate, entry_points={"whole": tb.EntryPoint((x,)), "tail": tb.EntryPoint((x,), method="tail")})
    with torch.no_grad():
        torch.testing.assert_close(module["whole"](x), gate(x), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(module["tail"](x), gate.tail(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_functions_share_the_memory_of_weights_and_their_names():
    imported = import_entry_points(decoder(), entry_points())
    assert list(imported.entry_points) == ["prefill", "decode"]
    found = {name: addresses(imported.mod[name]) for name in imported.entry_points}
    assert found["prefill"] == found["decode"]
    named = {imported.weight_names[address] for address in found["decode"] if address in imported.weight_names}
    assert named >= {"embed", "q", "k", "v", "out", "head", "q.bias"}


def test_weights_that_are_not_contiguous_are_moved_once_and_others_shared():
    x, unaligned = torch.ones(2, 64), torch.randn(64 * 64 + 1)[1:].view(64, 64)
    for weight, shared in [(torch.randn(64, 64).t(), False), (unaligned, True)]:
        model = nn.Linear(64, 64)
        model.weight = nn.Parameter(weight)
        imported = import_entry_points(model, {"one": tb.EntryPoint((x,)), "other": tb.EntryPoint((x,), method="forward")})
        assert addresses(imported.mod["one"]) == addresses(imported.mod["other"])
        assert (model.weight.data_ptr() in addresses(imported.mod["one"])) is shared


def addresses(function):
    found = set()
    relax.analysis.post_order_visit(
        function,
        lambda e: found.add(e.value.data_ptr()) if type(e).__name__ == "GenericConst" and e.value.numel() > 16 else None,
    )
    return found


class Doubled(nn.Module):
    def forward(self, x):
        return torch.cat([x, x])

    def other(self, x):
        return x * 2


@pytest.mark.slow
def test_each_entry_point_has_dynamic_shapes_of_its_own():
    """Torch gives both dimensions one symbol, and they differ in their sizes and what follows from them."""
    few, many = torch.export.Dim("few", max=8), torch.export.Dim("many", min=4)
    x = torch.ones(5, 64)
    given = {"cat": tb.EntryPoint((x,), dynamic_shapes=({0: few},)), "other": tb.EntryPoint((x,), None, ({0: many},), "other")}
    imported = import_entry_points(Doubled(), given)
    (cat,), (other,) = (entry.ranges.items() for entry in imported.entry_points.values())
    assert (cat[1], other[1]) == ((0, 8), (4, None))
    assert cat[0].startswith("cat_")
    assert other[0].startswith("other_")
    assert imported.ranges == dict([cat, other])
    assert imported.entry_points["cat"].outputs[0].shape == (f"2*{cat[0]}", 64)
    symbols = {var.name for name in given for var in relax.analysis.defined_symbolic_vars(imported.mod[name])}
    assert symbols == {cat[0], other[0]}
    module = tb.compile(Doubled(), entry_points=given)
    assert module["cat"](torch.ones(8, 64)).shape == (16, 64)
    assert module["other"](torch.ones(9, 64)).shape == (9, 64)
    with pytest.raises(InputError, match="at most 8"):
        module["cat"](torch.ones(9, 64))
    with pytest.raises(InputError, match="4 or more"):
        module["other"](torch.ones(3, 64))


@pytest.mark.slow
def test_functions_of_an_entry_point_s_name_make_way():
    x = torch.ones(3, 64)
    module = tb.compile(
        Doubled(), entry_points={name: tb.EntryPoint((x,), method="other") for name in ("multiply", "main", "concatenate")}
    )
    for name in module.facts.entry_points:
        assert torch.equal(module[name](x), x * 2)


def test_one_entry_point_alone_is_main():
    assert list(import_module(nn.ReLU(), (torch.ones(2),)).entry_points) == ["main"]


X = torch.ones(3, 64)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"entry_points": {}}, InputError, "entry_points is None.*; give a mapping of names to EntryPoints"),
        ({"entry_points": {"a": (X,)}}, InputError, 'entry point "a" is tuple; give an EntryPoint'),
        ({"entry_points": {"a b": tb.EntryPoint((X,))}}, InputError, '"a b" cannot name an entry point'),
        ({"entry_points": {"get_output": tb.EntryPoint((X,))}}, InputError, '"get_output" cannot name'),
        ({"entry_points": {"a": tb.EntryPoint((X,))}, "args": (X,)}, InputError, "which each EntryPoint has of its own"),
        ({"entry_points": {"a": tb.EntryPoint((X,))}, "donate": {"x": "y"}}, InputError, "which each EntryPoint has of its own"),
        ({"entry_points": {"a": tb.EntryPoint((X,), method="b")}}, InputError, 'entry point "a": Gate has no method "b"'),
        ({"entry_points": {"a": tb.EntryPoint((X,), method="first")}}, InputError, 'Gate has no method "first"'),
        ({"entry_points": {"a": tb.EntryPoint(())}}, ModelError, 'entry point "a": torch.export cannot export Gate'),
        ({"entry_points": {"a": tb.EntryPoint((), method="tail")}}, ModelError, "torch.export cannot export Gate.tail"),
        ({"args": (X,), "donate": {"y": "output_0"}}, InputError, 'donate names input "y"; the model has x: float32'),
        ({"args": (X,), "donate": {"x": "y"}}, InputError, 'donate names output "y"; the model has output_0: float32'),
        ({"args": (X,), "donate": 3}, InputError, "donate is 3"),
    ],
)
def test_wrong_entry_points_get_one_sentence(gate, options, error, message):
    with pytest.raises(error, match=message) as raised:
        tb.compile(gate, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("fields", [{"method": 3}, {"donate": ["x"]}, {"args": 3}, {"dynamic_shapes": 3}, {"donate": {"x": 3}}])
def test_an_entry_point_of_nonsense(fields):
    with pytest.raises(InputError):
        tb.EntryPoint(**fields)


def spec(name, *shape, dtype="float32"):
    return TensorSpec(name, shape, dtype)


@pytest.mark.parametrize(
    ("outputs", "donate", "message"),
    [
        ([spec("y", 3, 4)], {"x": "y"}, r"x: float32\[s, 4\] cannot hold output y: float32\[3, 4\]"),
        ([spec("y", "s", 4, dtype="float16")], {"x": "y"}, "cannot hold output"),
        ([spec("y", "s", 4)], {"x": "y", "z": "y"}, "one output to several inputs"),
    ],
)
def test_a_donation_that_does_not_fit_is_refused(outputs, donate, message):
    with pytest.raises(InputError, match=message):
        check_donation([spec("x", "s", 4), spec("z", "s", 4)], outputs, donate)


@pytest.mark.slow
def test_entry_points_go_with_a_module(gate):
    with pytest.raises(ModelError, match="entry_points go with a module"):
        tb.compile(export(gate, (X,)), entry_points={"a": tb.EntryPoint((X,))})
    module = tb.compile(export(gate, (X,)), donate={"x": "output_0"})
    x = X.clone()
    assert module(x) is x
    torch.testing.assert_close(x, gate(X).detach(), rtol=1e-4, atol=1e-5)
