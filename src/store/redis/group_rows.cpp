// SPDX-License-Identifier: Apache-2.0
#include "store/redis/group_rows.hpp"

#include <fmt/format.h>

#include <charconv>

namespace millrace::store::redis {
namespace {

[[noreturn]] void corrupt(std::string_view what, std::string_view text) {
  throw Error(Errc::corrupt, "read group", std::string(what), "this row does not hold what Millrace writes there",
              std::string(text.substr(0, 200)));
}

template <class Number>
Number number_at(std::string_view& text, std::string_view what) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) corrupt(what, text);
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

bool take(std::string_view& text, std::string_view token) {
  if (!text.starts_with(token)) return false;
  text.remove_prefix(token.size());
  return true;
}

/// Reads `name=value` pairs in the order they were written.
class Row {
 public:
  Row(std::string_view text, std::string_view what) : all_(text), rest_(text), what_(what) {}

  std::string_view word(std::string_view name) {
    expect(name);
    const auto space = rest_.find(' ');
    const std::string_view value = rest_.substr(0, space);
    rest_.remove_prefix(space == std::string_view::npos ? rest_.size() : space + 1);
    return value;
  }
  template <class Number = std::uint64_t>
  Number number(std::string_view name) {
    std::string_view value = word(name);
    const auto result = number_at<Number>(value, what_);
    if (!value.empty()) corrupt(what_, all_);
    return result;
  }
  Timestamp time(std::string_view name) { return Timestamp{std::chrono::microseconds{number<std::int64_t>(name)}}; }
  /// The last one: whatever is left.
  std::string rest(std::string_view name) {
    expect(name);
    return std::string(rest_);
  }

 private:
  void expect(std::string_view name) {
    if (!take(rest_, name) || !take(rest_, "=")) corrupt(what_, all_);
  }
  std::string_view all_, rest_, what_;
};

std::string fixed(Ordinal ordinal) {
  const Position position = unpack(ordinal);
  return fmt::format("{:013}-{:07}", position.high, position.low);
}

Ordinal unfixed(std::string_view& text, std::string_view what) {
  const auto high = number_at<std::uint64_t>(text, what);
  if (!take(text, "-")) corrupt(what, text);
  const auto low = number_at<std::uint64_t>(text, what);
  return pack({high, low}, what);
}

std::string position_text(Ordinal ordinal) {
  return ordinal == 0 ? std::string("-") : id_of(unpack(ordinal));
}

Ordinal position_in(std::string_view text, std::string_view what) {
  return text == "-" ? 0 : pack(position_of(text, what), what);
}

}  // namespace

// ---- Ranges ----

std::string encode_ranges(const ledger::RangeSet& ranges) {
  std::string text;
  std::uint64_t previous = 0;
  const auto add = [&](Position first, std::uint64_t last) {
    const auto out = std::back_inserter(text);
    if (text.empty()) {
      fmt::format_to(out, "{}-{}", first.high, first.low);
    } else {
      fmt::format_to(out, ",+{}-{}", first.high - previous, first.low);
    }
    if (last != first.low) fmt::format_to(out, "..{}", last);
    previous = first.high;
  };
  for (const auto& [from, to] : ranges.ranges()) {
    Position first = unpack(from);
    const Position last = unpack(to);
    for (; first.high < last.high; first = {first.high + 1, 0}) add(first, kSequenceEnd - 1);
    add(first, last.low);
  }
  return text;
}

ledger::RangeSet decode_ranges(std::string_view text) {
  constexpr std::string_view kWhat = "positions";
  ledger::RangeSet ranges;
  std::uint64_t high = 0;
  Ordinal previous = 0;
  for (std::string_view rest = text; !rest.empty();) {
    if (!ranges.empty() && !take(rest, ",")) corrupt(kWhat, text);
    high = take(rest, "+") ? high + number_at<std::uint64_t>(rest, kWhat) : number_at<std::uint64_t>(rest, kWhat);
    if (!take(rest, "-")) corrupt(kWhat, text);
    const auto low = number_at<std::uint64_t>(rest, kWhat);
    const auto end = take(rest, "..") ? number_at<std::uint64_t>(rest, kWhat) : low;
    if (!fits({high, low}) || !fits({high, end}) || end < low) corrupt(kWhat, text);
    const Ordinal first = pack({high, low});
    if (first == 0 || first <= previous) corrupt(kWhat, text);
    previous = pack({high, end});
    ranges.add(first, previous);
  }
  return ranges;
}

// ---- Claims, items, dead letters, sessions ----

std::string encode_claim(const ledger::Claim& claim) {
  return fmt::format(
      "session={} lease_until={} lease_ms={} claimed_at={} alone={} open={} fresh_first={} fresh_last={} apart={} "
      "again={} consumer={}",
      claim.session, encode_time(claim.lease_until), claim.lease.count(), encode_time(claim.claimed_at),
      claim.alone ? 1 : 0, encode_ranges(claim.open), position_text(claim.fresh_first), position_text(claim.fresh_last),
      encode_ranges(claim.apart), encode_ranges(claim.again), claim.consumer);
}

ledger::Claim decode_claim(std::string_view text) {
  constexpr std::string_view kWhat = "claim";
  Row row(text, kWhat);
  ledger::Claim claim;
  claim.session = row.number("session");
  claim.lease_until = row.time("lease_until");
  claim.lease = Milliseconds{row.number<std::int64_t>("lease_ms")};
  claim.claimed_at = row.time("claimed_at");
  claim.alone = row.number("alone") != 0;
  claim.open = decode_ranges(row.word("open"));
  claim.fresh_first = position_in(row.word("fresh_first"), kWhat);
  claim.fresh_last = position_in(row.word("fresh_last"), kWhat);
  claim.apart = decode_ranges(row.word("apart"));
  claim.again = decode_ranges(row.word("again"));
  claim.consumer = row.rest("consumer");
  return claim;
}

std::string encode_item(const ledger::Item& item) {
  return fmt::format(
      "due={} suspect={} redriven={} attempts={} failures={} handler_failures={} crashes={} first_failure_at={} "
      "replayid={} last_error={}",
      encode_time(item.due), item.suspect ? 1 : 0, item.redriven ? 1 : 0, item.attempts, item.failures,
      item.handler_failures, item.crashes, item.first_failure_at ? encode_time(*item.first_failure_at) : "-",
      item.replayid, item.last_error);
}

ledger::Item decode_item(std::string_view text) {
  Row row(text, "item");
  ledger::Item item;
  item.due = row.time("due");
  item.suspect = row.number("suspect") != 0;
  item.redriven = row.number("redriven") != 0;
  item.attempts = row.number<std::uint32_t>("attempts");
  item.failures = row.number<std::uint32_t>("failures");
  item.handler_failures = row.number<std::uint32_t>("handler_failures");
  item.crashes = row.number<std::uint32_t>("crashes");
  if (const auto first = row.word("first_failure_at"); first != "-") item.first_failure_at = decode_time(first);
  item.replayid = row.word("replayid");
  item.last_error = row.rest("last_error");
  return item;
}

std::string encode_dead(const DeadRow& row) {
  return fmt::format("died_at={} redriven={} attempts={} failures={} crashes={} reason={}", encode_time(row.died_at),
                     row.redriven ? 1 : 0, row.attempts, row.failures, row.crashes, row.reason);
}

DeadRow decode_dead(std::string_view text) {
  Row row(text, "dead letter");
  DeadRow dead;
  dead.died_at = row.time("died_at");
  dead.redriven = row.number("redriven") != 0;
  dead.attempts = row.number<std::uint32_t>("attempts");
  dead.failures = row.number<std::uint32_t>("failures");
  dead.crashes = row.number<std::uint32_t>("crashes");
  dead.reason = row.rest("reason");
  return dead;
}

SessionRow decode_session(std::string_view text) {
  Row row(text, "session");
  SessionRow session;
  session.text = text;
  session.until = row.time("until");
  session.lease = Milliseconds{row.number<std::int64_t>("lease_ms")};
  session.consumer = row.rest("consumer");
  return session;
}

std::string encode_order(Ordinal ordinal) {
  return fixed(ordinal);
}

Ordinal decode_order(std::string_view text) {
  return unfixed(text, "order of dead letters");
}

// ---- History ----

std::string fresh_prefix(std::uint64_t pass, Ordinal first) {
  return fmt::format("fresh {:010} {}", pass, fixed(first));
}

std::string again_prefix(Ordinal first) {
  return "again " + fixed(first);
}

std::string encode_history(const HistoryMember& member) {
  const ledger::HistoryRow& row = member.row;
  return fmt::format("{} {:020} last={} apart={} claimed_at={} settled_at={} consumer={}",
                     member.fresh ? fresh_prefix(member.pass, member.first) : again_prefix(member.first), row.id,
                     position_text(member.last), encode_ranges(row.apart), encode_time(row.claimed_at),
                     encode_time(row.settled_at), row.consumer);
}

HistoryMember decode_history(std::string_view text) {
  constexpr std::string_view kWhat = "history";
  HistoryMember member;
  std::string_view rest = text;
  member.fresh = take(rest, "fresh ");
  if (!member.fresh && !take(rest, "again ")) corrupt(kWhat, text);
  if (member.fresh) {
    member.pass = number_at<std::uint64_t>(rest, kWhat);
    take(rest, " ");
  }
  member.first = unfixed(rest, kWhat);
  take(rest, " ");
  member.row.id = number_at<std::uint64_t>(rest, kWhat);
  take(rest, " ");
  Row row(rest, kWhat);
  member.last = position_in(row.word("last"), kWhat);
  member.row.apart = decode_ranges(row.word("apart"));
  member.row.claimed_at = row.time("claimed_at");
  member.row.settled_at = row.time("settled_at");
  member.row.consumer = row.rest("consumer");
  return member;
}

std::string_view history_key(std::string_view member) {
  return member.substr(0, member.find(" last="));
}

// ---- Copies ----

Entry decode_copy(std::string_view text, const std::string& log_key, const ForeignMapping& mapping) {
  const auto end_of_number = text.find_first_not_of("0123456789");
  if (end_of_number != std::string_view::npos && text[end_of_number] == '-') return decode_shell(text);
  std::vector<Reply> words;
  for (std::string_view rest = text; !rest.empty();) {
    const auto size = number_at<std::size_t>(rest, "copy of an event");
    if (!take(rest, ":") || size >= rest.size() || rest[size] != ',') corrupt("copy of an event", text);
    words.push_back({.kind = Reply::Kind::text, .text = std::string(rest.substr(0, size))});
    rest.remove_prefix(size + 1);
  }
  if (words.empty()) corrupt("copy of an event", text);
  Reply id = std::move(words.front());
  words.erase(words.begin());
  Reply pair{.kind = Reply::Kind::array};
  pair.items.push_back(std::move(id));
  pair.items.push_back({.kind = Reply::Kind::array, .items = std::move(words)});
  return decode(std::move(pair), log_key, mapping);
}

std::string encode_time(Timestamp time) {
  return std::to_string(time.time_since_epoch().count());
}

Timestamp decode_time(std::string_view text) {
  return Timestamp{std::chrono::microseconds{number_at<std::int64_t>(text, "time")}};
}

std::uint64_t decode_number(std::string_view text, std::string_view what) {
  return number_at<std::uint64_t>(text, what);
}

}  // namespace millrace::store::redis
