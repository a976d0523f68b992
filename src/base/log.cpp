// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "base/time.hpp"
#include "base/utf8.hpp"

namespace millrace::log {
namespace {

struct Named {
  std::string_view name;
  Level level;
};
constexpr Named kLevels[] = {{"debug", Level::debug},
                             {"info", Level::info},
                             {"warn", Level::warn},
                             {"error", Level::error},
                             {"off", Level::off}};

std::string_view name_of(Level level) {
  for (const auto& named : kLevels) {
    if (named.level == level) return named.name;
  }
  return "error";
}

spdlog::level::level_enum native(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
    case Level::off:
      return spdlog::level::off;
  }
  return spdlog::level::err;
}

/// What the process writes to. One per process, because stderr is.
class Output {
 public:
  Output() { configure(Level::warn, false); }

  void configure(Level level, bool json) {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>("millrace", std::move(sink));
    logger->set_pattern(json ? "%v" : "%Y-%m-%dT%H:%M:%S.%eZ %^%-7l%$ %v", spdlog::pattern_time_type::utc);
    logger->set_level(native(level));
    logger->flush_on(spdlog::level::debug);
    const std::lock_guard lock(mutex_);
    logger_ = std::move(logger);
    json_ = json;
    level_.store(level, std::memory_order_relaxed);
  }

  [[nodiscard]] bool wants(Level level) const {
    return level != Level::off && level >= level_.load(std::memory_order_relaxed);
  }

  void write(Level level, std::string_view code, std::string_view object, std::string_view message,
             std::string_view native_words) {
    std::shared_ptr<spdlog::logger> logger;
    bool json = false;
    {
      const std::lock_guard lock(mutex_);
      logger = logger_;
      json = json_;
    }
    logger->log(native(level), spdlog::string_view_t(json ? json_line(level, code, object, message, native_words)
                                                          : text_line(code, object, message, native_words)));
  }

 private:
  static std::string json_line(Level level, std::string_view code, std::string_view object, std::string_view message,
                               std::string_view native_words) {
    std::string line = "{\"ts\":\"" + format_rfc3339(wall_now()) + "\",\"level\":\"";
    line += name_of(level);
    line += '"';
    const auto add = [&](std::string_view name, std::string_view value) {
      line += ",\"";
      line += name;
      line += "\":";
      append_json_string(line, value);
    };
    add("code", code);
    if (!object.empty()) add("object", object);
    add("message", message);
    if (!native_words.empty()) add("native", native_words);
    line += '}';
    return line;
  }

  static std::string text_line(std::string_view code, std::string_view object, std::string_view message,
                               std::string_view native_words) {
    std::string line = printable(code);
    if (!object.empty()) line += ' ' + printable(object);
    line += ": " + printable(message);
    if (!native_words.empty()) line += " [" + printable(native_words) + ']';
    return line;
  }

  std::mutex mutex_;
  std::shared_ptr<spdlog::logger> logger_;
  bool json_ = false;
  std::atomic<Level> level_{Level::warn};
};

/// Never destroyed: threads and destructors that outlive main() still log.
Output& output() {
  static auto* const instance = new Output;
  return *instance;
}

}  // namespace

Level parse_level(std::string_view text) {
  for (const auto& named : kLevels) {
    if (named.name == text) return named.level;
  }
  throw Error(Errc::invalid_argument, "parse log level", printable(text), "a level is debug, info, warn, error or off");
}

Format parse_format(std::string_view text) {
  if (text == "automatic") return Format::automatic;
  if (text == "text") return Format::text;
  if (text == "json") return Format::json;
  throw Error(Errc::invalid_argument, "parse log format", printable(text), "a format is automatic, text or json");
}

void configure(Level level, Format format) {
  const bool json = format == Format::json || (format == Format::automatic && ::isatty(STDERR_FILENO) == 0);
  output().configure(level, json);
}

void write(Level level, std::string_view code, std::string_view object, std::string_view message) {
  if (output().wants(level)) output().write(level, code, object, message, {});
}

void write(Level level, const Error& error) {
  if (!output().wants(level)) return;
  const std::string message = error.operation().empty() ? error.message() : error.operation() + ": " + error.message();
  output().write(level, to_string(error.code()), error.object(), message, error.native());
}

}  // namespace millrace::log
