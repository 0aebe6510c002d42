// Files of an artifact: opened only if they are regular files, never through a link, and never waiting for a fifo.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>

#include "error.hpp"

namespace tvm_balanced {

// An open file, closed with this object.
class RegularFile {
 public:
  // Throws std::filesystem::filesystem_error where there is none, or something else than a regular file.
  explicit RegularFile(const std::string& path) : path_(path), descriptor_(::open(path.c_str(), kFlags)) {
    struct stat found;
    if (descriptor_ < 0) fail(errno);
    if (::fstat(descriptor_, &found) != 0 || !S_ISREG(found.st_mode)) {
      ::close(descriptor_);
      fail(EINVAL);
    }
    size_ = size_t(found.st_size);
  }
  ~RegularFile() { ::close(descriptor_); }
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int descriptor() const { return descriptor_; }
  size_t size() const { return size_; }

  // Reads all of it to `space`, which has size() bytes.
  void read_to(void* space) const {
    size_t done = 0;
    while (done < size_) {
      ssize_t got = ::pread(descriptor_, static_cast<char*>(space) + done, size_ - done, off_t(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(errno);
      if (got == 0) throw Error(text(path_, " was cut off while it was read; copy the artifact again"));
      done += size_t(got);
    }
  }

  std::string content() const {
    std::string all(size_, '\0');
    read_to(all.data());
    return all;
  }

 private:
  static constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;

  [[noreturn]] void fail(int code) const {
    throw std::filesystem::filesystem_error("cannot be read", path_, std::error_code(code, std::generic_category()));
  }

  std::string path_;
  int descriptor_;
  size_t size_ = 0;
};

// Whether text has no control characters, so that it can be shown.
inline bool is_printable(const std::string& text) {
  for (unsigned char c : text) {
    if (c < 0x20 || c == 0x7f) return false;
  }
  return true;
}

// Text as a literal of Python, so that what is in a file's name moves no cursor.
inline std::string quoted(const std::string& text) {
  static const char* digits = "0123456789abcdef";
  std::string shown = "'";
  for (unsigned char c : text) {
    if (c == '\n') {
      shown += "\\n";
    } else if (c < 0x20 || c >= 0x7f) {
      shown += std::string("\\x") + digits[c >> 4] + digits[c & 15];
    } else {
      shown += char(c);
    }
  }
  return shown + "'";
}

// The paths of all files below a directory, relative to it. Throws Error where something there is neither a file nor a directory.
inline std::set<std::string> files_below(const std::string& directory) {
  namespace fs = std::filesystem;
  std::set<std::string> found;
  fs::recursive_directory_iterator entries(directory);  // which does not go through links
  for (const auto& entry : entries) {
    auto kind = entry.symlink_status().type();
    if (kind == fs::file_type::directory) continue;
    if (kind != fs::file_type::regular) {
      const char* what = kind == fs::file_type::symlink ? "a symbolic link" : "neither a file nor a directory";
      throw Error(text(entry.path().string(), " is ", what, ", which no artifact holds; copy it again, with its files"));
    }
    found.insert(entry.path().lexically_relative(directory).generic_string());
  }
  return found;
}

}  // namespace tvm_balanced
