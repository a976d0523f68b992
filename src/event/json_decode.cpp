// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdint>
#include <limits>

#include "base/utf8.hpp"
#include "event/base64.hpp"
#include "event/json_parser.hpp"
#include "event/json_text.hpp"
#include "event/rules.hpp"
#include "millrace/codec.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

constexpr const char* kOperation = "decode event";

[[noreturn]] void refuse(std::string_view object, std::string rule) {
  throw Error(Errc::invalid_event, kOperation, printable(object.substr(0, 64)), std::move(rule));
}

void require_json(const json_text::ParseResult& result, std::size_t max_depth) {
  if (!result.error) return;
  using Code = boost::json::error;
  std::string what = result.error.message();
  if (result.error == Code::incomplete) what = "the text ends too early";
  if (result.error == Code::extra_data) what = "something follows the value";
  if (result.error == Code::too_deep) what = fmt::format("nested deeper than {} levels", max_depth);
  refuse("json", fmt::format("is not valid JSON: {} at byte {}", what, result.byte));
}

/// Collects the members of an event while the parser checks the text. A broken rule is kept, the first one, and
/// reported after the whole text proved to be JSON.
class EventHandler : public json_text::NullHandler {
 public:
  bool on_object_begin(Code&) {
    if (depth_++ == 1) take_other("an object");
    return true;
  }
  bool on_object_end(std::size_t, Code&) {
    --depth_;
    return true;
  }
  bool on_array_begin(Code&) {
    if (depth_++ <= 1) take_other("an array");
    return true;
  }
  bool on_array_end(std::size_t, Code&) {
    --depth_;
    return true;
  }
  bool on_key_part(Text part, std::size_t, Code&) {
    if (depth_ == 1) next_name_.append(part.data(), part.size());
    return true;
  }
  bool on_key(Text part, std::size_t, Code&) {
    if (depth_ != 1) return true;
    next_name_.append(part.data(), part.size());
    name_.swap(next_name_);
    next_name_.clear();
    begin_member();
    return true;
  }
  bool on_string_part(Text part, std::size_t, Code&) {
    if (depth_ == 1) text_.append(part.data(), part.size());
    return true;
  }
  bool on_string(Text part, std::size_t, Code&) {
    if (depth_ == 1) {
      text_.append(part.data(), part.size());
      take_string();
      text_.clear();
    } else if (depth_ == 0) {
      take_other("a string");
    }
    return true;
  }
  bool on_int64(std::int64_t value, Text, Code&) {
    using Limits = std::numeric_limits<std::int32_t>;
    if (depth_ == 1 && member_ == Member::extension && value >= Limits::min() && value <= Limits::max()) {
      add_extension(static_cast<std::int32_t>(value));
    } else if (depth_ <= 1) {
      take_other("a larger number");
    }
    return true;
  }
  bool on_uint64(std::uint64_t, Text, Code&) {
    if (depth_ <= 1) take_other("a larger number");
    return true;
  }
  bool on_double(double, Text, Code&) {
    if (depth_ <= 1) take_other("another number");
    return true;
  }
  bool on_bool(bool value, Code&) {
    if (depth_ == 1 && member_ == Member::extension) {
      add_extension(value);
    } else if (depth_ <= 1) {
      take_other("a boolean");
    }
    return true;
  }
  bool on_null(Code&) {
    if (depth_ == 0) take_other("null");
    if (depth_ == 1 && member_ == Member::extension) absent_.push_back(name_);
    return true;
  }

  /// The event, or the rule it broke. `text` is what was parsed.
  Event finish(std::string_view text, const ValidateOptions& options) {
    if (!fault_.rule.empty()) refuse(fault_.name, std::move(fault_.rule));
    if (!versioned_) refuse("specversion", "is required");
    check_absent();
    validate(event_, options);
    take_data(text);
    return std::move(event_);
  }

 private:
  enum class Member {
    specversion,
    id,
    source,
    type,
    subject,
    time,
    datacontenttype,
    dataschema,
    data,
    data_base64,
    extension
  };

  void fault(std::string_view name, std::string rule) {
    if (fault_.rule.empty()) fault_ = {std::string(name), std::move(rule)};
  }

  void begin_member() {
    static constexpr std::string_view kNames[] = {"specversion", "id",         "source",          "type",
                                                  "subject",     "time",       "datacontenttype", "dataschema",
                                                  "data",        "data_base64"};
    ++index_;
    std::size_t found = 0;
    while (found < std::size(kNames) && kNames[found] != name_) ++found;
    member_ = static_cast<Member>(found);
    if (member_ == Member::extension) return;
    const auto bit = 1U << found;
    if ((seen_ & bit) != 0) fault(name_, "must not stand twice in one event");
    seen_ |= bit;
  }

  template <class Value>
  void add_extension(Value&& value) {
    event_.extensions.push_back({name_, std::forward<Value>(value)});
  }

  void take_core(std::string& attribute) {
    if (text_.empty()) fault(name_, "must not be empty");
    attribute = std::move(text_);
  }

  void take_string() {
    switch (member_) {
      case Member::specversion:
        versioned_ = true;
        if (text_ != "1.0") fault(name_, "must be \"1.0\"");
        break;
      case Member::id:
        take_core(event_.id);
        break;
      case Member::source:
        take_core(event_.source);
        break;
      case Member::type:
        take_core(event_.type);
        break;
      case Member::subject:
        take_core(event_.subject);
        break;
      case Member::time:
        take_core(event_.time);
        break;
      case Member::datacontenttype:
        take_core(event_.datacontenttype);
        break;
      case Member::dataschema:
        take_core(event_.dataschema);
        break;
      case Member::data:
        data_index_ = index_;
        data_string_ = std::move(text_);
        break;
      case Member::data_base64:
        binary_ = decode_base64(text_);
        if (!binary_) fault(name_, "must be base64 (RFC 4648, with padding)");
        break;
      case Member::extension:
        add_extension(std::move(text_));
        break;
    }
  }

  /// A value that is neither a string nor one an extension may have.
  void take_other(std::string_view kind) {
    if (depth_ == 0 || index_ == 0) {
      fault("json", "an event is a JSON object");
    } else if (member_ == Member::data) {
      data_index_ = index_;
    } else if (member_ == Member::extension) {
      fault(name_, fmt::format("must be a string, a boolean or an integer of 32 bits, not {}", kind));
    } else {
      fault(name_, fmt::format("must be a string, not {}", kind));
    }
  }

  /// null means absent, but a name must not stand twice even so.
  void check_absent() {
    if (absent_.empty()) return;
    std::vector<std::string_view> names(absent_.begin(), absent_.end());
    for (const Extension& extension : event_.extensions) names.emplace_back(extension.name);
    if (const auto repeated = repeated_name(names)) refuse(*repeated, "must not stand twice in one event");
  }

  void take_data(std::string_view text) {
    if (data_index_ != 0 && binary_) refuse("data_base64", "must not stand beside data");
    if (binary_) {
      event_.data = std::move(*binary_);
    } else if (data_index_ != 0) {
      if (event_.datacontenttype.empty()) event_.datacontenttype = "application/json";
      if (is_json_content_type(event_.datacontenttype)) {
        event_.data = json_text::member_value(text, data_index_ - 1);
      } else if (data_string_) {
        event_.data = std::move(*data_string_);
      } else {
        refuse("data", fmt::format("must be a JSON string, as datacontenttype {} is not JSON",
                                   printable(event_.datacontenttype.substr(0, 64))));
      }
    }
  }

  struct Fault {
    std::string name;
    std::string rule;
  };

  Event event_;
  Fault fault_;
  std::size_t depth_ = 0;
  std::string next_name_;  ///< being read
  std::string name_;       ///< of the member whose value is being read
  std::string text_;       ///< a string value being read
  std::size_t index_ = 0;  ///< members begun
  Member member_ = Member::extension;
  unsigned seen_ = 0;
  bool versioned_ = false;
  std::vector<std::string> absent_;  ///< extensions that were null
  std::size_t data_index_ = 0;       ///< which member `data` is, from 1
  std::optional<std::string> data_string_;
  std::optional<std::string> binary_;
};

Event decode(std::string_view text, const ValidateOptions& options) {
  boost::json::basic_parser<EventHandler> parser(json_text::strict(kMaxJsonDepth));
  require_json(json_text::parse_whole(parser, text), kMaxJsonDepth);
  return parser.handler().finish(text, options);
}

std::vector<std::string_view> split(std::string_view text) {
  constexpr std::size_t kMaxDepth = kMaxJsonDepth + 1;  // the array, and the events as deep as they may be
  boost::json::basic_parser<json_text::NullHandler> parser(json_text::strict(kMaxDepth));
  require_json(json_text::parse_whole(parser, text), kMaxDepth);
  if (!json_text::trim(text).starts_with('[')) refuse("json", "a batch is a JSON array of events");
  return json_text::elements(text);
}

}  // namespace

Event decode_json(std::string_view text) {
  return decode(text, {.operation = kOperation});
}

Event decode_json_lenient(std::string_view text) {
  return decode(text, {.operation = kOperation, .require_id = false, .require_source = false});
}

std::vector<Event> decode_json_batch(std::string_view text) {
  const auto elements = split(text);
  std::vector<Event> events;
  events.reserve(elements.size());
  for (const std::string_view element : elements) {
    try {
      events.push_back(decode_json(element));
    } catch (const Error& error) {
      throw Error(error.code(), error.operation(), fmt::format("[{}].{}", events.size(), error.object()),
                  error.message());
    }
  }
  return events;
}

std::vector<std::string> split_json_array(std::string_view text) {
  const auto elements = split(text);
  return {elements.begin(), elements.end()};
}

}  // namespace millrace
