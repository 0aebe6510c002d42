"""Every refusal names a way that works: what it says is done here, and the model then goes in.

Each case is what was refused, a part of the sentence, and the same with its advice followed. Models are imported; to compile them
takes longer and is done at night.
"""

import sys
import threading

import numpy as np
import pytest
import torch
from support.advice import Forward, follow, goes_in
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

import tvm_balanced as tb
from tvm_balanced.errors import InputError, ModelError, TvmBalancedError

Dim = torch.export.Dim
X = torch.linspace(-1, 1, 64).reshape(8, 8)


class Own:
    """Of a kind that torch does not know."""

    def __init__(self, y):
        self.y = y


def fake():
    with FakeTensorMode():
        return torch.zeros(8, 8)


def nested():
    return torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)])


LINEAR = nn.Linear(8, 8)
EXAMPLES = {
    "an array": (X.numpy(), "give torch tensors, for instance torch.from_numpy(x)", torch.from_numpy(X.numpy())),
    "a fake tensor": (fake(), "give one with values, for instance torch.zeros of its shape", torch.zeros(8, 8)),
    "on the meta device": (X.to("meta"), "give one with values", torch.zeros(8, 8)),
    "nested": (
        nested(),
        "give a padded one, torch.nested.to_padded_tensor(x, 0.0)",
        torch.nested.to_padded_tensor(nested(), 0.0),
    ),
    "sparse": (X.to_sparse(), "give x.to_dense()", X.to_sparse().to_dense()),
    "of another shape": (X[:, :3], "give examples that it takes", X),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_examples(case):
    refused, said, advised = EXAMPLES[case]
    follow(lambda: goes_in(LINEAR, refused), said, lambda: goes_in(LINEAR, advised))


class Counted(nn.Module):
    def __init__(self, keeps):
        super().__init__()
        self.keeps = keeps
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x, count=None):
        if self.keeps:
            self.count.add_(1)
            return x * self.count
        return x * (count + 1), count + 1


def shifted(y, state):
    state.add_(1)
    return y + state


def shifted_and_returned(y, state):
    state.add_(1)
    return y + state, state


def as_numpy(y):
    return torch.from_numpy(np.sin(y.detach().numpy()))


def ends(y):
    sys.exit(3)


FORWARDS = {
    "a branch on values": (lambda y: y if y.mean() > 0 else -y, "torch.where", lambda y: torch.where(y.mean() > 0, y, -y)),
    "a branch on values, by cond": (
        lambda y: y if y.mean() > 0 else -y,
        "or use torch.cond",
        lambda y: torch.cond(y.mean() > 0, lambda z: z.clone(), lambda z: -z, (y,)),
    ),
    "as many as the values say": (
        lambda y: y[y > 0].sum(),
        "keep all, and choose by torch.where",
        lambda y: torch.where(y > 0, y, 0).sum(),
    ),
    "NumPy": (as_numpy, "write that part in torch", torch.sin),
    "no tensor": (lambda y: 3, "let it return what is to be computed", lambda y: y),
    "an object": (Own, "wrap it in a module that returns tensors", lambda y: Own(y).y),
    "random numbers": (
        lambda y: y + torch.randn_like(y),
        "draw them outside and give them as an input",
        lambda y, drawn=None: y + (X if drawn is None else drawn),
    ),
    "an operator without a converter": (
        lambda y: torch.special.digamma(y.abs() + 9),
        "write it in other operators",
        lambda y: torch.log(y.abs() + 9) - 0.5 / (y.abs() + 9) - 1 / (12 * (y.abs() + 9) ** 2),
    ),
    "it ends the process": (ends, "let it return", lambda y: y),
    "dropout": (
        nn.functional.dropout,
        "export the model in eval mode, and give dropout training=self.training",
        lambda y, training=False: nn.functional.dropout(y, training=training),
    ),
    "an image made smaller": (
        lambda y: nn.functional.interpolate(y[None, None], (4, 4), mode="bilinear", antialias=True),
        "use interpolate with antialias=False",
        lambda y: nn.functional.interpolate(y[None, None], (4, 4), mode="bilinear", antialias=False),
    ),
}


@pytest.mark.parametrize("case", FORWARDS)
def test_what_a_forward_does(case):
    refused, said, advised = FORWARDS[case]
    follow(lambda: goes_in(Forward(refused), X), said, lambda: goes_in(Forward(advised), X))


def test_state_is_returned():
    follow(
        lambda: goes_in(Counted(True), X),
        "a compiled module keeps no state: return it instead",
        lambda: goes_in(Counted(False), X, torch.zeros(1)),
    )
    follow(
        lambda: goes_in(Forward(shifted), X, X.clone()),
        "return it, or work on a copy",
        lambda: goes_in(Forward(shifted_and_returned), X, X.clone()),
    )
    goes_in(Forward(lambda y, state: shifted(y, state.clone())), X, X.clone())


class Takes(nn.Module):
    def forward(self, own):
        return LINEAR(own.y)


class Makes(nn.Module):
    """A module whose forward takes tensors one by one and makes an object of them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, y):
        return self.model(Own(y))


class Chooses(nn.Module):
    """Takes a dtype, as many of torch's own functions do."""

    def __init__(self, dtype=None):
        super().__init__()
        self.dtype = dtype

    def forward(self, y, dtype=None):
        return LINEAR(y).to(dtype or self.dtype)


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(8, 8)
        self.lock = threading.Lock()


class Pipeline:
    model = LINEAR


def test_models():
    follow(
        lambda: goes_in(Takes(), Own(X)),
        "wrap the model in a module whose forward takes its tensors",
        lambda: goes_in(Makes(Takes()), X),
    )
    follow(
        lambda: goes_in(Locked().eval(), X),
        "export it yourself and give the ExportedProgram",
        lambda: goes_in(torch.export.export(Locked().eval(), (X,))),
    )
    follow(
        lambda: goes_in(Chooses(), X, torch.float64),
        "args[1] is torch.float64, no tensor and no plain number; wrap the model in a module whose forward gives it itself",
        lambda: goes_in(Chooses(torch.float64), X),
    )
    follow(lambda: goes_in(nn.Linear, X), "model is the class Linear; give an instance of it", lambda: goes_in(LINEAR, X))
    follow(
        lambda: goes_in(torch.sin, X),
        "give a torch.nn.Module whose forward calls it",
        lambda: goes_in(Forward(torch.sin), X),
    )
    again = nn.Linear(8, 8)
    state = LINEAR.state_dict()
    follow(
        lambda: goes_in(state, X),
        "as a state dict is; give the module that takes it, after load_state_dict",
        lambda: (again.load_state_dict(state), goes_in(again, X)),
    )
    follow(
        lambda: goes_in(again, X, weights=state),
        "weights is OrderedDict; give the path of a checkpoint, or call load_state_dict of the module before",
        lambda: (again.load_state_dict(state), goes_in(again, X)),
    )
    follow(
        lambda: goes_in(again, X, masks={"weight": X > 0}),
        "masks is dict; give the path of a file of masks, or multiply the weights of the module by them before",
        lambda: (again.weight.data.mul_(X > 0), goes_in(again, X)),
    )
    follow(lambda: goes_in(Pipeline(), X), "give its .model, a Linear", lambda: goes_in(Pipeline().model, X))
    follow(
        lambda: goes_in(nn.Linear(8, 8).to(torch.float8_e4m3fn), X),
        "convert it to one of float32",
        lambda: goes_in(nn.Linear(8, 8).to(torch.float8_e4m3fn).to(torch.float32), X),
    )
    script, again = torch.jit.script(LINEAR), nn.Linear(8, 8)
    follow(
        lambda: goes_in(script, X),
        "give the nn.Module that it was made from (its state_dict() is that of the script)",
        lambda: (again.load_state_dict(script.state_dict()), goes_in(again, X)),
    )


def test_a_quantised_model():
    """The kernel for 8 bits takes the float weights; its verdict needs no such CPU."""
    model = nn.Sequential(nn.Linear(64, 64)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    kernels = {"*": "cpu_avx512_i8"}
    x = torch.randn(4, 64)
    follow(
        lambda: goes_in(quantised, x),
        'give the model with its float weights, and kernels={"*": "cpu_avx512_i8"}',
        lambda: tb.inspect(model, (x,), kernels=kernels, target="cpu/znver4", threads=1, logs=False),
    )


@pytest.mark.slow
def test_a_loop_over_experts():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}

    def mixtral(experts):
        config = transformers.MixtralConfig(
            **sizes, num_key_value_heads=1, num_local_experts=2, experts_implementation=experts, use_cache=False
        )
        return transformers.MixtralForCausalLM(config).eval()

    ids = torch.arange(8)[None]
    said = 'a loop over experts of transformers: experts_implementation="batched_mm" in its config'
    follow(lambda: goes_in(mixtral("eager"), ids), said, lambda: goes_in(mixtral("batched_mm"), ids))


def pack(layer, x, lengths):
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0]


def test_packed_sequences():
    """test_recurrent.py compares the results of both."""
    x, lengths = torch.randn(2, 4, 8), torch.tensor([4, 2])

    class Packed(nn.Module):
        def __init__(self, call):
            super().__init__()
            self.layer, self.call = nn.LSTM(8, 8, batch_first=True), call

        def forward(self, x, lengths):
            return self.call(self.layer, x, lengths)

    def padded(layer, x, lengths):
        return layer(x)[0] * (torch.arange(x.shape[1]) < lengths[:, None])[:, :, None]

    follow(
        lambda: goes_in(Packed(pack), x, lengths),
        "give padded tensors, and let the model take the last step by index or by a mask",
        lambda: goes_in(Packed(padded), x, lengths),
    )


class Even(nn.Module):
    def forward(self, x):
        return LINEAR(x.reshape(x.shape[0] // 2, 2, -1)[:, 0])


class Sixteen(nn.Module):
    def forward(self, x):
        return x.reshape(16, -1)


def test_dynamic_shapes():
    wide = torch.ones(16, 8)
    batch = ({0: Dim("batch")},)
    follow(
        lambda: goes_in(LINEAR, X, dynamic_shapes={"y": {0: Dim("batch")}}),
        "give one entry for each argument, as torch.export takes it, for instance ({0: torch.export.Dim('batch')},)",
        lambda: goes_in(LINEAR, X, dynamic_shapes=batch),
    )
    follow(
        lambda: goes_in(LINEAR, X[:1], dynamic_shapes=batch),
        "give examples whose dynamic dimensions are 2 or more",
        lambda: goes_in(LINEAR, X[:2], dynamic_shapes=batch),
    )
    follow(
        lambda: goes_in(Sixteen(), wide, dynamic_shapes=batch),
        "the model allows batch = 16 alone: put that into dynamic_shapes",
        lambda: goes_in(Sixteen(), wide, dynamic_shapes=({0: 16},)),
    )
    advised = "leave that dimension static, or try torch.export.Dim.AUTO for it"
    for dims, said in ((batch, "which no compiled module tells"), (({0: 2 * Dim("half")},), "no input has the symbol alone")):
        follow(
            lambda dims=dims: goes_in(Even(), X, dynamic_shapes=dims),
            f"{said}{':' if dims is batch else ';'} {advised}",
            lambda: goes_in(Even(), X, dynamic_shapes=(None,)),
        )
    few = ({0: Dim("batch", min=4)},)
    said = "give examples within the range of the Dim, or leave that dimension static"
    follow(lambda: goes_in(LINEAR, X[:3], dynamic_shapes=few), said, lambda: goes_in(LINEAR, X[:4], dynamic_shapes=few))
    goes_in(LINEAR, X[:3], dynamic_shapes=(None,))


@pytest.mark.slow
def test_a_length_that_torch_ties_to_a_multiple():
    """Though a Wav2Vec2 takes any: at night it is compiled."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 32}
    about = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    model, sound = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**sizes, **about)).eval(), torch.randn(1, 8000)

    def of_length(length):
        goes_in(model, kwargs={"input_values": sound}, dynamic_shapes={"input_values": {1: length}})

    said = "leave that dimension static, or try torch.export.Dim.AUTO for it"
    follow(lambda: of_length(Dim("n", min=4000, max=32000)), said, lambda: of_length(Dim.AUTO))


def load(path, **options):
    goes_in(nn.Linear(8, 8), X, weights=path, **options)


def saved(value, name):
    torch.save(value, name)
    return name


def test_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    masked = nn.Linear(8, 8)
    prune.l1_unstructured(masked, "weight", 0.5)
    lacking = {name: tensor for name, tensor in masked.state_dict().items() if name != "weight_mask"}

    def removed():
        prune.remove(masked, "weight")
        load(saved(masked.state_dict(), "removed.pt"))

    follow(lambda: load(saved(lacking, "orig.pt")), "call torch.nn.utils.prune.remove on its layer before saving", removed)
    follow(
        lambda: load(saved(LINEAR, "whole.pt")),
        "load it where you trust it, and write module.state_dict() with torch.save",
        lambda: load(saved(torch.load("whole.pt", weights_only=False).state_dict(), "state.pt")),
    )
    torch.jit.script(LINEAR).save("script.pt")
    follow(
        lambda: load("script.pt"),
        "write torch.jit.load(file).state_dict() with torch.save",
        lambda: load(saved(dict(torch.jit.load("script.pt").state_dict()), "jit.pt")),
    )
    follow(
        lambda: load(saved({3: X}, "numbers.pt")),
        "where names belong; give a state dict",
        lambda: load(saved(LINEAR.state_dict(), "n.pt")),
    )
    follow(
        lambda: load(saved(nn.Linear(8, 4).state_dict(), "other.pt")), "give the weights of this very model", lambda: load("n.pt")
    )
    whole = {"weight": torch.ones(8, 8, dtype=torch.int8), "bias": torch.ones(8)}
    follow(
        lambda: load(saved(whole, "bytes.pt")), "give the float weights", lambda: load(saved(whole | {"weight": X}, "floats.pt"))
    )


def test_masks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights, fits = saved(LINEAR.state_dict(), "w.pt"), saved({"weight": (X > 0).float()}, "fits.pt")
    for mask, said in [
        ({"fc": X > 0}, "give the masks of this very model"),
        ({"weight": X}, "give masks alone"),
        ({"weight": X[:4] > 0}, "give the masks of this very model"),
    ]:
        follow(lambda mask=mask: load(weights, masks=saved(mask, "m.pt")), said, lambda: load(weights, masks=fits))


FACTORY = """
import torch
def nothing(): pass
def model(): return torch.nn.Linear(8, 8), (torch.ones(2, 8),)
number = 3
"""


def test_files_that_are_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "advised.py").write_text(FACTORY)
    from safetensors.torch import save_file

    save_file(LINEAR.state_dict(), "w.safetensors")

    def factory(**options):
        goes_in("advised:model", **options)

    follow(
        lambda: goes_in("w.safetensors"),
        "give it as --weights beside package.module:factory",
        lambda: factory(weights="w.safetensors"),
    )
    follow(lambda: goes_in("advised.py"), "give its name without .py and a callable in it, as module:factory", factory)
    follow(lambda: goes_in("advised:nothing"), "it must return (torch.nn.Module, tuple of example arguments)", factory)
    follow(lambda: goes_in("advised:number"), "give the name of a callable", factory)
    program = torch.export.export(LINEAR, (X,))
    torch.export.save(program, "p.pt2")
    follow(lambda: load("p.pt2"), "give it as the model, without --weights", lambda: goes_in("p.pt2"))
    follow(
        lambda: goes_in(saved(LINEAR, "whole.pt")),
        "write a factory that loads it and returns (module, example arguments), and give package.module:factory",
        factory,
    )
    sys.modules.pop("advised", None)


def test_refusals_are_of_this_package():
    """Whatever a case raises, a user can catch it as one."""
    assert issubclass(InputError, TvmBalancedError)
    assert issubclass(ModelError, TvmBalancedError)
