// Calls any artifact, or tests it where it lands:
//
//     run DIR [--entry NAME] [--threads N] [--shared] [--verify-key PUBLIC.pem] [INPUT.npy ...] [-o FOLDER]
//
// Without inputs it runs the stored self-test: 0 if the numbers are right, 1 if not.
#include <tvm_balanced/module.hpp>
#include <tvm_balanced/self_test.hpp>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

using namespace tvm_balanced;

namespace {

int test(const Module& module) {
  bool ok = true;
  for (const SelfTestResult& result : self_test(module)) {
    std::printf("%s: %s: %s\n", result.entry_point.c_str(), result.ok ? "ok" : "WRONG", result.found.c_str());
    ok &= result.ok;
  }
  if (module.manifest().self_test.empty()) std::printf("no self-test is stored\n");
  return ok ? 0 : 1;
}

int call(const Module& module, const std::string& name, const std::vector<std::string>& files, const std::string& folder) {
  Function function = module[name];
  std::vector<Tensor> inputs;
  for (const std::string& file : files) inputs.push_back(read_npy(file));
  auto start = std::chrono::steady_clock::now();
  std::vector<Tensor> outputs = function(inputs);
  double milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  std::printf("%s: %.3f ms, %d threads\n", name.c_str(), milliseconds, module.threads());
  for (size_t i = 0; i < outputs.size() && !folder.empty(); ++i) {
    write_npy(folder + "/" + function.spec().outputs[i].name + ".npy", outputs[i]);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string directory, entry, folder, key;
  std::vector<std::string> files;
  LoadOptions options;
  bool maps = false;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    bool more = i + 1 < argc;
    if (word == "--entry" && more) {
      entry = argv[++i];
    } else if (word == "--threads" && more) {
      options.threads = std::atoi(argv[++i]);
    } else if (word == "-o" && more) {
      folder = argv[++i];
    } else if (word == "--verify-key" && more) {
      key = argv[++i];
    } else if (word == "--shared") {
      options.shared = true;
    } else if (word == "--maps") {
      maps = true;  // what is in this process's memory, for a test
    } else {
      (directory.empty() ? directory : files.emplace_back()) = word;
    }
  }
  if (directory.empty()) {
    std::fprintf(stderr, "usage: %s ARTIFACT [--entry NAME] [--threads N] [--shared] [--verify-key PUBLIC.pem] [INPUT.npy ...] [-o FOLDER]\n", argv[0]);
    return 2;
  }
  try {
    if (!key.empty()) options.verify_key = PublicKey::from_pem(key);
    Module module = Module::load(directory, options);
    int code = files.empty() ? test(module) : call(module, entry.empty() ? module.manifest().entry_points[0].first : entry, files, folder);
    if (maps) std::cout << std::ifstream("/proc/self/maps").rdbuf();
    return code;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
