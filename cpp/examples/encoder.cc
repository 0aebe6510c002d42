// Runs an encoder: encoder DIR ids.npy ... -o FOLDER, a .npy file for each input and each output.
#include <tvm_balanced/module.hpp>

#include <cstdio>

using namespace tvm_balanced;

int main(int argc, char** argv) {
  if (argc < 4 || std::string(argv[argc - 2]) != "-o") {
    std::fprintf(stderr, "usage: %s ARTIFACT INPUT.npy ... -o FOLDER\n", argv[0]);
    return 2;
  }
  try {
    Module module = Module::load(argv[1]);
    const EntryPoint& entry = module.manifest().entry_points[0].second;
    std::vector<Tensor> inputs;
    for (int i = 2; i < argc - 2; ++i) inputs.push_back(read_npy(argv[i]));
    std::vector<Tensor> outputs = module(inputs);
    for (size_t i = 0; i < outputs.size(); ++i) {
      write_npy(std::string(argv[argc - 1]) + "/" + entry.outputs[i].name + ".npy", outputs[i]);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
