extern "C" __global__ void __launch_bounds__(256, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ selectors_ptr, uint* __restrict__ values_ptr, nv_bfloat16* __restrict__ x_ptr, nv_bfloat16* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[8];
  int cse_v1 = (((int)threadIdx.x) >> 3);
  int cse_v2 = (((int)threadIdx.x) * 4);
  for (int ax0_ax1_ax2_0_fused_0 = 0; ax0_ax1_ax2_0_fused_0 < 2; ++ax0_ax1_ax2_0_fused_0) {
    if ((((ax0_ax1_ax2_0_fused_0 * 32) + (((int)threadIdx.z) * 4)) + (((int)threadIdx.x) >> 3)) < 45) {
      *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((ax0_ax1_ax2_0_fused_0 * 1024) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 1024)) = *(uint4*)(selectors_ptr + (((ax0_ax1_ax2_0_fused_0 * 128) + (((int)threadIdx.z) * 16)) + ((((int)threadIdx.x) >> 3) * 4)));
    }
  }
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  for (int i_1 = 0; i_1 < 4; ++i_1) {
    sums_ptr[(i_1 + 4)] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v3 = (((int)threadIdx.z) * 256);
  int cse_v5 = (((int)threadIdx.z) * 64);
  int cse_v6 = (((int)threadIdx.z) & 3);
  int cse_v7 = (((int)threadIdx.z) >> 2);
  int cse_v8 = (((int)threadIdx.x) & 7);
  for (int ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 = 0; ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 < 2; ++ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0) {
    int cse_v4 = (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 * 128);
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((((int)threadIdx.z) * 256) + (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 * 128)) + (((int)threadIdx.x) * 4)) + 2464), values_ptr, ((((((int)blockIdx.y) * 2048) + (((int)threadIdx.z) * 256)) + (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 * 128)) + (((int)threadIdx.x) * 4)));
  }
  if (((int)threadIdx.x) < 16) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((int)threadIdx.z) * 64) + (((int)threadIdx.x) * 4)), positions_ptr, (((((int)blockIdx.y) * 512) + (((int)threadIdx.z) * 64)) + (((int)threadIdx.x) * 4)));
  }
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 4; ++ax1_ax2_ax3_0_fused_0) {
    int cse_v15 = ((((int)threadIdx.x) & 7) * 8);
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((ax1_ax2_ax3_0_fused_0 * 2304) + (((int)threadIdx.z) * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)) + 13120), x_ptr, ((((((((int)threadIdx.z) & 3) * 2048) + ((((int)threadIdx.x) >> 3) * 512)) + (ax1_ax2_ax3_0_fused_0 * 128)) + ((((int)threadIdx.z) >> 2) * 64)) + ((((int)threadIdx.x) & 7) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v16 = ((((int)threadIdx.x) & 7) * 4);
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_shared_dyn_local_ptr[8];
  alignas(64) uint positions_shared_dyn_local_ptr[2];
  for (int ax2 = 0; ax2 < 2; ++ax2) {
    *(uint4*)(values_shared_dyn_local_ptr + (ax2 * 4)) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.z) * 256) + (ax2 * 128)) + (((int)threadIdx.x) * 4)) + 2464));
  }
  for (int ax2_1 = 0; ax2_1 < 2; ++ax2_1) {
    positions_shared_dyn_local_ptr[ax2_1] = ((uint*)buf_dyn_shmem_ptr)[(((((int)threadIdx.z) * 64) + (ax2_1 * 32)) + ((int)threadIdx.x))];
  }
  alignas(64) nv_bfloat16 columns_of_x_local_ptr[32];
  for (int ax3 = 0; ax3 < 2; ++ax3) {
    for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
      int cse_v9 = (ax5_0 * 8);
      *(uint4*)(columns_of_x_local_ptr + ((ax3 * 16) + (ax5_0 * 8))) = *(uint4*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 1152) + (ax3 * 576)) + ((((int)threadIdx.x) >> 2) * 72)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)) + 13120));
    }
  }
  alignas(64) uint dense_local_ptr[16];
  alignas(64) uint picked_ptr[4];
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[0] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)0));
  dense_local_ptr[1] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)16));
  dense_local_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)0));
  dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)16));
  dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[1] = permute_bytes(values_shared_dyn_local_ptr[1], dense_local_ptr[1], (picked_ptr[0] >> (uint)0));
  dense_local_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[1], dense_local_ptr[2], (picked_ptr[0] >> (uint)16));
  dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[1], dense_local_ptr[3], (picked_ptr[1] >> (uint)0));
  dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[1], dense_local_ptr[4], (picked_ptr[1] >> (uint)16));
  dense_local_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[2], dense_local_ptr[2], (picked_ptr[0] >> (uint)0));
  dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[2], dense_local_ptr[3], (picked_ptr[0] >> (uint)16));
  dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[2], dense_local_ptr[4], (picked_ptr[1] >> (uint)0));
  dense_local_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[2], dense_local_ptr[5], (picked_ptr[1] >> (uint)16));
  dense_local_ptr[6] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[3], dense_local_ptr[3], (picked_ptr[0] >> (uint)0));
  dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[3], dense_local_ptr[4], (picked_ptr[0] >> (uint)16));
  dense_local_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[3], dense_local_ptr[5], (picked_ptr[1] >> (uint)0));
  dense_local_ptr[6] = permute_bytes(values_shared_dyn_local_ptr[3], dense_local_ptr[6], (picked_ptr[1] >> (uint)16));
  dense_local_ptr[7] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[1] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[8] = permute_bytes(values_shared_dyn_local_ptr[4], (uint)0, (picked_ptr[0] >> (uint)0));
  dense_local_ptr[9] = permute_bytes(values_shared_dyn_local_ptr[4], (uint)0, (picked_ptr[0] >> (uint)16));
  dense_local_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[4], (uint)0, (picked_ptr[1] >> (uint)0));
  dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[4], (uint)0, (picked_ptr[1] >> (uint)16));
  dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[4], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[1] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[9] = permute_bytes(values_shared_dyn_local_ptr[5], dense_local_ptr[9], (picked_ptr[0] >> (uint)0));
  dense_local_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[5], dense_local_ptr[10], (picked_ptr[0] >> (uint)16));
  dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[5], dense_local_ptr[11], (picked_ptr[1] >> (uint)0));
  dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[5], dense_local_ptr[12], (picked_ptr[1] >> (uint)16));
  dense_local_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[5], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[1] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[6], dense_local_ptr[10], (picked_ptr[0] >> (uint)0));
  dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[6], dense_local_ptr[11], (picked_ptr[0] >> (uint)16));
  dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[6], dense_local_ptr[12], (picked_ptr[1] >> (uint)0));
  dense_local_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[6], dense_local_ptr[13], (picked_ptr[1] >> (uint)16));
  dense_local_ptr[14] = permute_bytes(values_shared_dyn_local_ptr[6], (uint)0, (picked_ptr[2] >> (uint)0));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[1] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1024));
  dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[7], dense_local_ptr[11], (picked_ptr[0] >> (uint)0));
  dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[7], dense_local_ptr[12], (picked_ptr[0] >> (uint)16));
  dense_local_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[7], dense_local_ptr[13], (picked_ptr[1] >> (uint)0));
  dense_local_ptr[14] = permute_bytes(values_shared_dyn_local_ptr[7], dense_local_ptr[14], (picked_ptr[1] >> (uint)16));
  dense_local_ptr[15] = permute_bytes(values_shared_dyn_local_ptr[7], (uint)0, (picked_ptr[2] >> (uint)0));
  for (int step = 0; step < 4; ++step) {
    int cse_v10 = (step * 2);
    mma_m16n8k16_bf16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
  }
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v11 = (step_1 * 2);
    mma_m16n8k16_bf16((&(sums_ptr[4])), dense_local_ptr[(step_1 * 2)], dense_local_ptr[((step_1 * 2) + 8)], dense_local_ptr[((step_1 * 2) + 1)], dense_local_ptr[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr[((step_1 * 4) + 16)])));
  }
  __syncthreads();
  for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
    for (int ax4 = 0; ax4 < 4; ++ax4) {
      ((float*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 256) + (ax3_1 * 128)) + (ax4 * 32)) + ((int)threadIdx.x)) + 2464)] = sums_ptr[((ax3_1 * 4) + ax4)];
    }
  }
  alignas(64) float total_ptr[1];
  int cse_v12 = (((int)threadIdx.x) & 15);
  int cse_v13 = (((int)threadIdx.x) >> 4);
  __syncthreads();
  for (int ax5 = 0; ax5 < 8; ++ax5) {
    if (ax5 == 0) {
      total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    }
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((((((ax5 * 256) + ((((int)threadIdx.z) >> 2) * 128)) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + ((((int)threadIdx.x) >> 4) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + (((int)threadIdx.z) & 3)) + 2464)]);
  }
  int cse_v14 = (((int)blockIdx.y) * 16);
  y_ptr[((((((int)threadIdx.z) * 512) + ((((int)threadIdx.x) >> 4) * 256)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15))] = ((nv_bfloat16)(total_ptr[0] + bias_ptr[((((int)blockIdx.y) * 16) + (((int)threadIdx.x) & 15))]));
}
