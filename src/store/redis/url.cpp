// SPDX-License-Identifier: Apache-2.0
#include "store/redis/url.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>
#include <vector>

namespace millrace::store::redis {
namespace {

constexpr std::uint16_t kDefaultPort = 6379;
constexpr std::string_view kKnown =
    "prefix, durability, replicas, connect_timeout, timeout, db (of a socket), ca, cert, key, server_name, insecure "
    "(of "
    "rediss:), foreign_type, foreign_id, foreign_source, foreign_subject, foreign_time, foreign_trace_id, dedup_keep, "
    "history";

[[noreturn]] void refuse(const std::string& object, const std::string& message) {
  throw Error(Errc::invalid_argument, "open store", object, message);
}

template <class Number>
Number number(std::string_view what, std::string_view text, Number least, Number most) {
  Number value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    refuse(std::string(what), std::string(what) + " is a whole number from " + std::to_string(least) + " to " +
                                  std::to_string(most) + ", not '" + std::string(text) + "'");
  }
  return value;
}

/// Reads one URL; its functions in the order of the parts.
class Parser {
 public:
  explicit Parser(StoreUrl& url) : url_(url), shown_(without_password(url.scheme + ":" + url.encoded_path)) {}

  RedisUrl parse() {
    if (url_.scheme == "redis" || url_.scheme == "rediss") {
      server();
    } else {
      socket();
    }
    options();
    return std::move(out_);
  }

 private:
  [[nodiscard]] std::string decoded(std::string_view text) const { return percent_decoded(text, shown_); }

  /// Takes "//user:password@" off `text` and answers whether there was a "//".
  bool authority(std::string_view& text) {
    if (!text.starts_with("//")) return false;
    text.remove_prefix(2);
    const std::string_view until_path = text.substr(0, text.find('/'));
    const std::size_t at = until_path.rfind('@');
    if (at == std::string_view::npos) return true;
    const std::string_view who = until_path.substr(0, at);
    const std::size_t colon = who.find(':');
    out_.user = decoded(who.substr(0, colon));
    if (colon != std::string_view::npos) out_.password = decoded(who.substr(colon + 1));
    text.remove_prefix(at + 1);
    return true;
  }

  void server() {
    std::string_view rest = url_.encoded_path;
    if (!authority(rest)) refuse(shown_, "is written " + url_.scheme + "://[user[:password]@]host[:port][/database]");
    if (rest.find('@') != std::string_view::npos) refuse(shown_, "a '/' in a user or password is written %2F");
    std::string_view host = rest.substr(0, rest.find('/'));
    rest.remove_prefix(host.size());
    std::string_view port;
    if (host.starts_with('[')) {  // an IPv6 address
      const std::size_t end = host.find(']');
      if (end == std::string_view::npos) refuse(shown_, "an IPv6 address ends with ']'");
      port = host.substr(end + 1);
      host = host.substr(1, end - 1);
    } else {
      port = host.substr(std::min(host.size(), host.find(':')));
      host.remove_suffix(port.size());
    }
    if (!port.empty() && (port.front() != ':' || port.size() == 1)) refuse(shown_, "after the host comes :port");
    out_.endpoint.host = host.empty() ? "localhost" : decoded(host);
    out_.endpoint.port = port.empty() ? kDefaultPort : port_number(port.substr(1));
    if (url_.scheme == "rediss") out_.endpoint.tls.emplace();
    if (rest.size() > 1) out_.database = number<unsigned>("the database", rest.substr(1), 0, kMostDatabase);
  }

  /// What stands there may be a password whose host was forgotten: it is not shown.
  static std::uint16_t port_number(std::string_view text) {
    try {
      return number<std::uint16_t>("the port", text, 1, 65535);
    } catch (const Error&) {
      refuse("the port", "the port is a whole number from 1 to 65535");
    }
  }

  void socket() {
    std::string_view rest = url_.encoded_path;
    authority(rest);
    out_.endpoint.path = decoded(rest);
    if (!out_.endpoint.path.starts_with('/')) {
      refuse(shown_, "names a socket by its whole path: " + url_.scheme + ":/run/redis/redis.sock");
    }
  }

  void options() {
    std::vector<std::pair<std::string, std::string>> others;
    for (auto& [name, value] : url_.options) {
      if (name == "dedup_keep" || name == "history") {
        others.emplace_back(std::move(name), std::move(value));
      } else if (!own(name, value) && !of_tls(name, value) && !of_foreign(name, value)) {
        refuse(url_.scheme + ":", "unknown option '" + name + "'; the known ones are " + std::string(kKnown));
      }
    }
    url_.options = std::move(others);
    out_.foreign.validate();
    if (out_.endpoint.tls && out_.endpoint.tls->cert_file.empty() != out_.endpoint.tls->key_file.empty()) {
      refuse(url_.scheme + ":", "options cert and key are given together");
    }
  }

  bool own(const std::string& name, const std::string& value) {
    if (name == "prefix") {
      const auto bad = [](char c) { return c <= ' ' || c > '~'; };
      if (value.size() > 128 || std::any_of(value.begin(), value.end(), bad)) {
        refuse("prefix", "a prefix is at most 128 printable ASCII characters without spaces");
      }
      out_.prefix = value;
    } else if (name == "durability") {
      durability(value);
    } else if (name == "replicas") {
      out_.replicas = number<unsigned>(name, value, 0, 100);
    } else if (name == "connect_timeout") {
      out_.connect_timeout = Milliseconds(number<int>(name, value, 1, 600'000));
    } else if (name == "timeout") {
      out_.timeout = Milliseconds(number<int>(name, value, 1, 600'000));
    } else if (name == "db") {
      if (out_.endpoint.path.empty()) refuse("db", "the database of a server is its path: redis://host/1");
      out_.database = number<unsigned>(name, value, 0, kMostDatabase);
    } else {
      return false;
    }
    return true;
  }

  void durability(const std::string& value) {
    for (const Level level : {Level::durable, Level::relaxed, Level::memory, Level::unknown}) {
      if (to_string(level) == value) out_.durability = level;
    }
    if (!out_.durability) refuse("durability", "is durable, relaxed, memory or unknown, not '" + value + "'");
  }

  bool of_tls(const std::string& name, const std::string& value) {
    static constexpr std::string_view kNames[] = {"ca", "cert", "key", "server_name", "insecure"};
    if (std::find(std::begin(kNames), std::end(kNames), name) == std::end(kNames)) return false;
    if (!out_.endpoint.tls) refuse(name, "has an effect with rediss: only");
    io::TlsOptions& tls = *out_.endpoint.tls;
    if (name == "ca") tls.ca_file = value;
    if (name == "cert") tls.cert_file = value;
    if (name == "key") tls.key_file = value;
    if (name == "server_name") tls.server_name = value;
    if (name == "insecure") {
      if (value != "true" && value != "false") refuse(name, "is true or false, not '" + value + "'");
      tls.verify = value == "false";
    }
    return true;
  }

  bool of_foreign(const std::string& name, const std::string& value) {
    ForeignMapping& foreign = out_.foreign;
    const std::pair<std::string_view, std::vector<std::string>&> meanings[] = {
        {"foreign_type", foreign.type},       {"foreign_id", foreign.id},     {"foreign_source", foreign.source},
        {"foreign_subject", foreign.subject}, {"foreign_time", foreign.time}, {"foreign_trace_id", foreign.trace_id}};
    for (const auto& [known, fields] : meanings) {
      if (name != known) continue;
      fields.clear();
      for (std::string_view rest = value; !rest.empty();) {
        const std::string_view field = rest.substr(0, rest.find(','));
        fields.emplace_back(field);
        rest.remove_prefix(std::min(rest.size(), field.size() + 1));
      }
      return true;
    }
    return false;
  }

  static constexpr unsigned kMostDatabase = 2'147'483'647;
  StoreUrl& url_;
  std::string shown_;
  RedisUrl out_;
};

}  // namespace

std::string_view to_string(Level level) noexcept {
  switch (level) {
    case Level::unknown:
      return "unknown";
    case Level::memory:
      return "memory";
    case Level::relaxed:
      return "relaxed";
    case Level::durable:
      return "durable";
  }
  return "unknown";
}

std::string RedisUrl::describe() const {
  const std::string who = user.empty() ? "" : user + "@";
  std::string text;
  if (endpoint.path.empty()) {
    text = (endpoint.tls ? "rediss://" : "redis://") + who + endpoint.describe() + "/" + std::to_string(database);
  } else {
    text = "redis+unix:" + (who.empty() ? "" : "//" + who) + endpoint.path;
    if (database != 0) text += "?db=" + std::to_string(database);
  }
  if (!prefix.empty()) text += (text.find('?') == std::string::npos ? "?prefix=" : "&prefix=") + prefix;
  return text;
}

RedisUrl parse_redis_url(StoreUrl& url) {
  return Parser(url).parse();
}

RedisUrl parse_redis_url(std::string_view text) {
  StoreUrl url = parse_store_url(text);
  RedisUrl parsed = parse_redis_url(url);
  return parsed;
}

}  // namespace millrace::store::redis
