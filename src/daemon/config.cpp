// SPDX-License-Identifier: Apache-2.0
#include "daemon/config.hpp"

#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string_view>
#include <utility>

#include "http/server.hpp"

namespace millrace::daemon {
namespace {

constexpr const char* kOperation = "load configuration";
constexpr std::string_view kPrefix = "MILLRACE_";

[[noreturn]] void refuse(const std::string& object, const std::string& message) {
  throw Error(Errc::invalid_argument, kOperation, object, message);
}

std::string full_name(const Descriptor& key) {
  return key.section + '.' + key.key;
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return text;
}

std::string variable_of(const Descriptor& key) {
  return std::string(kPrefix) + upper(key.section) + '_' + upper(key.key);
}

/// Levenshtein's distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, substituted}));
    }
  }
  return row[b.size()];
}

template <class NameOf>
std::pair<std::string, std::size_t> nearest(const std::string& name, NameOf name_of) {
  std::pair<std::string, std::size_t> best{"", std::string::npos};
  for (const Descriptor& key : descriptors()) {
    const std::string candidate = name_of(key);
    if (const std::size_t distance = edit_distance(name, candidate); distance < best.second)
      best = {candidate, distance};
  }
  return best;
}

const Descriptor* find_key(const std::string& name) {
  const auto& table = descriptors();
  const auto found =
      std::find_if(table.begin(), table.end(), [&](const Descriptor& d) { return full_name(d) == name; });
  return found == table.end() ? nullptr : &*found;
}

std::optional<std::string> environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

/// Replaces every `${VAR}`.
std::string expand_variables(const std::string& text) {
  std::string out;
  std::size_t from = 0;
  for (std::size_t open = text.find("${"); open != std::string::npos; open = text.find("${", from)) {
    const std::size_t close = text.find('}', open);
    if (close == std::string::npos)
      throw Error(Errc::invalid_argument, kOperation, "", "\"${\" is not closed by \"}\"");
    const std::string name = text.substr(open + 2, close - open - 2);
    const auto value = environment(name);
    if (!value) throw Error(Errc::invalid_argument, kOperation, "", "the environment variable " + name + " is not set");
    out += text.substr(from, open - from) + *value;
    from = close + 1;
  }
  return out + text.substr(from);
}

/// A secret's text, or what stands in the file it names; a trailing line break is not part of it.
std::string read_secret(const std::string& value) {
  constexpr std::string_view kFile = "file:";
  if (!value.starts_with(kFile)) return value;
  const std::string path = value.substr(kFile.size());
  std::ifstream in(path, std::ios::binary);
  std::string secret{std::istreambuf_iterator<char>(in), {}};
  if (!in.is_open() || in.bad())
    throw Error(Errc::invalid_argument, kOperation, "", "cannot read the secret file " + path);
  while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
  if (secret.empty()) throw Error(Errc::invalid_argument, kOperation, "", "the secret file " + path + " is empty");
  return secret;
}

/// Sets one key; `where` ("millrace.toml:3", a variable, a flag) becomes part of what a failure says.
void apply(LoadedConfig& loaded, const Descriptor& key, const std::string& value, Origin origin,
           const std::string& where) {
  try {
    std::string text = origin == Origin::file ? expand_variables(value) : value;
    if (key.secret) text = read_secret(text);
    key.set(loaded.config, text);
  } catch (const Error& error) {
    refuse(full_name(key) + " (" + where + ")", error.message());
  }
  loaded.origins[full_name(key)] = origin;
}

/// A TOML value as the text a flag would carry; nullopt for what no key takes.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  return std::nullopt;
}

void apply_file(LoadedConfig& loaded, const std::string& path) {
  const auto at = [&path](const toml::source_region& region) { return path + ':' + std::to_string(region.begin.line); };
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    refuse(at(error.source()), "is not TOML: " + std::string(error.description()));
  }
  const auto refuse_unknown = [&](const std::string& name, const toml::source_region& region) {
    const auto [known, distance] = nearest(name, full_name);
    refuse(at(region), "unknown key " + name + "; the nearest known one is " + known);
  };
  for (const auto& [section, content] : table) {
    const std::string section_name(section.str());
    const auto* keys = content.as_table();
    if (keys == nullptr) refuse_unknown(section_name, section.source());
    const auto& known = descriptors();
    if (std::none_of(known.begin(), known.end(), [&](const auto& d) { return d.section == section_name; })) {
      const auto first = keys->begin();
      refuse_unknown(section_name + (keys->empty() ? "" : '.' + std::string(first->first.str())), section.source());
    }
    for (const auto& [name, node] : *keys) {
      const std::string key_name = section_name + '.' + std::string(name.str());
      const Descriptor* key = find_key(key_name);
      if (key == nullptr) refuse_unknown(key_name, name.source());
      const auto text = text_of(node);
      if (!text)
        refuse(key_name + " (" + at(node.source()) + ')', "has the wrong kind of value; write it as " + key->example);
      apply(loaded, *key, *text, Origin::file, at(node.source()));
    }
  }
}

/// Refuses a variable that was surely meant for a key and is none: of a known section, or two letters off a known one.
void check_variable(const std::string& name) {
  constexpr std::array kOthers{"MILLRACE_CONFIG", "MILLRACE_URL", "MILLRACE_TOKEN"};
  if (std::find(kOthers.begin(), kOthers.end(), name) != kOthers.end()) return;
  const auto& known = descriptors();
  if (std::any_of(known.begin(), known.end(), [&](const auto& d) { return variable_of(d) == name; })) return;
  const bool of_section = std::any_of(known.begin(), known.end(), [&](const auto& d) {
    return name.starts_with(std::string(kPrefix) + upper(d.section) + '_');
  });
  const auto [nearest_name, distance] = nearest(name, variable_of);
  if (of_section || distance <= 2) {
    refuse(name, "is no configuration variable; the nearest known one is " + nearest_name);
  }
}

void apply_environment(LoadedConfig& loaded) {
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (text.starts_with(kPrefix)) check_variable(std::string(text.substr(0, text.find('='))));
  }
  for (const Descriptor& key : descriptors()) {
    const std::string name = variable_of(key);
    if (const auto value = environment(name)) apply(loaded, key, *value, Origin::environment, name);
  }
}

void apply_flags(LoadedConfig& loaded, const std::map<std::string, std::string>& flags) {
  for (const auto& [name, value] : flags) {
    const Descriptor* key = find_key(name);
    if (key == nullptr) refuse(name, "unknown key; the nearest known one is " + nearest(name, full_name).first);
    apply(loaded, *key, value, Origin::flag, "--" + key->section + '-' + key->key);
  }
}

std::optional<std::string> choose_file(const std::optional<std::string>& named) {
  auto file = named;
  if (!file) file = environment("MILLRACE_CONFIG");
  if (file) {
    if (!std::filesystem::is_regular_file(*file)) {
      throw Error(Errc::not_found, kOperation, *file, "there is no such configuration file");
    }
    return file;
  }
  const auto xdg = environment("XDG_CONFIG_HOME");
  const auto home = environment("HOME");
  if (!xdg && !home) return std::nullopt;
  const auto path =
      (xdg && !xdg->empty() ? std::filesystem::path(*xdg) : std::filesystem::path(home.value_or("")) / ".config") /
      "millrace" / "millrace.toml";
  std::error_code ignored;  // a folder that cannot be looked into holds no configuration for us
  return std::filesystem::is_regular_file(path, ignored) ? std::optional(path.string()) : std::nullopt;
}

bool is_loopback(const std::string& listen) {
  try {
    return http::is_loopback(listen);
  } catch (const Error& error) {
    refuse("server.listen", error.message());
  }
}

/// What no key can judge alone.
void check_together(Config& config) {
  if (!is_loopback(config.server.listen) && config.server.token.empty()) {
    refuse("server.listen",
           "\"" + config.server.listen + "\" is not a loopback address: set server.token, or listen on 127.0.0.1");
  }
  if (config.server.max_batch_bytes < config.server.max_event_bytes) {
    refuse("server.max_batch_bytes",
           "is less than server.max_event_bytes (" + std::to_string(config.server.max_event_bytes) + ")");
  }
  const RetryPolicy& retry = config.delivery.group.retry;
  if (retry.transient_backoff.max < retry.transient_backoff.first) {
    refuse("delivery.transient_max", "is less than delivery.transient_first");
  }
  if (retry.handler_backoff.max < retry.handler_backoff.first) {
    refuse("delivery.handler_max", "is less than delivery.handler_first");
  }
  config.delivery.group.expires = config.delivery.expires;
  config.delivery.group.validate();
}

}  // namespace

LoadedConfig load_config(const std::optional<std::string>& file, const std::map<std::string, std::string>& flags) {
  LoadedConfig loaded;
  for (const Descriptor& key : descriptors()) loaded.origins[full_name(key)] = Origin::default_value;
  loaded.file = choose_file(file);
  if (loaded.file) apply_file(loaded, *loaded.file);
  apply_environment(loaded);
  apply_flags(loaded, flags);
  check_together(loaded.config);
  return loaded;
}

}  // namespace millrace::daemon
