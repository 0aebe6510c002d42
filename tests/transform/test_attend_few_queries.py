"""AttendFewQueries: which attention it takes, and that no output changes, with PyTorch's attention as users write it."""

import pytest
import torch
from support.attention_models import FORMS, Attention, check
from torch.nn import functional


def shared_keys(q, k, v, mask):
    """Each of two heads of keys serves two of queries, as transformers repeats them."""
    k, v = (x[:, :2, None].expand(-1, -1, 2, -1, -1).reshape(x.shape) for x in (k, v))
    return functional.scaled_dot_product_attention(q, k, v, mask)


def read_scores(q, k, v, mask):
    scores = q @ k.transpose(-1, -2) * 0.3 + mask
    return functional.softmax(scores, -1) @ v + scores.sum()


TAKEN = {
    **{name: FORMS[name] for name in ("plain", "written out", "mask first", "sdpa, mask")},
    "shared": (Attention(shared_keys), True),
}
LEFT = {
    **{name: FORMS[name] for name in ("where", "two masks", "tokens first")},
    "scores that are read": (Attention(read_scores), True),
}


def arguments(masked, queries=2, length=21):
    generator = torch.Generator().manual_seed(length)
    shapes = [(2, 4, queries, 16), (2, 4, length, 16), (2, 4, length, 16), (2, 1, queries, length)]
    return tuple(torch.randn(shape, generator=generator) for shape in shapes[: 3 + masked])


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", TAKEN)
def test_attention_of_a_few_queries_is_one_function(name):
    form, masked = TAKEN[name]
    assert "few_queries" in check(form, arguments(masked))


@pytest.mark.slow
@pytest.mark.parametrize("form", [functional.scaled_dot_product_attention, shared_keys])
def test_a_cache_in_bfloat16_is_read_as_it_is(form):
    args = tuple(a.bfloat16() for a in arguments(masked=True, queries=1))
    names = check(Attention(form), args, tolerance=2e-2)
    assert "few_queries" in names
    assert sum("cast" in name for name in names) == 3  # the query, the mask and the result, neither keys nor values


@pytest.mark.slow
@pytest.mark.grid
@pytest.mark.parametrize("name", LEFT)
def test_what_it_does_not_know_stays(name):
    form, masked = LEFT[name]
    args = arguments(masked)
    if name == "tokens first":
        args = tuple(a.transpose(1, 2).contiguous() for a in args[:3]) + args[3:]
    assert "few_queries" not in check(form, args)


def test_more_queries_are_left_to_the_rule_for_attention():
    assert "few_queries" not in check(FORMS["sdpa, mask"][0], arguments(True, queries=4))
