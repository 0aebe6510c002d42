"""AttendInBfloat16: which attention it takes, and how far results are off, with PyTorch's attention as users write it."""

import numpy as np
import pytest
import tvm
from support.attention_models import FORMS, Attention, arguments
from torch.nn import functional
from tvm import relax

from tvm_balanced.api import import_model
from tvm_balanced.compiler.build import build
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules.attention_bf16 import attends_in_bfloat16
from tvm_balanced.transform.attend_in_bfloat16 import FLAG, NAME
from tvm_balanced.transform.pipeline import lower

HERE = pytest.mark.skipif(not attends_in_bfloat16(host_target()), reason="this CPU has no AVX-512 BF16")


def shared_keys(q, k, v, mask):
    k, v = (x[:, :1, None].expand(-1, -1, 3, -1, -1).reshape(x.shape) for x in (k, v))
    return functional.scaled_dot_product_attention(q, k, v, mask)


TAKEN = {
    **{name: FORMS[name] for name in ("plain", "written out", "tokens first", "mask first", "constant mask")},
    **{name: FORMS[name] for name in ("sdpa", "sdpa, tokens first", "sdpa, mask", "sdpa, causal")},
    "shared": (Attention(shared_keys), True),
}


def lowered(model, args, precision="bfloat16"):
    return lower(import_model(model.eval(), args).mod, host_target(), lift=False, attention=precision)


def functions(mod):
    return [str(var.name_hint) for var, func in mod.functions_items() if isinstance(func, tvm.tirx.PrimFunc)]


@HERE
@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", TAKEN)
def test_attention_is_one_function_with_its_transposes(name, rng):
    form, masked = TAKEN[name]
    args = arguments(rng, tokens=48, mask=masked, heads_first=form.heads_first)
    found = lowered(form, args)
    assert any(function.startswith(NAME) for function in functions(found.mod))
    assert not any("transpose" in function or "softmax" in function for function in functions(found.mod))
    main = relax.VirtualMachine(build(found.mod, host_target(), relax_pipeline=None), tvm.cpu())["main"]
    got, want = main(*(tvm.runtime.tensor(a.numpy()) for a in args)).numpy(), form(*args).numpy()
    assert 1e-4 < np.linalg.norm(got - want) / np.linalg.norm(want) < 1e-2  # rounded, and no more than that


@pytest.mark.slow
@pytest.mark.parametrize("name", ["where", "two masks", "few queries", "exact"])
def test_what_it_does_not_know_stays(name, rng):
    form, masked = FORMS["sdpa" if name in ("few queries", "exact") else name]
    args = arguments(rng, (1, 2, 4 if name == "few queries" else 32, 32), 32, masked)
    found = lowered(form, args, "float32" if name == "exact" else "bfloat16")
    assert not any(function.startswith(NAME) for function in functions(found.mod))


@HERE
@pytest.mark.slow
def test_a_flag_chooses_at_the_call(rng):
    """As a probe has it: both forms are there."""
    form, _ = FORMS["plain"]
    args = arguments(rng, (1, 1, 16, 32), 32)
    imported = import_model(form.eval(), args)
    main = imported.mod["main"]
    flag = relax.Var(FLAG, relax.TensorType((), "float32"))
    imported.mod["main"] = relax.Function([*main.params, flag], main.body, main.ret_ty, main.is_pure, main.attrs)
    found = lower(imported.mod, host_target(), lift=False, attention="bfloat16")
    run = relax.VirtualMachine(build(found.mod, host_target(), relax_pipeline=None), tvm.cpu())["main"]
    want, tensors = form(*args).numpy(), [tvm.runtime.tensor(a.numpy()) for a in args]
    exact, rounded = (run(*tensors, tvm.runtime.tensor(np.float32(asked) * np.ones((), np.float32))).numpy() for asked in (0, 1))
    np.testing.assert_allclose(exact, want, rtol=1e-5, atol=1e-5)
    assert 1e-4 < np.linalg.norm(rounded - want) / np.linalg.norm(want) < 1e-2
