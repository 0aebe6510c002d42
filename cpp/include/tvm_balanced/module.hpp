// A compiled model, loaded from an artifact and called without Python.
//
//     auto module = tvm_balanced::Module::load("model.tb");
//     std::vector<tvm_balanced::Tensor> outputs = module({x});            // the first entry point
//     module["decode"]({token, place, cache});                            // another; a donated cache is written in place
//
// Tensors are flat: one for each of `inputs` and `outputs` of the entry point, in the manifest's order. Every fault is a
// tvm_balanced::Error whose text is one sentence.
#pragma once

#include <sched.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gpu.hpp"
#include "machine.hpp"
#include "manifest.hpp"
#include "signature.hpp"
#include "tensor.hpp"

namespace tvm_balanced {

struct LoadOptions {
  int threads = 0;      // of a call; 0: as many as it was compiled for, at most one a core
  bool verify = true;   // whether to check the checksums of what is loaded
  bool shared = false;  // whether weights are pages of their files, which processes share; then the files must not change
  std::optional<PublicKey> verify_key;  // refuse an artifact that is not signed by it; without, a signature is not looked at
};

namespace detail {

inline std::vector<std::string> allowed_cores() {
  std::vector<std::string> cores;
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) cores.push_back(std::to_string(i));
    }
  }
  return cores.empty() ? std::vector<std::string>{"0"} : cores;
}

// Tells TVM how its threads behave, as far as the user has not; it reads this when it starts them. Workers that yield 300,000 times
// before they sleep, TVM's default, hold up other processes, and the end of this one, for minutes on a machine that is busy.
inline void configure_runtime() {
  ::setenv("TVM_THREAD_POOL_SPIN_COUNT", "1000", 0);
  ::setenv("TVM_NUM_THREADS", std::to_string(allowed_cores().size()).c_str(), 0);
}

// Makes the calling thread's parallel loops use so many threads. TVM keeps a pool of workers for each thread that calls.
inline void use_threads(int count) {
  thread_local int now = 0;
  if (now == count) return;
  cpu_set_t before;
  bool known = ::sched_getaffinity(0, sizeof before, &before) == 0;
  tvm::ffi::Array<tvm::ffi::String> cores;
  for (const std::string& core : allowed_cores()) cores.push_back(core);
  constexpr int kOneCorePerThread = -2, kBySpeed = 1;
  auto configure = tvm::ffi::Function::GetGlobalRequired("runtime.config_threadpool");
  size_t(count) <= cores.size() ? configure(kOneCorePerThread, count, cores) : configure(kBySpeed, count);
  if (known) ::sched_setaffinity(0, sizeof before, &before);  // TVM changes the caller's too
  now = count;
}

// Opens a library from a file of its own: the loader knows a library by its path and inode, so that one that was replaced would be
// the former again, and what is written to the artifact's file later does not reach code that runs.
inline tvm::ffi::Module open_library(const std::string& content) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = text(folder && *folder ? folder : "/tmp", "/tvm_balanced-XXXXXX.so");
  int descriptor = ::mkstemps(path.data(), 3);
  if (descriptor < 0) throw Error(text(path, " cannot be written; set TMPDIR to a folder that can"));
  size_t done = 0;
  while (done < content.size()) {
    ssize_t wrote = ::write(descriptor, content.data() + done, content.size() - done);
    if (wrote <= 0) break;
    done += size_t(wrote);
  }
  ::close(descriptor);
  struct Remover {
    const std::string& path;
    ~Remover() { ::unlink(path.c_str()); }
  } remover{path};
  if (done < content.size()) throw Error(text(path, " cannot be written; set TMPDIR to a folder with space"));
  return tvm::ffi::Module::LoadFromFile(path);
}

}  // namespace detail

class Module;

// One entry point of a module.
class Function {
 public:
  // Runs it. Throws Error where an input has another dtype, shape or device, or is not contiguous at a multiple of 64 bytes.
  // A donated input's own buffer holds its output after the call, and is returned for it.
  std::vector<Tensor> operator()(const std::vector<Tensor>& inputs) const;
  const EntryPoint& spec() const { return *spec_; }

 private:
  friend class Module;
  Function(const Module* module, std::string name, const EntryPoint* spec) : module_(module), name_(std::move(name)), spec_(spec) {}

  const Module* module_;
  std::string name_;
  const EntryPoint* spec_;
};

class Module {
 public:
  // Loads an artifact, or the first of its variants that this machine can run. Throws Error where something is missing, altered, not
  // listed or not a plain file, or for another machine; none of its code has run then.
  static Module load(const std::string& path, const LoadOptions& options = {}) {
    detail::configure_runtime();
    if (options.verify_key && !options.verify) {
      throw Error("verify_key needs verify, as a signature is of checksums; leave verify as it is");
    }
    std::string directory = path;
    Manifest manifest = here(directory, options);
    try {
      return Module(directory, std::move(manifest), options);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const Error& error) {
      if (std::string(error.what()).find("altered") != std::string::npos) throw;
      throw damaged(directory, error.what());
    } catch (const std::exception& error) {
      throw damaged(directory, last_line(error.what()));
    }
  }

  const Manifest& manifest() const { return *manifest_; }
  const std::string& directory() const { return directory_; }
  int threads() const { return threads_; }

  Function operator[](const std::string& name) const { return Function(this, name, &manifest_->entry(name)); }

  // Runs the first entry point.
  std::vector<Tensor> operator()(const std::vector<Tensor>& inputs) const { return (*this)[manifest_->entry_points[0].first](inputs); }

  // A second instance on the same code and weights, whose calls do not wait for those of this one.
  Module clone() const {
    Module twin = *this;
    twin.start();
    return twin;
  }

 private:
  friend class Function;

  Module(const std::string& directory, Manifest manifest, const LoadOptions& options)
      : directory_(directory), manifest_(std::make_shared<Manifest>(std::move(manifest))) {
    on_gpu_ = detail::target_of(directory_, *manifest_)["kind"] == "cuda";
    for (const Weight& row : manifest_->weights) {
      weights_.push_back(on_gpu_ ? detail::to_gpu(weight(row, options)) : weight(row, options));
    }
    if (on_gpu_) add_kernels(options.verify);
    library_ = detail::open_library(checked("lib.so", options.verify));
    int64_t cores = int64_t(detail::allowed_cores().size());
    threads_ = options.threads > 0 ? options.threads : int(std::min(manifest_->threads, cores));
    if (threads_ > kMostThreads) throw Error(text("threads is ", threads_, "; give 1 to ", kMostThreads));
    start();
    for (const auto& [name, entry] : manifest_->entry_points) check_arity(name, entry);
  }

  // Creates what only one call at a time may use: a virtual machine, and a lock.
  void start() {
    constexpr int kPooledAllocator = 2;
    machine_ = library_.value()->GetFunction("vm_load_executable").value()().cast<tvm::ffi::Module>();
    auto start = machine_.value()->GetFunction("vm_initialization").value();
    on_gpu_ ? start(int(kDLCUDA), 0, kPooledAllocator, int(kDLCPU), 0, kPooledAllocator) : start(int(kDLCPU), 0, kPooledAllocator);
    lock_ = std::make_shared<std::mutex>();
  }

  // Hands TVM the machine code of the GPU's kernels, each file of which has the SHA-256 of its source as its name.
  void add_kernels(bool verify) const {
    for (const auto& [file, sum] : manifest_->sha256) {
      std::filesystem::path path(file);
      if (path.extension() == ".cubin") detail::add_machine_code(path.stem().string(), checked(file, verify));
    }
  }

  void check_arity(const std::string& name, const EntryPoint& entry) const {
    size_t listed = entry.inputs.size() + entry.weights.size();
    auto taken = machine_.value()->GetFunction("get_function_arity").value()(name).cast<int64_t>();
    if (size_t(taken) != listed) {
      throw Error(text("its function ", name, " takes ", taken, " tensors; the manifest lists ", listed));
    }
  }

  // The manifest of what this machine can run; `directory` becomes the variant's.
  static Manifest here(std::string& directory, const LoadOptions& options) {
    const bool verify = options.verify;
    const std::string content = read_manifest_bytes(directory);
    if (options.verify_key) check_signature(directory, content, *options.verify_key);
    Manifest manifest = parse_manifest(directory, content, verify);
    if (manifest.variants.empty()) {
      check_machine(directory, manifest);
      check_listing(directory, manifest);
      return manifest;
    }
    check_listing(directory, manifest);
    std::string refusal;
    for (const std::string& name : manifest.variants) {
      std::string variant = directory + "/" + name;
      Manifest inner = variant_manifest(directory, manifest, name, verify);
      try {
        check_machine(variant, inner);
      } catch (const Error& error) {
        refusal = error.what();
        continue;
      }
      check_listing(variant, inner);
      directory = variant;
      return inner;
    }
    throw Error(text("no variant of ", directory, " runs here; the last: ", refusal));
  }

  static std::string last_line(std::string said) {
    while (!said.empty() && said.back() == '\n') said.pop_back();
    return said.substr(said.rfind('\n') + 1);
  }

  void check_sum(const std::string& file, const void* data, size_t size, bool verify) const {
    if (verify && sha256(data, size) != manifest_->sha256.at(file)) {
      throw Error(text(path_of(directory_, *manifest_, file), " was altered (its checksum differs); copy the artifact again, or compile the model again"));
    }
  }

  std::string checked(const std::string& file, bool verify) const {
    std::string content = RegularFile(path_of(directory_, *manifest_, file)).content();
    check_sum(file, content.data(), content.size(), verify);
    return content;
  }

  Tensor weight(const Weight& row, const LoadOptions& options) const {
    return options.shared ? mapped(row, options.verify) : copied(row, options.verify);
  }

  Tensor copied(const Weight& row, bool verify) const {
    std::string content = checked(row.file, verify);
    size_t start = detail::start_of_data(content.data(), content.size(), row.file, row.dtype, row.shape);
    Tensor made = empty(row.shape, row.dtype);
    std::memcpy(made.data_ptr(), content.data() + start, bytes_of(made));
    return made;
  }

  Tensor mapped(const Weight& row, bool verify) const {
    RegularFile file(path_of(directory_, *manifest_, row.file));
    if (file.size() == 0) throw Error(text(row.file, " has a damaged header"));
    // copy on write, because a tensor may be written; nothing is
    void* pages = ::mmap(nullptr, file.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, file.descriptor(), 0);
    if (pages == MAP_FAILED) throw Error(text(row.file, " cannot be mapped (", std::strerror(errno), "); load it without shared"));
    try {
      check_sum(row.file, pages, file.size(), verify);
      size_t start = detail::start_of_data(static_cast<const char*>(pages), file.size(), row.file, row.dtype, row.shape);
      if (start % kAlignment == 0) {
        tvm::ffi::ShapeView shape(row.shape.data(), row.shape.size());
        return Tensor::FromNDAlloc(detail::Mapped{pages, file.size(), start}, shape, detail::to_dl(row.dtype), DLDevice{kDLCPU, 0});
      }
    } catch (...) {
      ::munmap(pages, file.size());
      throw;
    }
    ::munmap(pages, file.size());
    return copied(row, verify);
  }

  std::string directory_;
  std::shared_ptr<Manifest> manifest_;
  std::vector<Tensor> weights_;
  std::optional<tvm::ffi::Module> library_, machine_;
  std::shared_ptr<std::mutex> lock_;
  int threads_ = 1;
  bool on_gpu_ = false;
};

namespace detail {

inline std::string shown(const TensorSpec& spec) {
  std::string sizes;
  for (const Dimension& size : spec.shape) {
    const int64_t* number = std::get_if<int64_t>(&size);
    sizes += (sizes.empty() ? "" : ", ") + (number ? std::to_string(*number) : std::get<std::string>(size));
  }
  return text(spec.name, ": ", spec.dtype, "[", sizes, "]");
}

// Throws Error unless a tensor is what compiled code takes for granted; notes the sizes of symbols.
inline void check_input(const TensorSpec& spec, const Tensor& given, std::map<std::string, int64_t>& sizes) {
  if (given.device().device_type != kDLCPU) throw Error(text("input ", spec.name, " is not on the CPU; copy it there"));
  if (dtype_of(given) != spec.dtype) {
    throw Error(text("input ", spec.name, " is ", dtype_of(given), "; the model was compiled for ", shown(spec), ": convert it first"));
  }
  bool fits = given.shape().size() == spec.shape.size();
  for (size_t i = 0; fits && i < spec.shape.size(); ++i) {
    const std::string* symbol = std::get_if<std::string>(&spec.shape[i]);
    fits = given.size(int64_t(i)) == (symbol ? sizes.emplace(*symbol, given.size(int64_t(i))).first->second : std::get<int64_t>(spec.shape[i]));
  }
  if (!fits) throw Error(text("input ", spec.name, " has shape ", shown(shape_of(given)), "; the model was compiled for ", shown(spec)));
  if (!given.IsContiguous() || reinterpret_cast<uintptr_t>(given.data_ptr()) % kAlignment) {
    throw Error(text("input ", spec.name, " is not contiguous or not at a multiple of ", kAlignment,
                     " bytes, which compiled code takes for granted; give a copy, as tvm_balanced::copy makes it"));
  }
}

inline void check_inputs(const EntryPoint& entry, const std::vector<Tensor>& inputs) {
  if (inputs.size() != entry.inputs.size()) {
    throw Error(text(inputs.size(), " inputs were given; the entry point takes ", entry.inputs.size()));
  }
  std::map<std::string, int64_t> sizes;
  for (size_t i = 0; i < inputs.size(); ++i) check_input(entry.inputs[i], inputs[i], sizes);
  for (const auto& [symbol, range] : entry.ranges) {
    auto found = sizes.find(symbol);
    int64_t size = found == sizes.end() ? range.low : found->second;
    if (size < range.low || (range.high && size > *range.high)) {
      throw Error(text(symbol, " is ", size, "; the model was compiled for ", range.low, " to ", range.high ? std::to_string(*range.high) : "any",
                       ": split or pad the input"));
    }
  }
}

// Copies outputs to the buffers that they are for; none of what is returned shares memory with an input.
inline void store(const EntryPoint& entry, const std::vector<Tensor>& inputs, std::vector<Tensor>& outputs) {
  for (Tensor& output : outputs) {
    for (const Tensor& input : inputs) {
      if (output.data_ptr() == input.data_ptr()) {
        output = copy(output);
        break;
      }
    }
  }
  for (const auto& [from, to] : entry.donate) {
    for (size_t i = 0; i < entry.inputs.size(); ++i) {
      for (size_t o = 0; o < entry.outputs.size(); ++o) {
        if (entry.inputs[i].name != from || entry.outputs[o].name != to) continue;
        std::memcpy(inputs[i].data_ptr(), outputs[o].data_ptr(), bytes_of(inputs[i]));
        outputs[o] = inputs[i];
      }
    }
  }
}

}  // namespace detail

inline std::vector<Tensor> Function::operator()(const std::vector<Tensor>& inputs) const {
  detail::check_inputs(*spec_, inputs);
  for (const auto& [from, to] : spec_->donate) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        bool donated = spec_->inputs[i].name == from && spec_->donate.count(spec_->inputs[j].name);
        if (donated && inputs[i].data_ptr() == inputs[j].data_ptr() && bytes_of(inputs[i])) {
          throw Error(text("inputs ", spec_->inputs[j].name, " and ", from, " are donated and are one buffer; give each a buffer of its own"));
        }
      }
    }
  }
  std::vector<Tensor> there;  // tensors of calls are in this process's memory, and copied where the model runs
  for (const Tensor& input : inputs) there.push_back(module_->on_gpu_ ? detail::to_gpu(input) : input);
  std::vector<tvm::ffi::AnyView> arguments(there.begin(), there.end());
  for (size_t place : spec_->weights) arguments.emplace_back(module_->weights_[place]);
  std::lock_guard<std::mutex> one_call(*module_->lock_);
  detail::use_threads(module_->threads_);
  tvm::ffi::Any result;
  std::vector<Tensor> outputs;
  try {
    auto function = module_->machine_.value()->GetFunction(name_).value();
    function.CallPacked(arguments.data(), int32_t(arguments.size()), &result);
    if (auto one = result.as<Tensor>()) {
      outputs.push_back(*one);
    } else {
      for (const Tensor& output : result.cast<tvm::ffi::Array<Tensor>>()) outputs.push_back(output);
    }
  } catch (const tvm::ffi::Error& error) {
    throw Error(text("the code of ", module_->directory_, " does not take what its manifest lists (", Module::last_line(error.what()),
                     "); the manifest was altered: copy the artifact again, or compile the model again"));
  }
  if (outputs.size() != spec_->outputs.size()) {
    throw Error(text("the code of ", module_->directory_, " gives ", outputs.size(), " outputs; its manifest lists ", spec_->outputs.size()));
  }
  for (Tensor& output : outputs) {
    if (module_->on_gpu_) output = detail::from_gpu(output);
  }
  detail::store(*spec_, inputs, outputs);
  return outputs;
}

}  // namespace tvm_balanced
