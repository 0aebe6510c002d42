extern "C" __global__ void __launch_bounds__(512) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ values_ptr, nv_bfloat16* __restrict__ x_ptr, nv_bfloat16* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[8];
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  for (int i_1 = 0; i_1 < 4; ++i_1) {
    sums_ptr[(i_1 + 4)] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v2 = (((int)threadIdx.x) & 7);
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 2; ++ax1_ax2_ax3_0_fused_0) {
    int cse_v1 = (((int)threadIdx.z) >> 1);
    int cse_v12 = ((((int)threadIdx.x) & 7) * 8);
    int cse_v14 = ((((((int)threadIdx.z) * 8) + (((int)threadIdx.y) * 4)) + (((int)threadIdx.x) >> 3)) & 15);
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((ax1_ax2_ax3_0_fused_0 * 4608) + ((((int)threadIdx.z) >> 1) * 1152)) + (((((((int)threadIdx.z) * 8) + (((int)threadIdx.y) * 4)) + (((int)threadIdx.x) >> 3)) & 15) * 72)) + ((((int)threadIdx.x) & 7) * 8)), x_ptr, ((((((((((int)threadIdx.z) * 8) + (((int)threadIdx.y) * 4)) + (((int)threadIdx.x) >> 3)) & 15) * 512) + (ax1_ax2_ax3_0_fused_0 * 256)) + ((((int)threadIdx.z) >> 1) * 64)) + ((((int)threadIdx.x) & 7) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v3 = (((int)threadIdx.y) * 256);
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_local_ptr[8];
  alignas(64) uint positions_local_ptr[1];
  for (int ax2 = 0; ax2 < 2; ++ax2) {
    *(uint4*)(values_local_ptr + (ax2 * 4)) = *(uint4*)(values_ptr + (((((((int)blockIdx.y) * 4096) + (((int)threadIdx.y) * 2048)) + (((int)threadIdx.z) * 256)) + (ax2 * 128)) + (((int)threadIdx.x) * 4)));
  }
  positions_local_ptr[0] = positions_ptr[((((((int)blockIdx.y) * 512) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x))];
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
  alignas(64) nv_bfloat16 columns_of_x_local_ptr[16];
  int cse_v15 = (((((int)threadIdx.z) * 1152) + ((((int)threadIdx.x) >> 2) * 72)) + ((((int)threadIdx.x) & 3) * 16));
  for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
    int cse_v7 = (ax5_0 * 8);
    *(uint4*)(columns_of_x_local_ptr + (ax5_0 * 8)) = *(uint4*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.z) * 1152) + ((((int)threadIdx.x) >> 2) * 72)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)));
  }
  for (int step = 0; step < 4; ++step) {
    int cse_v8 = (step * 2);
    mma_m16n8k16_bf16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
  }
  alignas(64) nv_bfloat16 columns_of_x_local_ptr_1[16];
  for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
    int cse_v9 = (ax5_0_1 * 8);
    *(uint4*)(columns_of_x_local_ptr_1 + (ax5_0_1 * 8)) = *(uint4*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((((int)threadIdx.z) * 1152) + ((((int)threadIdx.x) >> 2) * 72)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_1 * 8)) + 576));
  }
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v10 = (step_1 * 2);
    mma_m16n8k16_bf16((&(sums_ptr[4])), dense_local_ptr[(step_1 * 2)], dense_local_ptr[((step_1 * 2) + 8)], dense_local_ptr[((step_1 * 2) + 1)], dense_local_ptr[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr_1[(step_1 * 4)])));
  }
  int cse_v13 = ((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 256));
  __syncthreads();
  for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
    for (int ax4 = 0; ax4 < 4; ++ax4) {
      ((float*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 256)) + (ax3_1 * 128)) + (ax4 * 32)) + ((int)threadIdx.x))] = sums_ptr[((ax3_1 * 4) + ax4)];
    }
  }
  alignas(64) float total_ptr[1];
  __syncthreads();
  for (int ax4_1 = 0; ax4_1 < 8; ++ax4_1) {
    if (ax4_1 == 0) {
      total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    }
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((((((ax4_1 * 512) + ((((int)threadIdx.x) >> 4) * 256)) + ((((int)threadIdx.z) >> 2) * 128)) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + (((int)threadIdx.y) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + (((int)threadIdx.z) & 3))]);
  }
  int cse_v11 = (((int)blockIdx.y) * 32);
  y_ptr[((((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 256)) + (((int)blockIdx.y) * 32)) + ((int)threadIdx.x))] = ((nv_bfloat16)(total_ptr[0] + bias_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))]));
}
