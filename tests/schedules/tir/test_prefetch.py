import numpy as np
import pytest
import tvm
from support import reference
from tvm.s_tir import Schedule
from tvm.script import tirx as T

from tvm_balanced.compiler.build import build
from tvm_balanced.compiler.targets import parse_target
from tvm_balanced.runtime.host import host_target
from tvm_balanced.schedules import KERNELS, Workload
from tvm_balanced.schedules.tir import prefetch, prefetch_rows
from tvm_balanced.schedules.tir.prefetch import Spread, Stream, Streams, import_prefetch, prefetch_line


def assembly(m, n):
    kernel, workload = KERNELS["cpu_avx512"], Workload("cpu_avx512", m, n, 4096, 4, 16)
    function = kernel.schedule(kernel.prim_func(workload), workload, host_target()).with_attr("global_symbol", "main")
    return build(function, host_target()).mod.inspect_source("asm")


@pytest.mark.parametrize("ahead", [0, 32, 1 << 40])
def test_what_is_fetched_may_lie_anywhere(ahead, rng):
    @T.prim_func(s_tir=True)
    def sums(x: T.Buffer((256, 8), "float32"), y: T.Buffer((8,), "float32")):
        for i, k in T.grid(8, 256):
            with T.sblock("sum"):
                vi, vk = T.axis.remap("SR", [i, k])
                with T.init():
                    y[vi] = T.float32(0)
                y[vi] = y[vi] + x[vk, vi]
                T.evaluate(prefetch_line(x[vk + T.int64(ahead), vi]))

    sch = Schedule(sums)
    target = parse_target("cpu/x86-64-v3")
    import_prefetch(sch, "sum", target)
    library = build(sch.mod["main"], target)
    code = library.mod.inspect_source("asm")
    assert "prefetcht1" in code
    assert "tvm_balanced_fetch" not in code  # inlined
    x, y = rng.standard_normal((256, 8)).astype(np.float32), tvm.runtime.tensor(np.zeros(8, np.float32))
    library["main"](tvm.runtime.tensor(x), y)
    np.testing.assert_allclose(y.numpy(), x.sum(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.avx512
def test_sums_stay_in_registers():
    """What a fetch may change decides that: with TVM's prefetch every step stores all sums."""
    loop = reference.innermost_loop(assembly(8, 4096).splitlines())
    stores = [line for line in loop if line.startswith("\tvmov") and line.endswith(")") and "(%rsp)" not in line]
    assert sum("prefetcht1" in line for line in loop) == 2 * (8 + 1)  # two groups: eight steps' values, one word of indices
    assert stores == []


@pytest.mark.avx512
@pytest.mark.parametrize(
    ("m", "n", "fetches"),
    [(1, 4096, 1), (16, 4096, 1), (64, 4096, 1), (1024, 4096, 0), (1, 768, 0), (8, 768, 1), (64, 768, 1), (64, 32, 0)],
)
def test_which_weights_are_fetched(m, n, fetches, monkeypatch):
    """All but for many rows of x, for few where the layer is small, and where all of it is one set, which has no next."""
    monkeypatch.setattr(prefetch_rows, "FAR_BYTES", 1 << 40)
    assert ("prefetcht1" in assembly(m, n)) == fetches


@pytest.mark.parametrize(
    ("name", "m", "pattern"), [("cpu_dense", 8, (1, 1)), ("cpu_dense", 1024, (1, 1)), ("cpu_portable", 1024, (2, 16))]
)
def test_other_cpus_than_x86_fetch_nothing(name, m, pattern):
    arm = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]})
    kernel, workload = KERNELS[name], Workload(name, m, 768, 768, *pattern)
    function = kernel.schedule(kernel.prim_func(workload), workload, arm).with_attr("global_symbol", "main")
    code = build(function, arm).mod.inspect_source("asm")
    assert "fmla" in code
    assert not any(word in code for word in ("prefetch", "prfm", "tvm_balanced_fetch"))


def fetched(fetches, tiles, sets, groups, chunks, steps, counts, monkeypatch, order=None):
    """How often each line is fetched, (groups + some, lines) for each of two buffers; what lies past their end is kept too."""
    monkeypatch.setattr(prefetch, "INTO_SECOND_LEVEL", reference.counter("tvm_balanced_fetch"))
    shapes = [(2 * groups, chunks * count, 16) for count in counts]
    group = (order or Streams(groups, 1)).group

    @T.prim_func(s_tir=True)
    def main(a: T.Buffer(shapes[0], "int32"), b: T.Buffer(shapes[1], "int32")):
        for s, o, g, c, i in T.grid(sets, tiles, groups // sets, chunks, steps):
            with T.sblock("fetch"):
                vs, vo, vg, vc, vi = T.axis.remap("SSSSS", [s, o, g, c, i])
                fetches.emit((a, b), counts, group(vs * (groups // sets) + vg), vc, vi, vo)

    sch = Schedule(main)
    import_prefetch(sch, "fetch", host_target())
    arrays = [tvm.runtime.tensor(np.zeros(shape, np.int32)) for shape in shapes]
    build(sch.mod["main"], host_target())["main"](*arrays)
    return [array.numpy()[:, :, 0] for array in arrays]


@pytest.mark.grid
@pytest.mark.parametrize(("groups", "count"), [(1, 1), (12, 1), (12, 2), (12, 4), (12, 3)])
def test_streams_go_through_memory_side_by_side(groups, count):
    order = [Streams(groups, count).group(position) for position in range(groups)]
    assert sorted(order) == [*range(groups)]
    for stream in range(count):
        first = stream * groups // count
        assert order[stream::count] == [*range(first, first + groups // count)]


@pytest.mark.grid
@pytest.mark.parametrize(("steps", "counts", "ahead"), [(8, (8, 1), 16), (24, (24, 3), 64), (12, (6, 2), 100)])
@pytest.mark.parametrize("streams", [1, 4])
def test_streams_fetch_every_line_but_their_first(steps, counts, ahead, streams, monkeypatch):
    """Each goes on into the next, whose first lines are fetched in vain where there are several."""
    chunks, groups = 10, 12
    stream, order = Stream(steps, ahead), Streams(groups, streams)
    for lines in fetched(stream, 1, groups, groups, chunks, steps, counts, monkeypatch, order):
        later = round(ahead / steps) * (lines.shape[1] // chunks)
        in_a_row = lines.reshape(-1)[: groups * lines.shape[1] + later]
        assert (in_a_row[later:] == 1).all()
        assert (in_a_row[:later] == 0).all()


@pytest.mark.parametrize("tiles", [3, 4, 8, 16])
def test_tiles_of_rows_fetch_all_of_the_next_set_between_them(tiles, monkeypatch):
    chunks, groups, sets = 10, 12, 3
    spread = Spread(chunks, tiles, groups // sets)
    values, indices = fetched(spread, tiles, sets, groups, chunks, 8, (8, 1), monkeypatch)
    for lines in (values, indices):
        assert (lines[: groups // sets] == 0).all()
        assert (lines[groups // sets : groups] >= 1).all()
    assert values.max() <= 2
