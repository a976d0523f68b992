// SPDX-License-Identifier: Apache-2.0
#include "store/url.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace millrace::store {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

[[noreturn]] void bad_url(std::string_view url, const std::string& message) {
  throw Error(Errc::invalid_argument, "open store", without_password(url), message);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string home() {
  std::string folder = environment("HOME");
  if (folder.empty()) {
    throw Error(Errc::invalid_argument, "open store", "HOME",
                "the default store lies in the home directory, but HOME is not set; set it, or name a store");
  }
  return folder;
}

/// "~/x" as a shell would read it: a path from an environment or configuration file has met no shell.
std::string home_expanded(std::string path) {
  if (path == "~" || path.starts_with("~/")) path.replace(0, 1, home());
  return path;
}

/// The scheme of `text`, or nothing: one letter is not a scheme, a slash before the colon neither.
std::string_view scheme_of(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon < 2) return {};
  const std::string_view scheme = text.substr(0, colon);
  const bool valid = scheme.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+") == std::string_view::npos &&
                     scheme[0] >= 'a' && scheme[0] <= 'z';
  return valid ? scheme : std::string_view{};
}

std::uint64_t number(const std::pair<std::string, std::string>& option, std::string_view unit, std::uint64_t most) {
  std::uint64_t value = 0;
  const std::string& text = option.second;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size() || value > most) {
    bad_url(option.first, "option " + option.first + " is a whole number of " + std::string(unit) + ", at most " +
                              std::to_string(most) + ", not '" + text + "'");
  }
  return value;
}

}  // namespace

std::string percent_decoded(std::string_view text, std::string_view url) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low < 0) bad_url(url, "a percent sign in a store URL is followed by two hexadecimal digits");
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (out.find('\0') != std::string::npos) bad_url(url, "a store URL cannot contain a zero byte");
  return out;
}

std::string without_password(std::string_view url) {
  std::string text(url);
  const std::string_view scheme = scheme_of(url);
  if (scheme == "sqlite" || scheme == "memory") return text;
  const std::size_t at = text.rfind('@');  // the last: a password may contain one, and too much hidden does no harm
  if (at == std::string::npos) return text;
  // Whoever forgot the slashes, or wrote the scheme wrong, has written a password all the same.
  const std::size_t slashes = text.find("//");
  if (scheme.empty() && (slashes == std::string::npos || slashes > at)) return text;  // a path
  const std::size_t who = slashes < at ? slashes + 2 : scheme.size() + 1;
  const std::size_t colon = text.find(':', who);
  const std::size_t begin = colon < at ? colon + 1 : who;
  return text.replace(begin, at - begin, "***");
}

StoreUrl parse_store_url(std::string_view text) {
  if (text.empty()) return {"sqlite", default_path(), {}};
  const std::string_view scheme = scheme_of(text);
  if (scheme.empty() && text.find("://") != std::string_view::npos) {
    bad_url(text,
            "the scheme of a store URL is in small letters: sqlite:, memory:, redis:; a path that looks like one "
            "is written sqlite:PATH");
  }
  if (scheme.empty()) return {"sqlite", home_expanded(std::string(text)), {}};

  std::string_view rest = text.substr(scheme.size() + 1);
  const std::size_t question = rest.find('?');
  StoreUrl url{
      std::string(scheme), percent_decoded(rest.substr(0, question), text), {}, std::string(rest.substr(0, question))};
  rest = question == std::string_view::npos ? std::string_view{} : rest.substr(question + 1);
  while (!rest.empty()) {
    const std::string_view option = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), option.size() + 1));
    const std::size_t equals = option.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      bad_url(text, "options of a store URL are written name=value and joined by '&'");
    }
    url.options.emplace_back(percent_decoded(option.substr(0, equals), text),
                             percent_decoded(option.substr(equals + 1), text));
  }
  if (url.scheme == "sqlite") {
    while (url.path.starts_with("//")) url.path.erase(0, 1);  // sqlite:///var/lib/… as other URLs have it
    url.path = url.path.empty() ? default_path() : home_expanded(std::move(url.path));
  }
  return url;
}

std::string sqlite_url(std::string_view path) {
  std::string url = "sqlite:";
  for (const char c : path) {
    if (c == '%' || c == '?' || c == '&' || c == '#' || static_cast<unsigned char>(c) < 0x20) {
      url += '%';
      url += kHex[static_cast<unsigned char>(c) >> 4];
      url += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      url += c;
    }
  }
  return url;
}

std::string default_path() {
  const std::string data = environment("XDG_DATA_HOME");
  // The XDG specification tells to ignore a relative one.
  return (data.starts_with('/') ? data : home() + "/.local/share") + "/millrace/events.db";
}

StoreOptions with_url_options(const StoreUrl& url, StoreOptions options) {
  for (const auto& option : url.options) {
    if (option.first == "dedup_keep") {
      options.dedup_keep = std::chrono::seconds(number(option, "seconds", 10ULL * 366 * 24 * 3600));
    } else if (option.first == "min_free") {
      options.min_free_bytes = number(option, "bytes", 1ULL << 60);
    } else if (option.first == "history") {
      options.history = std::chrono::seconds(number(option, "seconds", 10ULL * 366 * 24 * 3600));
    } else {
      bad_url(url.scheme + ":",
              "unknown option '" + option.first + "'; the known ones are dedup_keep, min_free, history");
    }
  }
  return options;
}

}  // namespace millrace::store

namespace millrace {

StoreOptions StoreOptions::from_env() {
  StoreOptions options;
  const auto refuse = [](const char* variable, const std::string& message) {
    throw Error(Errc::invalid_argument, "read environment", variable, message);
  };
  options.url = store::environment("MILLRACE_STORE_URL");
  if (!options.url.empty()) return options;

  const std::string backend = store::environment("EVENT_STORE_BACKEND");
  const std::string path = store::environment("EVENT_STORE_PATH");
  if (backend == "memory") {
    options.url = "memory:";
  } else if (backend == "redis") {
    options.url = store::environment("REDIS_URL");
    const std::string_view scheme = store::scheme_of(options.url);
    if (scheme != "redis" && scheme != "rediss" && scheme != "redis+unix" && scheme != "unix") {
      refuse("REDIS_URL",
             "EVENT_STORE_BACKEND is redis, so REDIS_URL must name the server: redis://HOST:PORT, rediss://HOST:PORT "
             "or redis+unix:/PATH/OF/SOCKET");
    }
  } else if (backend == "sqlite" || backend.empty()) {
    if (!path.empty()) options.url = store::sqlite_url(path);
  } else {
    refuse("EVENT_STORE_BACKEND", "is sqlite, redis or memory, not '" + backend + "'");
  }
  return options;
}

}  // namespace millrace
