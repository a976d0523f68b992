// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "millrace/store.hpp"

namespace millrace::test {

/// A log in a vector that can be told to fail. A bus needs no more of a store.
class FakeStore final : public Store, public EventLog {
 public:
  std::optional<Errc> fail_with;

  EventLog& log() override { return *this; }
  Ledger& ledger() override { throw unused(); }
  KeyValue& kv() override { throw unused(); }
  [[nodiscard]] Capabilities capabilities() const override { return {}; }
  [[nodiscard]] std::string describe() const override { return "fake"; }
  [[nodiscard]] std::vector<Figure> figures() const override { return {}; }
  void backup(const std::string&) override { throw unused(); }

  std::vector<AppendResult> append(const StreamName& stream, std::span<const Event> events, Durability level) override {
    const std::lock_guard lock(mutex_);
    if (fail_with) throw Error(*fail_with, "append", stream.str(), "as the test asked");
    std::vector<AppendResult> results;
    for (const Event& event : events) {
      const auto [it, fresh] = known_.emplace(event.id, std::pair(known_.size() + 1, event.type));
      const bool same = it->second.second == event.type;
      AppendResult result;
      result.status = fresh ? AppendStatus::stored : same ? AppendStatus::duplicate : AppendStatus::conflict;
      if (same) result.position = Position(it->second.first);
      result.durability = level;
      results.push_back(result);
    }
    return results;
  }
  void append_async(const StreamName& stream, std::vector<Event> events, Durability level,
                    AppendCompletion done) override {
    std::thread([&] {
      try {
        done(append(stream, events, level));
      } catch (const Error& error) {
        done(error);
      }
    }).join();
  }

  void create_stream(const StreamName&, const Retention&) override { throw unused(); }
  std::vector<StreamInfo> streams() override { throw unused(); }
  StreamInfo stream(const StreamName&) override { throw unused(); }
  Page read(const StreamName&, const ReadQuery&) override { throw unused(); }
  std::vector<FoundEvent> find(const StreamName&, std::string_view, std::optional<std::string_view>) override {
    throw unused();
  }
  StreamInfo change_retention(const StreamName&, const RetentionChange&) override { throw unused(); }
  std::optional<Position> erase(const StreamName&, std::string_view, std::string_view) override { throw unused(); }
  Position position_before(const StreamName&, Timestamp) override { throw unused(); }
  TrimResult trim(const StreamName&, const TrimRequest&) override { throw unused(); }
  std::unique_ptr<Watch> watch(std::function<void()>) override { throw unused(); }

 private:
  static Error unused() { return {Errc::internal, "fake store", "", "no bus should call this"}; }

  std::mutex mutex_;
  std::map<std::string, std::pair<std::uint64_t, std::string>> known_;
};

inline Event an_event(std::string id, std::string type = "order.placed") {
  Event event;
  event.id = std::move(id);
  event.source = "/test";
  event.type = std::move(type);
  return event;
}

}  // namespace millrace::test
