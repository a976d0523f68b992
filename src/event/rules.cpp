// SPDX-License-Identifier: Apache-2.0
#include "event/rules.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/url/parse.hpp>

#include "base/utf8.hpp"

namespace millrace {
namespace {

bool is_noncharacter(char32_t point) {
  return (point >= 0xFDD0 && point <= 0xFDEF) || (point & 0xFFFEU) == 0xFFFEU;
}
bool is_control(char32_t point) {
  return point < 0x20 || (point >= 0x7F && point <= 0x9F);
}

/// RFC 2045 §5.1.
bool is_token_character(char c) {
  constexpr std::string_view kSpecials = "()<>@,;:\\\"/[]?=";
  return c > 0x20 && c < 0x7F && kSpecials.find(c) == std::string_view::npos;
}

/// Reads a media type from left to right.
class MediaTypeReader {
 public:
  explicit MediaTypeReader(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool done() const { return rest_.empty(); }
  bool take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string_view token() {
    std::size_t length = 0;
    while (length < rest_.size() && is_token_character(rest_[length])) ++length;
    const auto token = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return token;
  }
  bool quoted_string() {
    if (!take('"')) return false;
    while (!rest_.empty()) {
      if (take('"')) return true;
      if (take('\\') && rest_.empty()) return false;
      rest_.remove_prefix(1);
    }
    return false;
  }
  void spaces() {
    while (take(' ') || take('\t')) {
    }
  }

 private:
  std::string_view rest_;
};

bool ends_with_json(std::string_view subtype) {
  constexpr std::string_view kJson = "json";
  if (subtype.size() < kJson.size()) return false;
  const auto tail = subtype.substr(subtype.size() - kJson.size());
  const bool json = std::equal(tail.begin(), tail.end(), kJson.begin(), [](char c, char expected) {
    return (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) == expected;
  });
  return json && (subtype.size() == kJson.size() || subtype[subtype.size() - kJson.size() - 1] == '+');
}

}  // namespace

std::optional<std::string> string_fault(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] >= 0x20 && text[at] < 0x7F) {  // most of most texts
      ++at;
      continue;
    }
    const CodePoint point = first_code_point(text.substr(at));
    if (point.length == 0) return fmt::format("must be UTF-8 (byte {})", at);
    if (is_control(point.value)) {
      return fmt::format("must not contain the control character U+{:04X} (byte {})",
                         static_cast<unsigned>(point.value), at);
    }
    if (is_noncharacter(point.value)) {
      return fmt::format("must not contain the noncharacter U+{:04X} (byte {})", static_cast<unsigned>(point.value),
                         at);
    }
    at += point.length;
  }
  return std::nullopt;
}

std::optional<std::string> extension_name_fault(std::string_view name) {
  constexpr std::string_view kTaken[] = {"data",    "specversion",     "id",         "source", "type",
                                         "subject", "datacontenttype", "dataschema", "time"};
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (name.empty() || !std::all_of(name.begin(), name.end(), allowed)) {
    return "an attribute's name has only lower-case letters a-z and digits, at least one";
  }
  if (std::find(std::begin(kTaken), std::end(kTaken), name) != std::end(kTaken)) {
    return "an extension must not have this name, CloudEvents defines it";
  }
  return std::nullopt;
}

bool is_media_type(std::string_view text) {
  MediaTypeReader in(text);
  if (in.token().empty() || !in.take('/') || in.token().empty()) return false;
  for (in.spaces(); !in.done(); in.spaces()) {
    if (!in.take(';')) return false;
    in.spaces();
    if (in.token().empty()) continue;  // an empty parameter, as RFC 9110 §5.6.6 allows
    if (!in.take('=')) return false;
    if (in.token().empty() && !in.quoted_string()) return false;
  }
  return true;
}

bool is_json_content_type(std::string_view text) {
  MediaTypeReader in(text);
  return !in.token().empty() && in.take('/') && ends_with_json(in.token());
}

bool is_uri_reference(std::string_view text) {
  return boost::urls::parse_uri_reference({text.data(), text.size()}).has_value();
}

bool is_absolute_uri(std::string_view text) {
  return boost::urls::parse_uri({text.data(), text.size()}).has_value();
}

bool is_traceparent(std::string_view text) {
  constexpr std::string_view kShape = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
  if (text.size() < kShape.size()) return false;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (kShape[i] == 'x' ? !hex : text[i] != '-') return false;
  }
  const auto zeros = [](std::string_view id) { return id.find_first_not_of('0') == std::string_view::npos; };
  if (text.starts_with("ff") || zeros(text.substr(3, 32)) || zeros(text.substr(36, 16))) return false;
  return text.size() == kShape.size() || (!text.starts_with("00") && text[kShape.size()] == '-');
}

std::optional<std::string_view> repeated_name(std::vector<std::string_view>& names) {
  std::sort(names.begin(), names.end());
  const auto at = std::adjacent_find(names.begin(), names.end());
  return at == names.end() ? std::nullopt : std::optional(*at);
}

}  // namespace millrace
