extern "C" __global__ void __launch_bounds__(512) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[4];
  for (int i = 0; i < 4; ++i) {
    sums_ptr[i] = 0x0p+0f/*0.000000e+00*/;
  }
  int cse_v2 = (((int)threadIdx.z) * 128);
  int cse_v3 = (((int)threadIdx.z) * 1088);
  int cse_v1 = (((int)threadIdx.x) >> 4);
  int cse_v16 = ((((int)threadIdx.x) & 15) * 8);
  ptx_cp_async_legacy_cg_16_2_2(buf_dyn_shmem_ptr, ((((((int)threadIdx.z) * 1088) + (((int)threadIdx.y) * 272)) + ((((int)threadIdx.x) >> 4) * 136)) + ((((int)threadIdx.x) & 15) * 8)), x_ptr, ((((((int)threadIdx.y) * 1024) + ((((int)threadIdx.x) >> 4) * 512)) + (((int)threadIdx.z) * 128)) + ((((int)threadIdx.x) & 15) * 8)));
  tvm_builtin_ptx_cp_async_commit_group_async_commit_group();
  int cse_v4 = (((int)threadIdx.y) * 128);
  tvm_builtin_ptx_cp_async_wait_group_async_wait_group_0();
  __syncthreads();
  alignas(64) uint values_local_ptr[4];
  alignas(64) uint positions_local_ptr[1];
  *(uint4*)(values_local_ptr + 0) = *(uint4*)(values_ptr + ((((((int)blockIdx.y) * 2048) + (((int)threadIdx.y) * 512)) + (((int)threadIdx.z) * 128)) + (((int)threadIdx.x) * 4)));
  positions_local_ptr[0] = positions_ptr[((((((int)blockIdx.y) * 512) + (((int)threadIdx.y) * 128)) + (((int)threadIdx.z) * 32)) + ((int)threadIdx.x))];
  alignas(64) uint dense_local_ptr[16];
  for (int ax3 = 0; ax3 < 2; ++ax3) {
    int cse_v5 = (ax3 * 8);
    uint cse_v17 = ((uint)(ax3 * 8));
    int cse_v18 = ((ax3 * 8) + 4);
    uint cse_v20 = ((uint)((ax3 * 8) + 4));
    uint condval;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)0) {
      condval = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval = (uint)0;
    }
    uint condval_1;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)0) {
      condval_1 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_1 = (uint)0;
    }
    dense_local_ptr[(ax3 * 8)] = (((uint)0 | condval) | condval_1);
    uint condval_2;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)2) {
      condval_2 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_2 = (uint)0;
    }
    uint condval_3;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)2) {
      condval_3 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_3 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 1)] = (((uint)0 | condval_2) | condval_3);
    uint condval_4;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)4) {
      condval_4 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_4 = (uint)0;
    }
    uint condval_5;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)4) {
      condval_5 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_5 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 2)] = (((uint)0 | condval_4) | condval_5);
    uint condval_6;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)6) {
      condval_6 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_6 = (uint)0;
    }
    uint condval_7;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)6) {
      condval_7 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_7 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 3)] = (((uint)0 | condval_6) | condval_7);
    uint condval_8;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)8) {
      condval_8 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_8 = (uint)0;
    }
    uint condval_9;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)8) {
      condval_9 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_9 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 4)] = (((uint)0 | condval_8) | condval_9);
    uint condval_10;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)10) {
      condval_10 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_10 = (uint)0;
    }
    uint condval_11;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)10) {
      condval_11 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_11 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 5)] = (((uint)0 | condval_10) | condval_11);
    uint condval_12;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)12) {
      condval_12 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_12 = (uint)0;
    }
    uint condval_13;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)12) {
      condval_13 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_13 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 6)] = (((uint)0 | condval_12) | condval_13);
    uint condval_14;
    if (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)14) == (uint)14) {
      condval_14 = (((values_local_ptr[ax3] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)(ax3 * 8))) & (uint)1) << (uint)4));
    } else {
      condval_14 = (uint)0;
    }
    uint condval_15;
    if (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)14) == (uint)14) {
      condval_15 = (((values_local_ptr[ax3] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3 * 8) + 4))) & (uint)1) << (uint)4));
    } else {
      condval_15 = (uint)0;
    }
    dense_local_ptr[((ax3 * 8) + 7)] = (((uint)0 | condval_14) | condval_15);
  }
  alignas(64) half columns_of_x_local_ptr[16];
  int cse_v23 = (((((int)threadIdx.z) * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16));
  for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
    int cse_v6 = (ax5_0 * 8);
    *(uint4*)(columns_of_x_local_ptr + (ax5_0 * 8)) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.z) * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0 * 8)));
  }
  for (int step = 0; step < 4; ++step) {
    int cse_v7 = (step * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr[(step * 2)], dense_local_ptr[((step * 2) + 8)], dense_local_ptr[((step * 2) + 1)], dense_local_ptr[((step * 2) + 9)], (&(columns_of_x_local_ptr[(step * 4)])));
  }
  alignas(64) uint dense_local_ptr_1[16];
  for (int ax3_1 = 0; ax3_1 < 2; ++ax3_1) {
    int cse_v8 = (ax3_1 * 8);
    int cse_v9 = (ax3_1 + 2);
    uint cse_v21 = ((uint)((ax3_1 * 8) + 16));
    uint cse_v22 = ((uint)((ax3_1 * 8) + 20));
    uint condval_16;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)0) {
      condval_16 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_16 = (uint)0;
    }
    uint condval_17;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)0) {
      condval_17 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_17 = (uint)0;
    }
    dense_local_ptr_1[(ax3_1 * 8)] = (((uint)0 | condval_16) | condval_17);
    uint condval_18;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)2) {
      condval_18 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_18 = (uint)0;
    }
    uint condval_19;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)2) {
      condval_19 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_19 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 1)] = (((uint)0 | condval_18) | condval_19);
    uint condval_20;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)4) {
      condval_20 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_20 = (uint)0;
    }
    uint condval_21;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)4) {
      condval_21 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_21 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 2)] = (((uint)0 | condval_20) | condval_21);
    uint condval_22;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)6) {
      condval_22 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_22 = (uint)0;
    }
    uint condval_23;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)6) {
      condval_23 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_23 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 3)] = (((uint)0 | condval_22) | condval_23);
    uint condval_24;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)8) {
      condval_24 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_24 = (uint)0;
    }
    uint condval_25;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)8) {
      condval_25 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_25 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 4)] = (((uint)0 | condval_24) | condval_25);
    uint condval_26;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)10) {
      condval_26 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_26 = (uint)0;
    }
    uint condval_27;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)10) {
      condval_27 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_27 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 5)] = (((uint)0 | condval_26) | condval_27);
    uint condval_28;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)12) {
      condval_28 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_28 = (uint)0;
    }
    uint condval_29;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)12) {
      condval_29 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_29 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 6)] = (((uint)0 | condval_28) | condval_29);
    uint condval_30;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)14) == (uint)14) {
      condval_30 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)0) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 16))) & (uint)1) << (uint)4));
    } else {
      condval_30 = (uint)0;
    }
    uint condval_31;
    if (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)14) == (uint)14) {
      condval_31 = (((values_local_ptr[(ax3_1 + 2)] >> (uint)16) & (uint)65535) << (((positions_local_ptr[0] >> ((uint)((ax3_1 * 8) + 20))) & (uint)1) << (uint)4));
    } else {
      condval_31 = (uint)0;
    }
    dense_local_ptr_1[((ax3_1 * 8) + 7)] = (((uint)0 | condval_30) | condval_31);
  }
  alignas(64) half columns_of_x_local_ptr_1[16];
  for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
    int cse_v10 = (ax5_0_1 * 8);
    *(uint4*)(columns_of_x_local_ptr_1 + (ax5_0_1 * 8)) = *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((((int)threadIdx.z) * 1088) + ((((int)threadIdx.x) >> 2) * 136)) + ((((int)threadIdx.x) & 3) * 16)) + (ax5_0_1 * 8)) + 64));
  }
  for (int step_1 = 0; step_1 < 4; ++step_1) {
    int cse_v11 = (step_1 * 2);
    mma_m16n8k16_f16((&(sums_ptr[0])), dense_local_ptr_1[(step_1 * 2)], dense_local_ptr_1[((step_1 * 2) + 8)], dense_local_ptr_1[((step_1 * 2) + 1)], dense_local_ptr_1[((step_1 * 2) + 9)], (&(columns_of_x_local_ptr_1[(step_1 * 4)])));
  }
  int cse_v12 = (((int)threadIdx.z) * 512);
  __syncthreads();
  for (int ax4 = 0; ax4 < 4; ++ax4) {
    ((float*)buf_dyn_shmem_ptr)[((((((int)threadIdx.z) * 512) + (((int)threadIdx.y) * 128)) + (ax4 * 32)) + ((int)threadIdx.x))] = sums_ptr[ax4];
  }
  alignas(64) float total_ptr[1];
  int cse_v13 = (((int)threadIdx.y) & 1);
  int cse_v14 = (((int)threadIdx.y) >> 1);
  __syncthreads();
  for (int ax4_1 = 0; ax4_1 < 4; ++ax4_1) {
    if (ax4_1 == 0) {
      total_ptr[0] = 0x0p+0f/*0.000000e+00*/;
    }
    total_ptr[0] = (total_ptr[0] + ((float*)buf_dyn_shmem_ptr)[((((((ax4_1 * 512) + ((((int)threadIdx.y) & 1) * 256)) + ((((int)threadIdx.x) >> 3) * 64)) + ((((int)threadIdx.y) >> 1) * 32)) + ((((int)threadIdx.x) & 7) * 4)) + ((int)threadIdx.z))]);
  }
  int cse_v15 = (((int)blockIdx.y) * 64);
  int cse_v19 = ((((int)threadIdx.y) & 1) * 32);
  y_ptr[(((((((int)threadIdx.z) * 512) + ((((int)threadIdx.y) >> 1) * 256)) + (((int)blockIdx.y) * 64)) + ((((int)threadIdx.y) & 1) * 32)) + ((int)threadIdx.x))] = ((half)(total_ptr[0] + bias_ptr[(((((int)blockIdx.y) * 64) + ((((int)threadIdx.y) & 1) * 32)) + ((int)threadIdx.x))]));
}
