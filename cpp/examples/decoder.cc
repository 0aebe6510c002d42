// Writes text by a causal language model: decoder DIR COUNT TOKEN ..., which prints the COUNT most probable tokens behind a prompt.
#include <tvm_balanced/module.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

using namespace tvm_balanced;

namespace {

// The cache of a text: each call of prefill or decode writes it in place, since it is donated.
std::vector<Tensor> empty_cache(const EntryPoint& entry) {
  std::vector<Tensor> cache;
  for (const TensorSpec& spec : entry.inputs) {
    if (spec.name.rfind("cache_", 0) != 0) continue;
    std::vector<int64_t> shape;
    for (const Dimension& size : spec.shape) shape.push_back(std::get<int64_t>(size));
    cache.push_back(zeros(shape, spec.dtype));
  }
  return cache;
}

// One call: `tokens` from a slot of the cache on; returns the most probable token behind the `last` of them.
int64_t step(const Function& function, const std::vector<int64_t>& tokens, int64_t slot, int64_t last, const std::vector<Tensor>& cache) {
  std::vector<Tensor> inputs = {tensor(tokens, {1, int64_t(tokens.size())}, "int64"), tensor<int64_t>({slot}, {}, "int64"),
                                tensor<int64_t>({0}, {1}, "int64"), tensor<int64_t>({last}, {1}, "int64")};
  inputs.insert(inputs.end(), cache.begin(), cache.end());
  Tensor logits = function(inputs)[0];
  const float* values = static_cast<const float*>(logits.data_ptr());
  return std::max_element(values, values + logits.size(-1)) - values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s ARTIFACT COUNT TOKEN ...\n", argv[0]);
    return 2;
  }
  try {
    Module module = Module::load(argv[1]);
    if (!module.manifest().generation) throw Error(text(argv[1], " is no causal language model; compile one with compile_causal_lm"));
    const Generation& generation = *module.manifest().generation;
    int64_t count = std::atoll(argv[2]), slot = 0, token = 0;
    std::vector<int64_t> prompt;
    for (int i = 3; i < argc; ++i) prompt.push_back(std::atoll(argv[i]));
    if (generation.batch != 1) throw Error("this example writes one text; compile with batch=1");
    if (int64_t(prompt.size()) + count > generation.length) throw Error("the cache is too short; compile with a larger max_length");
    std::vector<Tensor> cache = empty_cache(module["decode"].spec());
    for (size_t start = 0; start < prompt.size(); start += size_t(generation.chunk)) {  // chunk by chunk, the last one padded
      std::vector<int64_t> chunk(prompt.begin() + long(start), prompt.begin() + long(std::min(prompt.size(), start + size_t(generation.chunk))));
      int64_t last = int64_t(chunk.size()) - 1;
      chunk.resize(size_t(generation.chunk), 0);
      token = step(module["prefill"], chunk, int64_t(start), last, cache);
    }
    for (slot = int64_t(prompt.size());; ++slot) {
      std::printf("%lld ", static_cast<long long>(token));
      bool ended = std::count(generation.ends.begin(), generation.ends.end(), token) > 0;
      if (ended || slot + 1 == int64_t(prompt.size()) + count) break;
      token = step(module["decode"], {token}, slot, 0, cache);
    }
    std::printf("\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
