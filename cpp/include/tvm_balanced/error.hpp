// The one error that this library throws: a sentence that says what was given, what was expected, what to do.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace tvm_balanced {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The parts, written one behind the other.
template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Why an artifact cannot be used as it is.
inline Error damaged(const std::string& directory, const std::string& what) {
  return Error(text(directory, " is not a whole artifact (", what, "); copy the artifact again, or compile the model again"));
}

}  // namespace tvm_balanced
