extern "C" __global__ void __launch_bounds__(128, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ selectors_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[4];
  int cse_v1 = (((int)threadIdx.z) * 128);
  int cse_v2 = (((int)threadIdx.x) * 4);
  for (int ax0_ax1_ax2_0_fused_0 = 0; ax0_ax1_ax2_0_fused_0 < 8; ++ax0_ax1_ax2_0_fused_0) {
    if (((ax0_ax1_ax2_0_fused_0 * 2) + (((int)threadIdx.z) >> 1)) < 15) {
      *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((ax0_ax1_ax2_0_fused_0 * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 1280)) = *(uint4*)(selectors_ptr + (((ax0_ax1_ax2_0_fused_0 * 64) + (((int)threadIdx.z) * 16)) + ((((int)threadIdx.x) >> 3) * 4)));
    }
  }
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v3 = (((int)threadIdx.z) * 32);
  int cse_v4 = (((int)threadIdx.x) >> 4);
  int cse_v5 = (((int)threadIdx.x) & 15);
  int cse_v11 = ((((int)threadIdx.z) * 128) + (((int)threadIdx.x) * 4));
  ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((int)threadIdx.z) * 128) + (((int)threadIdx.x) * 4)) + 256), values_ptr, (((((int)blockIdx.y) * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)));
  if (((int)threadIdx.x) < 8) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((int)threadIdx.z) * 32) + (((int)threadIdx.x) * 4)), positions_ptr, (((((int)blockIdx.y) * 128) + (((int)threadIdx.z) * 32)) + (((int)threadIdx.x) * 4)));
  }
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 4; ++ax1_ax2_ax3_0_fused_0) {
    int cse_v12 = ((((int)threadIdx.x) & 15) * 8);
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, (((((ax1_ax2_ax3_0_fused_0 * 1088) + (((int)threadIdx.z) * 272)) + ((((int)threadIdx.x) >> 4) * 136)) + ((((int)threadIdx.x) & 15) * 8)) + 10240), x_ptr, ((((((int)threadIdx.z) * 1024) + ((((int)threadIdx.x) >> 4) * 512)) + (ax1_ax2_ax3_0_fused_0 * 128)) + ((((int)threadIdx.x) & 15) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v13 = ((((int)threadIdx.x) & 7) * 4);
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_shared_dyn_local_ptr[4];
  alignas(64) uint positions_shared_dyn_local_ptr[1];
  *(uint4*)(values_shared_dyn_local_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)threadIdx.z) * 128) + (((int)threadIdx.x) * 4)) + 256));
  positions_shared_dyn_local_ptr[0] = ((uint*)buf_dyn_shmem_ptr)[((((int)threadIdx.z) * 32) + ((int)threadIdx.x))];
  alignas(64) half columns_of_x_local_ptr[16];
  int cse_v14 = (((((int)threadIdx.z) * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16));
  for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
    int cse_v6 = (ax5_0 * 8);
    *(uint4*)(columns_of_x_local_ptr + (ax5_0 * 8)) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((((int)threadIdx.z) * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)) + 10240));
  }
  alignas(64) uint dense_local_ptr[16];
  alignas(64) uint picked_ptr[4];
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1280));
  dense_local_ptr[0] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)0));
  dense_local_ptr[1] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)16));
  dense_local_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)0));
  dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)16));
  dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)0));
  dense_local_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)16));
  dense_local_ptr[6] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)0));
  dense_local_ptr[7] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)16));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1280));
  dense_local_ptr[8] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)0));
  dense_local_ptr[9] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)16));
  dense_local_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)0));
  dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)16));
  dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)0));
  dense_local_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)16));
  dense_local_ptr[14] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)0));
  dense_local_ptr[15] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)16));
  for (int step = 0; step < 4; ++step) {
    int cse_v7 = (step * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
  }
  alignas(64) half columns_of_x_local_ptr_1[16];
  for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
    int cse_v8 = (ax5_0_1 * 8);
    *(uint4*)(columns_of_x_local_ptr_1 + (ax5_0_1 * 8)) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((((int)threadIdx.z) * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_1 * 8)) + 10304));
  }
  alignas(64) uint dense_local_ptr_1[16];
  alignas(64) uint picked_ptr_1[4];
  *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1280));
  dense_local_ptr_1[0] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)0));
  dense_local_ptr_1[1] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)16));
  dense_local_ptr_1[2] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)0));
  dense_local_ptr_1[3] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)16));
  dense_local_ptr_1[4] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)0));
  dense_local_ptr_1[5] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)16));
  dense_local_ptr_1[6] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)0));
  dense_local_ptr_1[7] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)16));
  *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 1280));
  dense_local_ptr_1[8] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)0));
  dense_local_ptr_1[9] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)16));
  dense_local_ptr_1[10] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)0));
  dense_local_ptr_1[11] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)16));
  dense_local_ptr_1[12] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)0));
  dense_local_ptr_1[13] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)16));
  dense_local_ptr_1[14] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)0));
  dense_local_ptr_1[15] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)16));
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v9 = (step_1 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_1[(step_1 * 2)], dense_local_ptr_1[((step_1 * 2) + 8)], dense_local_ptr_1[((step_1 * 2) + 1)], dense_local_ptr_1[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr_1[(step_1 * 4)])));
  }
  __syncthreads();
  for (int ax4 = 0; ax4 < 4; ++ax4) {
    ((float*)buf_dyn_shmem_ptr)[((((((int)threadIdx.z) * 128) + (ax4 * 32)) + ((int)threadIdx.x)) + 256)] = sums_ptr[ax4];
  }
  alignas(64) float total_ptr[1];
  __syncthreads();
  for (int ax5 = 0; ax5 < 4; ++ax5) {
    if (ax5 == 0) {
      total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    }
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[((((((ax5 * 128) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + ((((int)threadIdx.x) >> 4) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + ((int)threadIdx.z)) + 256)]);
  }
  int cse_v10 = (((int)blockIdx.y) * 16);
  y_ptr[((((((int)threadIdx.z) * 512) + ((((int)threadIdx.x) >> 4) * 256)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15))] = ((half)(total_ptr[0] + bias_ptr[((((int)blockIdx.y) * 16) + (((int)threadIdx.x) & 15))]));
}
