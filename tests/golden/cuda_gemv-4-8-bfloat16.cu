extern "C" __global__ void __launch_bounds__(512, 2) main_kernel(float* __restrict__ bias_ptr, ushort* __restrict__ positions_ptr, nv_bfloat16* __restrict__ values_ptr, nv_bfloat16* __restrict__ x_ptr, nv_bfloat16* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float total_rf_shared_dyn_local_ptr[4];
  alignas(64) uint entry_ptr[2];
  int cse_v1 = (((int)threadIdx.y) * 32);
  if (((int)threadIdx.y) < 8) {
    entry_ptr[0] = (uint)0;
    entry_ptr[1] = (uint)0;
    int cse_v4 = ((((int)threadIdx.y) * 32) + ((int)threadIdx.x));
    uint cse_v5 = ((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x)));
    uint cse_v8 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)7));
    uint condval;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)7)) != (uint)0) {
      condval = ((entry_ptr[0] << (uint)4) | (uint)7);
    } else {
      condval = entry_ptr[0];
    }
    entry_ptr[0] = condval;
    uint cse_v9 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)0));
    uint condval_1;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)0)) != (uint)0) {
      condval_1 = ((entry_ptr[1] >> (uint)4) | ((uint)8 << (uint)28));
    } else {
      condval_1 = entry_ptr[1];
    }
    entry_ptr[1] = condval_1;
    uint cse_v10 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)6));
    uint condval_2;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)6)) != (uint)0) {
      condval_2 = ((entry_ptr[0] << (uint)4) | (uint)6);
    } else {
      condval_2 = entry_ptr[0];
    }
    entry_ptr[0] = condval_2;
    uint cse_v11 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)1));
    uint condval_3;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)1)) != (uint)0) {
      condval_3 = ((entry_ptr[1] >> (uint)4) | ((uint)9 << (uint)28));
    } else {
      condval_3 = entry_ptr[1];
    }
    entry_ptr[1] = condval_3;
    uint cse_v12 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)5));
    uint condval_4;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)5)) != (uint)0) {
      condval_4 = ((entry_ptr[0] << (uint)4) | (uint)5);
    } else {
      condval_4 = entry_ptr[0];
    }
    entry_ptr[0] = condval_4;
    uint cse_v13 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)2));
    uint condval_5;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)2)) != (uint)0) {
      condval_5 = ((entry_ptr[1] >> (uint)4) | ((uint)10 << (uint)28));
    } else {
      condval_5 = entry_ptr[1];
    }
    entry_ptr[1] = condval_5;
    uint cse_v14 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)4));
    uint condval_6;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)4)) != (uint)0) {
      condval_6 = ((entry_ptr[0] << (uint)4) | (uint)4);
    } else {
      condval_6 = entry_ptr[0];
    }
    entry_ptr[0] = condval_6;
    uint cse_v15 = (((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)3));
    uint condval_7;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)3)) != (uint)0) {
      condval_7 = ((entry_ptr[1] >> (uint)4) | ((uint)11 << (uint)28));
    } else {
      condval_7 = entry_ptr[1];
    }
    entry_ptr[1] = condval_7;
    uint condval_8;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)3)) != (uint)0) {
      condval_8 = ((entry_ptr[0] << (uint)4) | (uint)3);
    } else {
      condval_8 = entry_ptr[0];
    }
    entry_ptr[0] = condval_8;
    uint condval_9;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)4)) != (uint)0) {
      condval_9 = ((entry_ptr[1] >> (uint)4) | ((uint)12 << (uint)28));
    } else {
      condval_9 = entry_ptr[1];
    }
    entry_ptr[1] = condval_9;
    uint condval_10;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)2)) != (uint)0) {
      condval_10 = ((entry_ptr[0] << (uint)4) | (uint)2);
    } else {
      condval_10 = entry_ptr[0];
    }
    entry_ptr[0] = condval_10;
    uint condval_11;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)5)) != (uint)0) {
      condval_11 = ((entry_ptr[1] >> (uint)4) | ((uint)13 << (uint)28));
    } else {
      condval_11 = entry_ptr[1];
    }
    entry_ptr[1] = condval_11;
    uint condval_12;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)1)) != (uint)0) {
      condval_12 = ((entry_ptr[0] << (uint)4) | (uint)1);
    } else {
      condval_12 = entry_ptr[0];
    }
    entry_ptr[0] = condval_12;
    uint condval_13;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)6)) != (uint)0) {
      condval_13 = ((entry_ptr[1] >> (uint)4) | ((uint)14 << (uint)28));
    } else {
      condval_13 = entry_ptr[1];
    }
    entry_ptr[1] = condval_13;
    uint condval_14;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)0)) != (uint)0) {
      condval_14 = ((entry_ptr[0] << (uint)4) | (uint)0);
    } else {
      condval_14 = entry_ptr[0];
    }
    entry_ptr[0] = condval_14;
    uint condval_15;
    if ((((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x))) & ((uint)1 << (uint)7)) != (uint)0) {
      condval_15 = ((entry_ptr[1] >> (uint)4) | ((uint)15 << (uint)28));
    } else {
      condval_15 = entry_ptr[1];
    }
    entry_ptr[1] = condval_15;
    ((uint*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 1024)] = entry_ptr[0];
    ((uint*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 1280)] = entry_ptr[1];
  }
  total_rf_shared_dyn_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
  total_rf_shared_dyn_local_ptr[1] = 0x0p+0f/*0.000000e+00*/;
  total_rf_shared_dyn_local_ptr[2] = 0x0p+0f/*0.000000e+00*/;
  total_rf_shared_dyn_local_ptr[3] = 0x0p+0f/*0.000000e+00*/;
  for (int ax1_ax2_0_ax3_fused_0 = 0; ax1_ax2_0_ax3_fused_0 < 4; ++ax1_ax2_0_ax3_fused_0) {
    ((nv_bfloat16*)buf_dyn_shmem_ptr)[(((ax1_ax2_0_ax3_fused_0 * 512) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))] = x_ptr[(((((((int)threadIdx.x) & 3) * 512) + (ax1_ax2_0_ax3_fused_0 * 128)) + (((int)threadIdx.y) * 8)) + (((int)threadIdx.x) >> 2))];
  }
  alignas(64) uint indices_local_ptr[1];
  int cse_v6 = (((((int)blockIdx.y) * 1024) + (((int)threadIdx.y) * 64)) + ((int)threadIdx.x));
  __syncthreads();
  indices_local_ptr[0] = (((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[(((((int)blockIdx.y) * 1024) + (((int)threadIdx.y) * 64)) + ((int)threadIdx.x))] & (ushort)255)) + 1024)] | ((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[(((((int)blockIdx.y) * 1024) + (((int)threadIdx.y) * 64)) + ((int)threadIdx.x))] >> (ushort)8)) + 1280)]);
  alignas(64) nv_bfloat16 values_local_ptr[8];
  int cse_v7 = (((((int)blockIdx.y) * 8192) + (((int)threadIdx.y) * 512)) + (((int)threadIdx.x) * 8));
  *(uint4*)(values_local_ptr + 0) = *(uint4*)(values_ptr + (((((int)blockIdx.y) * 8192) + (((int)threadIdx.y) * 512)) + (((int)threadIdx.x) * 8)));
  alignas(64) nv_bfloat16 found_local_ptr[4];
  int cse_v2 = (((int)threadIdx.y) * 128);
  *(nv_bfloat164*)(found_local_ptr + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)0) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr[0]) * ((float)values_local_ptr[0])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr[1]) * ((float)values_local_ptr[0])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr[2]) * ((float)values_local_ptr[0])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr[3]) * ((float)values_local_ptr[0])));
  alignas(64) nv_bfloat16 found_local_ptr_1[4];
  *(nv_bfloat164*)(found_local_ptr_1 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)4) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_1[0]) * ((float)values_local_ptr[1])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_1[1]) * ((float)values_local_ptr[1])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_1[2]) * ((float)values_local_ptr[1])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_1[3]) * ((float)values_local_ptr[1])));
  alignas(64) nv_bfloat16 found_local_ptr_2[4];
  *(nv_bfloat164*)(found_local_ptr_2 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)8) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_2[0]) * ((float)values_local_ptr[2])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_2[1]) * ((float)values_local_ptr[2])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_2[2]) * ((float)values_local_ptr[2])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_2[3]) * ((float)values_local_ptr[2])));
  alignas(64) nv_bfloat16 found_local_ptr_3[4];
  *(nv_bfloat164*)(found_local_ptr_3 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)12) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_3[0]) * ((float)values_local_ptr[3])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_3[1]) * ((float)values_local_ptr[3])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_3[2]) * ((float)values_local_ptr[3])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_3[3]) * ((float)values_local_ptr[3])));
  alignas(64) nv_bfloat16 found_local_ptr_4[4];
  *(nv_bfloat164*)(found_local_ptr_4 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)16) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_4[0]) * ((float)values_local_ptr[4])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_4[1]) * ((float)values_local_ptr[4])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_4[2]) * ((float)values_local_ptr[4])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_4[3]) * ((float)values_local_ptr[4])));
  alignas(64) nv_bfloat16 found_local_ptr_5[4];
  *(nv_bfloat164*)(found_local_ptr_5 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)20) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_5[0]) * ((float)values_local_ptr[5])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_5[1]) * ((float)values_local_ptr[5])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_5[2]) * ((float)values_local_ptr[5])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_5[3]) * ((float)values_local_ptr[5])));
  alignas(64) nv_bfloat16 found_local_ptr_6[4];
  *(nv_bfloat164*)(found_local_ptr_6 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)24) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_6[0]) * ((float)values_local_ptr[6])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_6[1]) * ((float)values_local_ptr[6])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_6[2]) * ((float)values_local_ptr[6])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_6[3]) * ((float)values_local_ptr[6])));
  alignas(64) nv_bfloat16 found_local_ptr_7[4];
  *(nv_bfloat164*)(found_local_ptr_7 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr[0] >> (uint)28) & (uint)15)) * 4)));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_7[0]) * ((float)values_local_ptr[7])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_7[1]) * ((float)values_local_ptr[7])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_7[2]) * ((float)values_local_ptr[7])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_7[3]) * ((float)values_local_ptr[7])));
  alignas(64) uint indices_local_ptr_1[1];
  int cse_v16 = ((((((int)blockIdx.y) * 1024) + (((int)threadIdx.y) * 64)) + ((int)threadIdx.x)) + 32);
  indices_local_ptr_1[0] = (((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((int)blockIdx.y) * 1024) + (((int)threadIdx.y) * 64)) + ((int)threadIdx.x)) + 32)] & (ushort)255)) + 1024)] | ((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((int)blockIdx.y) * 1024) + (((int)threadIdx.y) * 64)) + ((int)threadIdx.x)) + 32)] >> (ushort)8)) + 1280)]);
  alignas(64) nv_bfloat16 values_local_ptr_1[8];
  *(uint4*)(values_local_ptr_1 + 0) = *(uint4*)(values_ptr + ((((((int)blockIdx.y) * 8192) + (((int)threadIdx.y) * 512)) + (((int)threadIdx.x) * 8)) + 256));
  alignas(64) nv_bfloat16 found_local_ptr_8[4];
  *(nv_bfloat164*)(found_local_ptr_8 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)0) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_8[0]) * ((float)values_local_ptr_1[0])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_8[1]) * ((float)values_local_ptr_1[0])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_8[2]) * ((float)values_local_ptr_1[0])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_8[3]) * ((float)values_local_ptr_1[0])));
  alignas(64) nv_bfloat16 found_local_ptr_9[4];
  *(nv_bfloat164*)(found_local_ptr_9 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)4) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_9[0]) * ((float)values_local_ptr_1[1])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_9[1]) * ((float)values_local_ptr_1[1])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_9[2]) * ((float)values_local_ptr_1[1])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_9[3]) * ((float)values_local_ptr_1[1])));
  alignas(64) nv_bfloat16 found_local_ptr_10[4];
  *(nv_bfloat164*)(found_local_ptr_10 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)8) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_10[0]) * ((float)values_local_ptr_1[2])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_10[1]) * ((float)values_local_ptr_1[2])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_10[2]) * ((float)values_local_ptr_1[2])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_10[3]) * ((float)values_local_ptr_1[2])));
  alignas(64) nv_bfloat16 found_local_ptr_11[4];
  *(nv_bfloat164*)(found_local_ptr_11 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)12) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_11[0]) * ((float)values_local_ptr_1[3])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_11[1]) * ((float)values_local_ptr_1[3])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_11[2]) * ((float)values_local_ptr_1[3])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_11[3]) * ((float)values_local_ptr_1[3])));
  alignas(64) nv_bfloat16 found_local_ptr_12[4];
  *(nv_bfloat164*)(found_local_ptr_12 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)16) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_12[0]) * ((float)values_local_ptr_1[4])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_12[1]) * ((float)values_local_ptr_1[4])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_12[2]) * ((float)values_local_ptr_1[4])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_12[3]) * ((float)values_local_ptr_1[4])));
  alignas(64) nv_bfloat16 found_local_ptr_13[4];
  *(nv_bfloat164*)(found_local_ptr_13 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)20) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_13[0]) * ((float)values_local_ptr_1[5])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_13[1]) * ((float)values_local_ptr_1[5])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_13[2]) * ((float)values_local_ptr_1[5])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_13[3]) * ((float)values_local_ptr_1[5])));
  alignas(64) nv_bfloat16 found_local_ptr_14[4];
  *(nv_bfloat164*)(found_local_ptr_14 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)24) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_14[0]) * ((float)values_local_ptr_1[6])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_14[1]) * ((float)values_local_ptr_1[6])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_14[2]) * ((float)values_local_ptr_1[6])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_14[3]) * ((float)values_local_ptr_1[6])));
  alignas(64) nv_bfloat16 found_local_ptr_15[4];
  *(nv_bfloat164*)(found_local_ptr_15 + 0) = *(nv_bfloat164*)(((nv_bfloat16*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 128) + (((int)((indices_local_ptr_1[0] >> (uint)28) & (uint)15)) * 4)) + 64));
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_15[0]) * ((float)values_local_ptr_1[7])));
  total_rf_shared_dyn_local_ptr[1] = (total_rf_shared_dyn_local_ptr[1] + (((float)found_local_ptr_15[1]) * ((float)values_local_ptr_1[7])));
  total_rf_shared_dyn_local_ptr[2] = (total_rf_shared_dyn_local_ptr[2] + (((float)found_local_ptr_15[2]) * ((float)values_local_ptr_1[7])));
  total_rf_shared_dyn_local_ptr[3] = (total_rf_shared_dyn_local_ptr[3] + (((float)found_local_ptr_15[3]) * ((float)values_local_ptr_1[7])));
  __syncthreads();
  for (int ax2 = 0; ax2 < 4; ++ax2) {
    ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 128) + (ax2 * 32)) + ((int)threadIdx.x))] = total_rf_shared_dyn_local_ptr[ax2];
  }
  alignas(64) float total_local_ptr[1];
  __syncthreads();
  for (int ax0 = 0; ax0 < 16; ++ax0) {
    if (((int)threadIdx.y) < 4) {
      if (ax0 == 0) {
        total_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
      }
      total_local_ptr[0] = (total_local_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((ax0 * 128) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))]);
    }
  }
  if (((int)threadIdx.y) < 4) {
    int cse_v3 = (((int)blockIdx.y) * 32);
    y_ptr[(((((int)threadIdx.y) * 256) + (((int)blockIdx.y) * 32)) + ((int)threadIdx.x))] = ((nv_bfloat16)(total_local_ptr[0] + bias_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))]));
  }
}
