from benchmarks.int8_groups import LAYERS, workloads


def test_each_layer_is_computed_in_float32_and_dense_in_8_bits():
    for channels, side, groups in LAYERS:
        exact, *rounded = workloads(channels, side, groups, "dense")
        assert (exact.conv.groups, exact.conv.pixels, exact.k) == (groups, side * side, 9 * channels // groups)
        assert [one.conv for one in rounded] == [exact.conv] * len(rounded)
    assert "sparse" in workloads(1024, 7, 32, "4:16")[0].kernel
