// SPDX-License-Identifier: Apache-2.0

// Short texts people and programs write: times, sizes, positions, leases, names, ranges, store URLs.

#include <algorithm>
#include <set>

#include "base/time.hpp"
#include "base/units.hpp"
#include "event/base64.hpp"
#include "fuzz.hpp"
#include "millrace/ledger.hpp"
#include "store/ledger/range_set.hpp"
#include "store/url.hpp"

namespace millrace::fuzz {
namespace {

/// What was read is written in a way that reads the same.
template <class Parse, class Format>
void check_round(std::string_view what, std::string_view text, Parse parse, Format format) {
  const auto value = value_or_refusal([&] { return parse(text); });
  if (!value) return;
  const std::string written = format(*value);
  require(parse(written) == *value, std::string(what) + " comes back from \"" + written + "\"");
  require(format(parse(written)) == written, std::string(what) + " is written in one way");
}

}  // namespace

void text_values(std::string_view input) {
  const auto printed = [](const auto& value) { return value.to_string(); };
  check_round("position", input, Position::parse, printed);
  check_round("lease", input, Lease::parse, printed);
  check_round("start", input, Start::parse, printed);
  check_round("order", input, OrderRule::parse, printed);
  check_round("duration", input, parse_duration, format_duration);
  check_round("size", input, parse_size, format_size);
  check_round(
      "stream", input, [](std::string_view t) { return StreamName(t); }, [](const auto& n) { return n.str(); });
  if (const auto time = parse_rfc3339(input)) {
    const auto again = parse_rfc3339(format_rfc3339(*time));
    require(again && *again == *time, "a time comes back from " + format_rfc3339(*time));
  }
  std::string encoded;
  append_base64(encoded, input);
  require(decode_base64(encoded) == std::string(input), "base64 gives back the bytes");
  if (const auto decoded = decode_base64(input)) {
    std::string again;
    append_base64(again, *decoded);
    require(decode_base64(again) == *decoded, "decoded base64 comes back");
  }
}

void range_set(std::string_view input) {
  using ledger::RangeSet;
  if (const auto parsed = value_or_refusal([&] { return RangeSet::parse(input); })) {
    require(RangeSet::parse(parsed->to_string()) == *parsed, "ranges come back from " + parsed->to_string());
  }
  // The bytes as operations, beside a plain set.
  Bytes bytes(input);
  RangeSet ranges;
  std::set<ledger::Ordinal> plain;
  for (std::size_t step = 0; step < 200 && !bytes.empty(); ++step) {
    const ledger::Ordinal first = 1 + bytes.below(64);
    if (bytes.below(3) == 0) {
      ranges.remove(first);
      plain.erase(first);
    } else {
      const ledger::Ordinal last = first + bytes.below(8);
      ranges.add(first, last);
      for (auto ordinal = first; ordinal <= last; ++ordinal) plain.insert(ordinal);
    }
    require(ranges.count() == plain.size(), "as many as in a plain set");
  }
  for (ledger::Ordinal ordinal = 1; ordinal <= 80; ++ordinal) {
    require(ranges.contains(ordinal) == plain.contains(ordinal), "the same members: " + std::to_string(ordinal));
  }
  ledger::Ordinal before = 0;
  for (const auto& [first, last] : ranges.ranges()) {
    require(first <= last && (before == 0 || first > before + 1), "ranges are disjoint and not adjacent");
    before = last;
  }
  require(RangeSet::parse(ranges.to_string()) == ranges, "ranges come back");
}

void store_url(std::string_view input) {
  const auto url = value_or_refusal([&] { return store::parse_store_url(input); });
  if (!url) return;
  value_or_refusal([&] { return store::with_url_options(*url, {}), true; });
  // A path that starts with a slash has nothing to be expanded; two slashes are one.
  if (url->scheme != "sqlite" || !url->path.starts_with('/') || url->path.find('\0') != std::string::npos) return;
  const std::string path = url->path.substr(std::min(url->path.find_first_not_of('/'), url->path.size()));
  require(store::parse_store_url(store::sqlite_url('/' + path)).path == '/' + path, "a path comes back: " + path);
}

}  // namespace millrace::fuzz
