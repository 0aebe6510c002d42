from tvm_balanced.core.convolution import Convolution
from tvm_balanced.schedules import CONV_DENSE_KERNELS, CONV_SPARSE_KERNELS
from tvm_balanced.schedules.base.workload import Workload
from tvm_balanced.schedules.tir.image_layers import ImageLayer
from tvm_balanced.schedules.tir.pixel_tiles import PixelTiles


def test_a_layer_is_tiled_once_for_all_batches(monkeypatch):
    searches = []
    search = PixelTiles.candidates
    monkeypatch.setattr(PixelTiles, "candidates", lambda *args, **options: searches.append(args) or search(*args, **options))
    conv = Convolution(24, (1, 17, 19), (1, 3, 3))
    for kernel, nnz in ((CONV_DENSE_KERNELS[0], 16), (CONV_SPARSE_KERNELS[0], 2)):
        searches.clear()
        workloads = [
            Workload(kernel.name, m, 32, 216, nnz, 16, conv=conv) for m in (None, *(conv.pixels * b for b in (1, 3, 64)))
        ]
        layers = [ImageLayer.of(workload, 16, 6) for workload in workloads]
        assert len(searches) == 1
        assert [layer.workload for layer in layers] == workloads
        assert [layer.batch.value for layer in layers[1:]] == [1, 3, 64]
        assert len({(layer.pixels, layer.patches) for layer in layers}) == 1
        again = ImageLayer.of(workloads[0], 16, 6)
        assert not again.batch.same_as(layers[0].batch)  # a variable of each function's own
