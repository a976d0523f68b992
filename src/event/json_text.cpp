// SPDX-License-Identifier: Apache-2.0
#include "event/json_text.hpp"

#include "event/json_parser.hpp"

namespace millrace::json_text {
namespace {

constexpr bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// Walks over valid JSON without looking at what it does not need.
class Walker {
 public:
  explicit Walker(std::string_view text) : text_(text) {}

  [[nodiscard]] char front() const { return text_[at_]; }
  void step() { ++at_; }
  void spaces() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  std::string_view string() {
    const std::size_t begin = at_;
    for (++at_; text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
    return text_.substr(begin, at_ - begin);
  }
  std::string_view value() {
    const std::size_t begin = at_;
    std::size_t depth = 0;
    do {
      const char c = text_[at_];
      if (c == '"') {
        string();
        continue;
      }
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      ++at_;
    } while (depth > 0);
    if (text_[begin] != '"' && text_[begin] != '{' && text_[begin] != '[') {
      while (at_ < text_.size() && !is_space(text_[at_]) && text_[at_] != ',' && text_[at_] != '}' &&
             text_[at_] != ']') {
        ++at_;
      }
    }
    return text_.substr(begin, at_ - begin);
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

bool is_valid(std::string_view text, std::size_t max_depth) {
  boost::json::basic_parser<NullHandler> parser(strict(max_depth));
  return !parse_whole(parser, text).error;
}

std::string_view trim(std::string_view text) noexcept {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> elements(std::string_view array) {
  std::vector<std::string_view> found;
  Walker in(array);
  in.spaces();
  in.step();  // [
  in.spaces();
  while (in.front() != ']') {
    found.push_back(in.value());
    in.spaces();
    if (in.front() == ',') {
      in.step();
      in.spaces();
    }
  }
  return found;
}

std::vector<MemberText> members(std::string_view object) {
  std::vector<MemberText> found;
  Walker in(object);
  in.spaces();
  in.step();  // {
  in.spaces();
  while (in.front() != '}') {
    const std::string_view name = in.string();
    in.spaces();
    in.step();  // :
    in.spaces();
    found.push_back({name, in.value()});
    in.spaces();
    if (in.front() == ',') {
      in.step();
      in.spaces();
    }
  }
  return found;
}

std::string_view member_value(std::string_view object, std::size_t index) noexcept {
  Walker in(object);
  in.spaces();
  for (;; --index) {
    in.step();  // { or ,
    in.spaces();
    in.string();
    in.spaces();
    in.step();  // :
    in.spaces();
    const std::string_view value = in.value();
    if (index == 0) return value;
    in.spaces();
  }
}

void append_minified(std::string& out, std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    if (is_space(text[at])) {
      ++at;
      continue;
    }
    std::size_t end = at + 1;
    if (text[at] == '"') {
      for (; text[end] != '"'; ++end) {
        if (text[end] == '\\') ++end;
      }
      ++end;
    } else {
      while (end < text.size() && !is_space(text[end]) && text[end] != '"') ++end;
    }
    out.append(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace millrace::json_text
