// Tensors in this process's memory, as compiled code takes them: contiguous, their data at a multiple of 64 bytes.
#pragma once

#include <sys/mman.h>
#include <tvm/ffi/container/tensor.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "error.hpp"
#include "files.hpp"
#include "npy.hpp"

namespace tvm_balanced {

using Tensor = tvm::ffi::Tensor;

inline constexpr size_t kAlignment = 64;              // bytes; compiled code uses aligned vector loads
inline constexpr size_t kHugePage = size_t(2) << 20;  // for tensors of two of them and more, if the system has such pages

namespace detail {

inline DLDataType to_dl(const std::string& dtype) {
  static const std::vector<std::pair<std::string, DLDataType>> known = {
      {"bool", {kDLBool, 8, 1}},    {"int8", {kDLInt, 8, 1}},     {"int16", {kDLInt, 16, 1}},    {"int32", {kDLInt, 32, 1}},
      {"int64", {kDLInt, 64, 1}},   {"uint8", {kDLUInt, 8, 1}},   {"uint16", {kDLUInt, 16, 1}},  {"uint32", {kDLUInt, 32, 1}},
      {"uint64", {kDLUInt, 64, 1}}, {"float16", {kDLFloat, 16, 1}}, {"float32", {kDLFloat, 32, 1}}, {"float64", {kDLFloat, 64, 1}},
      {"bfloat16", {kDLBfloat, 16, 1}}};
  for (const auto& [name, type] : known) {
    if (name == dtype) return type;
  }
  throw Error(text("dtype ", dtype, " is unknown"));
}

struct Memory {  // an allocator of tvm::ffi::Tensor::FromNDAlloc
  void AllocData(DLTensor* tensor) {
    size_t size = tvm::ffi::GetDataSize(*tensor), unit = size >= 2 * kHugePage ? kHugePage : kAlignment;
    tensor->data = std::aligned_alloc(unit, (std::max<size_t>(size, 1) + unit - 1) / unit * unit);
    if (!tensor->data) throw std::bad_alloc();
    if (unit == kHugePage) ::madvise(tensor->data, size, MADV_HUGEPAGE);
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

struct Mapped {  // pages of a file, which all processes of a machine share
  void* pages;
  size_t length, start;
  void AllocData(DLTensor* tensor) { tensor->data = static_cast<char*>(pages) + start; }
  void FreeData(DLTensor*) { ::munmap(pages, length); }
};

inline size_t bytes_for(const std::vector<int64_t>& shape, DLDataType dtype) {
  size_t bytes = size_t(dtype.bits) / 8;
  for (int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size_t(size), &bytes)) throw Error("a tensor is larger than memory; give smaller sizes");
  }
  return bytes;
}

inline std::string shown(const std::vector<int64_t>& shape) {
  std::string all;
  for (int64_t size : shape) all += (all.empty() ? "" : ", ") + std::to_string(size);
  return "[" + all + "]";
}

inline std::vector<int64_t> shape_of(const Tensor& tensor) { return {tensor.shape().begin(), tensor.shape().end()}; }

inline std::string dtype_of(const Tensor& tensor) { return tvm::ffi::DLDataTypeToString(tensor.dtype()); }

}  // namespace detail

// A new tensor of uninitialised values; `dtype` is "float32", "int64", ...
inline Tensor empty(const std::vector<int64_t>& shape, const std::string& dtype) {
  detail::bytes_for(shape, detail::to_dl(dtype));
  return Tensor::FromNDAlloc(detail::Memory(), tvm::ffi::ShapeView(shape.data(), shape.size()), detail::to_dl(dtype), DLDevice{kDLCPU, 0});
}

// The bytes of a tensor's data.
inline size_t bytes_of(const Tensor& tensor) { return size_t(tensor.numel()) * size_t(tensor.dtype().bits) / 8; }

inline Tensor zeros(const std::vector<int64_t>& shape, const std::string& dtype) {
  Tensor tensor = empty(shape, dtype);
  std::memset(tensor.data_ptr(), 0, bytes_of(tensor));
  return tensor;
}

// A tensor of these values, of which there must be as many as the shape has.
template <typename T>
Tensor tensor(const std::vector<T>& values, const std::vector<int64_t>& shape, const std::string& dtype) {
  Tensor made = empty(shape, dtype);
  if (bytes_of(made) != values.size() * sizeof(T)) {
    throw Error(text(values.size() * sizeof(T), " bytes of values were given for a tensor of ", bytes_of(made), " bytes; give as many"));
  }
  std::memcpy(made.data_ptr(), values.data(), bytes_of(made));
  return made;
}

inline Tensor copy(const Tensor& other) {
  Tensor made = empty(detail::shape_of(other), detail::dtype_of(other));
  std::memcpy(made.data_ptr(), other.data_ptr(), bytes_of(other));
  return made;
}

namespace detail {

// Where the data of a .npy file begins; throws Error where it is not of this dtype and shape.
inline size_t start_of_data(const char* bytes, size_t size, const std::string& file, const std::string& dtype, const std::vector<int64_t>& shape) {
  auto header = read_npy_header(bytes, std::min(size, kLongestHeader));
  if (!header) throw Error(text(file, " has a damaged header"));
  if (header->descr != npy_descr(dtype) || header->shape != shape || (header->fortran && shape.size() > 1)) {
    throw Error(text(file, " holds ", quoted(header->descr), shown(header->shape), header->fortran ? " by columns" : "", "; the manifest says ",
                     dtype, shown(shape)));
  }
  if (size - header->start != bytes_for(shape, to_dl(dtype))) {
    throw Error(text(file, " has ", size - header->start, " bytes of data, which do not fill ", dtype, shown(shape)));
  }
  return header->start;
}

}  // namespace detail

// A copy of the array in a .npy file.
inline Tensor read_npy(const std::string& path, const std::string& dtype, const std::vector<int64_t>& shape) {
  std::string content = RegularFile(path).content();
  size_t start = detail::start_of_data(content.data(), content.size(), path, dtype, shape);
  Tensor made = empty(shape, dtype);
  std::memcpy(made.data_ptr(), content.data() + start, bytes_of(made));
  return made;
}

// A copy of the array in a .npy file of any dtype and shape.
inline Tensor read_npy(const std::string& path) {
  std::string content = RegularFile(path).content();
  auto header = read_npy_header(content.data(), content.size());
  std::string dtype = header ? dtype_of_npy(header->descr) : "";
  if (dtype.empty()) throw Error(text(path, " is not a readable .npy file; write it with numpy.save"));
  return read_npy(path, dtype, header->shape);
}

inline void write_npy(const std::string& path, const Tensor& tensor) {
  write_npy(path, detail::dtype_of(tensor), detail::shape_of(tensor), tensor.data_ptr(), bytes_of(tensor));
}

}  // namespace tvm_balanced
