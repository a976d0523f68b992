// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/house.hpp"

#include <algorithm>
#include <utility>

#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

using Clock = std::chrono::steady_clock;

/// How long one slice of either work may take, looked at after every so many ids or pages, and how many pages it may
/// leave for the next sync to write.
constexpr std::chrono::milliseconds kSlice{10};
constexpr std::int64_t kIdsAtOnce = 500;
constexpr std::int64_t kPagesAtOnce = 32;
constexpr std::int64_t kMostPages = 4'096;

}  // namespace

std::int64_t FreePages::surplus(std::int64_t free, std::int64_t all, Clock::time_point now) {
  if (since_ == Clock::time_point{}) {
    since_ = now;
    least_ = free;
  }
  if (now - since_ >= kSettled) {
    least_then_ = least_;
    least_ = free;
    since_ = now;
  }
  least_ = std::min(least_, free);
  least_then_ = std::min(least_then_, free);
  const std::int64_t reserve = std::max(kReserve, (all - free) / 10);
  return std::max<std::int64_t>(0, std::min(least_, least_then_) - reserve);
}

House::Next House::keep(State& state, std::chrono::seconds dedup_keep, bool owner) {
  bool more = false;
  for (auto& [name, stream] : state.streams()) {
    if (stream->has_trimmed_ids && forget_ids(state, *stream, state.now() - dedup_keep)) more = true;
  }
  const Next next = owner ? give_back(state) : Next::later;
  return more && next == Next::later ? Next::soon : next;
}

/// Looks at the next ids, in the order of the key. Nothing when the end was reached, else how many were forgotten.
std::optional<std::int64_t> House::forget_some(State& state, StreamState& stream, Timestamp before) {
  Connection& connection = state.connection();
  const std::string table = trimmed_table(stream.id);
  auto& [id, source] = forgot_to_[stream.id];
  std::pair<std::string, std::string> end;
  bool through = true;
  {
    auto row = connection
                   .prepared("SELECT id, source FROM " + table + " WHERE (id, source) > (?, ?) ORDER BY id, source " +
                             "LIMIT 1 OFFSET " + std::to_string(kIdsAtOnce - 1))
                   .query(id, source);
    if (row.next()) {
      end = {std::string(row.text(0)), std::string(row.text(1))};
      through = false;
    }
  }
  if (through) {
    connection.prepared("DELETE FROM " + table + " WHERE (id, source) > (?, ?) AND trimmed_at < ?")
        .run(id, source, before);
  } else {
    connection
        .prepared("DELETE FROM " + table + " WHERE (id, source) > (?, ?) AND (id, source) <= (?, ?) AND trimmed_at < ?")
        .run(id, source, end.first, end.second, before);
  }
  const std::int64_t forgotten = connection.changes();
  forgot_to_[stream.id] = std::move(end);
  if (!through) return forgotten;
  if (forgotten != 0) {
    stream.has_trimmed_ids = connection.integer("SELECT EXISTS (SELECT 1 FROM " + table + ")") != 0;
  }
  return std::nullopt;
}

/// True when there is likely more.
bool House::forget_ids(State& state, StreamState& stream, Timestamp before) {
  const auto until = Clock::now() + kSlice;
  std::int64_t looked = 0;
  std::int64_t forgotten = 0;
  do {
    const std::optional<std::int64_t> some = forget_some(state, stream, before);
    if (!some) return false;
    looked += kIdsAtOnce;
    forgotten += *some;
  } while (Clock::now() < until);
  return forgotten > looked / 2;
}

House::Next House::give_back(State& state) {
  Connection& connection = state.connection();
  const auto surplus = [&] {
    return free_pages_.surplus(connection.integer("PRAGMA freelist_count"), connection.integer("PRAGMA page_count"),
                               Clock::now());
  };
  const auto started = Clock::now();
  std::int64_t given = 0;
  std::int64_t left = surplus();
  while (left > 0 && given < kMostPages && Clock::now() - started < kSlice) {
    const std::int64_t pages = std::min(left, kPagesAtOnce);
    connection.execute("PRAGMA incremental_vacuum(" + std::to_string(pages) + ")");
    state.mark_written();
    given += pages;
    left -= pages;
  }
  if (left > 0) {
    giving_back_ = true;
    return Next::soon;
  }
  return std::exchange(giving_back_, false) || given > 0 ? Next::moved : Next::later;
}

}  // namespace millrace::store::sqlite
