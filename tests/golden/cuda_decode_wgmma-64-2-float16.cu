extern "C" __global__ void __launch_bounds__(256, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ selectors_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[32];
  int cse_v1 = (((int)threadIdx.z) * 64);
  int cse_v2 = (((int)threadIdx.y) * 16);
  int cse_v3 = (((int)threadIdx.z) * 512);
  int cse_v4 = (((int)threadIdx.y) * 128);
  int cse_v5 = (((int)threadIdx.x) * 4);
  for (int ax0_ax1_ax2_0_fused_0 = 0; ax0_ax1_ax2_0_fused_0 < 4; ++ax0_ax1_ax2_0_fused_0) {
    if ((((ax0_ax1_ax2_0_fused_0 * 4) + (((int)threadIdx.z) * 2)) + (((int)threadIdx.y) >> 1)) < 15) {
      *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((ax0_ax1_ax2_0_fused_0 * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)) + 2560)) = *(uint4*)(selectors_ptr + ((((ax0_ax1_ax2_0_fused_0 * 128) + (((int)threadIdx.z) * 64)) + (((int)threadIdx.y) * 16)) + ((((int)threadIdx.x) >> 3) * 4)));
    }
  }
  for (int p = 0; p < 8; ++p) {
    for (int i = 0; i < 4; ++i) {
      sums_ptr[((p * 4) + i)] = 0x0p+0f/*0.000000e+00*/;
    }
  }
  int cse_v6 = (((int)threadIdx.z) * 4096);
  int cse_v7 = (((int)threadIdx.y) * 1024);
  int cse_v8 = (((int)threadIdx.x) >> 4);
  int cse_v9 = (((int)threadIdx.x) & 15);
  int cse_v10 = (((int)threadIdx.z) * 128);
  int cse_v11 = (((int)threadIdx.y) * 32);
  int cse_v16 = ((((int)threadIdx.x) >> 4) * 512);
  int cse_v17 = ((((int)threadIdx.x) & 15) * 8);
  int cse_v18 = ((((int)threadIdx.x) & 15) * 520);
  int cse_v19 = ((((int)threadIdx.x) >> 4) * 8);
  int cse_v20 = ((((int)threadIdx.z) * 128) + (((int)threadIdx.y) * 32));
  int cse_v24 = (((((int)blockIdx.y) * 4096) + (((int)threadIdx.z) * 2048)) + (((int)threadIdx.y) * 512));
  int cse_v25 = (((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4));
  int cse_v26 = (((((int)blockIdx.y) * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128));
  for (int ax1_ax3_ax2_fused_0 = 0; ax1_ax3_ax2_fused_0 < 4; ++ax1_ax3_ax2_fused_0) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((((((int)threadIdx.x) & 15) * 520) + (ax1_ax3_ax2_fused_0 * 128)) + (((int)threadIdx.z) * 64)) + (((int)threadIdx.y) * 16)) + ((((int)threadIdx.x) >> 4) * 8)) + 12800), x_ptr, (((((ax1_ax3_ax2_fused_0 * 8192) + (((int)threadIdx.z) * 4096)) + (((int)threadIdx.y) * 1024)) + ((((int)threadIdx.x) >> 4) * 512)) + ((((int)threadIdx.x) & 15) * 8)));
  }
  ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)) + 512), values_ptr, ((((((int)blockIdx.y) * 4096) + (((int)threadIdx.z) * 2048)) + (((int)threadIdx.y) * 512)) + (((int)threadIdx.x) * 4)));
  if (((int)threadIdx.x) < 8) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((int)threadIdx.z) * 128) + (((int)threadIdx.y) * 32)) + (((int)threadIdx.x) * 4)), positions_ptr, ((((((int)blockIdx.y) * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v14 = (((int)threadIdx.z) * 4160);
  int cse_v22 = ((((int)threadIdx.x) & 7) * 4);
  int cse_v27 = ((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4));
  int cse_v28 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 3);
  int cse_v29 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 260);
  int cse_v30 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 263);
  int cse_v31 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 32);
  int cse_v32 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 35);
  int cse_v33 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 292);
  int cse_v34 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 295);
  int cse_v35 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2080);
  int cse_v36 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2083);
  int cse_v37 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2340);
  int cse_v38 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2343);
  int cse_v39 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2112);
  int cse_v40 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2115);
  int cse_v41 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2372);
  int cse_v42 = (((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 2375);
  for (int g = 0; g < 3; ++g) {
    int cse_v12 = (g * 128);
    int cse_v21 = ((g + 1) & 1);
    for (int ax1_ax3_ax2_fused_0_1 = 0; ax1_ax3_ax2_fused_0_1 < 4; ++ax1_ax3_ax2_fused_0_1) {
      ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((((((g + 1) & 1) * 8320) + ((((int)threadIdx.x) & 15) * 520)) + (ax1_ax3_ax2_fused_0_1 * 128)) + (((int)threadIdx.z) * 64)) + (((int)threadIdx.y) * 16)) + ((((int)threadIdx.x) >> 4) * 8)) + 12800), x_ptr, (((((((ax1_ax3_ax2_fused_0_1 * 8192) + (((int)threadIdx.z) * 4096)) + (((int)threadIdx.y) * 1024)) + ((((int)threadIdx.x) >> 4) * 512)) + (g * 128)) + ((((int)threadIdx.x) & 15) * 8)) + 128));
    }
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((((g + 1) & 1) * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)) + 512), values_ptr, ((((((((int)blockIdx.y) * 4096) + (((int)threadIdx.z) * 2048)) + (((int)threadIdx.y) * 512)) + (g * 128)) + (((int)threadIdx.x) * 4)) + 128));
    if (((int)threadIdx.x) < 8) {
      ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((((g + 1) & 1) * 256) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.y) * 32)) + (((int)threadIdx.x) * 4)), positions_ptr, ((((((((int)blockIdx.y) * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128)) + (g * 32)) + (((int)threadIdx.x) * 4)) + 32));
    }
    tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
    int cse_v13 = (g & 1);
    tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
    __syncthreads();
    alignas(64) uint values_shared_dyn_local_ptr[4];
    alignas(64) uint positions_shared_dyn_local_ptr[1];
    *(uint4*)(values_shared_dyn_local_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((g & 1) * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)) + 512));
    positions_shared_dyn_local_ptr[0] = ((uint*)buf_dyn_shmem_ptr)[(((((g & 1) * 256) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))];
    alignas(64) uint picked_ptr[4];
    alignas(64) uint own_ptr[16];
    *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
    own_ptr[0] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)0));
    own_ptr[1] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)16));
    own_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)0));
    own_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)16));
    own_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)0));
    own_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)16));
    own_ptr[6] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)0));
    own_ptr[7] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)16));
    *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
    own_ptr[8] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)0));
    own_ptr[9] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)16));
    own_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)0));
    own_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)16));
    own_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)0));
    own_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)16));
    own_ptr[14] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)0));
    own_ptr[15] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)16));
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14720)])), (&(own_ptr[0])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14723)]);
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14980)])), (&(own_ptr[4])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14983)]);
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14752)])), (&(own_ptr[8])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14755)]);
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 15012)])), (&(own_ptr[12])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 15015)]);
    alignas(64) uint picked_ptr_1[4];
    alignas(64) uint own_ptr_1[16];
    *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
    own_ptr_1[0] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)0));
    own_ptr_1[1] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)16));
    own_ptr_1[2] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)0));
    own_ptr_1[3] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)16));
    own_ptr_1[4] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)0));
    own_ptr_1[5] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)16));
    own_ptr_1[6] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)0));
    own_ptr_1[7] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)16));
    *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
    own_ptr_1[8] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)0));
    own_ptr_1[9] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)16));
    own_ptr_1[10] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)0));
    own_ptr_1[11] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)16));
    own_ptr_1[12] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)0));
    own_ptr_1[13] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)16));
    own_ptr_1[14] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)0));
    own_ptr_1[15] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)16));
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16800)])), (&(own_ptr_1[0])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16803)]);
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17060)])), (&(own_ptr_1[4])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17063)]);
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16832)])), (&(own_ptr_1[8])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16835)]);
    store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17092)])), (&(own_ptr_1[12])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17095)]);
    cross_proxy();
    __syncthreads();
    int cse_v23 = ((g & 1) * 8320);
    wgmma_m64n64_f16((&(sums_ptr[0])), (&(((uint*)buf_dyn_shmem_ptr)[((((int)threadIdx.z) * 4160) + 14720)])), (&(((half*)buf_dyn_shmem_ptr)[(((g & 1) * 8320) + 12800)])), 8, ((uint*)buf_dyn_shmem_ptr)[((((int)threadIdx.z) * 4160) + 14720)], ((float)((half*)buf_dyn_shmem_ptr)[(((g & 1) * 8320) + 12800)]));
    __syncthreads();
  }
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_shared_dyn_local_ptr_1[4];
  alignas(64) uint positions_shared_dyn_local_ptr_1[1];
  *(uint4*)(values_shared_dyn_local_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)) + 1536));
  positions_shared_dyn_local_ptr_1[0] = ((uint*)buf_dyn_shmem_ptr)[((((((int)threadIdx.z) * 128) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 256)];
  alignas(64) uint picked_ptr_2[4];
  alignas(64) uint own_ptr_2[16];
  *(uint4*)(picked_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
  own_ptr_2[0] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[0] >> (uint)0));
  own_ptr_2[1] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[0] >> (uint)16));
  own_ptr_2[2] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[1] >> (uint)0));
  own_ptr_2[3] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[1] >> (uint)16));
  own_ptr_2[4] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[2] >> (uint)0));
  own_ptr_2[5] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[2] >> (uint)16));
  own_ptr_2[6] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[3] >> (uint)0));
  own_ptr_2[7] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[3] >> (uint)16));
  *(uint4*)(picked_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
  own_ptr_2[8] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[0] >> (uint)0));
  own_ptr_2[9] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[0] >> (uint)16));
  own_ptr_2[10] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[1] >> (uint)0));
  own_ptr_2[11] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[1] >> (uint)16));
  own_ptr_2[12] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[2] >> (uint)0));
  own_ptr_2[13] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[2] >> (uint)16));
  own_ptr_2[14] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[3] >> (uint)0));
  own_ptr_2[15] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[3] >> (uint)16));
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14720)])), (&(own_ptr_2[0])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14723)]);
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14980)])), (&(own_ptr_2[4])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14983)]);
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14752)])), (&(own_ptr_2[8])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 14755)]);
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 15012)])), (&(own_ptr_2[12])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 15015)]);
  alignas(64) uint picked_ptr_3[4];
  alignas(64) uint own_ptr_3[16];
  *(uint4*)(picked_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
  own_ptr_3[0] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[0] >> (uint)0));
  own_ptr_3[1] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[0] >> (uint)16));
  own_ptr_3[2] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[1] >> (uint)0));
  own_ptr_3[3] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[1] >> (uint)16));
  own_ptr_3[4] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[2] >> (uint)0));
  own_ptr_3[5] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[2] >> (uint)16));
  own_ptr_3[6] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[3] >> (uint)0));
  own_ptr_3[7] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[3] >> (uint)16));
  *(uint4*)(picked_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2560));
  own_ptr_3[8] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[0] >> (uint)0));
  own_ptr_3[9] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[0] >> (uint)16));
  own_ptr_3[10] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[1] >> (uint)0));
  own_ptr_3[11] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[1] >> (uint)16));
  own_ptr_3[12] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[2] >> (uint)0));
  own_ptr_3[13] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[2] >> (uint)16));
  own_ptr_3[14] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[3] >> (uint)0));
  own_ptr_3[15] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[3] >> (uint)16));
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16800)])), (&(own_ptr_3[0])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16803)]);
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17060)])), (&(own_ptr_3[4])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17063)]);
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16832)])), (&(own_ptr_3[8])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 16835)]);
  store_words((&(((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17092)])), (&(own_ptr_3[12])), ((uint*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 4160) + ((((int)threadIdx.x) & 3) * 520)) + (((int)threadIdx.y) * 64)) + ((((int)threadIdx.x) >> 2) * 4)) + 17095)]);
  cross_proxy();
  __syncthreads();
  wgmma_m64n64_f16((&(sums_ptr[0])), (&(((uint*)buf_dyn_shmem_ptr)[((((int)threadIdx.z) * 4160) + 14720)])), (&(((half*)buf_dyn_shmem_ptr)[21120])), 8, ((uint*)buf_dyn_shmem_ptr)[((((int)threadIdx.z) * 4160) + 14720)], ((float)((half*)buf_dyn_shmem_ptr)[21120]));
  __syncthreads();
  for (int ax3 = 0; ax3 < 8; ++ax3) {
    for (int ax4 = 0; ax4 < 4; ++ax4) {
      ((float*)buf_dyn_shmem_ptr)[((((((((int)threadIdx.z) * 4096) + (((int)threadIdx.y) * 1024)) + (ax3 * 128)) + (ax4 * 32)) + ((int)threadIdx.x)) + 14720)] = sums_ptr[((ax3 * 4) + ax4)];
    }
  }
  __syncthreads();
  for (int ax1_ax2_ax3_fused_0 = 0; ax1_ax2_ax3_fused_0 < 32; ++ax1_ax2_ax3_fused_0) {
    int cse_v15 = (((int)blockIdx.y) * 128);
    y_ptr[(((((ax1_ax2_ax3_fused_0 * 512) + (((int)threadIdx.z) * 256)) + (((int)blockIdx.y) * 128)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))] = ((half)(((float*)buf_dyn_shmem_ptr)[((((((((((int)threadIdx.y) * 2048) + ((((int)threadIdx.x) >> 4) * 1024)) + ((ax1_ax2_ax3_fused_0 >> 2) * 128)) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + (ax1_ax2_ax3_fused_0 & 3)) + 14720)] + bias_ptr[(((((int)blockIdx.y) * 128) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))]));
  }
}
