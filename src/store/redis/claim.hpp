// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "store/redis/ledger_group.hpp"

namespace millrace::store::redis {

/// The log after a group's cursor, as its decisions want to see it. Read in pages, and kept over the attempts of one
/// claim: whoever was faster took the first of it, so the rest is what is needed next.
class AheadOfCursor final : public ledger::FreshEvents {
 public:
  AheadOfCursor(Client& client, const ForeignMapping& mapping, const ClaimRequest& request)
      : client_(client), mapping_(mapping), request_(request) {}

  /// Begins after the group's cursor. \param ahead what was asked for in advance: good for one attempt
  void start(const Group& group, Timestamp now, std::size_t bytes_per_event, std::optional<ReadAhead> ahead);
  std::optional<ledger::Candidate> next() override;
  [[nodiscard]] Ordinal scanned_to() const override { return scanned_to_; }

  /// There may be more, but enough was looked at for one claim.
  [[nodiscard]] bool stopped_early() const { return scanned_ >= kMostScanned; }
  /// How many of the stream's entries were gone when it was read ahead: what is handed out must be there still.
  [[nodiscard]] std::optional<std::uint64_t> removed() const { return removed_; }
  /// Whether it is worth reading on after `cursor` now: all that was read is handed out, there is more, and nobody else
  /// has taken anything since.
  [[nodiscard]] bool more_after(Ordinal cursor) const { return more_ && attempts_ == 1 && cursor == read_to_; }
  /// How many entries were asked for at a time.
  [[nodiscard]] std::size_t page() const { return page_; }
  /// How many entries were ever added up to this one; nullopt when it was not met or cannot be told.
  [[nodiscard]] std::optional<std::uint64_t> read_at(Ordinal ordinal) const;
  /// About how large an event is, if any was read.
  [[nodiscard]] std::optional<std::size_t> bytes_per_event() const;
  /// The event shown as `ordinal`.
  Event take(Ordinal ordinal);
  /// Entries met up to there that are no events: position and reason, in turn.
  [[nodiscard]] std::vector<std::string> asides(Ordinal up_to) const;
  /// How many entries between these two somebody else has removed (XTRIM, XDEL), as far as the numbers of ours tell.
  [[nodiscard]] std::uint64_t missing(Ordinal after, Ordinal up_to) const;

 private:
  static constexpr std::size_t kMostScanned = 10'000;  ///< so that nobody waits long for a filter that matches little
  static constexpr std::size_t kMostOfPage = 1'000;
  struct Scanned {
    Ordinal ordinal;
    std::optional<std::uint64_t> n;
    std::optional<Event> event;
    std::string aside;
    std::uint64_t unfit = 0;  ///< entries right before it that cannot have a position
    std::optional<std::uint64_t> read = {};
    std::uint64_t missing = 0;  ///< entries right before it that are gone
  };
  bool read_on();
  std::optional<Entries> read_in_advance();
  [[nodiscard]] std::vector<Scanned>::const_iterator find(Ordinal ordinal) const;

  Client& client_;
  const ForeignMapping& mapping_;
  const ClaimRequest& request_;
  const Group* group_ = nullptr;
  Timestamp now_;
  std::size_t bytes_per_event_ = 1;
  Ordinal from_ = 0;     ///< what was read stands after here
  Ordinal read_to_ = 0;  ///< up to here
  Position read_at_{};   ///< the same with entries that do not fit: the next page begins after it
  bool read_any_ = false;
  bool at_end_ = false;
  std::optional<ReadAhead> ahead_;
  std::optional<std::uint64_t> removed_;
  bool more_ = false;
  std::size_t page_ = 0;
  unsigned attempts_ = 0;
  std::vector<Scanned> entries_;
  std::uint64_t unfit_ = 0;
  std::size_t at_ = 0;
  std::size_t scanned_ = 0;
  Ordinal scanned_to_ = 0;
  std::optional<std::uint64_t> read_;
};

}  // namespace millrace::store::redis
