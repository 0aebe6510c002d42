extern "C" __global__ void __launch_bounds__(64, 1) main_kernel(float* __restrict__ bias_ptr, uint* __restrict__ positions_ptr, float* __restrict__ values_ptr, float* __restrict__ x_ptr, float* __restrict__ y_ptr) {
  alignas(64) float total_local_ptr[8];
  total_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[1] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[2] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[3] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[4] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[5] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[6] = 0x0p+0f/*0.000000e+00*/;
  total_local_ptr[7] = 0x0p+0f/*0.000000e+00*/;
  for (int c_0 = 0; c_0 < 4; ++c_0) {
    extern __shared__ __align__(64) float staged_shared_dyn_ptr[];
    __syncthreads();
    for (int ax3_ax1_ax2_0_fused_0 = 0; ax3_ax1_ax2_0_fused_0 < 32; ++ax3_ax1_ax2_0_fused_0) {
      int cse_v1 = (ax3_ax1_ax2_0_fused_0 >> 1);
      int cse_v2 = (ax3_ax1_ax2_0_fused_0 & 1);
      staged_shared_dyn_ptr[(((((ax3_ax1_ax2_0_fused_0 & 1) * 2304) + (((int)threadIdx.y) * 1152)) + (((int)threadIdx.x) * 36)) + (ax3_ax1_ax2_0_fused_0 >> 1))] = x_ptr[((((((ax3_ax1_ax2_0_fused_0 >> 1) * 512) + (c_0 * 128)) + ((ax3_ax1_ax2_0_fused_0 & 1) * 64)) + (((int)threadIdx.y) * 32)) + ((int)threadIdx.x))];
    }
    __syncthreads();
    for (int c_1 = 0; c_1 < 2; ++c_1) {
      alignas(64) uint indices_local_ptr[1];
      indices_local_ptr[0] = positions_ptr[((((((int)blockIdx.y) * 256) + (c_0 * 64)) + (c_1 * 32)) + ((int)threadIdx.x))];
      alignas(64) float values_local_ptr[4];
      int cse_v14 = ((((((int)blockIdx.y) * 2048) + (c_0 * 512)) + (c_1 * 256)) + (((int)threadIdx.x) * 4));
      *(float4*)(values_local_ptr + 0) = *(float4*)(values_ptr + ((((((int)blockIdx.y) * 2048) + (c_0 * 512)) + (c_1 * 256)) + (((int)threadIdx.x) * 4)));
      alignas(64) float found_local_ptr[8];
      int cse_v3 = (c_1 * 2304);
      int cse_v4 = (((int)threadIdx.y) * 8);
      for (int ax5_0 = 0; ax5_0 < 2; ++ax5_0) {
        int cse_v5 = (ax5_0 * 4);
        *(float4*)(found_local_ptr + (ax5_0 * 4)) = *(float4*)(staged_shared_dyn_ptr + ((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)0) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0 * 4)));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr[0] * values_local_ptr[0]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr[1] * values_local_ptr[0]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr[2] * values_local_ptr[0]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr[3] * values_local_ptr[0]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr[4] * values_local_ptr[0]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr[5] * values_local_ptr[0]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr[6] * values_local_ptr[0]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr[7] * values_local_ptr[0]));
      alignas(64) float found_local_ptr_1[8];
      for (int ax5_0_1 = 0; ax5_0_1 < 2; ++ax5_0_1) {
        int cse_v6 = (ax5_0_1 * 4);
        *(float4*)(found_local_ptr_1 + (ax5_0_1 * 4)) = *(float4*)(staged_shared_dyn_ptr + ((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)4) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_1 * 4)));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_1[0] * values_local_ptr[1]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_1[1] * values_local_ptr[1]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_1[2] * values_local_ptr[1]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_1[3] * values_local_ptr[1]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_1[4] * values_local_ptr[1]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_1[5] * values_local_ptr[1]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_1[6] * values_local_ptr[1]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_1[7] * values_local_ptr[1]));
      alignas(64) float found_local_ptr_2[8];
      for (int ax5_0_2 = 0; ax5_0_2 < 2; ++ax5_0_2) {
        int cse_v7 = (ax5_0_2 * 4);
        *(float4*)(found_local_ptr_2 + (ax5_0_2 * 4)) = *(float4*)(staged_shared_dyn_ptr + (((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)8) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_2 * 4)) + 576));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_2[0] * values_local_ptr[2]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_2[1] * values_local_ptr[2]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_2[2] * values_local_ptr[2]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_2[3] * values_local_ptr[2]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_2[4] * values_local_ptr[2]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_2[5] * values_local_ptr[2]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_2[6] * values_local_ptr[2]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_2[7] * values_local_ptr[2]));
      alignas(64) float found_local_ptr_3[8];
      for (int ax5_0_3 = 0; ax5_0_3 < 2; ++ax5_0_3) {
        int cse_v8 = (ax5_0_3 * 4);
        *(float4*)(found_local_ptr_3 + (ax5_0_3 * 4)) = *(float4*)(staged_shared_dyn_ptr + (((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)12) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_3 * 4)) + 576));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_3[0] * values_local_ptr[3]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_3[1] * values_local_ptr[3]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_3[2] * values_local_ptr[3]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_3[3] * values_local_ptr[3]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_3[4] * values_local_ptr[3]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_3[5] * values_local_ptr[3]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_3[6] * values_local_ptr[3]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_3[7] * values_local_ptr[3]));
      alignas(64) float values_local_ptr_1[4];
      *(float4*)(values_local_ptr_1 + 0) = *(float4*)(values_ptr + (((((((int)blockIdx.y) * 2048) + (c_0 * 512)) + (c_1 * 256)) + (((int)threadIdx.x) * 4)) + 128));
      alignas(64) float found_local_ptr_4[8];
      for (int ax5_0_4 = 0; ax5_0_4 < 2; ++ax5_0_4) {
        int cse_v9 = (ax5_0_4 * 4);
        *(float4*)(found_local_ptr_4 + (ax5_0_4 * 4)) = *(float4*)(staged_shared_dyn_ptr + (((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)16) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_4 * 4)) + 1152));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_4[0] * values_local_ptr_1[0]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_4[1] * values_local_ptr_1[0]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_4[2] * values_local_ptr_1[0]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_4[3] * values_local_ptr_1[0]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_4[4] * values_local_ptr_1[0]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_4[5] * values_local_ptr_1[0]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_4[6] * values_local_ptr_1[0]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_4[7] * values_local_ptr_1[0]));
      alignas(64) float found_local_ptr_5[8];
      for (int ax5_0_5 = 0; ax5_0_5 < 2; ++ax5_0_5) {
        int cse_v10 = (ax5_0_5 * 4);
        *(float4*)(found_local_ptr_5 + (ax5_0_5 * 4)) = *(float4*)(staged_shared_dyn_ptr + (((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)20) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_5 * 4)) + 1152));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_5[0] * values_local_ptr_1[1]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_5[1] * values_local_ptr_1[1]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_5[2] * values_local_ptr_1[1]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_5[3] * values_local_ptr_1[1]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_5[4] * values_local_ptr_1[1]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_5[5] * values_local_ptr_1[1]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_5[6] * values_local_ptr_1[1]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_5[7] * values_local_ptr_1[1]));
      alignas(64) float found_local_ptr_6[8];
      for (int ax5_0_6 = 0; ax5_0_6 < 2; ++ax5_0_6) {
        int cse_v11 = (ax5_0_6 * 4);
        *(float4*)(found_local_ptr_6 + (ax5_0_6 * 4)) = *(float4*)(staged_shared_dyn_ptr + (((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)24) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_6 * 4)) + 1728));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_6[0] * values_local_ptr_1[2]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_6[1] * values_local_ptr_1[2]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_6[2] * values_local_ptr_1[2]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_6[3] * values_local_ptr_1[2]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_6[4] * values_local_ptr_1[2]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_6[5] * values_local_ptr_1[2]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_6[6] * values_local_ptr_1[2]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_6[7] * values_local_ptr_1[2]));
      alignas(64) float found_local_ptr_7[8];
      for (int ax5_0_7 = 0; ax5_0_7 < 2; ++ax5_0_7) {
        int cse_v12 = (ax5_0_7 * 4);
        *(float4*)(found_local_ptr_7 + (ax5_0_7 * 4)) = *(float4*)(staged_shared_dyn_ptr + (((((c_1 * 2304) + (((int)((indices_local_ptr[0] >> (uint)28) & (uint)15)) * 36)) + (((int)threadIdx.y) * 8)) + (ax5_0_7 * 4)) + 1728));
      }
      total_local_ptr[0] = (total_local_ptr[0] + (found_local_ptr_7[0] * values_local_ptr_1[3]));
      total_local_ptr[1] = (total_local_ptr[1] + (found_local_ptr_7[1] * values_local_ptr_1[3]));
      total_local_ptr[2] = (total_local_ptr[2] + (found_local_ptr_7[2] * values_local_ptr_1[3]));
      total_local_ptr[3] = (total_local_ptr[3] + (found_local_ptr_7[3] * values_local_ptr_1[3]));
      total_local_ptr[4] = (total_local_ptr[4] + (found_local_ptr_7[4] * values_local_ptr_1[3]));
      total_local_ptr[5] = (total_local_ptr[5] + (found_local_ptr_7[5] * values_local_ptr_1[3]));
      total_local_ptr[6] = (total_local_ptr[6] + (found_local_ptr_7[6] * values_local_ptr_1[3]));
      total_local_ptr[7] = (total_local_ptr[7] + (found_local_ptr_7[7] * values_local_ptr_1[3]));
    }
  }
  for (int ax3 = 0; ax3 < 8; ++ax3) {
    int cse_v13 = (((int)blockIdx.y) * 32);
    y_ptr[((((((int)threadIdx.y) * 2048) + (ax3 * 256)) + (((int)blockIdx.y) * 32)) + ((int)threadIdx.x))] = (total_local_ptr[ax3] + bias_ptr[((((int)blockIdx.y) * 32) + ((int)threadIdx.x))]);
  }
}
