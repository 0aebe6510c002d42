import json
from dataclasses import asdict

import numpy as np
import pytest

from tvm_balanced.core.weight_map import COLUMNS, ROWS, WeightMap, heaviest


@pytest.mark.parametrize(("n", "k", "block"), [(3, 32, 16), (40, 300, 16), (5, 7, 4), (2, 3, 8), (1, 1, 16)])
def test_counts_are_those_of_each_block(n, k, block, rng):
    weight = np.where(rng.random((n, k)) < 0.3, rng.standard_normal((n, k)), 0.0).astype(np.float32)
    found = WeightMap.of("fc", weight, block)
    held = [int((row[at : at + block] != 0).sum()) for row in weight for at in range(0, k, block)]
    assert found.counts == tuple(held.count(i) for i in range(block + 1))
    assert (found.zeros == (weight[:ROWS, :COLUMNS] == 0)).all()


def test_it_survives_json():
    found = WeightMap.of("fc", np.eye(4, 8, dtype=np.float32), 4)
    assert WeightMap.from_json(json.loads(json.dumps(asdict(found)))) == found
    assert found.corner[1] == "01000000"


def test_the_heaviest_come_first_and_once():
    maps = {name: WeightMap(name, 16, (), ()) for name in "abcd"}
    pairs = [(1, maps["a"]), (9, maps["b"]), (5, maps["c"]), (9, maps["b"]), (0, None), (3, maps["d"])]
    assert [one.layer for one in heaviest(pairs)] == ["b", "c", "d"]
