extern "C" __global__ void __launch_bounds__(32, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ selectors_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[8];
  int cse_v1 = (((int)threadIdx.x) * 4);
  for (int ax0_ax1_ax2_0_fused_0 = 0; ax0_ax1_ax2_0_fused_0 < 30; ++ax0_ax1_ax2_0_fused_0) {
    *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((ax0_ax1_ax2_0_fused_0 * 128) + (((int)threadIdx.x) * 4)) + 2496)) = *(uint4*)(selectors_ptr + ((ax0_ax1_ax2_0_fused_0 * 16) + ((((int)threadIdx.x) >> 3) * 4)));
  }
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  for (int i_1 = 0; i_1 < 4; ++i_1) {
    sums_ptr[(i_1 + 4)] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v2 = (((int)blockIdx.y) * 1664);
  int cse_v3 = (((int)blockIdx.y) * 416);
  int cse_v4 = (((int)threadIdx.x) >> 4);
  int cse_v5 = (((int)threadIdx.x) & 15);
  int cse_v21 = ((((int)threadIdx.x) >> 4) * 1664);
  int cse_v22 = ((((int)threadIdx.x) & 15) * 8);
  int cse_v23 = ((((int)threadIdx.x) >> 4) * 136);
  ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((int)threadIdx.x) * 4) + 64), values_ptr, ((((int)blockIdx.y) * 1664) + (((int)threadIdx.x) * 4)));
  if (((int)threadIdx.x) < 8) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((int)threadIdx.x) * 4), positions_ptr, ((((int)blockIdx.y) * 416) + (((int)threadIdx.x) * 4)));
  }
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 8; ++ax1_ax2_ax3_0_fused_0) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((ax1_ax2_ax3_0_fused_0 * 272) + ((((int)threadIdx.x) >> 4) * 136)) + ((((int)threadIdx.x) & 15) * 8)) + 640), x_ptr, (((ax1_ax2_ax3_0_fused_0 * 3328) + ((((int)threadIdx.x) >> 4) * 1664)) + ((((int)threadIdx.x) & 15) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v26 = ((((int)threadIdx.x) >> 2) * 136);
  int cse_v27 = ((((int)threadIdx.x) & 3) * 16);
  int cse_v28 = ((((int)threadIdx.x) & 7) * 4);
  for (int g_0 = 0; g_0 < 12; ++g_0) {
    int cse_v6 = (g_0 * 128);
    int cse_v24 = ((g_0 + 1) & 1);
    __syncthreads();
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((g_0 + 1) & 1) * 128) + (((int)threadIdx.x) * 4)) + 64), values_ptr, ((((((int)blockIdx.y) * 1664) + (g_0 * 128)) + (((int)threadIdx.x) * 4)) + 128));
    if (((int)threadIdx.x) < 8) {
      ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((g_0 + 1) & 1) * 32) + (((int)threadIdx.x) * 4)), positions_ptr, ((((((int)blockIdx.y) * 416) + (g_0 * 32)) + (((int)threadIdx.x) * 4)) + 32));
    }
    for (int ax1_ax2_ax3_0_fused_0_1 = 0; ax1_ax2_ax3_0_fused_0_1 < 8; ++ax1_ax2_ax3_0_fused_0_1) {
      ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((((g_0 + 1) & 1) * 2176) + (ax1_ax2_ax3_0_fused_0_1 * 272)) + ((((int)threadIdx.x) >> 4) * 136)) + ((((int)threadIdx.x) & 15) * 8)) + 640), x_ptr, (((((ax1_ax2_ax3_0_fused_0_1 * 3328) + ((((int)threadIdx.x) >> 4) * 1664)) + (g_0 * 128)) + ((((int)threadIdx.x) & 15) * 8)) + 128));
    }
    tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
    tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
    __syncthreads();
    alignas(64) uint values_shared_dyn_local_ptr[4];
    alignas(64) uint positions_shared_dyn_local_ptr[1];
    int cse_v7 = (g_0 & 1);
    *(uint4*)(values_shared_dyn_local_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((g_0 & 1) * 128) + (((int)threadIdx.x) * 4)) + 64));
    positions_shared_dyn_local_ptr[0] = ((uint*)buf_dyn_shmem_ptr)[(((g_0 & 1) * 32) + ((int)threadIdx.x))];
    alignas(64) half columns_of_x_local_ptr[32];
    int cse_v25 = ((g_0 & 1) * 2176);
    for (int ax3 = 0; ax3 < 2; ++ax3) {
      for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
        int cse_v8 = (ax5_0 * 8);
        *(uint4*)(columns_of_x_local_ptr + ((ax3 * 16) + (ax5_0 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((((g_0 & 1) * 2176) + (ax3 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)) + 640));
      }
    }
    alignas(64) uint dense_local_ptr[16];
    alignas(64) uint picked_ptr[4];
    *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
    dense_local_ptr[0] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)0));
    dense_local_ptr[1] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)16));
    dense_local_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)0));
    dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)16));
    dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)0));
    dense_local_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)16));
    dense_local_ptr[6] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)0));
    dense_local_ptr[7] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)16));
    *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
    dense_local_ptr[8] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)0));
    dense_local_ptr[9] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)16));
    dense_local_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)0));
    dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)16));
    dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)0));
    dense_local_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)16));
    dense_local_ptr[14] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)0));
    dense_local_ptr[15] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)16));
    for (int step = 0; step < 4; ++step) {
      int cse_v9 = (step * 2);
      mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
    }
    for (int step_1 = 0; step_1 < 4; ++step_1) {
      int cse_v10 = (step_1 * 2);
      mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr[(step_1 * 2)], dense_local_ptr[((step_1 * 2) + 8)], dense_local_ptr[((step_1 * 2) + 1)], dense_local_ptr[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr[((step_1 * 4) + 16)])));
    }
    alignas(64) half columns_of_x_local_ptr_1[32];
    for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
      for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
        int cse_v11 = (ax5_0_1 * 8);
        *(uint4*)(columns_of_x_local_ptr_1 + ((ax3_1 * 16) + (ax5_0_1 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((((g_0 & 1) * 2176) + (ax3_1 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_1 * 8)) + 704));
      }
    }
    alignas(64) uint dense_local_ptr_1[16];
    alignas(64) uint picked_ptr_1[4];
    *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
    dense_local_ptr_1[0] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)0));
    dense_local_ptr_1[1] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)16));
    dense_local_ptr_1[2] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)0));
    dense_local_ptr_1[3] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)16));
    dense_local_ptr_1[4] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)0));
    dense_local_ptr_1[5] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)16));
    dense_local_ptr_1[6] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)0));
    dense_local_ptr_1[7] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)16));
    *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
    dense_local_ptr_1[8] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)0));
    dense_local_ptr_1[9] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)16));
    dense_local_ptr_1[10] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)0));
    dense_local_ptr_1[11] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)16));
    dense_local_ptr_1[12] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)0));
    dense_local_ptr_1[13] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)16));
    dense_local_ptr_1[14] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)0));
    dense_local_ptr_1[15] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)16));
    for (int step_2 = 0; step_2 < 4; ++step_2) {
      int cse_v12 = (step_2 * 2);
      mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_1[(step_2 * 2)], dense_local_ptr_1[((step_2 * 2) + 8)], dense_local_ptr_1[((step_2 * 2) + 1)], dense_local_ptr_1[((step_2 * 2) + 9)], (&(columns_of_x_local_ptr_1[(step_2 * 4)])));
    }
    for (int step_3 = 0; step_3 < 4; ++step_3) {
      int cse_v13 = (step_3 * 2);
      mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_1[(step_3 * 2)], dense_local_ptr_1[((step_3 * 2) + 8)], dense_local_ptr_1[((step_3 * 2) + 1)], dense_local_ptr_1[((step_3 * 2) + 9)], (&(columns_of_x_local_ptr_1[((step_3 * 4) + 16)])));
    }
  }
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_shared_dyn_local_ptr_1[4];
  alignas(64) uint positions_shared_dyn_local_ptr_1[1];
  *(uint4*)(values_shared_dyn_local_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((int)threadIdx.x) * 4) + 64));
  positions_shared_dyn_local_ptr_1[0] = ((uint*)buf_dyn_shmem_ptr)[((int)threadIdx.x)];
  alignas(64) half columns_of_x_local_ptr_2[32];
  for (int ax3_2 = 0; ax3_2 < 2; ++ax3_2) {
    for (int ax5_0_2 = 0; ax5_0_2 < 2; ++ax5_0_2) {
      int cse_v14 = (ax5_0_2 * 8);
      *(uint4*)(columns_of_x_local_ptr_2 + ((ax3_2 * 16) + (ax5_0_2 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((ax3_2 * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_2 * 8)) + 640));
    }
  }
  alignas(64) uint dense_local_ptr_2[16];
  alignas(64) uint picked_ptr_2[4];
  *(uint4*)(picked_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
  dense_local_ptr_2[0] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[0] >> (uint)0));
  dense_local_ptr_2[1] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[0] >> (uint)16));
  dense_local_ptr_2[2] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[1] >> (uint)0));
  dense_local_ptr_2[3] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[1] >> (uint)16));
  dense_local_ptr_2[4] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[2] >> (uint)0));
  dense_local_ptr_2[5] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[2] >> (uint)16));
  dense_local_ptr_2[6] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[3] >> (uint)0));
  dense_local_ptr_2[7] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[3] >> (uint)16));
  *(uint4*)(picked_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
  dense_local_ptr_2[8] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[0] >> (uint)0));
  dense_local_ptr_2[9] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[0] >> (uint)16));
  dense_local_ptr_2[10] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[1] >> (uint)0));
  dense_local_ptr_2[11] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[1] >> (uint)16));
  dense_local_ptr_2[12] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[2] >> (uint)0));
  dense_local_ptr_2[13] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[2] >> (uint)16));
  dense_local_ptr_2[14] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[3] >> (uint)0));
  dense_local_ptr_2[15] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[3] >> (uint)16));
  for (int step_4 = 0; step_4 < 4; ++step_4) {
    int cse_v15 = (step_4 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_2[(step_4 * 2)], dense_local_ptr_2[((step_4 * 2) + 8)], dense_local_ptr_2[((step_4 * 2) + 1)], dense_local_ptr_2[((step_4 * 2) + 9)], (&(columns_of_x_local_ptr_2[(step_4 * 4)])));
  }
  for (int step_5 = 0; step_5 < 4; ++step_5) {
    int cse_v16 = (step_5 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_2[(step_5 * 2)], dense_local_ptr_2[((step_5 * 2) + 8)], dense_local_ptr_2[((step_5 * 2) + 1)], dense_local_ptr_2[((step_5 * 2) + 9)], (&(columns_of_x_local_ptr_2[((step_5 * 4) + 16)])));
  }
  alignas(64) half columns_of_x_local_ptr_3[32];
  for (int ax3_3 = 0; ax3_3 < 2; ++ax3_3) {
    for (int ax5_0_3 = 0; ax5_0_3 < 2; ++ax5_0_3) {
      int cse_v17 = (ax5_0_3 * 8);
      *(uint4*)(columns_of_x_local_ptr_3 + ((ax3_3 * 16) + (ax5_0_3 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((ax3_3 * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_3 * 8)) + 704));
    }
  }
  alignas(64) uint dense_local_ptr_3[16];
  alignas(64) uint picked_ptr_3[4];
  *(uint4*)(picked_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
  dense_local_ptr_3[0] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[0] >> (uint)0));
  dense_local_ptr_3[1] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[0] >> (uint)16));
  dense_local_ptr_3[2] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[1] >> (uint)0));
  dense_local_ptr_3[3] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[1] >> (uint)16));
  dense_local_ptr_3[4] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[2] >> (uint)0));
  dense_local_ptr_3[5] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[2] >> (uint)16));
  dense_local_ptr_3[6] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[3] >> (uint)0));
  dense_local_ptr_3[7] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[3] >> (uint)16));
  *(uint4*)(picked_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 2496));
  dense_local_ptr_3[8] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[0] >> (uint)0));
  dense_local_ptr_3[9] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[0] >> (uint)16));
  dense_local_ptr_3[10] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[1] >> (uint)0));
  dense_local_ptr_3[11] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[1] >> (uint)16));
  dense_local_ptr_3[12] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[2] >> (uint)0));
  dense_local_ptr_3[13] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[2] >> (uint)16));
  dense_local_ptr_3[14] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[3] >> (uint)0));
  dense_local_ptr_3[15] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[3] >> (uint)16));
  for (int step_6 = 0; step_6 < 4; ++step_6) {
    int cse_v18 = (step_6 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_3[(step_6 * 2)], dense_local_ptr_3[((step_6 * 2) + 8)], dense_local_ptr_3[((step_6 * 2) + 1)], dense_local_ptr_3[((step_6 * 2) + 9)], (&(columns_of_x_local_ptr_3[(step_6 * 4)])));
  }
  for (int step_7 = 0; step_7 < 4; ++step_7) {
    int cse_v19 = (step_7 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_3[(step_7 * 2)], dense_local_ptr_3[((step_7 * 2) + 8)], dense_local_ptr_3[((step_7 * 2) + 1)], dense_local_ptr_3[((step_7 * 2) + 9)], (&(columns_of_x_local_ptr_3[((step_7 * 4) + 16)])));
  }
  __syncthreads();
  for (int ax3_4 = 0; ax3_4 < 2; ++ax3_4) {
    for (int ax4 = 0; ax4 < 4; ++ax4) {
      ((float*)buf_dyn_shmem_ptr)[((((ax3_4 * 128) + (ax4 * 32)) + ((int)threadIdx.x)) + 64)] = sums_ptr[((ax3_4 * 4) + ax4)];
    }
  }
  __syncthreads();
  for (int ax1_ax2_ax3_fused_0 = 0; ax1_ax2_ax3_fused_0 < 8; ++ax1_ax2_ax3_fused_0) {
    alignas(64) float total_ptr[1];
    total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((((((ax1_ax2_ax3_fused_0 >> 2) * 128) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + ((((int)threadIdx.x) >> 4) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + (ax1_ax2_ax3_fused_0 & 3)) + 64)]);
    int cse_v20 = (((int)blockIdx.y) * 16);
    y_ptr[((((ax1_ax2_ax3_fused_0 * 128) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15))] = ((half)(total_ptr[0] + bias_ptr[((((int)blockIdx.y) * 16) + (((int)threadIdx.x) & 15))]));
  }
}
