"""Convolutions beside PyTorch: names, geometry, and a row for each pattern."""

import sys
from types import SimpleNamespace

import pytest

from benchmarks import conv, instruction_sets
from benchmarks.conv import LAYERS, Layer, Setting


def test_layers_have_names_of_their_own_and_their_work():
    assert len(set(map(str, LAYERS))) == len(LAYERS)
    assert {"7x7 3->64 224x224 /2", "3x3 3->64 224x224", "3 80->512 3000", "3 512->512 3000 /2"} <= set(map(str, LAYERS))
    assert Layer(80, 512, 3000, 3, 1, dims=1).macs == 80 * 512 * 3000 * 3
    assert Layer(512, 512, 3000, 3, 2, dims=1).macs == 512 * 512 * 1500 * 3
    assert Layer(3, 64, 224, 7, 2).macs == 3 * 64 * 112 * 112 * 49


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Layer(16, 16, 8, 3, 1), Layer(16, 16, 40, 3, 2, dims=1)], ids=str)
def test_a_layer_has_a_row_for_each_pattern_and_its_bound(layer, monkeypatch):
    monkeypatch.setattr(conv, "measure", lambda _threads, _width: SimpleNamespace(gmacs=100.0, gbytes=10.0))
    monkeypatch.setattr(conv, "loads", lambda _threads, _width, _taps: 50.0)
    rows = conv.measure_layer(layer, Setting(2, 1, "cpu"), 0.02)
    assert [row["pattern"] for row in rows] == list(conv.PATTERNS)
    assert all(set(row) == set(conv.COLUMNS) for row in rows)
    work = 2 * layer.macs / 100e9 * 1e6
    assert [row["bound_us"] for row in rows] == [round(work * share, 1) for share in (1, 1 / 4, 1 / 8)]
    assert [row["loads_us"] for row in rows] == ["", *(round(2 * work * share, 1) for share in (1 / 4, 1 / 8))]
    pixels = layer.size**layer.dims
    moved = [4 * (2 * 16 * (pixels + layer.conv.pixels) + 16 * 16 * layer.conv.taps * share) for share in (1, 1 / 4, 1 / 8)]
    assert [row["memory_us"] for row in rows] == [round(nbytes / 10e9 * 1e6, 1) for nbytes in moved]


def test_avx2_starts_the_process_again_once(monkeypatch):
    started = []
    monkeypatch.setattr(instruction_sets.os, "environ", {})
    monkeypatch.setattr(instruction_sets.os, "execv", lambda *args: started.append(args))
    instruction_sets.restart_within("cpu")
    assert started == []
    for _ in range(2):
        instruction_sets.restart_within(instruction_sets.AVX2)
    assert started == [(sys.executable, sys.orig_argv)]
    assert instruction_sets.os.environ == instruction_sets.LIMITS
