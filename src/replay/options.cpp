// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.hpp"
#include "millrace/error.hpp"
#include "millrace/pattern.hpp"
#include "millrace/replay.hpp"
#include "store/ledger/replay_id.hpp"

namespace millrace {

std::string_view to_string(ReplayOnError on_error) noexcept {
  return on_error == ReplayOnError::stop ? "stop" : "count";
}

std::string_view to_string(ReplayState state) noexcept {
  switch (state) {
    case ReplayState::running:
      return "running";
    case ReplayState::interrupted:
      return "interrupted";
    case ReplayState::failed:
      return "failed";
    case ReplayState::finished:
      return "finished";
  }
  return "?";
}

void ReplayQuery::validate() const {
  static_cast<void>(PatternList(types));  // each says which pattern is malformed
  static_cast<void>(PatternList(sources));
  // No event has such a text, and no record could say what was asked for.
  const auto check_text = [](const char* field, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      if (is_utf8(text)) continue;
      throw Error(Errc::invalid_argument, "replay", field, '"' + printable(text) + "\" is not UTF-8");
    }
  };
  check_text("types", types);
  check_text("sources", sources);
  check_text("keys", keys);
  if (up_to && *up_to < after) {
    throw Error(Errc::invalid_argument, "replay", "up_to",
                "position " + up_to->to_string() + " stands before after, " + after.to_string());
  }
  if (since && until && *until < *since) {
    throw Error(Errc::invalid_argument, "replay", "until", "stands before since");
  }
}

void ReplayOptions::validate() const {
  constexpr std::size_t kMostOpen = 10'000;
  if (!replayid.empty()) ledger::check_replay_id(replayid);
  static_cast<void>(ReplayPace::parse(pace.to_string()));
  if (window == 0 || window > kMostOpen) {
    throw Error(Errc::invalid_argument, "replay", "window",
                std::to_string(window) + " is not a number from 1 to 10000");
  }
}

}  // namespace millrace
