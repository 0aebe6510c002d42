extern "C" __global__ void __launch_bounds__(512, 1) main_kernel(float* __restrict__ bias_ptr, ushort* __restrict__ positions_ptr, half* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float sums_ptr[1];
  alignas(64) int enlisted_ptr[1];
  enlisted_ptr[0] = 1;
  alignas(64) uint entry_ptr[2];
  int cse_v1 = (((int)threadIdx.y) * 32);
  if (((int)threadIdx.y) < 8) {
    entry_ptr[0] = (uint)0;
    entry_ptr[1] = (uint)0;
    int cse_v4 = ((((int)threadIdx.y) * 32) + ((int)threadIdx.x));
    uint cse_v7 = ((uint)((((int)threadIdx.y) * 32) + ((int)threadIdx.x)));
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
  sums_ptr[0] = 0x0p+0f/*0.000000e+00*/;
  int cse_v2 = (((int)threadIdx.y) * 256);
  int cse_v3 = (((int)threadIdx.x) * 8);
  if (((int)threadIdx.y) < 8) {
    *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 256) + (((int)threadIdx.x) * 8))) = *(uint4*)(x_ptr + (((((int)blockIdx.z) * 2048) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)));
  }
  __syncthreads();
  for (int c_1 = 0; c_1 < 2; ++c_1) {
    alignas(64) uint indices_local_ptr[1];
    int cse_v16 = (((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x));
    indices_local_ptr[0] = (((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[(((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))] & (ushort)255)) + 1024)] | ((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[(((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))] >> (ushort)8)) + 1280)]);
    alignas(64) half values_local_ptr[8];
    int cse_v17 = (((((((int)blockIdx.y) * 131072) + (((int)blockIdx.z) * 32768)) + (c_1 * 16384)) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8));
    *(uint4*)(values_local_ptr + 0) = *(uint4*)(values_ptr + (((((((int)blockIdx.y) * 131072) + (((int)blockIdx.z) * 32768)) + (c_1 * 16384)) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)));
    alignas(64) half found_local_ptr[1];
    int cse_v5 = ((c_1 * 1024) + (((int)threadIdx.y) * 16));
    found_local_ptr[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)0) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr[0]) * ((float)values_local_ptr[0])));
    alignas(64) half found_local_ptr_1[1];
    found_local_ptr_1[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)4) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_1[0]) * ((float)values_local_ptr[1])));
    alignas(64) half found_local_ptr_2[1];
    found_local_ptr_2[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)8) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_2[0]) * ((float)values_local_ptr[2])));
    alignas(64) half found_local_ptr_3[1];
    found_local_ptr_3[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)12) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_3[0]) * ((float)values_local_ptr[3])));
    alignas(64) half found_local_ptr_4[1];
    found_local_ptr_4[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)16) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_4[0]) * ((float)values_local_ptr[4])));
    alignas(64) half found_local_ptr_5[1];
    found_local_ptr_5[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)20) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_5[0]) * ((float)values_local_ptr[5])));
    alignas(64) half found_local_ptr_6[1];
    found_local_ptr_6[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)24) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_6[0]) * ((float)values_local_ptr[6])));
    alignas(64) half found_local_ptr_7[1];
    found_local_ptr_7[0] = ((half*)buf_dyn_shmem_ptr)[(((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr[0] >> (uint)28) & (uint)15)))];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_7[0]) * ((float)values_local_ptr[7])));
    alignas(64) uint indices_local_ptr_1[1];
    int cse_v18 = ((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 512);
    indices_local_ptr_1[0] = (((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 512)] & (ushort)255)) + 1024)] | ((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 512)] >> (ushort)8)) + 1280)]);
    alignas(64) half values_local_ptr_1[8];
    *(uint4*)(values_local_ptr_1 + 0) = *(uint4*)(values_ptr + ((((((((int)blockIdx.y) * 131072) + (((int)blockIdx.z) * 32768)) + (c_1 * 16384)) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)) + 4096));
    alignas(64) half found_local_ptr_8[1];
    found_local_ptr_8[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)0) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_8[0]) * ((float)values_local_ptr_1[0])));
    alignas(64) half found_local_ptr_9[1];
    found_local_ptr_9[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)4) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_9[0]) * ((float)values_local_ptr_1[1])));
    alignas(64) half found_local_ptr_10[1];
    found_local_ptr_10[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)8) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_10[0]) * ((float)values_local_ptr_1[2])));
    alignas(64) half found_local_ptr_11[1];
    found_local_ptr_11[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)12) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_11[0]) * ((float)values_local_ptr_1[3])));
    alignas(64) half found_local_ptr_12[1];
    found_local_ptr_12[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)16) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_12[0]) * ((float)values_local_ptr_1[4])));
    alignas(64) half found_local_ptr_13[1];
    found_local_ptr_13[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)20) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_13[0]) * ((float)values_local_ptr_1[5])));
    alignas(64) half found_local_ptr_14[1];
    found_local_ptr_14[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)24) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_14[0]) * ((float)values_local_ptr_1[6])));
    alignas(64) half found_local_ptr_15[1];
    found_local_ptr_15[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_1[0] >> (uint)28) & (uint)15))) + 256)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_15[0]) * ((float)values_local_ptr_1[7])));
    alignas(64) uint indices_local_ptr_2[1];
    int cse_v19 = ((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 1024);
    indices_local_ptr_2[0] = (((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 1024)] & (ushort)255)) + 1024)] | ((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 1024)] >> (ushort)8)) + 1280)]);
    alignas(64) half values_local_ptr_2[8];
    *(uint4*)(values_local_ptr_2 + 0) = *(uint4*)(values_ptr + ((((((((int)blockIdx.y) * 131072) + (((int)blockIdx.z) * 32768)) + (c_1 * 16384)) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)) + 8192));
    alignas(64) half found_local_ptr_16[1];
    found_local_ptr_16[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)0) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_16[0]) * ((float)values_local_ptr_2[0])));
    alignas(64) half found_local_ptr_17[1];
    found_local_ptr_17[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)4) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_17[0]) * ((float)values_local_ptr_2[1])));
    alignas(64) half found_local_ptr_18[1];
    found_local_ptr_18[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)8) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_18[0]) * ((float)values_local_ptr_2[2])));
    alignas(64) half found_local_ptr_19[1];
    found_local_ptr_19[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)12) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_19[0]) * ((float)values_local_ptr_2[3])));
    alignas(64) half found_local_ptr_20[1];
    found_local_ptr_20[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)16) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_20[0]) * ((float)values_local_ptr_2[4])));
    alignas(64) half found_local_ptr_21[1];
    found_local_ptr_21[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)20) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_21[0]) * ((float)values_local_ptr_2[5])));
    alignas(64) half found_local_ptr_22[1];
    found_local_ptr_22[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)24) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_22[0]) * ((float)values_local_ptr_2[6])));
    alignas(64) half found_local_ptr_23[1];
    found_local_ptr_23[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_2[0] >> (uint)28) & (uint)15))) + 512)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_23[0]) * ((float)values_local_ptr_2[7])));
    alignas(64) uint indices_local_ptr_3[1];
    int cse_v20 = ((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 1536);
    indices_local_ptr_3[0] = (((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 1536)] & (ushort)255)) + 1024)] | ((uint*)buf_dyn_shmem_ptr)[(((int)(positions_ptr[((((((((int)blockIdx.y) * 16384) + (((int)blockIdx.z) * 4096)) + (c_1 * 2048)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x)) + 1536)] >> (ushort)8)) + 1280)]);
    alignas(64) half values_local_ptr_3[8];
    *(uint4*)(values_local_ptr_3 + 0) = *(uint4*)(values_ptr + ((((((((int)blockIdx.y) * 131072) + (((int)blockIdx.z) * 32768)) + (c_1 * 16384)) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)) + 12288));
    alignas(64) half found_local_ptr_24[1];
    found_local_ptr_24[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)0) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_24[0]) * ((float)values_local_ptr_3[0])));
    alignas(64) half found_local_ptr_25[1];
    found_local_ptr_25[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)4) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_25[0]) * ((float)values_local_ptr_3[1])));
    alignas(64) half found_local_ptr_26[1];
    found_local_ptr_26[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)8) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_26[0]) * ((float)values_local_ptr_3[2])));
    alignas(64) half found_local_ptr_27[1];
    found_local_ptr_27[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)12) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_27[0]) * ((float)values_local_ptr_3[3])));
    alignas(64) half found_local_ptr_28[1];
    found_local_ptr_28[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)16) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_28[0]) * ((float)values_local_ptr_3[4])));
    alignas(64) half found_local_ptr_29[1];
    found_local_ptr_29[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)20) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_29[0]) * ((float)values_local_ptr_3[5])));
    alignas(64) half found_local_ptr_30[1];
    found_local_ptr_30[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)24) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_30[0]) * ((float)values_local_ptr_3[6])));
    alignas(64) half found_local_ptr_31[1];
    found_local_ptr_31[0] = ((half*)buf_dyn_shmem_ptr)[((((c_1 * 1024) + (((int)threadIdx.y) * 16)) + ((int)((indices_local_ptr_3[0] >> (uint)28) & (uint)15))) + 768)];
    sums_ptr[0] = (sums_ptr[0] + (((float)found_local_ptr_31[0]) * ((float)values_local_ptr_3[7])));
  }
  meet_cluster();
  store_in_first((&(((float*)buf_dyn_shmem_ptr)[(((((int)blockIdx.z) * 512) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))])), sums_ptr[0]);
  meet_cluster();
  alignas(64) float total_local_ptr[1];
  for (int ax4 = 0; ax4 < 4; ++ax4) {
    for (int ax5 = 0; ax5 < 16; ++ax5) {
      if (((int)threadIdx.y) < 1) {
        if ((ax4 == 0) && (ax5 == 0)) {
          total_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
        }
        total_local_ptr[0] = (total_local_ptr[0] + ((float*)buf_dyn_shmem_ptr)[(((ax4 * 512) + (ax5 * 32)) + ((int)threadIdx.x))]);
      }
    }
  }
  if (((int)threadIdx.y) < 1) {
    if (is_first() != 0) {
      int cse_v6 = ((((int)blockIdx.y) * 32) + ((int)threadIdx.x));
      y_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))] = ((half)(total_local_ptr[0] + bias_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))]));
    }
  }
}
