// SPDX-License-Identifier: Apache-2.0
#include "daemon/router.hpp"

#include <algorithm>
#include <optional>

namespace millrace::daemon {
namespace {

std::vector<std::string_view> segments(std::string_view path) {
  std::vector<std::string_view> out;
  if (path.starts_with('/')) path.remove_prefix(1);
  for (;;) {
    const std::size_t slash = path.find('/');
    out.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return out;
    path.remove_prefix(slash + 1);
  }
}

std::optional<std::map<std::string, std::string>> fit(std::string_view pattern,
                                                      const std::vector<std::string_view>& path) {
  const auto wanted = segments(pattern);
  if (wanted.size() != path.size()) return std::nullopt;
  std::map<std::string, std::string> out;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].starts_with('{')) {
      if (path[i].empty()) return std::nullopt;
      out.emplace(wanted[i].substr(1, wanted[i].size() - 2), path[i]);
    } else if (wanted[i] != path[i]) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

Match match(std::span<const Route> table, std::string_view method, std::string_view path) {
  Match result;
  const auto given = segments(path);
  const auto allow = [&](std::string_view name) {
    result.allowed += (result.allowed.empty() ? "" : ", ") + std::string(name);
  };
  for (const Route& route : table) {
    auto parts = fit(route.path, given);
    if (!parts) continue;
    result.known_path = route.path;
    allow(route.method);
    if (route.method == "GET") allow("HEAD");
    if (method != route.method && !(method == "HEAD" && route.method == "GET")) continue;
    result.route = &route;
    result.path = std::move(*parts);
    for (auto& [name, value] : result.path) value = http::percent_decode(value);
    return result;
  }
  return result;
}

}  // namespace millrace::daemon
