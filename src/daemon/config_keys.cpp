// SPDX-License-Identifier: Apache-2.0
// The table of configuration keys: the only place that knows a key's name, meaning, bounds and field.
#include <charconv>
#include <chrono>
#include <limits>
#include <string_view>
#include <utility>

#include "base/units.hpp"
#include "daemon/config_tables.hpp"
#include "store/url.hpp"

namespace millrace::daemon {
namespace {

[[noreturn]] void refuse(const std::string& key, const std::string& value, const std::string& rule) {
  throw Error(Errc::invalid_argument, "load configuration", key, fmt::format("\"{}\" {}", value, rule));
}

/// nullopt when `parse` refuses `value`: the caller says the rule with its bounds.
template <class Parse>
auto read(Parse parse, const std::string& value) -> std::optional<decltype(parse(value))> {
  try {
    return parse(value);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// Builds descriptors of one section; `Field` is `Config& -> T&`.
class Section {
 public:
  Section(std::vector<Descriptor>& out, std::string name) : out_(out), name_(std::move(name)) {}

  template <class Field>
  void text(const std::string& key, Field field, const std::string& help, const std::string& example,
            bool secret = false) {
    add(
        key, help, example, [field](Config& config, const std::string& value) { field(config) = value; },
        [field, secret](const Config& config) {
          const std::string& value = field(const_cast<Config&>(config));
          return toml_text(secret && !value.empty() ? "***" : value);
        },
        secret);
  }

  template <class Field>
  void count(const std::string& key, Field field, std::uint64_t least, std::uint64_t most, const std::string& help,
             const std::string& example) {
    number(key, field, least, most, help, example, [](const std::string& value) {
      std::uint64_t parsed = 0;
      const auto [end, bad] = std::from_chars(value.data(), value.data() + value.size(), parsed);
      return bad == std::errc{} && end == value.data() + value.size() ? std::optional(parsed) : std::nullopt;
    });
  }

  template <class Field>
  void bytes(const std::string& key, Field field, std::uint64_t least, std::uint64_t most, const std::string& help,
             const std::string& example) {
    number(key, field, least, most, help, example, [](const std::string& value) { return read(parse_size, value); });
  }

  template <class Field>
  void duration(const std::string& key, Field field, Milliseconds least, Milliseconds most, const std::string& help,
                const std::string& example) {
    using Duration = std::remove_reference_t<decltype(field(std::declval<Config&>()))>;
    const std::string name = name_ + '.' + key;
    const std::string rule = fmt::format("is not a duration from {} to {}, such as {}", format_duration(least),
                                         format_duration(most), example);
    add(
        key, fmt::format("{} ({} … {})", help, format_duration(least), format_duration(most)), example,
        [=](Config& config, const std::string& value) {
          const auto parsed = read(parse_duration, value);
          if (!parsed || *parsed < least || *parsed > most) refuse(name, value, rule);
          const auto converted = std::chrono::duration_cast<Duration>(*parsed);
          if (converted != *parsed) refuse(name, value, "must be a whole number of seconds");
          field(config) = converted;
        },
        [=](const Config& config) {
          return toml_text(
              format_duration(std::chrono::duration_cast<Milliseconds>(field(const_cast<Config&>(config)))));
        });
  }

  void add(const std::string& key, const std::string& help, const std::string& example,
           std::function<void(Config&, const std::string&)> set, std::function<std::string(const Config&)> get,
           bool secret = false) {
    out_.push_back({name_, key, help, example, secret, std::move(set), std::move(get)});
  }

  [[nodiscard]] std::string name_of(const std::string& key) const { return name_ + '.' + key; }

 private:
  template <class Field, class Parse>
  void number(const std::string& key, Field field, std::uint64_t least, std::uint64_t most, const std::string& help,
              const std::string& example, Parse parse) {
    using Number = std::remove_reference_t<decltype(field(std::declval<Config&>()))>;
    const std::string name = name_ + '.' + key;
    add(
        key, fmt::format("{} ({} … {})", help, least, most), example,
        [=](Config& config, const std::string& value) {
          const std::optional<std::uint64_t> parsed = parse(value);
          if (!parsed || *parsed < least || *parsed > most) {
            refuse(name, value, fmt::format("is not a number from {} to {}", least, most));
          }
          field(config) = static_cast<Number>(*parsed);
        },
        [=](const Config& config) { return fmt::format("{}", field(const_cast<Config&>(config))); });
  }

  std::vector<Descriptor>& out_;
  std::string name_;
};

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

void server_keys(std::vector<Descriptor>& out) {
  Section server(out, "server");
  server.add(
      "listen",
      "Address and port to listen on; port 0 picks a free one. Anything but a loopback address needs a token "
      "(`server.token` or a `[[token]]`).",
      "\"127.0.0.1:8420\"",
      [name = server.name_of("listen")](Config& config, const std::string& value) {
        const std::size_t colon = value.rfind(':');
        std::uint16_t port = 0;
        const char* end = value.data() + value.size();
        const bool split = colon != std::string::npos && colon > 0;
        if (!split || std::from_chars(value.data() + colon + 1, end, port).ptr != end || colon + 1 == value.size()) {
          refuse(name, value, "is not host:port with a port from 0 to 65535, such as 127.0.0.1:8420 or [::1]:8420");
        }
        config.server.listen = value;
      },
      [](const Config& config) { return toml_text(config.server.listen); });
  server.text(
      "token", [](Config & c) -> auto& { return c.server.token; },
      "Bearer token every request must carry; empty = none is asked for, and requests of web pages from elsewhere are "
      "refused",
      "\"file:/etc/millrace/token\"", true);
  server.text(
      "tls_cert", [](Config & c) -> auto& { return c.server.tls_cert; },
      "PEM file with the certificate and those that lead to its CA; with server.tls_key the daemon speaks HTTPS only",
      "\"/etc/millrace/cert.pem\"");
  server.text(
      "tls_key", [](Config & c) -> auto& { return c.server.tls_key; },
      "PEM file with the key of server.tls_cert, not encrypted; SIGHUP reads both again", "\"/etc/millrace/key.pem\"");
  constexpr std::uint64_t kMost = 1ULL << 30;
  server.bytes(
      "max_event_bytes", [](Config & c) -> auto& { return c.server.max_event_bytes; }, 1024, kMost,
      "Largest single event, in bytes", "1048576");
  server.bytes(
      "max_batch_bytes", [](Config & c) -> auto& { return c.server.max_batch_bytes; }, 1024, kMost,
      "Largest request body, in bytes", "8388608");
  server.bytes(
      "max_header_bytes", [](Config & c) -> auto& { return c.server.max_header_bytes; }, 1024, 1 << 20,
      "Largest request header, in bytes", "65536");
  server.count(
      "max_connections", [](Config & c) -> auto& { return c.server.max_connections; }, 1, 1'000'000,
      "Most connections at once", "10000");
  server.duration(
      "request_timeout", [](Config & c) -> auto& { return c.server.request_timeout; }, seconds{1}, minutes{10},
      "How long a client may take to send a whole request; also the longest idle keep-alive", "\"30s\"");
  server.duration(
      "max_wait", [](Config & c) -> auto& { return c.server.max_wait; }, Milliseconds{0}, minutes{10},
      "Longest a claim may wait for events", "\"1m\"");
  server.duration(
      "stop_grace", [](Config & c) -> auto& { return c.server.stop_grace; }, Milliseconds{0}, minutes{10},
      "How long running work may take after SIGTERM", "\"10s\"");
}

void delivery_keys(std::vector<Descriptor>& out) {
  Section delivery(out, "delivery");
  const auto retry = [](Config& c) -> RetryPolicy& { return c.delivery.group.retry; };
  delivery.duration(
      "transient_first", [=](Config & c) -> auto& { return retry(c).transient_backoff.first; }, Milliseconds{1},
      hours{1}, "After a transient failure: the first wait is at most this long, and each next one twice as long",
      "\"1s\"");
  delivery.duration(
      "transient_max", [=](Config & c) -> auto& { return retry(c).transient_backoff.max; }, Milliseconds{1}, hours{24},
      "After a transient failure: the longest wait", "\"10m\"");
  delivery.duration(
      "max_age", [=](Config & c) -> auto& { return retry(c).max_age; }, seconds{1}, hours{24 * 365},
      "Transient failures: how long after the first one an event becomes a dead letter", "\"1d\"");
  delivery.duration(
      "handler_first", [=](Config & c) -> auto& { return retry(c).handler_backoff.first; }, Milliseconds{1}, hours{1},
      "After a handler's failure: the first wait is at most this long, and each next one twice as long", "\"1s\"");
  delivery.duration(
      "handler_max", [=](Config & c) -> auto& { return retry(c).handler_backoff.max; }, Milliseconds{1}, hours{24},
      "After a handler's failure: the longest wait", "\"1m\"");
  delivery.count(
      "max_attempts", [=](Config & c) -> auto& { return retry(c).max_attempts; }, 1, 1000,
      "Handler failures that make an event a dead letter", "5");
  delivery.count(
      "max_crashes", [=](Config & c) -> auto& { return retry(c).max_crashes; }, 1, 1000,
      "Crashes of its consumer that make an event a dead letter", "3");
  delivery.count(
      "max_parked", [](Config & c) -> auto& { return c.delivery.group.max_parked; }, 1, 10'000'000,
      "Events that may wait behind busy keys before a group stops claiming", "10000");
  delivery.duration(
      "lease", [](Config & c) -> auto& { return c.delivery.lease; }, Milliseconds{100}, hours{24},
      "Lease of a claim that names none", "\"30s\"");
  delivery.duration(
      "expires", [](Config & c) -> auto& { return c.delivery.expires; }, seconds{1}, hours{24 * 3650},
      "A group made by a claim may be removed when unseen for so long", "\"7d\"");
}

void log_keys(std::vector<Descriptor>& out) {
  Section log(out, "log");
  log.add(
      "level", "Least severe line written: debug, info, warn, error or off", "\"info\"",
      [name = log.name_of("level")](Config& config, const std::string& value) {
        try {
          config.log.level = log::parse_level(value);
        } catch (const Error&) {
          refuse(name, value, "is not one of debug, info, warn, error, off");
        }
      },
      [](const Config& config) {
        switch (config.log.level) {
          case log::Level::debug:
            return toml_text("debug");
          case log::Level::info:
            return toml_text("info");
          case log::Level::warn:
            return toml_text("warn");
          case log::Level::error:
            return toml_text("error");
          case log::Level::off:
            return toml_text("off");
        }
        return toml_text("?");
      });
  log.add(
      "format", "How lines are written: automatic (text on a terminal, JSON otherwise), text or json", "\"automatic\"",
      [name = log.name_of("format")](Config& config, const std::string& value) {
        try {
          config.log.format = log::parse_format(value);
        } catch (const Error&) {
          refuse(name, value, "is not one of automatic, text, json");
        }
      },
      [](const Config& config) {
        switch (config.log.format) {
          case log::Format::automatic:
            return toml_text("automatic");
          case log::Format::text:
            return toml_text("text");
          case log::Format::json:
            return toml_text("json");
        }
        return toml_text("?");
      });
}

}  // namespace

const std::vector<Descriptor>& descriptors() {
  static const std::vector<Descriptor> table = [] {
    std::vector<Descriptor> out;
    server_keys(out);
    Section(out, "store")
        .add(
            "url",
            "The store: sqlite:PATH?OPTION=VALUE, redis://HOST:PORT?OPTION=VALUE (docs/stores.md) or memory:; empty = "
            "EVENT_STORE_BACKEND with EVENT_STORE_PATH or REDIS_URL, or "
            "${XDG_DATA_HOME:-~/.local/share}/millrace/events.db",
            "\"sqlite:/var/lib/millrace/events.db\"",
            [](Config& config, const std::string& value) { config.store.url = value; },
            [](const Config& config) { return toml_text(store::without_password(config.store.url)); });
    delivery_keys(out);
    log_keys(out);
    return out;
  }();
  return table;
}

}  // namespace millrace::daemon
