extern "C" __global__ void __launch_bounds__(256, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ selectors_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[8];
  alignas(64) int enlisted_ptr[1];
  enlisted_ptr[0] = 1;
  int cse_v1 = (((int)threadIdx.y) >> 1);
  int cse_v2 = (((int)threadIdx.x) >> 3);
  int cse_v3 = (((int)threadIdx.y) * 128);
  int cse_v4 = (((int)threadIdx.x) * 4);
  for (int ax0_ax1_ax2_0_fused_0 = 0; ax0_ax1_ax2_0_fused_0 < 4; ++ax0_ax1_ax2_0_fused_0) {
    if ((((ax0_ax1_ax2_0_fused_0 * 4) + (((int)threadIdx.z) * 2)) + (((int)threadIdx.y) >> 1)) < 15) {
      *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((ax0_ax1_ax2_0_fused_0 * 1024) + (((int)threadIdx.z) * 512)) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.x) * 4)) + 13824)) = *(uint4*)(selectors_ptr + ((((ax0_ax1_ax2_0_fused_0 * 128) + (((int)threadIdx.z) * 64)) + (((int)threadIdx.y) * 16)) + ((((int)threadIdx.x) >> 3) * 4)));
    }
  }
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  for (int i_1 = 0; i_1 < 4; ++i_1) {
    sums_ptr[(i_1 + 4)] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v5 = (((int)blockIdx.z) * 1024);
  int cse_v7 = (((int)threadIdx.z) * 128);
  int cse_v8 = (((int)threadIdx.y) * 512);
  int cse_v9 = (((int)threadIdx.z) * 32);
  int cse_v10 = (((int)threadIdx.x) >> 4);
  int cse_v11 = (((int)threadIdx.x) & 15);
  int cse_v12 = (((int)threadIdx.z) * 1088);
  int cse_v13 = (((int)threadIdx.y) * 272);
  int cse_v42 = ((((int)threadIdx.x) >> 3) * 64);
  int cse_v43 = ((((int)threadIdx.x) & 7) * 4);
  int cse_v44 = ((((int)threadIdx.x) & 15) * 8);
  int cse_v45 = ((((int)threadIdx.x) >> 4) * 136);
  int cse_v49 = (((((int)blockIdx.y) * 32768) + (((int)threadIdx.y) * 8192)) + (((int)blockIdx.z) * 1024));
  int cse_v52 = ((((((int)threadIdx.z) * 65536) + (((int)threadIdx.y) * 16384)) + ((((int)threadIdx.x) >> 4) * 8192)) + (((int)blockIdx.z) * 1024));
  int cse_v53 = ((((((int)threadIdx.y) * 128) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4));
  int cse_v54 = ((((((((int)blockIdx.y) * 8192) + (((int)threadIdx.y) * 2048)) + (((int)blockIdx.z) * 256)) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4));
  for (int ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 = 0; ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 < 2; ++ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0) {
    int cse_v6 = (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 * 256);
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((((int)threadIdx.y) * 512) + (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 * 256)) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 9728), values_ptr, ((((((((int)blockIdx.y) * 32768) + (((int)threadIdx.y) * 8192)) + (((int)blockIdx.z) * 1024)) + (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0 * 256)) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)));
  }
  if (((int)threadIdx.x) < 16) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, ((((((int)threadIdx.y) * 128) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4)), positions_ptr, ((((((((int)blockIdx.y) * 8192) + (((int)threadIdx.y) * 2048)) + (((int)blockIdx.z) * 256)) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4)));
  }
  for (int ax1_ax2_ax3_0_fused_0 = 0; ax1_ax2_ax3_0_fused_0 < 4; ++ax1_ax2_ax3_0_fused_0) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((((ax1_ax2_ax3_0_fused_0 * 2176) + (((int)threadIdx.z) * 1088)) + (((int)threadIdx.y) * 272)) + ((((int)threadIdx.x) >> 4) * 136)) + ((((int)threadIdx.x) & 15) * 8)) + 2048), x_ptr, ((((((((int)threadIdx.z) * 65536) + (((int)threadIdx.y) * 16384)) + ((((int)threadIdx.x) >> 4) * 8192)) + (((int)blockIdx.z) * 1024)) + (ax1_ax2_ax3_0_fused_0 * 128)) + ((((int)threadIdx.x) & 15) * 8)));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  for (int ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0_1 = 0; ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0_1 < 2; ++ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0_1) {
    int cse_v14 = (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0_1 * 256);
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((((int)threadIdx.y) * 512) + (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0_1 * 256)) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 11776), values_ptr, (((((((((int)blockIdx.y) * 32768) + (((int)threadIdx.y) * 8192)) + (((int)blockIdx.z) * 1024)) + (ax0_1_ax1_0_ax2_ax3_ax4_0_fused_0_1 * 256)) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 512));
  }
  if (((int)threadIdx.x) < 16) {
    ptx_cp_async_legacy_cg_16_4_4(buf_dyn_shmem_ptr, (((((((int)threadIdx.y) * 128) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + 512), positions_ptr, (((((((((int)blockIdx.y) * 8192) + (((int)threadIdx.y) * 2048)) + (((int)blockIdx.z) * 256)) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)threadIdx.z) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + 128));
  }
  for (int ax1_ax2_ax3_0_fused_0_1 = 0; ax1_ax2_ax3_0_fused_0_1 < 4; ++ax1_ax2_ax3_0_fused_0_1) {
    ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((((ax1_ax2_ax3_0_fused_0_1 * 2176) + (((int)threadIdx.z) * 1088)) + (((int)threadIdx.y) * 272)) + ((((int)threadIdx.x) >> 4) * 136)) + ((((int)threadIdx.x) & 15) * 8)) + 10752), x_ptr, (((((((((int)threadIdx.z) * 65536) + (((int)threadIdx.y) * 16384)) + ((((int)threadIdx.x) >> 4) * 8192)) + (((int)blockIdx.z) * 1024)) + (ax1_ax2_ax3_0_fused_0_1 * 128)) + ((((int)threadIdx.x) & 15) * 8)) + 512));
  }
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v15 = (((int)threadIdx.z) * 2176);
  int cse_v46 = ((((int)threadIdx.x) >> 2) * 136);
  int cse_v47 = ((((int)threadIdx.x) & 3) * 16);
  int cse_v50 = (((((int)threadIdx.y) * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4));
  int cse_v51 = (((((int)threadIdx.y) * 128) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x));
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_1();
  __syncthreads();
  alignas(64) uint values_shared_dyn_local_ptr[4];
  alignas(64) uint positions_shared_dyn_local_ptr[1];
  *(uint4*)(values_shared_dyn_local_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 9728));
  positions_shared_dyn_local_ptr[0] = ((uint*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 128) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x))];
  alignas(64) half columns_of_x_local_ptr[32];
  for (int ax3 = 0; ax3 < 2; ++ax3) {
    for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
      int cse_v16 = (ax5_0 * 8);
      *(uint4*)(columns_of_x_local_ptr + ((ax3 * 16) + (ax5_0 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)) + 2048));
    }
  }
  alignas(64) uint dense_local_ptr[16];
  alignas(64) uint picked_ptr[4];
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr[0] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)0));
  dense_local_ptr[1] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[0] >> (uint)16));
  dense_local_ptr[2] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)0));
  dense_local_ptr[3] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[1] >> (uint)16));
  dense_local_ptr[4] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)0));
  dense_local_ptr[5] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[2] >> (uint)16));
  dense_local_ptr[6] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)0));
  dense_local_ptr[7] = permute_bytes(values_shared_dyn_local_ptr[0], (uint)0, (picked_ptr[3] >> (uint)16));
  *(uint4*)(picked_ptr + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr[8] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)0));
  dense_local_ptr[9] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[0] >> (uint)16));
  dense_local_ptr[10] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)0));
  dense_local_ptr[11] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[1] >> (uint)16));
  dense_local_ptr[12] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)0));
  dense_local_ptr[13] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[2] >> (uint)16));
  dense_local_ptr[14] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)0));
  dense_local_ptr[15] = permute_bytes(values_shared_dyn_local_ptr[1], (uint)0, (picked_ptr[3] >> (uint)16));
  for (int step = 0; step < 4; ++step) {
    int cse_v17 = (step * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
  }
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v18 = (step_1 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr[(step_1 * 2)], dense_local_ptr[((step_1 * 2) + 8)], dense_local_ptr[((step_1 * 2) + 1)], dense_local_ptr[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr[((step_1 * 4) + 16)])));
  }
  alignas(64) half columns_of_x_local_ptr_1[32];
  for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
    for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
      int cse_v19 = (ax5_0_1 * 8);
      *(uint4*)(columns_of_x_local_ptr_1 + ((ax3_1 * 16) + (ax5_0_1 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_1 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_1 * 8)) + 2112));
    }
  }
  alignas(64) uint dense_local_ptr_1[16];
  alignas(64) uint picked_ptr_1[4];
  *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_1[0] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)0));
  dense_local_ptr_1[1] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[0] >> (uint)16));
  dense_local_ptr_1[2] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)0));
  dense_local_ptr_1[3] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[1] >> (uint)16));
  dense_local_ptr_1[4] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)0));
  dense_local_ptr_1[5] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[2] >> (uint)16));
  dense_local_ptr_1[6] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)0));
  dense_local_ptr_1[7] = permute_bytes(values_shared_dyn_local_ptr[2], (uint)0, (picked_ptr_1[3] >> (uint)16));
  *(uint4*)(picked_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_1[8] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)0));
  dense_local_ptr_1[9] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[0] >> (uint)16));
  dense_local_ptr_1[10] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)0));
  dense_local_ptr_1[11] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[1] >> (uint)16));
  dense_local_ptr_1[12] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)0));
  dense_local_ptr_1[13] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[2] >> (uint)16));
  dense_local_ptr_1[14] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)0));
  dense_local_ptr_1[15] = permute_bytes(values_shared_dyn_local_ptr[3], (uint)0, (picked_ptr_1[3] >> (uint)16));
  for (int step_2 = 0; step_2 < 4; ++step_2) {
    int cse_v20 = (step_2 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_1[(step_2 * 2)], dense_local_ptr_1[((step_2 * 2) + 8)], dense_local_ptr_1[((step_2 * 2) + 1)], dense_local_ptr_1[((step_2 * 2) + 9)], (&(columns_of_x_local_ptr_1[(step_2 * 4)])));
  }
  for (int step_3 = 0; step_3 < 4; ++step_3) {
    int cse_v21 = (step_3 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_1[(step_3 * 2)], dense_local_ptr_1[((step_3 * 2) + 8)], dense_local_ptr_1[((step_3 * 2) + 1)], dense_local_ptr_1[((step_3 * 2) + 9)], (&(columns_of_x_local_ptr_1[((step_3 * 4) + 16)])));
  }
  alignas(64) uint values_shared_dyn_local_ptr_1[4];
  alignas(64) uint positions_shared_dyn_local_ptr_1[1];
  *(uint4*)(values_shared_dyn_local_ptr_1 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 9984));
  positions_shared_dyn_local_ptr_1[0] = ((uint*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) * 128) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x)) + 64)];
  alignas(64) half columns_of_x_local_ptr_2[32];
  for (int ax3_2 = 0; ax3_2 < 2; ++ax3_2) {
    for (int ax5_0_2 = 0; ax5_0_2 < 2; ++ax5_0_2) {
      int cse_v22 = (ax5_0_2 * 8);
      *(uint4*)(columns_of_x_local_ptr_2 + ((ax3_2 * 16) + (ax5_0_2 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_2 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_2 * 8)) + 6400));
    }
  }
  alignas(64) uint dense_local_ptr_2[16];
  alignas(64) uint picked_ptr_2[4];
  *(uint4*)(picked_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_2[0] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[0] >> (uint)0));
  dense_local_ptr_2[1] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[0] >> (uint)16));
  dense_local_ptr_2[2] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[1] >> (uint)0));
  dense_local_ptr_2[3] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[1] >> (uint)16));
  dense_local_ptr_2[4] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[2] >> (uint)0));
  dense_local_ptr_2[5] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[2] >> (uint)16));
  dense_local_ptr_2[6] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[3] >> (uint)0));
  dense_local_ptr_2[7] = permute_bytes(values_shared_dyn_local_ptr_1[0], (uint)0, (picked_ptr_2[3] >> (uint)16));
  *(uint4*)(picked_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_2[8] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[0] >> (uint)0));
  dense_local_ptr_2[9] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[0] >> (uint)16));
  dense_local_ptr_2[10] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[1] >> (uint)0));
  dense_local_ptr_2[11] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[1] >> (uint)16));
  dense_local_ptr_2[12] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[2] >> (uint)0));
  dense_local_ptr_2[13] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[2] >> (uint)16));
  dense_local_ptr_2[14] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[3] >> (uint)0));
  dense_local_ptr_2[15] = permute_bytes(values_shared_dyn_local_ptr_1[1], (uint)0, (picked_ptr_2[3] >> (uint)16));
  for (int step_4 = 0; step_4 < 4; ++step_4) {
    int cse_v23 = (step_4 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_2[(step_4 * 2)], dense_local_ptr_2[((step_4 * 2) + 8)], dense_local_ptr_2[((step_4 * 2) + 1)], dense_local_ptr_2[((step_4 * 2) + 9)], (&(columns_of_x_local_ptr_2[(step_4 * 4)])));
  }
  for (int step_5 = 0; step_5 < 4; ++step_5) {
    int cse_v24 = (step_5 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_2[(step_5 * 2)], dense_local_ptr_2[((step_5 * 2) + 8)], dense_local_ptr_2[((step_5 * 2) + 1)], dense_local_ptr_2[((step_5 * 2) + 9)], (&(columns_of_x_local_ptr_2[((step_5 * 4) + 16)])));
  }
  alignas(64) half columns_of_x_local_ptr_3[32];
  for (int ax3_3 = 0; ax3_3 < 2; ++ax3_3) {
    for (int ax5_0_3 = 0; ax5_0_3 < 2; ++ax5_0_3) {
      int cse_v25 = (ax5_0_3 * 8);
      *(uint4*)(columns_of_x_local_ptr_3 + ((ax3_3 * 16) + (ax5_0_3 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_3 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_3 * 8)) + 6464));
    }
  }
  alignas(64) uint dense_local_ptr_3[16];
  alignas(64) uint picked_ptr_3[4];
  *(uint4*)(picked_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_3[0] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[0] >> (uint)0));
  dense_local_ptr_3[1] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[0] >> (uint)16));
  dense_local_ptr_3[2] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[1] >> (uint)0));
  dense_local_ptr_3[3] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[1] >> (uint)16));
  dense_local_ptr_3[4] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[2] >> (uint)0));
  dense_local_ptr_3[5] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[2] >> (uint)16));
  dense_local_ptr_3[6] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[3] >> (uint)0));
  dense_local_ptr_3[7] = permute_bytes(values_shared_dyn_local_ptr_1[2], (uint)0, (picked_ptr_3[3] >> (uint)16));
  *(uint4*)(picked_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_1[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_3[8] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[0] >> (uint)0));
  dense_local_ptr_3[9] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[0] >> (uint)16));
  dense_local_ptr_3[10] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[1] >> (uint)0));
  dense_local_ptr_3[11] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[1] >> (uint)16));
  dense_local_ptr_3[12] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[2] >> (uint)0));
  dense_local_ptr_3[13] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[2] >> (uint)16));
  dense_local_ptr_3[14] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[3] >> (uint)0));
  dense_local_ptr_3[15] = permute_bytes(values_shared_dyn_local_ptr_1[3], (uint)0, (picked_ptr_3[3] >> (uint)16));
  for (int step_6 = 0; step_6 < 4; ++step_6) {
    int cse_v26 = (step_6 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_3[(step_6 * 2)], dense_local_ptr_3[((step_6 * 2) + 8)], dense_local_ptr_3[((step_6 * 2) + 1)], dense_local_ptr_3[((step_6 * 2) + 9)], (&(columns_of_x_local_ptr_3[(step_6 * 4)])));
  }
  for (int step_7 = 0; step_7 < 4; ++step_7) {
    int cse_v27 = (step_7 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_3[(step_7 * 2)], dense_local_ptr_3[((step_7 * 2) + 8)], dense_local_ptr_3[((step_7 * 2) + 1)], dense_local_ptr_3[((step_7 * 2) + 9)], (&(columns_of_x_local_ptr_3[((step_7 * 4) + 16)])));
  }
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_shared_dyn_local_ptr_2[4];
  alignas(64) uint positions_shared_dyn_local_ptr_2[1];
  *(uint4*)(values_shared_dyn_local_ptr_2 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 11776));
  positions_shared_dyn_local_ptr_2[0] = ((uint*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) * 128) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x)) + 512)];
  alignas(64) half columns_of_x_local_ptr_4[32];
  for (int ax3_4 = 0; ax3_4 < 2; ++ax3_4) {
    for (int ax5_0_4 = 0; ax5_0_4 < 2; ++ax5_0_4) {
      int cse_v28 = (ax5_0_4 * 8);
      *(uint4*)(columns_of_x_local_ptr_4 + ((ax3_4 * 16) + (ax5_0_4 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_4 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_4 * 8)) + 10752));
    }
  }
  alignas(64) uint dense_local_ptr_4[16];
  alignas(64) uint picked_ptr_4[4];
  *(uint4*)(picked_ptr_4 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_2[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_4[0] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[0] >> (uint)0));
  dense_local_ptr_4[1] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[0] >> (uint)16));
  dense_local_ptr_4[2] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[1] >> (uint)0));
  dense_local_ptr_4[3] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[1] >> (uint)16));
  dense_local_ptr_4[4] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[2] >> (uint)0));
  dense_local_ptr_4[5] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[2] >> (uint)16));
  dense_local_ptr_4[6] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[3] >> (uint)0));
  dense_local_ptr_4[7] = permute_bytes(values_shared_dyn_local_ptr_2[0], (uint)0, (picked_ptr_4[3] >> (uint)16));
  *(uint4*)(picked_ptr_4 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_2[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_4[8] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[0] >> (uint)0));
  dense_local_ptr_4[9] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[0] >> (uint)16));
  dense_local_ptr_4[10] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[1] >> (uint)0));
  dense_local_ptr_4[11] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[1] >> (uint)16));
  dense_local_ptr_4[12] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[2] >> (uint)0));
  dense_local_ptr_4[13] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[2] >> (uint)16));
  dense_local_ptr_4[14] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[3] >> (uint)0));
  dense_local_ptr_4[15] = permute_bytes(values_shared_dyn_local_ptr_2[1], (uint)0, (picked_ptr_4[3] >> (uint)16));
  for (int step_8 = 0; step_8 < 4; ++step_8) {
    int cse_v29 = (step_8 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_4[(step_8 * 2)], dense_local_ptr_4[((step_8 * 2) + 8)], dense_local_ptr_4[((step_8 * 2) + 1)], dense_local_ptr_4[((step_8 * 2) + 9)], (&(columns_of_x_local_ptr_4[(step_8 * 4)])));
  }
  for (int step_9 = 0; step_9 < 4; ++step_9) {
    int cse_v30 = (step_9 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_4[(step_9 * 2)], dense_local_ptr_4[((step_9 * 2) + 8)], dense_local_ptr_4[((step_9 * 2) + 1)], dense_local_ptr_4[((step_9 * 2) + 9)], (&(columns_of_x_local_ptr_4[((step_9 * 4) + 16)])));
  }
  alignas(64) half columns_of_x_local_ptr_5[32];
  for (int ax3_5 = 0; ax3_5 < 2; ++ax3_5) {
    for (int ax5_0_5 = 0; ax5_0_5 < 2; ++ax5_0_5) {
      int cse_v31 = (ax5_0_5 * 8);
      *(uint4*)(columns_of_x_local_ptr_5 + ((ax3_5 * 16) + (ax5_0_5 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_5 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_5 * 8)) + 10816));
    }
  }
  alignas(64) uint dense_local_ptr_5[16];
  alignas(64) uint picked_ptr_5[4];
  *(uint4*)(picked_ptr_5 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_2[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_5[0] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[0] >> (uint)0));
  dense_local_ptr_5[1] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[0] >> (uint)16));
  dense_local_ptr_5[2] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[1] >> (uint)0));
  dense_local_ptr_5[3] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[1] >> (uint)16));
  dense_local_ptr_5[4] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[2] >> (uint)0));
  dense_local_ptr_5[5] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[2] >> (uint)16));
  dense_local_ptr_5[6] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[3] >> (uint)0));
  dense_local_ptr_5[7] = permute_bytes(values_shared_dyn_local_ptr_2[2], (uint)0, (picked_ptr_5[3] >> (uint)16));
  *(uint4*)(picked_ptr_5 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_2[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_5[8] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[0] >> (uint)0));
  dense_local_ptr_5[9] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[0] >> (uint)16));
  dense_local_ptr_5[10] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[1] >> (uint)0));
  dense_local_ptr_5[11] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[1] >> (uint)16));
  dense_local_ptr_5[12] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[2] >> (uint)0));
  dense_local_ptr_5[13] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[2] >> (uint)16));
  dense_local_ptr_5[14] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[3] >> (uint)0));
  dense_local_ptr_5[15] = permute_bytes(values_shared_dyn_local_ptr_2[3], (uint)0, (picked_ptr_5[3] >> (uint)16));
  for (int step_10 = 0; step_10 < 4; ++step_10) {
    int cse_v32 = (step_10 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_5[(step_10 * 2)], dense_local_ptr_5[((step_10 * 2) + 8)], dense_local_ptr_5[((step_10 * 2) + 1)], dense_local_ptr_5[((step_10 * 2) + 9)], (&(columns_of_x_local_ptr_5[(step_10 * 4)])));
  }
  for (int step_11 = 0; step_11 < 4; ++step_11) {
    int cse_v33 = (step_11 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_5[(step_11 * 2)], dense_local_ptr_5[((step_11 * 2) + 8)], dense_local_ptr_5[((step_11 * 2) + 1)], dense_local_ptr_5[((step_11 * 2) + 9)], (&(columns_of_x_local_ptr_5[((step_11 * 4) + 16)])));
  }
  alignas(64) uint values_shared_dyn_local_ptr_3[4];
  alignas(64) uint positions_shared_dyn_local_ptr_3[1];
  *(uint4*)(values_shared_dyn_local_ptr_3 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 512) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)) + 12032));
  positions_shared_dyn_local_ptr_3[0] = ((uint*)buf_dyn_shmem_ptr)[((((((int)threadIdx.y) * 128) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x)) + 576)];
  alignas(64) half columns_of_x_local_ptr_6[32];
  for (int ax3_6 = 0; ax3_6 < 2; ++ax3_6) {
    for (int ax5_0_6 = 0; ax5_0_6 < 2; ++ax5_0_6) {
      int cse_v34 = (ax5_0_6 * 8);
      *(uint4*)(columns_of_x_local_ptr_6 + ((ax3_6 * 16) + (ax5_0_6 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_6 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_6 * 8)) + 15104));
    }
  }
  alignas(64) uint dense_local_ptr_6[16];
  alignas(64) uint picked_ptr_6[4];
  *(uint4*)(picked_ptr_6 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_3[0] >> (uint)0) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_6[0] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[0] >> (uint)0));
  dense_local_ptr_6[1] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[0] >> (uint)16));
  dense_local_ptr_6[2] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[1] >> (uint)0));
  dense_local_ptr_6[3] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[1] >> (uint)16));
  dense_local_ptr_6[4] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[2] >> (uint)0));
  dense_local_ptr_6[5] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[2] >> (uint)16));
  dense_local_ptr_6[6] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[3] >> (uint)0));
  dense_local_ptr_6[7] = permute_bytes(values_shared_dyn_local_ptr_3[0], (uint)0, (picked_ptr_6[3] >> (uint)16));
  *(uint4*)(picked_ptr_6 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_3[0] >> (uint)8) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_6[8] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[0] >> (uint)0));
  dense_local_ptr_6[9] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[0] >> (uint)16));
  dense_local_ptr_6[10] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[1] >> (uint)0));
  dense_local_ptr_6[11] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[1] >> (uint)16));
  dense_local_ptr_6[12] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[2] >> (uint)0));
  dense_local_ptr_6[13] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[2] >> (uint)16));
  dense_local_ptr_6[14] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[3] >> (uint)0));
  dense_local_ptr_6[15] = permute_bytes(values_shared_dyn_local_ptr_3[1], (uint)0, (picked_ptr_6[3] >> (uint)16));
  for (int step_12 = 0; step_12 < 4; ++step_12) {
    int cse_v35 = (step_12 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_6[(step_12 * 2)], dense_local_ptr_6[((step_12 * 2) + 8)], dense_local_ptr_6[((step_12 * 2) + 1)], dense_local_ptr_6[((step_12 * 2) + 9)], (&(columns_of_x_local_ptr_6[(step_12 * 4)])));
  }
  for (int step_13 = 0; step_13 < 4; ++step_13) {
    int cse_v36 = (step_13 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_6[(step_13 * 2)], dense_local_ptr_6[((step_13 * 2) + 8)], dense_local_ptr_6[((step_13 * 2) + 1)], dense_local_ptr_6[((step_13 * 2) + 9)], (&(columns_of_x_local_ptr_6[((step_13 * 4) + 16)])));
  }
  alignas(64) half columns_of_x_local_ptr_7[32];
  for (int ax3_7 = 0; ax3_7 < 2; ++ax3_7) {
    for (int ax5_0_7 = 0; ax5_0_7 < 2; ++ax5_0_7) {
      int cse_v37 = (ax5_0_7 * 8);
      *(uint4*)(columns_of_x_local_ptr_7 + ((ax3_7 * 16) + (ax5_0_7 * 8))) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((((int)threadIdx.z) * 2176) + (ax3_7 * 1088)) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_7 * 8)) + 15168));
    }
  }
  alignas(64) uint dense_local_ptr_7[16];
  alignas(64) uint picked_ptr_7[4];
  *(uint4*)(picked_ptr_7 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_3[0] >> (uint)16) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_7[0] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[0] >> (uint)0));
  dense_local_ptr_7[1] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[0] >> (uint)16));
  dense_local_ptr_7[2] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[1] >> (uint)0));
  dense_local_ptr_7[3] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[1] >> (uint)16));
  dense_local_ptr_7[4] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[2] >> (uint)0));
  dense_local_ptr_7[5] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[2] >> (uint)16));
  dense_local_ptr_7[6] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[3] >> (uint)0));
  dense_local_ptr_7[7] = permute_bytes(values_shared_dyn_local_ptr_3[2], (uint)0, (picked_ptr_7[3] >> (uint)16));
  *(uint4*)(picked_ptr_7 + 0) = *(uint4*)(((uint*)buf_dyn_shmem_ptr) + (((((int)((positions_shared_dyn_local_ptr_3[0] >> (uint)24) & (uint)255)) * 32) + ((((int)threadIdx.x) & 7) * 4)) + 13824));
  dense_local_ptr_7[8] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[0] >> (uint)0));
  dense_local_ptr_7[9] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[0] >> (uint)16));
  dense_local_ptr_7[10] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[1] >> (uint)0));
  dense_local_ptr_7[11] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[1] >> (uint)16));
  dense_local_ptr_7[12] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[2] >> (uint)0));
  dense_local_ptr_7[13] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[2] >> (uint)16));
  dense_local_ptr_7[14] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[3] >> (uint)0));
  dense_local_ptr_7[15] = permute_bytes(values_shared_dyn_local_ptr_3[3], (uint)0, (picked_ptr_7[3] >> (uint)16));
  for (int step_14 = 0; step_14 < 4; ++step_14) {
    int cse_v38 = (step_14 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_7[(step_14 * 2)], dense_local_ptr_7[((step_14 * 2) + 8)], dense_local_ptr_7[((step_14 * 2) + 1)], dense_local_ptr_7[((step_14 * 2) + 9)], (&(columns_of_x_local_ptr_7[(step_14 * 4)])));
  }
  for (int step_15 = 0; step_15 < 4; ++step_15) {
    int cse_v39 = (step_15 * 2);
    mma_m16n8k16_f16((&(sums_ptr[4])), dense_local_ptr_7[(step_15 * 2)], dense_local_ptr_7[((step_15 * 2) + 8)], dense_local_ptr_7[((step_15 * 2) + 1)], dense_local_ptr_7[((step_15 * 2) + 9)], (&(columns_of_x_local_ptr_7[((step_15 * 4) + 16)])));
  }
  meet_cluster();
  for (int p = 0; p < 2; ++p) {
    for (int i_2 = 0; i_2 < 4; ++i_2) {
      store_in_first((&(((float*)buf_dyn_shmem_ptr)[(((((((((int)blockIdx.z) * 2048) + (((int)threadIdx.z) * 1024)) + (((int)threadIdx.y) * 256)) + (p * 128)) + (i_2 * 32)) + ((int)threadIdx.x)) + 1024)])), sums_ptr[((p * 4) + i_2)]);
    }
  }
  meet_cluster();
  for (int ax1_ax2_ax3_fused_0 = 0; ax1_ax2_ax3_fused_0 < 4; ++ax1_ax2_ax3_fused_0) {
    alignas(64) float total_ptr[1];
    int cse_v40 = (((int)threadIdx.y) & 1);
    for (int ax4 = 0; ax4 < 8; ++ax4) {
      for (int ax5 = 0; ax5 < 2; ++ax5) {
        if ((ax4 == 0) && (ax5 == 0)) {
          total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
        }
        total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((((((((((ax4 * 2048) + (ax5 * 1024)) + ((((int)threadIdx.y) & 1) * 512)) + ((((int)threadIdx.x) >> 4) * 256)) + ((ax1_ax2_ax3_fused_0 >> 1) * 128)) + (((((int)threadIdx.x) & 15) >> 3) * 64)) + ((((int)threadIdx.y) >> 1) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + ((ax1_ax2_ax3_fused_0 & 1) * 2)) + ((int)threadIdx.z)) + 1024)]);
      }
    }
    if (is_first() != 0) {
      int cse_v41 = (((int)blockIdx.y) * 64);
      int cse_v48 = ((((int)threadIdx.y) & 1) * 32);
      y_ptr[((((((ax1_ax2_ax3_fused_0 * 4096) + (((int)threadIdx.z) * 2048)) + ((((int)threadIdx.y) >> 1) * 1024)) + (((int)blockIdx.y) * 64)) + ((((int)threadIdx.y) & 1) * 32)) + ((int)threadIdx.x))] = ((half)(total_ptr[0] + bias_ptr[(((((int)blockIdx.y) * 64) + ((((int)threadIdx.y) & 1) * 32)) + ((int)threadIdx.x))]));
    }
  }
}
