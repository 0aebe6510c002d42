// A GPU: TVM's CUDA library, which is opened when a model needs it, the model's machine code, and copies to the GPU and back.
#pragma once

#include <dlfcn.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/optional.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "error.hpp"
#include "sha256.hpp"
#include "tensor.hpp"

namespace tvm_balanced {
namespace detail {

inline constexpr DLDevice kGpu{kDLCUDA, 0};

// Why TVM's CUDA library cannot be opened; empty if it can.
inline const std::string& cuda_library_fault() {
  static const std::string fault = [] {
    if (::dlopen("libtvm_runtime_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return std::string();
    const char* said = ::dlerror();
    return std::string(said ? said : "it is damaged");
  }();
  return fault;
}

inline tvm::ffi::Any gpu_attribute(int attribute) {
  return tvm::ffi::Function::GetGlobalRequired("runtime.GetDeviceAttr")(int(kGpu.device_type), int(kGpu.device_id), attribute);
}

// Why code for `arch`, such as "sm_90", cannot run here; empty if it can: the GPU has the same major version, and no older minor one.
inline std::string gpu_fault(const std::string& arch) {
  constexpr int kExist = 0, kComputeVersion = 4;
  const std::string& fault = cuda_library_fault();
  if (!fault.empty()) {
    return text("TVM's CUDA library cannot be opened (", fault, "): install NVIDIA's driver and the runtime of CUDA 13, and put ",
                "libtvm_runtime_cuda.so beside libtvm_runtime.so");
  }
  if (!gpu_attribute(kExist).cast<int64_t>()) return "CUDA shows no GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES";
  std::string here, wanted;
  for (char c : std::string(gpu_attribute(kComputeVersion).cast<tvm::ffi::String>())) here += std::isdigit(c) ? std::string(1, c) : "";
  for (char c : arch) wanted += std::isdigit(c) ? std::string(1, c) : "";
  bool runs = !wanted.empty() && here.size() == wanted.size() && here.substr(0, here.size() - 1) == wanted.substr(0, wanted.size() - 1) &&
              here.back() >= wanted.back();
  return runs ? "" : text("its GPU is of sm_", here, ": load it on one that fits");
}

// Lets TVM find machine code by the SHA-256 of its source when it first uses that source.
inline void add_machine_code(const std::string& digest, const std::string& code) {
  static std::map<std::string, std::string> known;
  static std::mutex lock;
  static std::once_flag installed;
  std::call_once(installed, [] {
    auto find = tvm::ffi::Function::FromTyped([](tvm::ffi::String source) {
      std::lock_guard<std::mutex> guard(lock);
      auto found = known.find(sha256(source.data(), source.size()));
      if (found == known.end()) throw Error("the artifact holds no machine code for a kernel; save it where nvcc is installed");
      return tvm::ffi::Bytes(found->second);
    });
    tvm::ffi::Function::SetGlobal("tvm_callback_cuda_compile", find, true);
  });
  std::lock_guard<std::mutex> guard(lock);
  known[digest] = code;
}

inline void wait_for_gpu() {
  tvm::ffi::Function::GetGlobalRequired("runtime.Device_StreamSync")(kGpu, int64_t(0));
}

inline void copy_between(const Tensor& from, const Tensor& to) {
  tvm::ffi::Function::GetGlobalRequired("runtime.TVMTensorCopyFromTo")(from, to);
  wait_for_gpu();
}

inline Tensor to_gpu(const Tensor& tensor) {
  std::vector<int64_t> sizes = shape_of(tensor);
  tvm::ffi::Optional<tvm::ffi::String> scope;
  auto allocate = tvm::ffi::Function::GetGlobalRequired("runtime.TVMTensorAllocWithScope");
  Tensor made = allocate(tvm::ffi::Shape(sizes.begin(), sizes.end()), tensor.dtype(), kGpu, scope).cast<Tensor>();
  copy_between(tensor, made);
  return made;
}

inline Tensor from_gpu(const Tensor& tensor) {
  Tensor made = empty(shape_of(tensor), dtype_of(tensor));
  copy_between(tensor, made);
  return made;
}

}  // namespace detail
}  // namespace tvm_balanced
