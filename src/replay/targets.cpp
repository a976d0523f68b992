// SPDX-License-Identifier: Apache-2.0
#include "replay/targets.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "millrace/error.hpp"
#include "millrace/schema.hpp"

namespace millrace::replay {
namespace {

constexpr std::size_t kBatch = 500;

class HandlerTarget final : public Target {
 public:
  HandlerTarget(ReplayHandler handler, std::string replayid, std::shared_ptr<const SchemaRegistry> schemas)
      : handler_(std::move(handler)), replayid_(std::move(replayid)), schemas_(std::move(schemas)) {}

  // One at a time: the record never runs ahead of the handler, and a stop waits for one event only.
  [[nodiscard]] std::size_t batch() const override { return 1; }

  std::vector<Verdict> give(std::span<const StoredEvent> events) override {
    std::vector<Verdict> verdicts;
    for (const StoredEvent& stored : events) verdicts.push_back(give_one(stored));
    return verdicts;
  }

 private:
  Verdict give_one(StoredEvent stored) {
    try {
      if (schemas_) stored.event = schemas_->upcast(std::move(stored.event));
      stored.event.set_extension(kReplayId, replayid_);
      handler_(stored);
      return {};
    } catch (const std::exception& error) {
      return {Verdict::Kind::failed, error.what()};
    } catch (...) {
      return {Verdict::Kind::failed, "the handler threw something that is no exception"};
    }
  }

  ReplayHandler handler_;
  std::string replayid_;
  std::shared_ptr<const SchemaRegistry> schemas_;
};

class StreamTarget final : public Target {
 public:
  StreamTarget(Ports& ports, StreamName stream, std::string replayid)
      : ports_(ports), stream_(std::move(stream)), replayid_(std::move(replayid)) {}

  [[nodiscard]] std::size_t batch() const override { return kBatch; }

  std::vector<Verdict> give(std::span<const StoredEvent> events) override {
    std::vector<Verdict> verdicts(events.size());
    std::vector<Event> copies;
    std::vector<std::size_t> at;  // of each copy, among the events
    for (std::size_t i = 0; i < events.size(); ++i) {
      if (is_erased(events[i].event)) {
        verdicts[i].kind = Verdict::Kind::erased;
      } else {
        copies.push_back(copy_of(events[i].event, replayid_));
        at.push_back(i);
      }
    }
    const std::vector<Verdict> appended = append(copies);
    for (std::size_t i = 0; i < at.size(); ++i) verdicts[at[i]] = appended[i];
    return verdicts;
  }

 private:
  std::vector<Verdict> append(std::span<const Event> copies) {
    if (copies.empty()) return {};
    try {
      return verdicts_of(copies, ports_.append(stream_, copies));
    } catch (const Error& error) {
      const bool one_is_bad = error.code() == Errc::invalid_event || error.code() == Errc::too_large;
      if (!one_is_bad) throw;
      if (copies.size() == 1) return {{Verdict::Kind::failed, error.what()}};
    }
    // The batch was refused for one of them (or for its size): nothing of it was stored.
    std::vector<Verdict> verdicts;
    for (const Event& copy : copies) verdicts.push_back(append(std::span(&copy, 1)).front());
    return verdicts;
  }

  std::vector<Verdict> verdicts_of(std::span<const Event> copies, const std::vector<AppendResult>& results) {
    std::vector<Verdict> verdicts(copies.size());
    for (std::size_t i = 0; i < copies.size(); ++i) {
      if (results.at(i).status != AppendStatus::conflict) continue;
      verdicts[i] = {Verdict::Kind::failed,
                     "stream " + stream_.str() + " has another event with the id " + copies[i].id + " and this source"};
    }
    return verdicts;
  }

  Ports& ports_;
  StreamName stream_;
  std::string replayid_;
};

/// The greatest position below `position`, which is not the first of all.
Position before(Position position) {
  return position.low > 0 ? Position{position.high, position.low - 1} : Position{position.high - 1, UINT64_MAX};
}

class GroupTarget final : public Target {
 public:
  GroupTarget(Ports& ports, GroupName group, const ReplayRecord& record, std::size_t window)
      : ports_(ports), group_(std::move(group)), replayid_(record.report.replayid), window_(window) {
    if (record.open_from) look_again(*record.open_from, record.report.next);
  }

  [[nodiscard]] std::size_t batch() const override { return kBatch; }

  std::size_t room() override {
    if (free() < enough() && !open_.empty()) {
      const std::set<Position> given = std::exchange(open_, {});
      look_again(*given.begin(), *given.rbegin());
      // Others opened events there, too.
      std::erase_if(open_, [&](const Position& position) { return !given.contains(position); });
    }
    return free() < enough() ? 0 : std::min(free(), batch());
  }

  std::string waiting() override {
    const Ports::GroupNow now = ports_.group(group_);
    const std::string open = std::to_string(open_.size()) + " open";
    if (now.paused) return "group " + group_.str() + " is paused, " + open;
    if (!now.consumers) return "group " + group_.str() + " has no consumer now, " + open;
    return open + " in group " + group_.str();
  }

  std::vector<Verdict> give(std::span<const StoredEvent> events) override {
    std::vector<Position> positions;
    positions.reserve(events.size());
    for (const StoredEvent& stored : events) positions.push_back(stored.position);
    const std::vector<ReplayStatus> statuses = ports_.hand_in(group_, replayid_, positions);
    std::vector<Verdict> verdicts(events.size());
    for (std::size_t i = 0; i < positions.size(); ++i) {
      if (statuses.at(i) == ReplayStatus::accepted) {
        open_.insert(positions[i]);
      } else {
        verdicts[i].kind = Verdict::Kind::passed;
      }
    }
    return verdicts;
  }

  [[nodiscard]] bool record_each() const override { return true; }
  [[nodiscard]] std::optional<Position> open_from() const override {
    return open_.empty() ? std::nullopt : std::optional(*open_.begin());
  }

 private:
  [[nodiscard]] std::size_t free() const { return open_.size() < window_ ? window_ - open_.size() : 0; }
  /// Half the window at once: the group is asked seldom, and its consumers never run dry.
  [[nodiscard]] std::size_t enough() const { return (window_ + 1) / 2; }
  void look_again(Position first, Position last) {
    const auto found = ports_.open_between(group_, before(first), last);
    open_.insert(found.begin(), found.end());
  }

  Ports& ports_;
  GroupName group_;
  std::string replayid_;
  std::size_t window_;
  std::set<Position> open_;  ///< of those handed in, as far as known
};

}  // namespace

bool is_erased(const Event& event) {
  return event.extension(kErasedTime) != nullptr;
}

Event copy_of(const Event& event, std::string_view replayid) {
  Event copy = event;
  copy.id = std::string(replayid) + ':' + event.id;
  copy.set_extension(kReplayId, std::string(replayid));
  return copy;
}

std::unique_ptr<Target> make_target(Ports& ports, const ReplayRecord& record, const ReplayTarget& target,
                                    const std::shared_ptr<const SchemaRegistry>& schemas, std::size_t window) {
  const std::string& replayid = record.report.replayid;
  if (const auto* handler = std::get_if<ReplayHandler>(&target)) {
    return std::make_unique<HandlerTarget>(*handler, replayid, schemas);
  }
  if (const auto* stream = std::get_if<IntoStream>(&target)) {
    static_cast<void>(ports.end_of(stream->stream));  // an unknown one is told before anything is read
    return std::make_unique<StreamTarget>(ports, stream->stream, replayid);
  }
  const GroupName group = std::get<ToGroup>(target).group;
  const StreamName reads = ports.group(group).stream;
  if (reads != record.query.stream) {
    throw Error(Errc::invalid_argument, "replay", group.str(),
                "is a group of stream " + reads.str() + ", not of " + record.query.stream.str());
  }
  return std::make_unique<GroupTarget>(ports, group, record, window);
}

}  // namespace millrace::replay
