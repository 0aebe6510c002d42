"""What TVM and ptxas must be told to compile CUDA kernels."""

# What TVM must be told to compile these kernels: copies marked as asynchronous become cp.async. Its StorageRewrite would make
# a buffer that is only stored to in vectors one of vectors, which the pass that makes cp.async refuses; nvcc needs none of it.
PASS_CONFIG = {"tirx.use_async_copy": True, "tirx.disable_storage_rewrite": True}
# TVM's name of the thread blocks that are to fit a multiprocessor together. Where a kernel says nothing, ptxas keeps to registers
# for as many threads as can be, and for that lets loads wait for the use of others: cuda_gemv got 32 registers and two loads on
# their way; with "1 at least" it takes 48, and all four loads of a step go first.
MIN_BLOCKS = "tirx.launch_bounds_min_blocks_per_sm"
