extern "C" __global__ void __launch_bounds__(32) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[4];
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v1 = (((int)threadIdx.x) >> 3);
  int cse_v2 = (((int)threadIdx.x) & 7);
  int cse_v15 = ((((int)threadIdx.x) & 7) * 8);
  int cse_v16 = ((((int)threadIdx.x) >> 3) * 72);
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 2; ++ax1_ax2_ax3_0_fused_0) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((ax1_ax2_ax3_0_fused_0 * 288) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)), x_ptr, ((min(((ax1_ax2_ax3_0_fused_0 * 4) + (((int)threadIdx.x) >> 3)), 3) * 704) + ((((int)threadIdx.x) & 7) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v3 = (((int)threadIdx.x) * 4);
  int cse_v17 = ((((int)threadIdx.x) >> 2) * 72);
  int cse_v18 = ((((int)threadIdx.x) & 3) * 16);
  for (int g_0 = 0; g_0 < 10; ++g_0) {
    __syncthreads();
    for (int ax1_ax2_ax3_0_fused_0_1 = 0; ax1_ax2_ax3_0_fused_0_1 < 2; ++ax1_ax2_ax3_0_fused_0_1) {
      ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((((g_0 + 1) & 1) * 576) + (ax1_ax2_ax3_0_fused_0_1 * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)), x_ptr, ((((min(((ax1_ax2_ax3_0_fused_0_1 * 4) + (((int)threadIdx.x) >> 3)), 3) * 704) + (g_0 * 64)) + ((((int)threadIdx.x) & 7) * 8)) + 64));
    }
    tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
    tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
    __syncthreads();
    alignas(64) uint values_local_ptr[8];
    alignas(64) uint positions_local_ptr[1];
    for (int ax2 = 0; ax2 < 2; ++ax2) {
      *(uint4*)(values_local_ptr + (ax2 * 4)) = *(uint4*)(values_ptr + (((g_0 * 256) + (ax2 * 128)) + (((int)threadIdx.x) * 4)));
    }
    positions_local_ptr[0] = positions_ptr[((g_0 * 32) + ((int)threadIdx.x))];
    alignas(64) uint dense_local_ptr[16];
    for (int ax3 = 0; ax3 < 2; ++ax3) {
      alignas(64) uint queue_ptr[4];
      int cse_v4 = (ax3 * 4);
      queue_ptr[0] = values_local_ptr[(ax3 * 4)];
      queue_ptr[1] = values_local_ptr[((ax3 * 4) + 1)];
      queue_ptr[2] = values_local_ptr[((ax3 * 4) + 2)];
      queue_ptr[3] = values_local_ptr[((ax3 * 4) + 3)];
      alignas(64) uint pair_ptr[1];
      int cse_v5 = (ax3 * 16);
      pair_ptr[0] = ((positions_local_ptr[0] >> ((uint)(ax3 * 16))) & (uint)3);
      int cse_v6 = (ax3 * 8);
      dense_local_ptr[(ax3 * 8)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_1[1];
      pair_ptr_1[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 2))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 1)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_1[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_1[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_1[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_1[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_1[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_2[1];
      pair_ptr_2[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 4))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 2)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_2[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_2[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_2[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_2[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_2[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_3[1];
      pair_ptr_3[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 6))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 3)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_3[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_3[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_3[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_3[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_3[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_4[1];
      pair_ptr_4[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 8))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 4)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_4[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_4[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_4[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_4[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_4[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_5[1];
      pair_ptr_5[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 10))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 5)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_5[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_5[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_5[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_5[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_5[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_6[1];
      pair_ptr_6[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 12))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 6)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_6[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_6[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_6[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_6[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_6[0] * (uint)8) + (uint)8) & (uint)48));
      alignas(64) uint pair_ptr_7[1];
      pair_ptr_7[0] = ((positions_local_ptr[0] >> ((uint)((ax3 * 16) + 14))) & (uint)3);
      dense_local_ptr[((ax3 * 8) + 7)] = permute_bytes(queue_ptr[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_7[0] * (uint)34) + (uint)16)));
      queue_ptr[0] = funnel_right(queue_ptr[0], queue_ptr[1], (((pair_ptr_7[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[1] = funnel_right(queue_ptr[1], queue_ptr[2], (((pair_ptr_7[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[2] = funnel_right(queue_ptr[2], queue_ptr[3], (((pair_ptr_7[0] * (uint)8) + (uint)8) & (uint)48));
      queue_ptr[3] = funnel_right(queue_ptr[3], (uint)0, (((pair_ptr_7[0] * (uint)8) + (uint)8) & (uint)48));
    }
    alignas(64) half columns_of_x_local_ptr[16];
    for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
      int cse_v7 = (ax5_0 * 8);
      *(uint4*)(columns_of_x_local_ptr + (ax5_0 * 8)) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((g_0 & 1) * 576) + ((((int)threadIdx.x) >> 2) * 72)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)));
    }
    for (int step = 0; step < 4; ++step) {
      int cse_v8 = (step * 2);
      mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
    }
  }
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_local_ptr_1[8];
  alignas(64) uint positions_local_ptr_1[1];
  for (int ax2_1 = 0; ax2_1 < 2; ++ax2_1) {
    *(uint4*)(values_local_ptr_1 + (ax2_1 * 4)) = *(uint4*)(values_ptr + (((ax2_1 * 128) + (((int)threadIdx.x) * 4)) + 2560));
  }
  positions_local_ptr_1[0] = positions_ptr[(((int)threadIdx.x) + 320)];
  alignas(64) uint dense_local_ptr_1[16];
  for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
    alignas(64) uint queue_ptr_1[4];
    int cse_v9 = (ax3_1 * 4);
    queue_ptr_1[0] = values_local_ptr_1[(ax3_1 * 4)];
    queue_ptr_1[1] = values_local_ptr_1[((ax3_1 * 4) + 1)];
    queue_ptr_1[2] = values_local_ptr_1[((ax3_1 * 4) + 2)];
    queue_ptr_1[3] = values_local_ptr_1[((ax3_1 * 4) + 3)];
    alignas(64) uint pair_ptr_8[1];
    int cse_v10 = (ax3_1 * 16);
    pair_ptr_8[0] = ((positions_local_ptr_1[0] >> ((uint)(ax3_1 * 16))) & (uint)3);
    int cse_v11 = (ax3_1 * 8);
    dense_local_ptr_1[(ax3_1 * 8)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_8[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_8[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_8[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_8[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_8[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_9[1];
    pair_ptr_9[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 2))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 1)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_9[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_9[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_9[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_9[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_9[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_10[1];
    pair_ptr_10[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 4))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 2)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_10[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_10[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_10[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_10[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_10[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_11[1];
    pair_ptr_11[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 6))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 3)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_11[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_11[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_11[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_11[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_11[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_12[1];
    pair_ptr_12[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 8))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 4)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_12[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_12[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_12[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_12[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_12[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_13[1];
    pair_ptr_13[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 10))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 5)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_13[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_13[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_13[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_13[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_13[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_14[1];
    pair_ptr_14[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 12))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 6)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_14[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_14[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_14[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_14[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_14[0] * (uint)8) + (uint)8) & (uint)48));
    alignas(64) uint pair_ptr_15[1];
    pair_ptr_15[0] = ((positions_local_ptr_1[0] >> ((uint)((ax3_1 * 16) + 14))) & (uint)3);
    dense_local_ptr_1[((ax3_1 * 8) + 7)] = permute_bytes(queue_ptr_1[0], (uint)0, permute_bytes((uint)1141916740, (uint)839913540, ((pair_ptr_15[0] * (uint)34) + (uint)16)));
    queue_ptr_1[0] = funnel_right(queue_ptr_1[0], queue_ptr_1[1], (((pair_ptr_15[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[1] = funnel_right(queue_ptr_1[1], queue_ptr_1[2], (((pair_ptr_15[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[2] = funnel_right(queue_ptr_1[2], queue_ptr_1[3], (((pair_ptr_15[0] * (uint)8) + (uint)8) & (uint)48));
    queue_ptr_1[3] = funnel_right(queue_ptr_1[3], (uint)0, (((pair_ptr_15[0] * (uint)8) + (uint)8) & (uint)48));
  }
  alignas(64) half columns_of_x_local_ptr_1[16];
  for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
    int cse_v12 = (ax5_0_1 * 8);
    *(uint4*)(columns_of_x_local_ptr_1 + (ax5_0_1 * 8)) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.x) >> 2) * 72) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_1 * 8)));
  }
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v13 = (step_1 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_1[(step_1 * 2)], dense_local_ptr_1[((step_1 * 2) + 8)], dense_local_ptr_1[((step_1 * 2) + 1)], dense_local_ptr_1[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr_1[(step_1 * 4)])));
  }
  __syncthreads();
  for (int ax4 = 0; ax4 < 4; ++ax4) {
    ((float*)buf_dyn_shmem_ptr)[((ax4 * 32) + ((int)threadIdx.x))] = sums_ptr[ax4];
  }
  __syncthreads();
  for (int ax1_ax2_ax3_fused_0 = 0; ax1_ax2_ax3_fused_0 < 4; ++ax1_ax2_ax3_fused_0) {
    alignas(64) float total_ptr[1];
    total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    int cse_v14 = (((int)threadIdx.x) & 15);
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[((((((((int)threadIdx.x) & 15) >> 3) * 64) + ((((int)threadIdx.x) >> 4) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + ax1_ax2_ax3_fused_0)]);
    if (ax1_ax2_ax3_fused_0 < 2) {
      y_ptr[((ax1_ax2_ax3_fused_0 * 32) + ((int)threadIdx.x))] = ((half)(total_ptr[0] + bias_ptr[(((int)threadIdx.x) & 15)]));
    }
  }
}
