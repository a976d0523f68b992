// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <set>

#include "cli/target.hpp"
#include "replay/ports.hpp"

namespace millrace::cli {

/// One replay run by a command, against whatever it talks to. A call that broke may be repeated: what it did before is
/// recognised, so that the record stays ours and no delivery is counted as somebody else's.
class TargetPorts final : public replay::Ports {
 public:
  /// \param flush  called before the record is written: what was printed must be out by then.
  /// \param stopped  whether the command was told to stop.
  TargetPorts(Target& target, std::function<void()> flush, std::function<bool()> stopped)
      : target_(target), flush_(std::move(flush)), stopped_(std::move(stopped)) {}

  /// Events are read in today's schema version instead of as they were stored: what people and handlers want, and a
  /// copy must not be.
  void read_upcast() { upcast_ = true; }

  Position end_of(const StreamName& stream) override;
  Page read(const StreamName& stream, const ReadQuery& query) override;
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> copies) override;
  GroupNow group(const GroupName& group) override;
  std::vector<ReplayStatus> hand_in(const GroupName& group, std::string_view replayid,
                                    std::span<const Position> positions) override;
  std::vector<ReplayStatus> would_hand_in(const GroupName& group, std::span<const Position> positions) override;
  std::vector<Position> open_between(const GroupName& group, Position after, Position last) override;
  std::uint64_t save(const ReplayRecord& record) override;
  replay::SteadyTime now() override { return std::chrono::steady_clock::now(); }
  void wait(std::chrono::milliseconds time) override;
  bool stop_requested() override { return stopped_(); }

 private:
  std::vector<ReplayStatus> post_positions(const GroupName& group, std::string_view replayid,
                                           std::span<const Position> positions, bool dry_run);
  std::uint64_t version_of(const ReplayRecord& record);

  Target& target_;
  std::function<void()> flush_;
  std::function<bool()> stopped_;
  bool upcast_ = false;
  std::optional<ReplayRecord> unsure_;  ///< sent as the record, and maybe written
  std::uint64_t newest_ = 0;            ///< version of what is surely ours
  std::set<Position> maybe_opened_;     ///< handed in, without an answer
};

}  // namespace millrace::cli
