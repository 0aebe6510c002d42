"""Instructions of NVIDIA GPUs as calls in TensorIR. Each has an OpenCL definition for machines without such a GPU."""

from typing import Any

from tvm.backend.cuda import op

HELD_WORDS = 8  # words of local memory per thread; in OpenCL the lanes of a warp exchange their values through them

MMA = {"float16": "mma_m16n8k16_f16", "bfloat16": "mma_m16n8k16_bf16"}
MMA_CUDA = """
__forceinline__ __device__ void {name}(float* sums, unsigned a0, unsigned a1, unsigned a2, unsigned a3, const void* b) {{
  const unsigned* pairs = (const unsigned*)b;
  asm volatile(
    "mma.sync.aligned.m16n8k16.row.col.f32.{type}.{type}.f32 {{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, "
    "{{%0, %1, %2, %3}};"
    : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
    : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(pairs[0]), "r"(pairs[1]));
}}
"""
# Inside OpenCL functions TVM keeps bfloat16 as float32, so the second operand is four floats. There is no float16.
MMA_OPENCL = """
void mma_defined(float* sums, uint a0, uint a1, uint a2, uint a3, const float* b, __local uint* held) {
  uint thread = get_local_id(0) + get_local_size(0) * (get_local_id(1) + get_local_size(1) * get_local_id(2));
  __local uint* warp = held + thread / 32 * 32 * 8;
  uint lane = thread % 32;
  uint own[8] = {a0, a1, a2, a3, as_uint(b[0]), as_uint(b[1]), as_uint(b[2]), as_uint(b[3])};
  for (int i = 0; i < 8; ++i) warp[lane * 8 + i] = own[i];
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int i = 0; i < 4; ++i) {
    uint row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    for (uint k = 0; k < 16; ++k) {
      uint a = warp[(row % 8 * 4 + k % 8 / 2) * 8 + row / 8 + k / 8 * 2] >> k % 2 * 16;
      uint x = warp[(column * 4 + k % 8 / 2) * 8 + 4 + k / 8 * 2 + k % 2];
      sums[i] += as_float(a << 16) * as_float(x);
    }
  }
  barrier(CLK_LOCAL_MEM_FENCE);
}
#define mma_m16n8k16_bf16(...) mma_defined(__VA_ARGS__, held)
"""

PERMUTE_CUDA = """
__forceinline__ __device__ unsigned permute_bytes(unsigned low, unsigned high, unsigned selector) {
  unsigned result;  // not __byte_perm, which first clears bits of the selector
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}
"""
PERMUTE_OPENCL = """
uint permute_bytes(uint low, uint high, uint selector) {
  ulong bytes = (ulong)high << 32 | low;
  uint result = 0;
  for (uint i = 0; i < 4; ++i) result |= (uint)(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  return result;
}
"""
# Thread blocks of a cluster share K. Before sm_90 there are no clusters; one block then computes all slices of K in turn, as it
# does in OpenCL.
CLUSTER_CUDA = {
    "meet_cluster": """
__forceinline__ __device__ void meet_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}
""",
    "store_in_first": """
__forceinline__ __device__ void store_in_first(float* place, float value) {
#if __CUDA_ARCH__ >= 900
  unsigned own = (unsigned)__cvta_generic_to_shared(place), first;
  asm volatile("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(first) : "r"(own));
  asm volatile("st.shared::cluster.f32 [%0], %1;" :: "r"(first), "f"(value) : "memory");
#else
  *place = value;
#endif
}
""",
    "is_first": """
__forceinline__ __device__ int is_first() {
#if __CUDA_ARCH__ >= 900
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank == 0;
#else
  return 1;
#endif
}
""",
}
CLUSTER_OPENCL = """
#define meet_cluster() barrier(CLK_LOCAL_MEM_FENCE)
void store_in_first(__local float* place, float value) { *place = value; }
int is_first() { return 1; }
"""
# An operand of wgmma in shared memory without a swizzle: matrices of eight rows by 16 bytes, each 128 bytes one after another
CORE = 8  # rows, and columns of 16 bits, of such a matrix
CORE_BYTES = CORE * 16
WARPS = 4  # of a warpgroup
TYPES = {"float16": "f16", "bfloat16": "bf16"}
CROSS_PROXY_CUDA = """
__forceinline__ __device__ void cross_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
"""
STORE_WORDS_CUDA = """
__forceinline__ __device__ void store_words(unsigned* place, const unsigned* words, unsigned) {
  *(uint4*)place = make_uint4(words[0], words[1], words[2], words[3]);
}
"""
WGMMA_CUDA = """
__forceinline__ __device__ void {name}(float* sums, const void* a, const void* b, int products, unsigned, float) {{
  unsigned long long left = ((unsigned)__cvta_generic_to_shared(a) & 0x3ffff) >> 4 | {left:#x}ull;
  unsigned long long right = ((unsigned)__cvta_generic_to_shared(b) & 0x3ffff) >> 4 | {right:#x}ull;
  asm volatile("wgmma.fence.sync.aligned;" : {tied} : : "memory");
#pragma unroll
  for (int i = 0; i < products; ++i) {{
    asm volatile(
      "wgmma.mma_async.sync.aligned.m64n{rows}k16.f32.{type}.{type} {{{places}}}, %{l}, %{r}, 1, 1, 1, 0, 0;"
      : {tied}
      : "l"(left), "l"(right));
    left += {left_step};
    right += {right_step};
  }}
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" : {tied} : : "memory");
}}
"""
WGMMA_OPENCL = """
#define cross_proxy()
void store_words(__local uint* place, const uint* words, uint seen) {
  for (int i = 0; i < 4; ++i) place[i] = words[i];
}
void wgmma_defined(float* sums, __local const uint* a, __local const float* b, int products, int rows) {
  uint thread = get_local_id(0) + get_local_size(0) * (get_local_id(1) + get_local_size(1) * get_local_id(2));
  uint warp = thread / 32 % 4, lane = thread % 32;
  for (int i = 0; i < rows / 2; ++i) {
    uint row = warp * 16 + lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    for (uint k = 0; k < 16 * products; ++k) {
      uint word = a[k / 8 * 260 + row * 4 + k % 8 / 2] >> k % 2 * 16;
      sums[i] += as_float(word << 16) * b[k / 8 * (rows * 8 + 8) + column * 8 + k % 8];
    }
  }
}
""" + "".join(f"#define wgmma_m64n{n}_bf16(s, a, b, p, ...) wgmma_defined(s, a, b, p, {n})\n" for n in range(8, 257, 8))
OPENCL = MMA_OPENCL + PERMUTE_OPENCL + CLUSTER_OPENCL + WGMMA_OPENCL


def mma(dtype: str, sums: Any, a0: Any, a1: Any, a2: Any, a3: Any, b: Any) -> Any:
    """Return a call of mma.m16n8k16, which adds the product of a (16, 16) tile and a (16, 8) tile
    to a warp's (16, 8) sums.

    Lane 4r + t holds these elements (PTX ISA, mma.m16n8k16 with .f16 and .bf16):

    - First operand: row r, columns 2t and 2t + 1; row r + 8, the same columns; then columns 2t + 8
      and 2t + 9 of both rows.
    - Second operand: rows 2t, 2t + 1, 2t + 8 and 2t + 9 of column r.
    - Sums: row r, columns 2t and 2t + 1; then row r + 8, the same columns.

    Parameters
    ----------
    dtype : str
        Dtype of both operands, float16 or bfloat16; the sums are float32.
    sums : pointer
        The lane's four sums.
    a0, a1, a2, a3 : uint32
        The lane's elements of the first operand in the order above, two per word.
    b : pointer
        The lane's four elements of the second operand.
    """
    source = MMA_CUDA.format(name=MMA[dtype], type={"float16": "f16", "bfloat16": "bf16"}[dtype])
    return op.cuda_func_call(MMA[dtype], sums, a0, a1, a2, a3, b, source_code=source)


def permute_bytes(low: Any, high: Any, selector: Any) -> Any:
    """Return a word whose i-th byte is the byte that the selector's i-th nibble names, in `low` (0
    to 3) or `high` (4 to 7).
    """
    return op.cuda_func_call("permute_bytes", low, high, selector, source_code=PERMUTE_CUDA, return_type="uint32")


def meet_cluster() -> Any:
    """Return a call in which all threads of a cluster of thread blocks wait for each other, and see what was stored before."""
    return op.cuda_func_call("meet_cluster", source_code=CLUSTER_CUDA["meet_cluster"])


def store_in_first(place: Any, value: Any) -> Any:
    """Return a call that stores a float32 at a place of this block's shared memory in that of the cluster's first block."""
    return op.cuda_func_call("store_in_first", place, value, source_code=CLUSTER_CUDA["store_in_first"])


def is_first() -> Any:
    """Return a call that is 1 in the first thread block of a cluster, else 0."""
    return op.cuda_func_call("is_first", source_code=CLUSTER_CUDA["is_first"], return_type="int32")


def cross_proxy() -> Any:
    """Return a call after which tensor cores see what this thread has written to shared memory, once a barrier is passed."""
    return op.cuda_func_call("cross_proxy", source_code=CROSS_PROXY_CUDA)


def store_words(place: Any, words: Any, seen: Any) -> Any:
    """Return a call that stores four words at once to shared memory. TVM does not see the store, and so adds no barriers for it.

    `seen` is the last word at the place. Compilers drop the load; without one, TVM would not know that the memory is in use up to
    there, and give it to another buffer.
    """
    return op.cuda_func_call("store_words", place, words, seen, source_code=STORE_WORDS_CUDA)


def chunk_bytes(rows: int) -> int:
    """Return the bytes from eight columns of an operand of `rows` rows to the next eight: 16 more than the rows take."""
    return rows * 16 + 16


def descriptor(rows: int) -> int:
    """Return the descriptor of an operand of `rows` rows in shared memory, without its address.

    Fields of the PTX ISA, in units of 16 bytes: bits 0 to 13 are the address, 16 to 29 the distance to the next eight columns, 32
    to 45 the distance to the next eight rows. Bits 62 and 63 are 0: no swizzle.
    """
    return chunk_bytes(rows) >> 4 << 16 | CORE_BYTES >> 4 << 32


def wgmma(dtype: str, rows: int, sums: Any, a: Any, b: Any, products: int, *seen: Any) -> Any:
    """Return a call in which a warpgroup adds the product of (64, K) and (K, `rows`) to its sums, and waits for it.

    Element (i, k) of an operand of R rows lies `k / 8 * chunk_bytes(R) + i * 16 + k % 8 * 2` bytes after its start, which is a
    multiple of 16 bytes. Lane 4r + t of warp w holds, for each eight columns of the result, elements (16w + r, 2t),
    (16w + r, 2t + 1), (16w + r + 8, 2t) and (16w + r + 8, 2t + 1) (PTX ISA, wgmma.mma_async, matrix D).

    What was written to the operands must have passed `cross_proxy` in the threads that wrote it, and then a barrier.

    Parameters
    ----------
    dtype : str
        Dtype of both operands, float16 or bfloat16; the sums are float32.
    rows : int
        Rows of the second operand, which are columns of the result: a multiple of 8 up to 256.
    sums : pointer
        The lane's `rows` / 2 sums.
    a, b : pointer
        The two operands in shared memory.
    products : int
        K / 16: as many instructions.
    *seen : uint32, float32
        An element of each operand, as in `store_words`.
    """
    name, count = f"wgmma_m64n{rows}_{TYPES[dtype]}", rows // 2
    source = WGMMA_CUDA.format(
        name=name,
        rows=rows,
        type=TYPES[dtype],
        left=descriptor(WARPS * 16),
        right=descriptor(rows),
        left_step=2 * chunk_bytes(WARPS * 16) >> 4,
        right_step=2 * chunk_bytes(rows) >> 4,
        tied=", ".join(f'"+f"(sums[{i}])' for i in range(count)),
        places=", ".join(f"%{i}" for i in range(count)),
        l=count,
        r=count + 1,
    )
    return op.cuda_func_call(name, sums, a, b, products, *seen, source_code=source)
