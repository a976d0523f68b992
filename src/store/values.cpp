// SPDX-License-Identifier: Apache-2.0

// The text forms of the small values in event_log.hpp and ledger.hpp.

#include <charconv>

#include "base/time.hpp"
#include "millrace/event_log.hpp"
#include "millrace/ledger.hpp"

namespace millrace {

std::string_view to_string(AppendStatus status) noexcept {
  switch (status) {
    case AppendStatus::stored:
      return "stored";
    case AppendStatus::duplicate:
      return "duplicate";
    case AppendStatus::conflict:
      return "conflict";
  }
  return "unknown";
}

std::string_view to_string(Whereabouts::State state) noexcept {
  switch (state) {
    case Whereabouts::State::filtered_out:
      return "filtered_out";
    case Whereabouts::State::ahead:
      return "ahead";
    case Whereabouts::State::open:
      return "open";
    case Whereabouts::State::settled:
      return "settled";
    case Whereabouts::State::dead:
      return "dead";
  }
  return "unknown";
}

std::string_view to_string(ReplayStatus status) noexcept {
  switch (status) {
    case ReplayStatus::accepted:
      return "accepted";
    case ReplayStatus::open:
      return "open";
    case ReplayStatus::ahead:
      return "ahead";
    case ReplayStatus::filtered_out:
      return "filtered_out";
    case ReplayStatus::gone:
      return "gone";
  }
  return "unknown";
}

std::string_view to_string(PendingEvent::State state) noexcept {
  switch (state) {
    case PendingEvent::State::claimed:
      return "claimed";
    case PendingEvent::State::waiting:
      return "waiting";
    case PendingEvent::State::parked:
      return "parked";
    case PendingEvent::State::suspect:
      return "suspect";
  }
  return "unknown";
}

Start Start::parse(std::string_view text) {
  if (text == "beginning") return beginning();
  if (text == "end") return end();
  if (const auto time = parse_rfc3339(text)) return at(*time);
  try {
    return after(Position::parse(text));
  } catch (const Error&) {
    throw Error(Errc::invalid_argument, "parse start", std::string(text),
                "a start is beginning, end, a position such as 42, or an RFC 3339 time such as 2026-01-31T00:00:00Z");
  }
}

std::string Start::to_string() const {
  switch (kind) {
    case Kind::beginning:
      return "beginning";
    case Kind::end:
      return "end";
    case Kind::position:
      return position.to_string();
    case Kind::time:
      return format_rfc3339(time);
  }
  return {};
}

OrderRule OrderRule::parse(std::string_view text) {
  constexpr std::string_view kAttribute = "attribute:";
  if (text == "key") return {};
  if (text == "none") return {Kind::none, {}};
  const std::string_view name = text.starts_with(kAttribute) ? text.substr(kAttribute.size()) : std::string_view{};
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") != std::string_view::npos) {
    throw Error(Errc::invalid_argument, "parse order", std::string(text),
                "an order rule is key, none, or attribute:<name> with the name of a CloudEvents attribute");
  }
  return {Kind::by_attribute, std::string(name)};
}

std::string OrderRule::to_string() const {
  switch (kind) {
    case Kind::by_key:
      return "key";
    case Kind::by_attribute:
      return "attribute:" + attribute;
    case Kind::none:
      return "none";
  }
  return {};
}

std::optional<std::string> OrderRule::key_of(const Event& event) const {
  switch (kind) {
    case Kind::by_key:
      if (const AttributeValue* key = event.extension("partitionkey")) return millrace::to_string(*key);
      if (!event.subject.empty()) return event.subject;
      return std::nullopt;
    case Kind::by_attribute:
      return event.attribute(attribute);
    case Kind::none:
      return std::nullopt;
  }
  return std::nullopt;
}

void Retention::validate() const {
  const auto refuse = [](const char* field, const std::string& value) {
    throw Error(Errc::invalid_argument, "retention", field, "at least 1, not " + value + "; leave it out to keep all");
  };
  if (max_events && *max_events == 0) refuse("max_events", "0");
  if (max_bytes && *max_bytes == 0) refuse("max_bytes", "0");
  if (max_age && *max_age < std::chrono::seconds{1}) refuse("max_age", std::to_string(max_age->count()));
  if (interval < std::chrono::seconds{1}) {
    throw Error(Errc::invalid_argument, "retention", "interval",
                "at least one second, not " + std::to_string(interval.count()));
  }
}

void GroupSettings::validate() const {
  retry.validate();
  if (max_parked == 0 || max_parked > 10'000'000) {
    throw Error(Errc::invalid_argument, "group settings", "max_parked",
                "from 1 to 10000000, not " + std::to_string(max_parked));
  }
  if (expires && *expires <= std::chrono::seconds{0}) {
    throw Error(Errc::invalid_argument, "group settings", "expires",
                "at least one second, not " + std::to_string(expires->count()));
  }
  if (max_dataversion && *max_dataversion < 1) {
    throw Error(Errc::invalid_argument, "group settings", "max_dataversion",
                "at least 1, not " + std::to_string(*max_dataversion));
  }
}

std::string Lease::to_string() const {
  return std::to_string(claim) + "-" + position.to_string();
}

Lease Lease::parse(std::string_view text) {
  Lease lease;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), lease.claim);
  const auto used = static_cast<std::size_t>(end - text.data());
  try {
    if (failure == std::errc{} && used < text.size() && text[used] == '-') {
      lease.position = Position::parse(text.substr(used + 1));
      return lease;
    }
  } catch (const Error&) {
    // told below, with the whole token
  }
  throw Error(Errc::invalid_argument, "parse lease", std::string(text),
              "a lease is the token a delivery came with, such as 17-42");
}

}  // namespace millrace
