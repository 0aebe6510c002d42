import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_balanced.core.pattern import BalancedPattern
from tvm_balanced.errors import PatternError

patterns = st.integers(1, 64).flatmap(lambda block: st.builds(BalancedPattern, st.integers(1, block), st.just(block)))


def test_parse_reads_what_str_writes():
    assert BalancedPattern.parse("2:16") == BalancedPattern(2, 16)
    assert str(BalancedPattern.parse(" 10 : 50 ")) == "10:50"
    assert BalancedPattern.parse(BalancedPattern(1, 4)) == BalancedPattern(1, 4)


@pytest.mark.parametrize("text", ["17:16", "0:16", "x", "", "2", "2:", ":16", "2:16:4", "-1:16", "2:0", "2:257", "1.5:16"])
def test_impossible_patterns_are_refused_in_one_sentence(text):
    with pytest.raises(PatternError) as error:
        BalancedPattern.parse(text)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_shares():
    pattern = BalancedPattern(2, 16)
    assert (pattern.density, pattern.sparsity) == (0.125, 0.875)


@given(patterns, st.integers(1, 500))
def test_tail_keeps_its_share_rounded_up(pattern, k):
    assert (pattern.blocks(k) - 1) * pattern.block + pattern.tail(k) == k
    assert 1 <= pattern.tail(k) <= pattern.block
    kept = pattern.kept(pattern.tail(k))
    assert pattern.nnz * pattern.tail(k) <= kept * pattern.block < pattern.nnz * pattern.tail(k) + pattern.block


@given(patterns, st.integers(1, 4), st.integers(1, 500))
def test_coarser_pattern_covers_whole_blocks_and_tails(pattern, factor, k):
    coarse = pattern.coarsen(pattern.block * factor)
    assert coarse.density == pattern.density
    tail = coarse.tail(k)
    in_tail = (tail - 1) // pattern.block * pattern.nnz + pattern.kept((tail - 1) % pattern.block + 1)
    assert coarse.kept(tail) >= in_tail


def test_coarsen_refuses_what_is_not_a_multiple():
    with pytest.raises(PatternError, match="multiple of 16"):
        BalancedPattern(2, 16).coarsen(40)
