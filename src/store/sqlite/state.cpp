// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/state.hpp"

#include <algorithm>

#include "store/ledger_calls.hpp"
#include "store/records.hpp"
#include "store/sqlite/ledger.hpp"
#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

/// How stale the recorded last_seen of a group may become while nothing else of it changes.
constexpr std::chrono::seconds kSeenEvery{5};

constexpr char kGroupColumns[] =
    "g.id, g.name, s.name, g.types, g.start, g.order_rule, g.settings, g.paused, g.created_at, g.last_seen, g.cursor, "
    "g.ready, g.suspects, g.processed, g.failures, g.crashes, g.rejected, g.expired, g.skipped, "
    "g.pass, g.dead, g.types_changed, g.unrecorded_to "
    "FROM consumer_group g JOIN stream s ON s.id = g.stream_id";

}  // namespace

std::uint64_t positions_between(const SkippedRanges& skipped, Ordinal after, Ordinal to) {
  if (to <= after) return 0;
  std::uint64_t count = to - after;
  for (const auto& [first, last] : skipped) {
    const Ordinal from = std::max(first, after + 1);
    const Ordinal until = std::min(last, to);
    if (from <= until) count -= until - from + 1;
  }
  return count;
}

SkippedRanges load_skipped(Connection& connection, std::int64_t stream_id) {
  SkippedRanges ranges;
  auto rows =
      connection.prepared("SELECT first, last FROM skipped WHERE stream_id = ? ORDER BY first").query(stream_id);
  while (rows.next()) ranges.emplace_back(rows.number(0), rows.number(1));
  return ranges;
}

std::uint64_t load_erasures(Connection& connection) {
  return static_cast<std::uint64_t>(connection.integer("SELECT value FROM meta WHERE key = 'erasures'"));
}

State::State(Connection& connection, const StoreClock& clock, std::uint32_t incarnation, std::uint32_t last_id,
             std::chrono::seconds history)
    : connection_(connection), clock_(clock), incarnation_(incarnation), last_id_(last_id), history_(history) {}

/// Zeroing what is deleted is for what may hold the data of events: their tables and the dead letters, whose pages also
/// leave copies of rows behind when they are split. The books of groups change with every claim, hold none of it, and
/// their freed pages would all have to be written once more.
void State::wipe_deleted(bool on) {
  if (wipes_ == on) return;
  wipes_.reset();
  connection_.execute(on ? "PRAGMA secure_delete=ON" : "PRAGMA secure_delete=OFF");
  wipes_ = on;
}

void State::begin() {
  wipe_deleted(true);  // also after a flush that failed half-way
  now_ = clock_.now();
  woke_ = false;
  events_appended_ = 0;
  written_ = false;
  const std::int64_t version = connection_.integer("PRAGMA data_version");
  others_committed_ = version != data_version_;
  if (others_committed_) forget();
  data_version_ = version;
}

void State::forget() {
  dirty_groups_.clear();
  groups_.clear();
  streams_by_id_.clear();
  streams_.clear();
  sessions_.clear();
  erasures_.reset();
  streams_loaded_ = sessions_loaded_ = false;
}

void State::flush() {
  for (auto& [name, stream] : streams_) {
    if (!stream->dirty) continue;
    connection_
        .prepared(
            "UPDATE stream SET next_position = ?, reserved_to = ?, trimmed_to = ?, events = ?, bytes = ?, "
            "last_stored_at = ? WHERE id = ?")
        .run(stream->next_position, stream->reserved_to, stream->trimmed_to, stream->events, stream->bytes,
             stream->last_stored_at, stream->id);
    stream->dirty = false;
  }
  for (Group* group : dirty_groups_) save_group(*group);
  wipe_deleted(true);
  dirty_groups_.clear();
}

std::uint64_t State::new_id() {
  return static_cast<std::uint64_t>(incarnation_) << 32 | ++last_id_;
}

std::uint64_t State::erasures() {
  if (!erasures_) erasures_ = load_erasures(connection_);
  return *erasures_;
}

void State::count_erasure() {
  connection_
      .prepared(
          "INSERT INTO meta (key, value) VALUES ('erasures', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1")
      .run();
  erasures_.reset();
}

// ---- Streams ----

void State::load_streams() {
  if (streams_loaded_) return;
  auto rows = connection_
                  .prepared(
                      "SELECT id, name, next_position, reserved_to, trimmed_to, events, bytes, last_stored_at "
                      "FROM stream")
                  .query();
  while (rows.next()) {
    auto stream = std::make_unique<StreamState>();
    stream->id = rows.integer(0);
    stream->name = StreamName(rows.text(1));
    stream->next_position = rows.number(2);
    stream->reserved_to = rows.number(3);
    stream->trimmed_to = rows.number(4);
    stream->events = rows.number(5);
    stream->bytes = rows.number(6);
    stream->last_stored_at = rows.time(7);
    stream->skipped = load_skipped(connection_, stream->id);
    const std::string table = event_table(stream->id);
    const std::string trimmed = trimmed_table(stream->id);
    const std::string columns = kEventColumns;
    stream->has_trimmed_ids = connection_.integer("SELECT EXISTS (SELECT 1 FROM " + trimmed + ")") != 0;
    stream->insert = Statement(connection_, "INSERT INTO " + table + " (position, " + columns +
                                                ", stored_at) VALUES (?,?,?,?,?,?,?,?,?,?,?) "
                                                "ON CONFLICT (id, source) DO NOTHING");
    stream->by_id = Statement(
        connection_, "SELECT position, " + columns + ", stored_at FROM " + table + " WHERE id = ? AND source = ?");
    stream->by_position =
        Statement(connection_, "SELECT " + columns + ", stored_at FROM " + table + " WHERE position = ?");
    stream->after = Statement(
        connection_, "SELECT position, " + columns + " FROM " + table + " WHERE position > ? ORDER BY position");
    stream->trimmed_id = Statement(
        connection_, "SELECT position, fingerprint, trimmed_at FROM " + trimmed + " WHERE id = ? AND source = ?");
    streams_by_id_[stream->id] = stream.get();
    std::string name = stream->name.str();
    streams_.emplace(std::move(name), std::move(stream));
  }
  streams_loaded_ = true;
}

std::map<std::string, std::unique_ptr<StreamState>>& State::streams() {
  load_streams();
  return streams_;
}

std::vector<std::pair<std::int64_t, Ordinal>> State::heads() {
  std::vector<std::pair<std::int64_t, Ordinal>> heads;
  for (const auto& [name, stream] : streams()) heads.emplace_back(stream->id, stream->head());
  return heads;
}

StreamState* State::find_stream(const StreamName& name) {
  const auto it = streams().find(name.str());
  return it == streams_.end() ? nullptr : it->second.get();
}

StreamState& State::stream(const StreamName& name, std::string_view operation) {
  if (StreamState* stream = find_stream(name)) return *stream;
  throw unknown_stream(operation, name);
}

StreamState& State::stream_by_id(std::int64_t id) {
  load_streams();
  return *streams_by_id_.at(id);
}

void State::add_stream(const StreamName& name) {
  flush();  // the cache is about to be read anew
  create_stream_tables(connection_, name, now_);
  streams_by_id_.clear();
  streams_.clear();
  streams_loaded_ = false;
}

// ---- Groups ----

std::unique_ptr<Group> State::load_group(Statement::Rows& row) {
  GroupIdentity identity{StreamName(row.text(2)), Start::parse(row.text(4)), decode_types(row.text(3)),
                         OrderRule::parse(row.text(5)), decode_settings(row.text(6))};
  auto judgement = std::make_shared<const Judgement>(Judgement{PatternList(identity.types), identity.order});
  ledger::GroupState state(identity.settings);
  auto group = std::make_unique<Group>(Group{row.integer(0),
                                             GroupName(row.text(1)),
                                             std::move(identity),
                                             std::move(judgement),
                                             row.integer(7) != 0,
                                             row.time(8),
                                             row.time(9),
                                             row.time(9),
                                             std::move(state),
                                             {},
                                             row.number(20),
                                             row.time(21),
                                             row.time(22)});
  load_progress(*group, row);
  return group;
}

void State::load_progress(Group& group, Statement::Rows& row) {
  ledger::Snapshot snapshot;
  snapshot.progress.cursor = row.number(10);
  snapshot.progress.ready = ledger::RangeSet::parse(row.text(11));
  snapshot.progress.suspects = ledger::RangeSet::parse(row.text(12));
  snapshot.progress.counters = {row.number(13), row.number(14), row.number(15),
                                row.number(16), row.number(17), row.number(18)};
  snapshot.progress.pass = row.number(19);
  auto claims = connection_
                    .prepared(
                        "SELECT id, consumer, session_id, lease_until, lease_ms, claimed_at, alone, open, "
                        "fresh_first, fresh_last, apart, again FROM claim WHERE group_id = ?")
                    .query(group.id);
  while (claims.next()) {
    ledger::Claim& claim = snapshot.claims[claims.number(0)];
    claim.consumer = claims.text(1);
    claim.session = claims.number(2);
    claim.lease_until = claims.time(3);
    claim.lease = Milliseconds{claims.integer(4)};
    claim.claimed_at = claims.time(5);
    claim.alone = claims.integer(6) != 0;
    claim.open = ledger::RangeSet::parse(claims.text(7));
    claim.fresh_first = claims.number(8);
    claim.fresh_last = claims.number(9);
    claim.apart = ledger::RangeSet::parse(claims.text(10));
    claim.again = ledger::RangeSet::parse(claims.text(11));
  }
  auto items = connection_
                   .prepared(
                       "SELECT position, due, suspect, redriven, attempts, handler_failures, failures, crashes, "
                       "first_failure_at, last_error, replayid FROM item WHERE group_id = ?")
                   .query(group.id);
  while (items.next()) {
    ledger::Item& item = snapshot.items[items.number(0)];
    item.due = items.time(1);
    item.suspect = items.integer(2) != 0;
    item.redriven = items.integer(3) != 0;
    item.attempts = items.number32(4);
    item.handler_failures = items.number32(5);
    item.failures = items.number32(6);
    item.crashes = items.number32(7);
    if (!items.is_null(8)) item.first_failure_at = items.time(8);
    item.last_error = items.text(9);
    item.replayid = items.text(10);
  }
  StreamState& stream = this->stream(group.identity.stream, "load group");
  Statement& redriven_event = connection_.prepared(
      "SELECT id, source, type, subject, time, datacontenttype, dataschema, extensions, data FROM dead_letter "
      "WHERE group_id = ? AND position = ?");
  group.state.load(std::move(snapshot), [&](Ordinal ordinal, bool redriven) {
    auto found = redriven ? redriven_event.query(group.id, ordinal) : stream.by_position.query(ordinal);
    if (!found.next()) return ledger::GroupState::OpenEvent{};
    return open_event(group.identity.order, decode_event(found, 0));
  });
}

Group* State::find_group(const GroupName& name) {
  if (const auto it = groups_.find(name.str()); it != groups_.end()) return it->second.get();
  auto row = connection_.prepared(std::string("SELECT ") + kGroupColumns + " WHERE g.name = ?").query(name.str());
  if (!row.next()) return nullptr;
  return groups_.emplace(name.str(), load_group(row)).first->second.get();
}

Group& State::group(const GroupName& name, std::string_view operation) {
  if (Group* group = find_group(name)) return *group;
  throw unknown_group(operation, name);
}

Group& State::add_group(const GroupName& name, const GroupIdentity& identity, Ordinal cursor) {
  StreamState& stream = this->stream(identity.stream, "create group");
  connection_
      .prepared(
          "INSERT INTO consumer_group (name, stream_id, types, start, order_rule, settings, created_at, last_seen, "
          "cursor, unrecorded_to) VALUES (?,?,?,?,?,?,?,?,?,?)")
      .run(name.str(), stream.id, encode_types(identity.types), identity.start.to_string(), identity.order.to_string(),
           encode_settings(identity.settings), now_, now_, cursor, now_);
  return *find_group(name);
}

void State::set_dead(Group& group, std::uint64_t count) {
  group.dead = count;
  connection_.prepared("UPDATE consumer_group SET dead = ?, unrecorded_to = ? WHERE id = ?")
      .run(count, group.unrecorded_to, group.id);
}

void State::delete_group(Group& group) {
  for (const char* sql : {"DELETE FROM claim WHERE group_id = ?", "DELETE FROM item WHERE group_id = ?",
                          "DELETE FROM dead_letter WHERE group_id = ?", "DELETE FROM history WHERE group_id = ?",
                          "DELETE FROM consumer_group WHERE id = ?"}) {
    connection_.prepared(sql).run(group.id);
  }
  dirty_groups_.erase(&group);
  groups_.erase(group.name.str());
}

std::vector<Group*> State::all_groups() {
  std::vector<std::string> names;
  {
    auto rows = connection_.prepared("SELECT name FROM consumer_group ORDER BY name").query();
    while (rows.next()) names.emplace_back(rows.text(0));
  }
  std::vector<Group*> groups;
  groups.reserve(names.size());
  for (const std::string& name : names) groups.push_back(find_group(GroupName(name)));
  return groups;
}

void State::touch(Group& group, bool seen) {
  if (seen) group.last_seen = now_;
  dirty_groups_.insert(&group);
}

void State::save_group(Group& group) {
  const ledger::Changes changes = group.state.take_changes();
  woke_ = woke_ || changes.wake;
  if (changes.empty() && group.last_seen - group.saved_last_seen < kSeenEvery) return;
  if (!changes.dead.empty() || !changes.redriven_done.empty()) wipe_deleted(true);
  for (const ledger::Changes::Dead& dead : changes.dead) save_dead(group, dead);
  for (const Ordinal ordinal : changes.redriven_done) {
    connection_.prepared("DELETE FROM dead_letter WHERE group_id = ? AND position = ? AND redriven = 1")
        .run(group.id, ordinal);
  }
  wipe_deleted(false);
  if (!changes.settled.empty()) record_settled(*this, group, changes.settled);
  const ledger::Progress& progress = group.state.progress();
  const ledger::Counters& counters = progress.counters;
  if (changes.progress) {
    connection_
        .prepared(
            "UPDATE consumer_group SET last_seen = ?, cursor = ?, ready = ?, suspects = ?, processed = ?, "
            "failures = ?, crashes = ?, rejected = ?, expired = ?, skipped = ?, pass = ?, dead = ?, unrecorded_to = ? "
            "WHERE id = ?")
        .run(group.last_seen, progress.cursor, progress.ready.to_string(), progress.suspects.to_string(),
             counters.processed, counters.failures, counters.crashes, counters.rejected, counters.expired,
             counters.skipped, progress.pass, group.dead, group.unrecorded_to, group.id);
    group.saved_last_seen = group.last_seen;
  } else if (group.last_seen - group.saved_last_seen >= kSeenEvery) {
    connection_.prepared("UPDATE consumer_group SET last_seen = ? WHERE id = ?").run(group.last_seen, group.id);
    group.saved_last_seen = group.last_seen;
  }
  for (const std::uint64_t id : changes.claims) {
    const ledger::Claim* claim = group.state.claim(id);
    if (!claim) {
      connection_.prepared("DELETE FROM claim WHERE id = ?").run(id);
      continue;
    }
    connection_
        .prepared(
            "INSERT INTO claim (id, group_id, consumer, session_id, lease_until, lease_ms, claimed_at, alone, "
            "open, fresh_first, fresh_last, apart, again) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?) "
            "ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, lease_ms = excluded.lease_ms, "
            "alone = excluded.alone, open = excluded.open, apart = excluded.apart, again = excluded.again")
        .run(id, group.id, claim->consumer, claim->session, claim->lease_until,
             static_cast<std::int64_t>(claim->lease.count()), claim->claimed_at, claim->alone, claim->open.to_string(),
             claim->fresh_first, claim->fresh_last, claim->apart.to_string(), claim->again.to_string());
  }
  for (const Ordinal ordinal : changes.items) {
    const ledger::Item* item = group.state.item(ordinal);
    if (!item || item->plain()) {
      connection_.prepared("DELETE FROM item WHERE group_id = ? AND position = ?").run(group.id, ordinal);
      continue;
    }
    connection_
        .prepared(
            "INSERT OR REPLACE INTO item (group_id, position, due, suspect, redriven, attempts, "
            "handler_failures, failures, crashes, first_failure_at, last_error, replayid) "
            "VALUES (?,?,?,?,?,?,?,?,?,?,?,?)")
        .run(group.id, ordinal, item->due, item->suspect, item->redriven, item->attempts, item->handler_failures,
             item->failures, item->crashes, item->first_failure_at, item->last_error, item->replayid);
  }
}

void State::save_dead(Group& group, const ledger::Changes::Dead& dead) {
  const ledger::Item& item = dead.item;
  {
    // A dead letter that a seek back made die again was counted before.
    auto shown = connection_.prepared("SELECT redriven FROM dead_letter WHERE group_id = ? AND position = ?")
                     .query(group.id, dead.ordinal);
    if (!shown.next() || shown.integer(0) != 0) ++group.dead;
  }
  if (item.redriven) {
    connection_
        .prepared(
            "UPDATE dead_letter SET redriven = 0, died_at = ?, reason = ?, attempts = ?, failures = ?, "
            "crashes = ? WHERE group_id = ? AND position = ?")
        .run(now_, dead.reason, item.attempts, item.failures, item.crashes, group.id, dead.ordinal);
    return;
  }
  const StreamState& stream = this->stream(group.identity.stream, "bury event");
  const std::string into = std::string("INSERT OR REPLACE INTO dead_letter (group_id, position, ") + kEventColumns +
                           ", stored_at, died_at, reason, attempts, failures, crashes) ";
  connection_
      .prepared(into + "SELECT ?, position, " + kEventColumns + ", stored_at, ?, ?, ?, ?, ? FROM " +
                event_table(stream.id) + " WHERE position = ?")
      .run(group.id, now_, dead.reason, item.attempts, item.failures, item.crashes, dead.ordinal);
  if (connection_.changes() != 0) return;
  // The log lost it; what is still known of it is its name.
  const Event lost = lost_event(Position(dead.ordinal));
  connection_
      .prepared(into +
                "SELECT ?1, ?2, coalesce(t.id, ?8), coalesce(t.source, ?9), "
                "?10, NULL, NULL, NULL, NULL, NULL, NULL, ?3, ?3, ?4, ?5, ?6, ?7 "
                "FROM (SELECT 1) LEFT JOIN " +
                trimmed_table(stream.id) + " t ON t.position = ?2 LIMIT 1")
      .run(group.id, dead.ordinal, now_, dead.reason, item.attempts, item.failures, item.crashes, lost.id, lost.source,
           lost.type);
}

// ---- Sessions ----

std::map<SessionId, Session>& State::sessions() {
  if (!sessions_loaded_) {
    auto rows = connection_.prepared("SELECT id, consumer, lease_ms, until FROM session").query();
    while (rows.next()) {
      sessions_.emplace(rows.number(0),
                        Session{std::string(rows.text(1)), Milliseconds{rows.integer(2)}, rows.time(3)});
    }
    sessions_loaded_ = true;
  }
  return sessions_;
}

void State::note_renewed(SessionId session) {
  const auto used = used_.find(session);
  if (used == used_.end()) return;
  for (const GroupName& name : used->second) {
    if (Group* group = find_group(name)) touch(*group, true);
  }
}

std::set<std::string> State::users_of(const GroupName& group) {
  std::set<std::string> users;
  for (const auto& [id, groups] : used_) {
    const auto session = sessions().find(id);
    if (session == sessions_.end() || session->second.until <= now_ || !groups.contains(group)) continue;
    users.insert(session->second.consumer);
  }
  return users;
}

ledger::SessionEnd State::session_end() {
  sessions();
  return [this](SessionId id) -> std::optional<Timestamp> {
    const auto it = sessions_.find(id);
    return it == sessions_.end() ? std::nullopt : std::optional(it->second.until);
  };
}

}  // namespace millrace::store::sqlite
