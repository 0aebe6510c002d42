// The manifest of an artifact, read and checked before anything that it names is opened; docs/artifact.md is the format.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "error.hpp"
#include "files.hpp"
#include "json.hpp"
#include "npy.hpp"
#include "sha256.hpp"

namespace tvm_balanced {

inline constexpr int kOldestFormat = 4, kFormat = 5;
inline constexpr size_t kMostManifestBytes = size_t(64) << 20;
inline constexpr int64_t kMostThreads = 4096;
inline const std::string kManifest = "manifest.json", kSignature = "manifest.json.sig", kShared = "shared";

using Dimension = std::variant<int64_t, std::string>;  // a size, or the symbol of one that is known at the call

struct TensorSpec {
  std::string name, dtype;
  std::vector<Dimension> shape;
};

struct Weight {  // or what is stored of a tensor for the self-test
  std::string name, file, dtype;
  std::vector<int64_t> shape;
};

struct Stored : Weight {
  std::vector<int64_t> of;        // shape of the whole tensor
  std::optional<double> allowed;  // of an output
};

struct StoredTest {
  std::vector<Stored> inputs, outputs;
  std::optional<double> milliseconds;
};

struct Range {
  int64_t low = 0;
  std::optional<int64_t> high;
};

struct EntryPoint {
  std::vector<TensorSpec> inputs, outputs;
  std::map<std::string, Range> ranges;
  std::map<std::string, std::string> donate;  // input to output
  std::vector<size_t> weights;                // places in Manifest::weights
};

struct Generation {  // of a causal language model
  int64_t length = 0, batch = 0, chunk = 0, pad = 0;
  std::vector<int64_t> ends;
};

struct Manifest {
  std::vector<std::string> variants;  // best first; then all else is empty but sha256
  std::string target, machine;        // TVM's target as JSON text; where the self-test was stored
  std::vector<std::string> features, left_to_torch;
  std::map<std::string, std::string> versions, sha256, shared;
  int64_t threads = 1;
  std::vector<std::pair<std::string, EntryPoint>> entry_points;
  std::vector<Weight> weights;
  std::map<std::string, StoredTest> self_test;
  std::optional<Generation> generation;

  const EntryPoint& entry(const std::string& name) const {
    for (const auto& [known, point] : entry_points) {
      if (known == name) return point;
    }
    std::string names;
    for (const auto& [known, point] : entry_points) names += (names.empty() ? "" : ", ") + known;
    throw Error(text("entry point \"", name, "\" is unknown; the module has ", names));
  }
};

namespace detail {

inline void want(const std::string& what, const Json& value, bool holds, const std::string& expected) {
  if (holds) return;
  std::string shown = value.is_string() ? quoted(value.get<std::string>()) : value.dump(-1, ' ', true, Json::error_handler_t::replace);
  throw Error(text(what, " is ", shown.substr(0, 60), "; it must be ", expected));
}

inline const Json& part(const Json& of, const std::string& name) {
  if (!of.is_object() || !of.contains(name)) throw Error(text("it has no '", name, "'"));
  return of.at(name);
}

inline bool is_whole(const Json& value, int64_t low, std::optional<int64_t> high = std::nullopt) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(INT64_MAX)) return false;
  int64_t number = value.get<int64_t>();
  return low <= number && (!high || number <= *high);
}

inline bool is_name(const std::string& name) {
  bool plain = !name.empty() && name != "." && name != ".." && is_printable(name);
  return plain && name.find('/') == std::string::npos && name.find('\\') == std::string::npos;
}

inline bool is_path(const std::string& path) {
  size_t start = 0;
  for (size_t end = 0; end != std::string::npos; start = end + 1) {
    end = path.find('/', start);
    if (!is_name(path.substr(start, end == std::string::npos ? end : end - start))) return false;
  }
  return path != kManifest && path != kSignature;
}

inline std::string to_text(const Json& value, const std::string& what) {
  want(what, value, value.is_string(), "a text");
  return value.get<std::string>();
}

inline std::map<std::string, std::string> to_texts(const Json& value, const std::string& what, const std::string& expected) {
  want(what, value, value.is_object(), expected);
  std::map<std::string, std::string> found;
  for (const auto& [key, inside] : value.items()) {
    want(what, value, inside.is_string(), expected);
    found[key] = inside.get<std::string>();
  }
  return found;
}

inline std::map<std::string, std::string> to_sums(const Json& value) {
  auto sums = to_texts(value, "sha256", "a checksum for each file");
  for (const auto& [file, sum] : sums) {
    want("a file", file, is_path(file), "the path of a file in the artifact");
    bool plain = sum.size() == 64 && sum.find_first_not_of("0123456789abcdef") == std::string::npos;
    want("the checksum of " + file, sum, plain, "a SHA-256");
  }
  return sums;
}

inline std::vector<int64_t> to_sizes(const Json& value, const std::string& what) {
  want(what, value, value.is_array(), "a list of sizes");
  std::vector<int64_t> sizes;
  for (const Json& size : value) {
    want(what, value, is_whole(size, 0), "a list of sizes");
    sizes.push_back(size.get<int64_t>());
  }
  return sizes;
}

inline std::string to_dtype(const Json& value, const std::string& name) {
  want("the dtype of " + name, value, value.is_string() && !npy_descr(value.get<std::string>()).empty(), "a dtype");
  return value.get<std::string>();
}

inline Weight to_weight(const Json& row, const std::map<std::string, std::string>& sums) {
  Weight weight;
  weight.name = to_text(part(row, "name"), "a weight's name");
  const Json& file = part(row, "file");
  want("a weight's file", file, file.is_string() && sums.count(file.get<std::string>()), "one of the files in sha256");
  weight.file = file.get<std::string>();
  weight.dtype = to_dtype(part(row, "dtype"), weight.name);
  weight.shape = to_sizes(part(row, "shape"), "the shape of " + weight.name);
  return weight;
}

inline TensorSpec to_spec(const Json& row) {
  TensorSpec spec;
  spec.name = to_text(part(row, "name"), "a tensor's name");
  spec.dtype = to_dtype(part(row, "dtype"), spec.name);
  const Json& shape = part(row, "shape");
  const std::string expected = "a list of sizes and symbols";
  want("the shape of " + spec.name, shape, shape.is_array(), expected);
  for (const Json& size : shape) {
    want("the shape of " + spec.name, shape, is_whole(size, 0) || size.is_string(), expected);
    spec.shape.push_back(size.is_string() ? Dimension(size.get<std::string>()) : Dimension(size.get<int64_t>()));
  }
  return spec;
}

inline bool names(const std::vector<TensorSpec>& specs, const std::string& name) {
  for (const TensorSpec& spec : specs) {
    if (spec.name == name) return true;
  }
  return false;
}

inline std::map<std::string, Range> to_ranges(const Json& value, const std::vector<TensorSpec>& inputs) {
  want("ranges", value, value.is_object(), "a pair for each symbol");
  std::map<std::string, Range> ranges;
  for (const auto& [symbol, pair] : value.items()) {
    bool known = false;
    for (const TensorSpec& spec : inputs) {
      for (const Dimension& size : spec.shape) known |= size == Dimension(symbol);
    }
    bool fits = known && pair.is_array() && pair.size() == 2 && is_whole(pair[0], 0);
    fits = fits && (pair[1].is_null() || is_whole(pair[1], pair[0].get<int64_t>()));
    want("the range of " + symbol, pair, fits, "the smallest and largest size of a symbol of an input");
    ranges[symbol].low = pair[0].get<int64_t>();
    if (!pair[1].is_null()) ranges[symbol].high = pair[1].get<int64_t>();
  }
  return ranges;
}

inline EntryPoint to_entry_point(const std::string& name, const Json& value, size_t weights) {
  EntryPoint entry;
  for (auto [key, specs] : {std::pair{"inputs", &entry.inputs}, std::pair{"outputs", &entry.outputs}}) {
    const Json& rows = part(value, key);
    want(key, rows, rows.is_array(), "a list of tensors");
    for (const Json& row : rows) specs->push_back(to_spec(row));
  }
  entry.ranges = to_ranges(part(value, "ranges"), entry.inputs);
  const Json& donate = part(value, "donate");
  entry.donate = to_texts(donate, "donate", "an output for each input");
  for (const auto& [input, output] : entry.donate) {
    want("donate", donate, names(entry.inputs, input) && names(entry.outputs, output), "names of inputs and outputs");
  }
  const Json& places = part(value, "weights");
  const std::string expected = text("places in the list of ", weights, " weights");
  want("weights of " + name, places, places.is_array(), expected);
  for (const Json& place : places) {
    want("weights of " + name, places, is_whole(place, 0, int64_t(weights) - 1), expected);
    entry.weights.push_back(place.get<size_t>());
  }
  return entry;
}

inline Stored to_stored(const Json& row, const TensorSpec& spec, const EntryPoint& entry, const Manifest& manifest) {
  Stored stored;
  static_cast<Weight&>(stored) = to_weight(row, manifest.sha256);
  const Json& of = part(row, "of");
  stored.of = to_sizes(of, stored.name + " of self_test");
  bool fits = stored.of.size() == spec.shape.size() && stored.dtype == spec.dtype;
  double count = 1;
  for (size_t i = 0; fits && i < stored.of.size(); ++i) {
    Range range;
    if (auto* size = std::get_if<int64_t>(&spec.shape[i])) {
      range = {*size, *size};
    } else if (auto found = entry.ranges.find(std::get<std::string>(spec.shape[i])); found != entry.ranges.end()) {
      range = found->second;
    }
    fits = stored.of[i] >= range.low && (!range.high || stored.of[i] <= *range.high);
    count *= double(stored.of[i]);
  }
  want(stored.name + " of self_test", of, fits && count < double(int64_t(1) << 31), "a shape of " + spec.name + ", of its dtype");
  bool few = stored.shape.size() == 1 && (count == 0 || (stored.shape[0] > 0 && double(stored.shape[0]) <= count));
  want(stored.name + " of self_test", part(row, "shape"), few, "some of the tensor's values");
  if (row.contains("allowed") && !row["allowed"].is_null()) stored.allowed = to_number(row["allowed"]);
  return stored;
}

inline void read_self_test(const Json& said, Manifest& manifest) {
  manifest.machine = to_text(part(said, "machine"), "the machine of self_test");
  const Json& tests = part(said, "entry_points");
  want("self_test", tests, tests.is_object(), "a test for entry points of this artifact");
  for (const auto& [name, test] : tests.items()) {
    const EntryPoint& entry = manifest.entry(name);
    StoredTest& stored = manifest.self_test[name];
    const std::tuple<const char*, const std::vector<TensorSpec>*, std::vector<Stored>*> sides[] = {
        {"inputs", &entry.inputs, &stored.inputs}, {"outputs", &entry.outputs, &stored.outputs}};
    for (const auto& [key, specs, rows] : sides) {
      const Json& given = part(test, key);
      want(text(key, " of self_test"), given, given.is_array() && given.size() == specs->size(), "as many as of " + name);
      for (size_t i = 0; i < specs->size(); ++i) rows->push_back(to_stored(given[i], (*specs)[i], entry, manifest));
    }
    const Json& time = part(test, "milliseconds");
    if (!time.is_null()) stored.milliseconds = to_number(time);
  }
}

inline Generation to_generation(const Json& said) {
  Generation found;
  for (auto [name, value] : {std::pair{"length", &found.length}, {"batch", &found.batch}, {"chunk", &found.chunk}, {"pad", &found.pad}}) {
    want(name, part(said, name), is_whole(part(said, name), value == &found.pad ? 0 : 1), "a whole number");
    *value = said[name].get<int64_t>();
  }
  want("ends", part(said, "ends"), said["ends"].is_array(), "a list of tokens");
  for (const Json& end : said["ends"]) {
    want("ends", said["ends"], is_whole(end, INT64_MIN), "a list of tokens");
    found.ends.push_back(end.get<int64_t>());
  }
  return found;
}

inline void read_variants(const Json& root, Manifest& manifest) {
  const Json& names = root.at("variants");
  want("variants", names, names.is_array() && !names.empty(), "a list of folders");
  for (const Json& name : names) {
    bool plain = name.is_string() && is_name(name.get<std::string>()) && name != kShared;
    want("a variant", name, plain, "the name of a folder in the artifact");
    for (const std::string& other : manifest.variants) want("variants", names, name != other, "each name once");
    manifest.variants.push_back(name.get<std::string>());
  }
  if (root.at("format") == kOldestFormat) return;  // which had no checksums here
  manifest.sha256 = to_sums(part(root, "sha256"));
  for (const std::string& name : manifest.variants) {
    want("sha256", root["sha256"], manifest.sha256.count(name + "/" + kManifest), "of manifests of variants, and of what they share");
  }
}

inline void read_fields(const Json& root, Manifest& manifest) {
  manifest.target = to_text(part(root, "target"), "target");
  const Json& features = part(root, "features");
  want("features", features, features.is_array(), "a list of texts");
  for (const Json& feature : features) manifest.features.push_back(to_text(feature, "a feature"));
  if (root.contains("left_to_torch")) {
    const Json& left = root["left_to_torch"];
    want("left_to_torch", left, left.is_array(), "a list of operators");
    for (const Json& one : left) {
      want("left_to_torch", left, one.is_string(), "a list of operators");
      manifest.left_to_torch.push_back(one.get<std::string>());
    }
  }
  manifest.versions = to_texts(part(root, "versions"), "versions", "a version for each package");
  want("threads", part(root, "threads"), is_whole(root["threads"], 1, kMostThreads), text("a number from 1 to ", kMostThreads));
  manifest.threads = root["threads"].get<int64_t>();
  manifest.sha256 = to_sums(part(root, "sha256"));
  want("sha256", root["sha256"], manifest.sha256.count("lib.so"), "a checksum of lib.so");
  if (root.contains("shared")) manifest.shared = to_texts(root["shared"], "shared", "a name in the folder shared for some files");
  for (const auto& [file, name] : manifest.shared) {
    want("shared", root["shared"], manifest.sha256.count(file), "a name in the folder shared for some files");
    want("a shared file", name, is_name(name), "the name of a file in the folder shared");
  }
  const Json& weights = part(root, "weights");
  want("weights", weights, weights.is_array(), "a list of tensors");
  for (const Json& row : weights) manifest.weights.push_back(to_weight(row, manifest.sha256));
  const Json& entries = part(root, "entry_points");
  want("entry_points", entries, entries.is_object() && !entries.empty(), "an entry for each function");
  for (const auto& [name, entry] : entries.items()) {
    manifest.entry_points.emplace_back(name, to_entry_point(name, entry, manifest.weights.size()));
  }
  if (root.contains("self_test") && !root["self_test"].is_null()) read_self_test(root["self_test"], manifest);
  if (root.contains("generation") && !root["generation"].is_null()) manifest.generation = to_generation(root["generation"]);
}

// Whether the first line has the checksum of all that follows it.
inline bool is_sealed(const std::string& content) {
  const std::string before = "{\"checksum\": \"", after = "\",\n";
  size_t start = before.size() + 64 + after.size();
  return content.size() >= start && content.compare(0, before.size(), before) == 0 &&
         content.compare(before.size() + 64, after.size(), after) == 0 &&
         content.compare(before.size(), 64, tvm_balanced::sha256(content.data() + start, content.size() - start)) == 0;
}

inline Error unreadable(const std::string& directory, std::string why) {
  if (why.size() > 200) why.resize(200);
  for (char& c : why) {
    if (c < 0x20) c = ' ';
  }
  return Error(text(directory, " has no readable manifest.json (", why, "); give a directory that CompiledModule.save wrote"));
}

}  // namespace detail

// What the file of a manifest holds.
inline std::string read_manifest_bytes(const std::string& directory) {
  try {
    RegularFile file(directory + "/" + kManifest);
    if (file.size() > kMostManifestBytes) throw detail::unreadable(directory, "it has more than 64 MiB");
    return file.content();
  } catch (const std::filesystem::filesystem_error& error) {
    throw detail::unreadable(directory, error.code().message());
  }
}

// What a manifest says. Throws Error where it is none, was altered (unless not to `verify`), or lists what no artifact has.
inline Manifest parse_manifest(const std::string& directory, const std::string& content, bool verify = true) {
  Json root;
  try {
    root = parse_json(content);
  } catch (const std::exception& error) {
    throw detail::unreadable(directory, error.what());
  }
  bool known = root.is_object() && root.contains("format") && detail::is_whole(root["format"], kOldestFormat, kFormat);
  if (!known) {
    std::string found = root.is_object() && root.contains("format") ? root["format"].dump(-1, ' ', true) : "none";
    throw Error(text(directory, " has format ", found.substr(0, 40), "; this version reads formats ", kOldestFormat, " to ", kFormat,
                     ": compile the model again"));
  }
  if (verify && root["format"] > kOldestFormat && !detail::is_sealed(content)) {
    throw damaged(directory, "its manifest was altered, its checksum differs");
  }
  Manifest manifest;
  try {
    root.contains("variants") ? detail::read_variants(root, manifest) : detail::read_fields(root, manifest);
  } catch (const std::exception& error) {
    throw damaged(directory, text("its manifest is damaged: ", error.what()));
  }
  return manifest;
}

// Throws Error unless a folder holds the files that its manifest lists and nothing else.
inline void check_listing(const std::string& directory, const Manifest& manifest) {
  std::set<std::string> found, listed(manifest.variants.begin(), manifest.variants.end());
  for (const std::string& file : files_below(directory)) {
    std::string top = file.substr(0, file.find('/'));
    if (file != kManifest && file != kSignature) found.insert(manifest.variants.empty() || top == kShared ? file : top);
  }
  for (const auto& [file, sum] : manifest.sha256) {
    bool here = manifest.variants.empty() ? !manifest.shared.count(file) : file.rfind(kShared + "/", 0) == 0;
    if (here) listed.insert(file);
  }
  for (const std::string& file : listed) {
    if (!found.count(file)) throw Error(text(directory, " lacks ", file, "; copy the artifact again, or compile the model again"));
  }
  for (const std::string& file : found) {
    if (listed.count(file)) continue;
    std::string shown = is_printable(file) ? file : quoted(file);
    throw Error(text(directory, " holds ", shown, ", which its manifest does not list; remove it, or compile the model again"));
  }
}

// The manifest of a variant of an artifact; throws Error where it is not the one that the artifact lists.
inline Manifest variant_manifest(const std::string& directory, const Manifest& manifest, const std::string& name, bool verify) {
  std::string variant = directory + "/" + name, content = read_manifest_bytes(variant);
  auto listed = manifest.sha256.find(name + "/" + kManifest);
  if (verify && listed != manifest.sha256.end() && sha256(content.data(), content.size()) != listed->second) {
    throw damaged(variant, "its manifest was altered, its checksum differs");
  }
  Manifest inner = parse_manifest(variant, content, verify);
  if (!inner.variants.empty()) throw damaged(variant, "a variant has no variants");
  for (const auto& [file, shared] : inner.shared) {
    auto sum = manifest.sha256.find(kShared + "/" + shared);
    if (sum == manifest.sha256.end() || sum->second != inner.sha256[file]) {
      throw damaged(variant, text(file, " is not the file ", shared, " that its variants share"));
    }
  }
  return inner;
}

// Where a file of an artifact, or of a variant, lies.
inline std::string path_of(const std::string& directory, const Manifest& manifest, const std::string& file) {
  auto shared = manifest.shared.find(file);
  return shared == manifest.shared.end() ? directory + "/" + file : directory + "/../" + kShared + "/" + shared->second;
}

}  // namespace tvm_balanced
