// Arrays in NumPy's format NPY (NEP 1), read strictly and written.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "error.hpp"

namespace tvm_balanced {

struct NpyHeader {
  std::string descr;  // "<f4"
  bool fortran = false;
  std::vector<int64_t> shape;
  size_t start = 0;  // where the data begins in the file
};

namespace detail {

// Reads the dict of a header, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, and nothing else: it is no Python.
class NpyDict {
 public:
  NpyDict(const char* begin, const char* end) : at_(begin), end_(end) {}

  bool read(NpyHeader& header) {
    bool descr = false, order = false, shape = false;
    if (!take('{')) return false;
    while (!take('}')) {
      std::optional<std::string> key = literal();
      if (!key || !take(':')) return false;
      if (*key == "descr" && !descr) {
        auto found = literal();
        if (!found) return false;
        header.descr = *found, descr = true;
      } else if (*key == "fortran_order" && !order) {
        header.fortran = word("True");
        if (!header.fortran && !word("False")) return false;
        order = true;
      } else if (*key == "shape" && !shape) {
        if (!sizes(header.shape)) return false;
        shape = true;
      } else {
        return false;
      }
      if (!take(',') && !(skip(), at_ < end_ && *at_ == '}')) return false;
    }
    skip();
    return descr && order && shape && at_ == end_;
  }

 private:
  void skip() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n')) ++at_;
  }
  bool take(char c) {
    skip();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  bool word(const char* wanted) {
    skip();
    size_t size = std::strlen(wanted);
    if (size_t(end_ - at_) < size || std::memcmp(at_, wanted, size) != 0) return false;
    at_ += size;
    return true;
  }
  std::optional<std::string> literal() {
    if (!take('\'')) return std::nullopt;
    std::string found;
    while (at_ < end_ && *at_ != '\'' && *at_ != '\\') found += *at_++;
    if (!take('\'')) return std::nullopt;
    return found;
  }
  bool sizes(std::vector<int64_t>& shape) {
    if (!take('(')) return false;
    while (!take(')')) {
      int64_t size = 0;
      int digits = 0;
      for (skip(); at_ < end_ && *at_ >= '0' && *at_ <= '9'; ++at_, ++digits) {
        if (__builtin_mul_overflow(size, int64_t(10), &size) || __builtin_add_overflow(size, int64_t(*at_ - '0'), &size)) return false;
      }
      if (!digits) return false;
      shape.push_back(size);
      if (!take(',') && !(skip(), at_ < end_ && *at_ == ')')) return false;
    }
    return true;
  }

  const char *at_, *end_;
};

}  // namespace detail

inline constexpr size_t kLongestHeader = 4096;  // bytes; np.save writes 128 for up to 32 dimensions

// The header of a .npy file of which the first `size` bytes are given; nothing where it is damaged.
inline std::optional<NpyHeader> read_npy_header(const char* bytes, size_t size) {
  if (size < 12 || std::memcmp(bytes, "\x93NUMPY", 6) != 0) return std::nullopt;
  int major = bytes[6], minor = bytes[7];
  if ((major != 1 && major != 2) || minor != 0) return std::nullopt;
  size_t length = 0, count = major == 1 ? 2 : 4;
  for (size_t i = 0; i < count; ++i) length |= size_t(uint8_t(bytes[8 + i])) << 8 * i;
  NpyHeader header;
  header.start = 8 + count + length;
  if (length > kLongestHeader || header.start > size) return std::nullopt;
  const char* begin = bytes + 8 + count;
  if (!detail::NpyDict(begin, begin + length).read(header)) return std::nullopt;
  return header;
}

namespace detail {

inline const std::vector<std::pair<std::string, std::string>>& npy_dtypes() {
  static const std::vector<std::pair<std::string, std::string>> known = {
      {"bool", "|b1"},   {"int8", "|i1"},    {"int16", "<i2"},   {"int32", "<i4"},   {"int64", "<i8"},   {"uint8", "|u1"},
      {"uint16", "<u2"}, {"uint32", "<u4"},  {"uint64", "<u8"},  {"float16", "<f2"}, {"float32", "<f4"}, {"float64", "<f8"},
      {"bfloat16", "<u2"}};
  return known;
}

}  // namespace detail

// NumPy's name of a dtype, little-endian; bfloat16 is stored as its bits. Empty where it is none.
inline std::string npy_descr(const std::string& dtype) {
  for (const auto& [name, descr] : detail::npy_dtypes()) {
    if (name == dtype) return descr;
  }
  return "";
}

// The dtype of NumPy's name; empty where it is none that models have.
inline std::string dtype_of_npy(const std::string& descr) {
  for (const auto& [name, known] : detail::npy_dtypes()) {
    if (known == descr) return name;
  }
  return "";
}

// Writes an array. Throws Error where the file cannot be written.
inline void write_npy(const std::string& path, const std::string& dtype, const std::vector<int64_t>& shape, const void* data, size_t bytes) {
  std::string sizes;
  for (int64_t size : shape) sizes += std::to_string(size) + (shape.size() == 1 ? "," : ", ");
  if (shape.size() > 1) sizes.resize(sizes.size() - 2);
  std::string header = "{'descr': '" + npy_descr(dtype) + "', 'fortran_order': False, 'shape': (" + sizes + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8);
  file.put(char(header.size() & 255)).put(char(header.size() >> 8));
  file.write(header.data(), std::streamsize(header.size())).write(static_cast<const char*>(data), std::streamsize(bytes));
  if (!file.flush()) throw Error(text(path, " cannot be written; choose another place"));
}

}  // namespace tvm_balanced
