extern "C" __global__ void __launch_bounds__(256, 1) main_kernel(half* __restrict__ bias_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[8];
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  for (int i_1 = 0; i_1 < 4; ++i_1) {
    sums_ptr[(i_1 + 4)] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v2 = (((int)threadIdx.x) & 7);
  int cse_v3 = (((int)threadIdx.z) * 576);
  int cse_v4 = (((int)threadIdx.z) & 3);
  int cse_v5 = (((int)threadIdx.z) >> 2);
  int cse_v12 = ((((int)threadIdx.x) & 7) * 4);
  int cse_v1 = (((int)threadIdx.x) >> 3);
  for (int ax0_1_ax1_0_ax2_ax3_ax4_ax5_0_fused_0 = 0; ax0_1_ax1_0_ax2_ax3_ax4_ax5_0_fused_0 < 4; ++ax0_1_ax1_0_ax2_ax3_ax4_ax5_0_fused_0) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((((((int)threadIdx.z) * 576) + ((ax0_1_ax1_0_ax2_ax3_ax4_ax5_0_fused_0 >> 1) * 288)) + ((((int)threadIdx.x) & 1) * 144)) + ((ax0_1_ax1_0_ax2_ax3_ax4_ax5_0_fused_0 & 1) * 64)) + ((((int)threadIdx.x) >> 1) * 4)) + 9216), values_ptr, (((((((int)blockIdx.y) * 4096) + (ax0_1_ax1_0_ax2_ax3_ax4_ax5_0_fused_0 * 1024)) + ((((int)threadIdx.x) >> 3) * 256)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4)));
  }
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 4; ++ax1_ax2_ax3_0_fused_0) {
    int cse_v13 = ((((int)threadIdx.x) & 7) * 8);
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((ax1_ax2_ax3_0_fused_0 * 2304) + (((int)threadIdx.z) * 288)) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)), x_ptr, ((((((((int)threadIdx.z) & 3) * 2048) + ((((int)threadIdx.x) >> 3) * 512)) + (ax1_ax2_ax3_0_fused_0 * 128)) + ((((int)threadIdx.z) >> 2) * 64)) + ((((int)threadIdx.x) & 7) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint arranged_shared_dyn_local_ptr[16];
  for (int ax2 = 0; ax2 < 4; ++ax2) {
    *(uint4*)(arranged_shared_dyn_local_ptr + (ax2 * 4)) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.z) * 576) + (ax2 * 144)) + (((int)threadIdx.x) * 4)) + 9216));
  }
  alignas(64) half columns_of_x_local_ptr[32];
  for (int ax3 = 0; ax3 < 2; ++ax3) {
    for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
      int cse_v6 = (ax5_0 * 8);
      *(uint4*)(columns_of_x_local_ptr + ((ax3 * 16) + (ax5_0 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((((int)threadIdx.z) * 1152) + (ax3 * 576)) + ((((int)threadIdx.x) >> 2) * 72)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)));
    }
  }
  alignas(64) uint dense_local_ptr[16];
  for (int j = 0; j < 16; ++j) {
    dense_local_ptr[j] = arranged_shared_dyn_local_ptr[j];
  }
  for (int step = 0; step < 4; ++step) {
    int cse_v7 = (step * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
  }
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v8 = (step_1 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr[(step_1 * 2)], dense_local_ptr[((step_1 * 2) + 8)], dense_local_ptr[((step_1 * 2) + 1)], dense_local_ptr[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr[((step_1 * 4) + 16)])));
  }
  __syncthreads();
  for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
    for (int ax4 = 0; ax4 < 4; ++ax4) {
      ((float*)buf_dyn_shmem_ptr)[(((((((int)threadIdx.z) * 256) + (ax3_1 * 128)) + (ax4 * 32)) + ((int)threadIdx.x)) + 9216)] = sums_ptr[((ax3_1 * 4) + ax4)];
    }
  }
  alignas(64) float total_ptr[1];
  int cse_v9 = (((int)threadIdx.x) & 15);
  int cse_v10 = (((int)threadIdx.x) >> 4);
  __syncthreads();
  for (int ax5 = 0; ax5 < 8; ++ax5) {
    if (ax5 == 0) {
      total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    }
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((((((ax5 * 256) + ((((int)threadIdx.z) >> 2) * 128)) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + ((((int)threadIdx.x) >> 4) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + (((int)threadIdx.z) & 3)) + 9216)]);
  }
  int cse_v11 = (((int)blockIdx.y) * 16);
  y_ptr[((((((int)threadIdx.z) * 512) + ((((int)threadIdx.x) >> 4) * 256)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15))] = ((half)(total_ptr[0] + ((float)bias_ptr[((((int)blockIdx.y) * 16) + (((int)threadIdx.x) & 15))])));
}
