import pytest

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import PatternError
from tvm_balanced.frontend.pruning.structures import Tiles, TwoLevel, Unstructured, parse_structure


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        ("2:16", BalancedPattern(2, 16)),
        ("4:16 within 2:4", TwoLevel(BalancedPattern(4, 16), BalancedPattern(2, 4))),
        ("unstructured:0.75", Unstructured(0.75)),
        ("block8x4:0.5", Tiles(8, 4, 0.5)),
        ("vector8:0.9", Tiles(8, 1, 0.9)),
    ],
)
def test_a_structure_is_read_as_it_prints(text, structure):
    assert parse_structure(text) == structure
    assert str(structure) == text
    assert parse_structure(structure) is structure


@pytest.mark.parametrize(
    "text",
    [
        "unstructured",
        "unstructured:1",
        "unstructured:1.2.3",
        "block8:0.5",
        "block0x8:0.5",
        "vector8:1.5",
        "half",
        "17:16",
        "8:16 within",
    ],
)
def test_what_cannot_be_read_is_one_sentence(text):
    with pytest.raises(PatternError):
        parse_structure(text)


@pytest.mark.parametrize("text", ["4:16 within 1:6", "12:16 within 2:4", "8:16 within 5:4"])
def test_a_pattern_that_does_not_fit_within_another_is_refused(text):
    with pytest.raises(PatternError, match=r"impossible|keeps 5 of 4"):
        parse_structure(text)
