// SPDX-License-Identifier: Apache-2.0
#include "daemon/config_tables.hpp"

#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "base/utf8.hpp"
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

/// Every name a key may be looked for under.
std::vector<std::string> known_names() {
  std::vector<std::string> names;
  for (const Descriptor& key : descriptors()) names.push_back(full_name(key));
  for (const TableKind& kind : table_kinds()) {
    names.push_back(kind.name);
    for (const TableKey& key : kind.keys) names.push_back(kind.name + '.' + key.key);
  }
  return names;
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

/// What is configured is shown again, as TOML and JSON, which know no other bytes. (A file was seen to be UTF-8.)
const std::string& checked_text(const std::string& text) {
  if (!is_utf8(text)) throw Error(Errc::invalid_argument, kOperation, "", "is not UTF-8 text");
  return text;
}

/// Sets one key; `where` ("millrace.toml:3", a variable, a flag) becomes part of what a failure says.
void apply(LoadedConfig& loaded, const Descriptor& key, const std::string& value, Origin origin,
           const std::string& where) {
  try {
    std::string text = origin == Origin::file ? expand_variables(value) : value;
    if (key.secret) text = read_secret(text);
    key.set(loaded.config, checked_text(text));
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

/// Reads the configuration file.
class FileReader {
 public:
  FileReader(LoadedConfig& loaded, const std::string& path) : loaded_(loaded), path_(path) {}

  void read() {
    toml::table table;
    try {
      table = toml::parse_file(path_);
    } catch (const toml::parse_error& error) {
      refuse(at(error.source()), "is not TOML: " + std::string(error.description()));
    }
    for (const auto& [name, content] : table) {
      const auto& kinds = table_kinds();
      const auto kind =
          std::find_if(kinds.begin(), kinds.end(), [&name = name](const TableKind& k) { return k.name == name.str(); });
      if (kind == kinds.end()) {
        read_section(std::string(name.str()), content);
      } else {
        read_tables(*kind, content);
      }
    }
  }

 private:
  [[nodiscard]] std::string at(const toml::source_region& region) const {
    return path_ + ':' + std::to_string(region.begin.line);
  }

  [[noreturn]] void refuse_unknown(const std::string& name, const toml::source_region& region) const {
    refuse(at(region), "unknown key " + name + "; the nearest known one is " + nearest_name(name, known_names()).first);
  }

  void read_section(const std::string& section, const toml::node& content) {
    const auto* keys = content.as_table();
    if (keys == nullptr) refuse_unknown(section, content.source());
    const auto& known = descriptors();
    if (std::none_of(known.begin(), known.end(), [&](const auto& d) { return d.section == section; })) {
      const auto first = keys->begin();
      refuse_unknown(section + (keys->empty() ? "" : '.' + std::string(first->first.str())), content.source());
    }
    for (const auto& [name, node] : *keys) {
      const std::string key_name = section + '.' + std::string(name.str());
      const Descriptor* key = find_key(key_name);
      if (key == nullptr) refuse_unknown(key_name, name.source());
      const auto text = text_of(node);
      if (!text)
        refuse(key_name + " (" + at(node.source()) + ')', "has the wrong kind of value; write it as " + key->example);
      apply(loaded_, *key, *text, Origin::file, at(node.source()));
    }
  }

  void read_tables(const TableKind& kind, const toml::node& content) {
    const auto* rows = content.as_array();
    const bool right = rows != nullptr &&
                       std::all_of(rows->begin(), rows->end(), [](const toml::node& row) { return row.is_table(); });
    if (!right) refuse(at(content.source()), kind.name + " may stand several times; write it as [[" + kind.name + "]]");
    for (const toml::node& row : *rows) {
      std::map<std::string, TableValue> values;
      for (const auto& [name, node] : *row.as_table()) {
        const std::string key_name = kind.name + '.' + std::string(name.str());
        const auto key = std::find_if(kind.keys.begin(), kind.keys.end(),
                                      [&name = name](const TableKey& k) { return k.key == name.str(); });
        if (key == kind.keys.end()) refuse_unknown(key_name, name.source());
        try {
          values.emplace(key->key, value_of(node, key->secret));
        } catch (const Error& error) {
          refuse(key_name + " (" + at(node.source()) + ')', error.message());
        }
      }
      for (const TableKey& key : kind.keys) {
        if (!key.required || values.contains(key.key)) continue;
        refuse(kind.name + '.' + key.key + " (" + at(row.source()) + ')', "is required, e.g. " + key.example);
      }
      kind.add(loaded_.config, TableRow(kind.name, at(row.source()), std::move(values)));
    }
  }

  static TableValue value_of(const toml::node& node, bool secret) {
    TableValue value;
    if (const auto* list = node.as_array()) {
      value.kind = TableValue::Kind::list;
      for (const toml::node& element : *list) value.list.push_back(value_of(element, secret));
    } else if (const auto* table = node.as_table()) {
      value.kind = TableValue::Kind::table;
      for (const auto& [name, member] : *table) value.table.emplace_back(name.str(), value_of(member, secret));
    } else if (const auto text = text_of(node)) {
      value.text = expand_variables(*text);
      if (secret) value.text = read_secret(value.text);
      checked_text(value.text);
    } else {
      throw Error(Errc::invalid_argument, kOperation, "", "has the wrong kind of value");
    }
    return value;
  }

  LoadedConfig& loaded_;
  const std::string& path_;
};

/// Refuses a variable that was surely meant for a key and is none: of a known section, or two letters off a known one.
void check_variable(const std::string& name) {
  constexpr std::array kOthers{"MILLRACE_CONFIG", "MILLRACE_URL", "MILLRACE_TOKEN", "MILLRACE_CA_FILE"};
  if (std::find(kOthers.begin(), kOthers.end(), name) != kOthers.end()) return;
  const auto& known = descriptors();
  if (std::any_of(known.begin(), known.end(), [&](const auto& d) { return variable_of(d) == name; })) return;
  const bool of_section = std::any_of(known.begin(), known.end(), [&](const auto& d) {
    return name.starts_with(std::string(kPrefix) + upper(d.section) + '_');
  });
  for (const TableKind& kind : table_kinds()) {
    if (!name.starts_with(std::string(kPrefix) + upper(kind.name) + '_')) continue;
    refuse(name, "is no configuration variable: [[" + kind.name + "]] stands in the file only");
  }
  std::vector<std::string> variables;
  variables.reserve(known.size());
  for (const Descriptor& key : known) variables.push_back(variable_of(key));
  const auto [nearest, distance] = nearest_name(name, variables);
  if (of_section || distance <= 2) {
    refuse(name, "is no configuration variable; the nearest known one is " + nearest);
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
  const auto flag_names = [] {
    std::vector<std::string> names;
    for (const Descriptor& key : descriptors()) names.push_back(full_name(key));
    return names;
  };
  for (const auto& [name, value] : flags) {
    const Descriptor* key = find_key(name);
    if (key == nullptr) refuse(name, "unknown key; the nearest known one is " + nearest_name(name, flag_names()).first);
    apply(loaded, *key, value, Origin::flag, flag_of(*key));
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
  if (!is_loopback(config.server.listen) && !config.asks_for_token()) {
    refuse("server.listen",
           "\"" + config.server.listen + "\" is not a loopback address: set server.token, or listen on 127.0.0.1");
  }
  if (config.server.tls_cert.empty() != config.server.tls_key.empty()) {
    refuse(config.server.tls_cert.empty() ? "server.tls_cert" : "server.tls_key",
           "server.tls_cert and server.tls_key are set together, or neither");
  }
  for (const Config::Token& token : config.tokens) {
    if (token.secret == config.server.token) refuse("server.token", "is that of the [[token]] " + token.name + ", too");
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

std::string flag_of(const Descriptor& key) {
  std::string flag = "--" + key.section + '-' + key.key;
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

LoadedConfig load_config(const std::optional<std::string>& file, const std::map<std::string, std::string>& flags) {
  LoadedConfig loaded;
  for (const Descriptor& key : descriptors()) loaded.origins[full_name(key)] = Origin::default_value;
  loaded.file = choose_file(file);
  if (loaded.file) FileReader(loaded, *loaded.file).read();
  apply_environment(loaded);
  apply_flags(loaded, flags);
  check_together(loaded.config);
  return loaded;
}

}  // namespace millrace::daemon
