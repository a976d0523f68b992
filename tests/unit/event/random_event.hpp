// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>
#include <string>
#include <vector>

#include "millrace/event.hpp"

namespace millrace::testing_support {

/// Valid events, different for each seed, the same for the same one.
class RandomEvents {
 public:
  explicit RandomEvents(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  bool chance(unsigned percent) { return below(100) < percent; }

  /// A CloudEvents String, not empty.
  std::string text() {
    static const std::vector<std::string> kPieces = {"a",  "Z", "7", " ", "\"",     "\\", "%", "/",      "\'", "%41",
                                                     "{}", ",", ":", "é", "\u00A0", "€",  "😀", "\u2028", "\t"};
    std::string out;
    for (std::size_t n = 1 + below(12); n > 0; --n) out += kPieces[below(kPieces.size() - 1)];  // no tab: a control
    // HTTP trims the ends of a header; the percent-encoding must save even a space there.
    return out;
  }

  std::string bytes() {
    std::string out(below(60), '\0');
    for (char& c : out) c = static_cast<char>(below(256));
    return out;
  }

  /// Valid JSON in one line, without white space around it.
  std::string json(int depth = 3) {
    static const std::vector<std::string> kScalars = {"null",
                                                      "true",
                                                      "false",
                                                      "0",
                                                      "-0",
                                                      "1e400",
                                                      "-1.50E+2",
                                                      "123456789012345678901234567890",
                                                      "0.1",
                                                      "1.00000",
                                                      "\"\"",
                                                      "[]",
                                                      "{ }",
                                                      "\"a\\u0041\"",
                                                      "\"\\ud83d\\ude00\"",
                                                      "\"}],{\\\"\"",
                                                      "\"é\"",
                                                      "\"\\\\\""};
    if (depth == 0 || chance(40)) return kScalars[below(kScalars.size())];
    std::string out;
    const bool object = chance(50);
    for (std::size_t n = below(4); n > 0; --n) {
      if (!out.empty()) out += chance(50) ? "," : " , ";
      if (object) out += "\"k" + std::to_string(below(3)) + "\": ";
      out += json(depth - 1);
    }
    return object ? "{" + out + "}" : "[" + out + "]";
  }

  Event event(bool only_string_extensions) {
    Event event;
    event.id = text();
    static const char* const kSources[] = {"/a",  "https://h.example/p?q=1#f", "urn:uuid:1-2",
                                           "git", "mailto:a@b.example",        "/%C3%A9"};
    event.source = kSources[below(std::size(kSources))];
    event.type = text();
    if (chance(50)) event.subject = text();
    if (chance(50)) event.time = "2026-11-20T21:33:59.123456789+01:00";
    if (chance(30)) event.dataschema = "https://h.example/schema#/a";
    for (std::size_t n = below(4); n > 0; --n) {
      const std::string name = "ext" + std::to_string(below(6));
      const auto kind = only_string_extensions ? 0 : below(3);
      if (kind == 0) event.set_extension(name, chance(10) ? "" : text());
      if (kind == 1) event.set_extension(name, chance(50));
      if (kind == 2) event.set_extension(name, static_cast<std::int32_t>(random_()));
    }
    switch (below(6)) {
      case 0:
        break;
      case 1:
        event.datacontenttype = "application/json";
        event.data = json();
        break;
      case 2:
        event.datacontenttype = "Application/Vnd.X+JSON; charset=\"utf-8\"";
        event.data = json();
        break;
      case 3:
        event.datacontenttype = "text/plain";
        event.data = chance(50) ? text() + "\n\r\t" + std::string(1, '\0') : bytes();
        break;
      case 4:
        event.datacontenttype = "application/json";
        event.data = bytes() + "{";  // claims to be JSON and is not
        break;
      default:
        event.data = bytes() + "x";  // without a content type
    }
    return event;
  }

  std::mt19937& engine() { return random_; }

 private:
  std::mt19937 random_;
};

}  // namespace millrace::testing_support
