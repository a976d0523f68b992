// SPDX-License-Identifier: Apache-2.0
#include "store/memory/memory_store.hpp"

#include "base/log.hpp"
#include "store/url.hpp"

namespace millrace::store {
namespace memory {

Shared::Shared(StoreOptions store_options) : options(std::move(store_options)) {
  for (const char* name : {"events", "logs"}) streams.try_emplace(name, StreamName(name), clock.now());
}

Stream& Shared::stream_at(std::string_view operation, const StreamName& name) {
  const auto it = streams.find(name);
  if (it == streams.end()) throw unknown_stream(operation, name);
  return it->second;
}

Group& Shared::group_at(std::string_view operation, const GroupName& name) {
  const auto it = groups.find(name);
  if (it == groups.end()) throw unknown_group(operation, name);
  return it->second;
}

void Shared::drop_expired_groups(Timestamp now) {
  std::erase_if(groups, [&](const auto& entry) {
    if (entry.second.live(now)) return false;
    log::info("group_expired", entry.first.str(),
              "nobody has used this group for as long as it was to be kept: deleted");
    return true;
  });
}

void Shared::apply(Group& group, Timestamp now) {
  const ledger::Changes changes = group.state.take_changes();
  for (const auto& died : changes.dead) {
    const auto [it, added] = group.dead.try_emplace(died.ordinal);
    DeadRow& row = it->second;
    if (added) {
      const SharedEvent stored = streams.at(group.identity.stream).at(died.ordinal);
      row.letter.position = stored->position;
      row.letter.event = stored->event;
      row.letter.stored_at = stored->stored_at;
      row.key = died.item.key;
    }
    row.letter.died_at = now;
    row.letter.reason = died.reason;
    row.letter.attempts = died.item.attempts;
    row.letter.failures = died.item.failures;
    row.letter.crashes = died.item.crashes;
    row.open_again = false;
  }
  for (const Ordinal ordinal : changes.redriven_done) group.dead.erase(ordinal);
  record(group, changes.settled, now);
  if (changes.wake) notifier.changed();
}

void Shared::record(Group& group, const std::vector<ledger::Changes::Settled>& settled, Timestamp now) {
  if (options.history.count() == 0) {
    if (!settled.empty()) group.unrecorded_to = now;
    return;
  }
  for (const auto& one : settled) group.history.add(one, one.claim != 0 ? one.claim : ++last_claim, now);
  group.history.prune(now - options.history);
}

Capabilities MemoryStore::capabilities() const {
  return {.name = "memory",
          .strongest = Durability::memory,
          .shared_between_processes = false,
          .fences_late_settles = true,
          .relaxed_differs = false};
}

std::vector<Store::Figure> MemoryStore::figures() const {
  const RetentionSchedule::Figures retention = log_.retention_figures();
  const std::lock_guard lock(shared_.mutex);
  std::uint64_t bytes = 0;
  for (const auto& [name, stream] : shared_.streams) bytes += stream.info().bytes;
  return {{"bytes", "Bytes of events in the log", static_cast<double>(bytes)},
          {"stored_events_total", "Events newly stored", static_cast<double>(shared_.stored_total)},
          {"deliveries_total", "Events handed out", static_cast<double>(shared_.delivered_total)},
          {"settlements_total", "Leases settled, stale ones not counted", static_cast<double>(shared_.settled_total)},
          {"retention_trims_total", "Trims by the retention of a stream", static_cast<double>(retention.trims)},
          {"retention_removed_events_total", "Events those removed", static_cast<double>(retention.removed_events)},
          {"retention_failures_total", "Trims by retention that failed", static_cast<double>(retention.failures)}};
}

void MemoryStore::backup(const std::string&) {
  throw Error(Errc::invalid_argument, "back up",
              "memory:", "a memory store keeps nothing: there is nothing to back up");
}

}  // namespace memory

std::unique_ptr<Store> open_memory_store(const StoreUrl& url, const StoreOptions& options) {
  if (!url.path.empty()) {
    throw Error(Errc::invalid_argument, "open store", "memory:" + url.path,
                "a memory store has no path: it is always a new one; write memory:");
  }
  return std::make_unique<memory::MemoryStore>(with_url_options(url, options));
}

}  // namespace millrace::store
