// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>

#include "millrace/store.hpp"
#include "replay/ports.hpp"

namespace millrace::replay {

/// What `Ledger::replay` would answer for these positions, found without changing anything.
std::vector<ReplayStatus> would_replay(Ledger& ledger, const GroupName& group, std::span<const Position> positions);

/// A replay in the process that opened the store.
class StorePorts final : public Ports {
 public:
  using Append = std::function<std::vector<AppendResult>(const StreamName&, std::span<const Event>)>;
  StorePorts(Store& store, Append append, std::stop_token stop)
      : store_(store), append_(std::move(append)), stop_(std::move(stop)) {}

  Position end_of(const StreamName& stream) override { return store_.log().stream(stream).last; }
  Page read(const StreamName& stream, const ReadQuery& query) override { return store_.log().read(stream, query); }
  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> copies) override {
    return append_(stream, copies);
  }
  GroupNow group(const GroupName& group) override;
  std::vector<ReplayStatus> hand_in(const GroupName& group, std::string_view replayid,
                                    std::span<const Position> positions) override {
    return store_.ledger().replay(group, replayid, positions);
  }
  std::vector<ReplayStatus> would_hand_in(const GroupName& group, std::span<const Position> positions) override {
    return would_replay(store_.ledger(), group, positions);
  }
  std::vector<Position> open_between(const GroupName& group, Position after, Position last) override;
  std::uint64_t save(const ReplayRecord& record) override;
  SteadyTime now() override { return std::chrono::steady_clock::now(); }
  void wait(std::chrono::milliseconds time) override;
  bool stop_requested() override { return stop_.stop_requested(); }

 private:
  Store& store_;
  Append append_;
  std::stop_token stop_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
};

}  // namespace millrace::replay
