"""Settings of TVM and ptxas for compiling CUDA kernels."""

# With use_async_copy, copies that are marked as asynchronous become cp.async. StorageRewrite is
# disabled: it would turn a buffer that is stored to only in vectors into a buffer of vectors, which
# the cp.async pass rejects, and nvcc does not need it.
PASS_CONFIG = {"tirx.use_async_copy": True, "tirx.disable_storage_rewrite": True}
# TVM's name for the minimum number of thread blocks per multiprocessor. Without it, ptxas limits
# registers to fit as many threads as possible, so loads wait for the uses of earlier ones:
# cuda_gemv had two loads in flight. With a minimum of 1, all four loads of a step are issued first
# (docs/measurements/kernels.md).
MIN_BLOCKS = "tirx.launch_bounds_min_blocks_per_sm"
