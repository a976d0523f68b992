// SPDX-License-Identifier: Apache-2.0
#include "store/retention.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.hpp"

namespace millrace::store {
namespace {

std::string kept_for(const TrimResult& result) {
  std::string text;
  for (const TrimResult::Kept& kept : result.kept) {
    text += (text.empty() ? "" : ", ") + std::to_string(kept.events) + " for group " + kept.group.str();
  }
  return text;
}

}  // namespace

TrimRequest request_of(const Retention& retention) {
  return {.max_events = retention.max_events, .max_bytes = retention.max_bytes, .max_age = retention.max_age};
}

std::optional<Timestamp> due_at(const RetentionRecord& record) {
  if (record.retention.keeps_all()) return std::nullopt;
  return record.applied_at ? *record.applied_at + record.retention.interval : Timestamp{};
}

void log_trim(const StreamName& stream, const TrimResult& result) {
  if (result.removed == 0 && result.kept.empty()) return;
  std::string text = std::to_string(result.removed) + " events removed, up to " + result.trimmed_to.to_string();
  if (!result.kept.empty()) text += "; kept though asked to remove: " + kept_for(result);
  log::info("trimmed", stream.str(), text);
}

RetentionSchedule::~RetentionSchedule() {
  stop();
}

void RetentionSchedule::start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

void RetentionSchedule::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void RetentionSchedule::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_all();
}

RetentionSchedule::Figures RetentionSchedule::figures() const {
  return {trims_.load(), removed_.load(), failures_.load()};
}

void RetentionSchedule::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const auto wait = step(stop);
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, wait, [&] { return woken_; });
    woken_ = false;
  }
}

std::chrono::milliseconds RetentionSchedule::step(const std::stop_token& stop) {
  std::optional<StreamName> stream;
  try {
    std::optional<Timestamp> earliest;
    for (const RetentionHost::Retained& retained : host_.retained()) {
      std::optional<Timestamp> due = due_at(retained.record);
      if (!due) continue;
      const auto barred = not_before_.find(retained.stream);
      if (barred != not_before_.end()) due = std::max(*due, barred->second);
      if (earliest && *earliest <= *due) continue;
      earliest = due;
      stream = retained.stream;
    }
    const Timestamp now = now_();
    if (!earliest || *earliest > now) {
      if (!earliest || *earliest - now > kLookAgain) return kLookAgain;
      return std::chrono::ceil<std::chrono::milliseconds>(*earliest - now);
    }
    const TrimResult result = host_.apply_retention(*stream, stop);
    not_before_.erase(*stream);
    ++trims_;
    removed_ += result.removed;
    std::vector<GroupName> holders;
    for (const TrimResult::Kept& kept : result.kept) holders.push_back(kept.group);
    if (!holders.empty() && holders != held_by_[*stream]) {
      log::warn("retention_held", stream->str(),
                "events beyond the retention are kept, because live groups have not settled them: " + kept_for(result) +
                    "; let them catch up, or seek or delete them");
    }
    held_by_[*stream] = std::move(holders);
  } catch (const Error& error) {
    if (error.code() == Errc::stopped) return kLookAgain;
    return failed(stream, error);
  } catch (const std::exception& error) {  // out of memory, say: nothing may end the thread
    return failed(stream, Error(Errc::internal, "trim by retention", stream ? stream->str() : "", error.what()));
  }
  return std::chrono::milliseconds{0};
}

std::chrono::milliseconds RetentionSchedule::failed(const std::optional<StreamName>& stream, const Error& error) {
  ++failures_;
  log::write(log::Level::warn, error);
  if (!stream) return kLookAgain;
  not_before_[*stream] = now_() + kRetryAfter;
  return std::chrono::milliseconds{0};
}

}  // namespace millrace::store
