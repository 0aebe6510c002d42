extern "C" __global__ void __launch_bounds__(256, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, float* __restrict__ scales_ptr, uint* __restrict__ values_ptr, half* __restrict__ x_ptr, half* __restrict__ y_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  alignas(64) float scales_local_ptr[1];
  alignas(64) float total_rf_shared_dyn_local_ptr[1];
  int cse_v3 = ((((int)blockIdx.y) * 32) + ((int)threadIdx.x));
  scales_local_ptr[0] = scales_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))];
  total_rf_shared_dyn_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
  if (((int)threadIdx.y) < 2) {
    int cse_v4 = ((((int)threadIdx.y) * 256) + (((int)threadIdx.x) * 8));
    *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((int)threadIdx.y) * 256) + (((int)threadIdx.x) * 8))) = *(uint4*)(x_ptr + ((((int)threadIdx.y) * 256) + (((int)threadIdx.x) * 8)));
  }
  alignas(64) uint indices_local_ptr[1];
  int cse_v1 = (((int)threadIdx.y) * 32);
  indices_local_ptr[0] = positions_ptr[(((((int)blockIdx.y) * 256) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))];
  alignas(64) uint values_local_ptr[2];
  int cse_v2 = (((int)threadIdx.y) * 64);
  *(uint2*)(values_local_ptr + 0) = *(uint2*)(values_ptr + (((((int)blockIdx.y) * 512) + (((int)threadIdx.y) * 64)) + (((int)threadIdx.x) * 2)));
  alignas(64) half found_local_ptr[1];
  __syncthreads();
  found_local_ptr[0] = ((half*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)0) & (uint)15)))];
      float v_ = scales_local_ptr[0];
    uint v__1 = permute_bytes(values_local_ptr[0], (((*(uint *)(&(v_))) & (uint)2147483648) | (uint)1191182336), (uint)30212);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr[0]) * (((*(float *)(&(v__1))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_1[1];
  found_local_ptr_1[0] = ((half*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)4) & (uint)15)))];
      float v__2 = scales_local_ptr[0];
    uint v__3 = permute_bytes(values_local_ptr[0], (((*(uint *)(&(v__2))) & (uint)2147483648) | (uint)1191182336), (uint)30228);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_1[0]) * (((*(float *)(&(v__3))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_2[1];
  found_local_ptr_2[0] = ((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)8) & (uint)15))) + 16)];
      float v__4 = scales_local_ptr[0];
    uint v__5 = permute_bytes(values_local_ptr[0], (((*(uint *)(&(v__4))) & (uint)2147483648) | (uint)1191182336), (uint)30244);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_2[0]) * (((*(float *)(&(v__5))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_3[1];
  found_local_ptr_3[0] = ((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)12) & (uint)15))) + 16)];
      float v__6 = scales_local_ptr[0];
    uint v__7 = permute_bytes(values_local_ptr[0], (((*(uint *)(&(v__6))) & (uint)2147483648) | (uint)1191182336), (uint)30260);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_3[0]) * (((*(float *)(&(v__7))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_4[1];
  found_local_ptr_4[0] = ((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)16) & (uint)15))) + 32)];
      float v__8 = scales_local_ptr[0];
    uint v__9 = permute_bytes(values_local_ptr[1], (((*(uint *)(&(v__8))) & (uint)2147483648) | (uint)1191182336), (uint)30212);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_4[0]) * (((*(float *)(&(v__9))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_5[1];
  found_local_ptr_5[0] = ((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)20) & (uint)15))) + 32)];
      float v__10 = scales_local_ptr[0];
    uint v__11 = permute_bytes(values_local_ptr[1], (((*(uint *)(&(v__10))) & (uint)2147483648) | (uint)1191182336), (uint)30228);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_5[0]) * (((*(float *)(&(v__11))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_6[1];
  found_local_ptr_6[0] = ((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)24) & (uint)15))) + 48)];
      float v__12 = scales_local_ptr[0];
    uint v__13 = permute_bytes(values_local_ptr[1], (((*(uint *)(&(v__12))) & (uint)2147483648) | (uint)1191182336), (uint)30244);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_6[0]) * (((*(float *)(&(v__13))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  alignas(64) half found_local_ptr_7[1];
  found_local_ptr_7[0] = ((half*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 64) + ((int)((indices_local_ptr[0] >> (uint)28) & (uint)15))) + 48)];
      float v__14 = scales_local_ptr[0];
    uint v__15 = permute_bytes(values_local_ptr[1], (((*(uint *)(&(v__14))) & (uint)2147483648) | (uint)1191182336), (uint)30260);
  total_rf_shared_dyn_local_ptr[0] = (total_rf_shared_dyn_local_ptr[0] + (((float)found_local_ptr_7[0]) * (((*(float *)(&(v__15))) * scales_local_ptr[0]) - (0x1.01p+15f/*3.289600e+04*/ * scales_local_ptr[0]))));
  __syncthreads();
  ((float*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 32) + ((int)threadIdx.x))] = total_rf_shared_dyn_local_ptr[0];
  alignas(64) float total_local_ptr[1];
  __syncthreads();
  for (int ax0 = 0; ax0 < 8; ++ax0) {
    if (((int)threadIdx.y) < 1) {
      if (ax0 == 0) {
        total_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
      }
      total_local_ptr[0] = (total_local_ptr[0] + ((float*)buf_dyn_shmem_ptr)[((ax0 * 32) + ((int)threadIdx.x))]);
    }
  }
  if (((int)threadIdx.y) < 1) {
    y_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))] = ((half)(total_local_ptr[0] + bias_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))]));
  }
}
