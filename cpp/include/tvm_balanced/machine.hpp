// This machine: its architecture and instruction sets, and the version of TVM that the program was built with.
#pragma once

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#include <tvm/runtime/base.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "error.hpp"
#include "gpu.hpp"
#include "json.hpp"
#include "manifest.hpp"

namespace tvm_balanced {

inline std::string host_architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "another";
#endif
}

namespace detail {

inline std::string plain(const std::string& feature) {
  static const std::map<std::string, std::string> kernel_names = {
      {"bmi", "bmi1"}, {"lzcnt", "abm"}, {"pclmul", "pclmulqdq"}, {"sse3", "pni"}, {"sha", "shani"}};
  auto known = kernel_names.find(feature);
  std::string found;
  for (char c : known == kernel_names.end() ? feature : known->second) {
    if (c != '.' && c != '-' && c != '_') found += c;
  }
  return found;
}

// The instruction sets of this machine.
inline const std::set<std::string>& host_features() {
  static const std::set<std::string> features = [] {
    std::set<std::string> found;
#if defined(__aarch64__)  // from the kernel itself: under an emulator /proc/cpuinfo is that of another machine
    const std::pair<const char*, unsigned long> first[] = {
        {"neon", HWCAP_ASIMD},       {"aes", HWCAP_AES},          {"sha2", HWCAP_SHA2},    {"crc", HWCAP_CRC32}, {"lse", HWCAP_ATOMICS},
        {"rdm", HWCAP_ASIMDRDM},     {"rcpc", HWCAP_LRCPC},       {"jsconv", HWCAP_JSCVT}, {"sve", HWCAP_SVE},   {"complxnum", HWCAP_FCMA},
        {"fullfp16", HWCAP_ASIMDHP}, {"dotprod", HWCAP_ASIMDDP},  {"sha3", HWCAP_SHA3},    {"sm4", HWCAP_SM4},   {"fp16fml", HWCAP_ASIMDFHM}};
    const std::pair<const char*, unsigned long> second[] = {
        {"sve2", HWCAP2_SVE2}, {"i8mm", HWCAP2_I8MM}, {"bf16", HWCAP2_BF16}};
    for (auto [name, bit] : first) {
      if (::getauxval(AT_HWCAP) & bit) found.insert(name);
    }
    for (auto [name, bit] : second) {
      if (::getauxval(AT_HWCAP2) & bit) found.insert(name);
    }
    return found;
#endif
    std::ifstream file("/proc/cpuinfo");
    std::string line, word;
    while (found.empty() && std::getline(file, line)) {
      if (line.rfind("flags", 0) != 0) continue;
      std::istringstream words(line.substr(line.find(':') + 1));
      while (words >> word) found.insert(plain(word));
    }
    return found;
  }();
  return features;
}

// Whether a version of a Python package, "0.27.0.post1", is the release of a header, "0.27.0".
inline bool is_release(const std::string& package, const std::string& release) {
  if (package.rfind(release, 0) != 0) return false;
  std::string rest = package.substr(release.size());
  return rest.empty() || rest.rfind(".post", 0) == 0 || rest[0] == '+';
}

}  // namespace detail

namespace detail {

// The target of a manifest; its kind is "llvm", or "cuda" where kernels are a GPU's.
inline Json target_of(const std::string& directory, const Manifest& manifest) {
  Json target = Json::parse(manifest.target, nullptr, false);
  if (!target.is_object() || !target.contains("kind") || !target["kind"].is_string()) {
    throw damaged(directory, "its manifest is damaged: target must be a target of TVM");
  }
  return target;
}

// A text of a target; `otherwise` where it has none.
inline std::string attribute(const Json& target, const char* name, const std::string& otherwise) {
  return target.is_object() && target.contains(name) && target[name].is_string() ? target[name].get<std::string>() : otherwise;
}

}  // namespace detail

// Throws Error where this machine cannot run what a manifest is of.
inline void check_machine(const std::string& directory, const Manifest& manifest) {
  const Json target = detail::target_of(directory, manifest);
  const std::string kind = target["kind"].get<std::string>();
  if (kind != "llvm" && kind != "cuda") {
    throw Error(text(directory, " is for ", kind, "; the C++ loader runs code for CPUs and NVIDIA GPUs: load it in Python"));
  }
  const Json cpu = kind == "llvm" || !target.contains("host") ? target : target["host"];
  std::string triple = detail::attribute(cpu, "mtriple", host_architecture());
  std::string wanted = triple.substr(0, triple.find('-')), here = host_architecture();
  if ((wanted == "arm64" ? "aarch64" : wanted) != here) {
    throw Error(text(directory, " is for ", wanted, "; this machine is ", here, ": compile it for this one"));
  }
  if (kind == "cuda") {
    const std::string arch = detail::attribute(target, "arch", "?"), fault = detail::gpu_fault(arch);
    if (!fault.empty()) {
      throw Error(text(directory, " is for a GPU of ", arch, ", which this machine does not have; ", fault,
                       ", or compile the model for this machine"));
    }
  }
  std::string missing;
  for (const std::string& feature : manifest.features) {
    if (!detail::host_features().count(detail::plain(feature))) missing += (missing.empty() ? "" : ", ") + feature;
  }
  if (!missing.empty()) {
    throw Error(text(directory, " needs ", missing, ", which this CPU does not have; compile it for this CPU, or for an older one"));
  }
  std::string left;
  for (const std::string& one : manifest.left_to_torch) left += (left.empty() ? "" : ", ") + one;
  if (!left.empty()) {
    throw Error(text(directory, " leaves ", left, " to PyTorch, which the C++ loader has not; load it in Python, or compile the model again ",
                     "without fallback=True"));
  }
  auto built = manifest.versions.find("apache-tvm");
  if (built == manifest.versions.end() || !detail::is_release(built->second, TVM_VERSION)) {
    throw Error(text(directory, " was built with apache-tvm ", built == manifest.versions.end() ? "?" : built->second, ", this program with ",
                     TVM_VERSION, "; build it with the same version, or compile the model again"));
  }
}

}  // namespace tvm_balanced
