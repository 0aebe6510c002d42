// The self-test of an artifact, where it lands: what it stores of inputs is run, and outputs are compared with the original model's.
#pragma once

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "module.hpp"

namespace tvm_balanced {

struct SelfTestResult {
  std::string entry_point;
  bool ok = true;
  std::string found;
};

namespace detail {

inline double half_to_double(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 31 ? (fraction ? std::nan("") : std::numeric_limits<double>::infinity())
                               : std::ldexp(exponent ? fraction + 1024 : fraction, (exponent ? exponent : 1) - 25);
  return bits >> 15 ? -size : size;
}

template <typename T>
double value_at(const void* data, int64_t place) {
  T value;
  std::memcpy(&value, static_cast<const T*>(data) + place, sizeof value);
  return double(value);
}

// A value of a tensor of any dtype as a number.
inline double value_at(const Tensor& tensor, int64_t place) {
  const std::string dtype = dtype_of(tensor);
  const void* data = tensor.data_ptr();
  if (dtype == "float32") return value_at<float>(data, place);
  if (dtype == "float64") return value_at<double>(data, place);
  if (dtype == "float16") return half_to_double(static_cast<const uint16_t*>(data)[place]);
  if (dtype == "bfloat16") {
    uint32_t bits = uint32_t(static_cast<const uint16_t*>(data)[place]) << 16;
    return value_at<float>(&bits, 0);
  }
  if (dtype == "int64") return value_at<int64_t>(data, place);
  if (dtype == "int32") return value_at<int32_t>(data, place);
  if (dtype == "int16") return value_at<int16_t>(data, place);
  if (dtype == "int8") return value_at<int8_t>(data, place);
  if (dtype == "uint64") return value_at<uint64_t>(data, place);
  if (dtype == "uint32") return value_at<uint32_t>(data, place);
  if (dtype == "uint16") return value_at<uint16_t>(data, place);
  return value_at<uint8_t>(data, place);  // uint8, bool
}

// What is stored of an input, over and over again until its shape is full.
inline Tensor repeated(const Tensor& values, const std::vector<int64_t>& shape) {
  Tensor whole = empty(shape, dtype_of(values));
  size_t total = bytes_of(whole), size = bytes_of(values);
  for (size_t done = 0; done < total; done += size) {
    std::memcpy(static_cast<char*>(whole.data_ptr()) + done, values.data_ptr(), std::min(size, total - done));
  }
  return whole;
}

// The largest difference of an output to what is stored of it.
inline double difference(const Tensor& output, const Tensor& stored) {
  double largest = 0;
  int64_t size = output.numel(), count = stored.numel();
  for (int64_t i = 0; i < count; ++i) {
    double got = value_at(output, int64_t(__int128(i) * size / count)), want = value_at(stored, i);
    if (got == want || (std::isnan(got) && std::isnan(want))) continue;
    double error = std::abs(got - want);
    largest = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest, error);
  }
  return largest;
}

inline std::vector<Tensor> copies(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> made;
  for (const Tensor& tensor : tensors) made.push_back(copy(tensor));
  return made;
}

}  // namespace detail

// Runs the stored test of each entry point. Its files are checked against their checksums first.
inline std::vector<SelfTestResult> self_test(const Module& module) {
  const Manifest& manifest = module.manifest();
  auto read = [&](const Stored& row) {
    std::string path = path_of(module.directory(), manifest, row.file), content = RegularFile(path).content();
    if (sha256(content.data(), content.size()) != manifest.sha256.at(row.file)) {
      throw Error(text(path, " was altered (its checksum differs); copy the artifact again, or compile the model again"));
    }
    return read_npy(path, row.dtype, row.shape);
  };
  std::vector<SelfTestResult> results;
  for (const auto& [name, test] : manifest.self_test) {
    std::vector<Tensor> inputs;
    for (const Stored& row : test.inputs) inputs.push_back(detail::repeated(read(row), row.of));
    std::vector<Tensor> outputs = module[name](detail::copies(inputs));
    SelfTestResult result{name, true, ""};
    double largest = 0;
    for (size_t i = 0; i < outputs.size() && result.ok; ++i) {
      const Stored& row = test.outputs[i];
      bool same = detail::shape_of(outputs[i]) == row.of && detail::dtype_of(outputs[i]) == row.dtype;
      double error = same ? detail::difference(outputs[i], read(row)) : 0;
      result.ok = same && !(row.allowed && !(error <= *row.allowed));
      if (!same) result.found = text(row.name, " has another shape or dtype than the stored one");
      if (same && !result.ok) result.found = text(row.name, " differs from the original model by ", error, "; ", *row.allowed, " is allowed");
      largest = std::max(largest, error);
    }
    if (result.ok) result.found = text("largest difference to the original model ", largest, ", as allowed");
    results.push_back(result);
  }
  return results;
}

}  // namespace tvm_balanced
