// JSON as a manifest may have it: strict, no key twice in an object, not nested deeper than any manifest is.
#pragma once

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>  // Debian and Ubuntu: nlohmann-json3-dev; else its one file from github.com/nlohmann/json
#include <set>
#include <string>
#include <vector>

#include "error.hpp"

namespace tvm_balanced {

using Json = nlohmann::ordered_json;  // in the manifest's order: the first entry point is the one that a module is called by

inline constexpr int kDeepest = 200;

// Throws std::exception with what is wrong.
inline Json parse_json(const std::string& content) {
  std::vector<std::set<std::string>> keys;
  auto check = [&keys](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) throw Error("it is nested too deep");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw Error(text("the key '", parsed.get<std::string>().substr(0, 40), "' stands twice in an object"));
    }
    return true;
  };
  return Json::parse(content, check);
}

// A number, or {"float": "inf"}, as a manifest has those that JSON has not; null is NaN.
inline double to_number(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_object()) return std::nan("");
  std::string said = value.value("float", "");
  double infinity = std::numeric_limits<double>::infinity();
  return said == "inf" ? infinity : said == "-inf" ? -infinity : std::nan("");
}

}  // namespace tvm_balanced
