// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/log.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "store/records.hpp"
#include "store/sqlite/append.hpp"
#include "store/sqlite/rows.hpp"
#include "store/sqlite/schema.hpp"

namespace millrace::store::sqlite {
namespace {

/// An append whose events it owns and whose answer goes to a callback.
class AsyncAppend final : public Operation {
 public:
  AsyncAppend(Writer& writer, const StreamName& name, std::vector<Event> events, Durability durability,
              AppendCompletion done)
      : name_(name), events_(std::move(events)), append_(writer, name_, events_, durability), done_(std::move(done)) {
    durable = append_.durable;
    appends = true;
    bytes = append_.bytes;
    stream = append_.stream;
    relaxed_events = append_.relaxed_events;
  }
  void run(State& state) override { append_.run(state); }
  void finish(const Error* failure, Durability reached) noexcept override {
    try {
      failure ? done_(AppendAnswer(*failure)) : done_(AppendAnswer(append_.take_results(reached)));
    } catch (const std::exception& thrown) {
      log::error("completion_threw", name_.str(), thrown.what());
    }
  }

 private:
  StreamName name_;
  std::vector<Event> events_;
  Append append_;
  AppendCompletion done_;
};

}  // namespace

SqliteLog::SqliteLog(Writer& writer, Readers& readers, LockFile& lock, const StoreClock& clock, std::string path)
    : writer_(writer), readers_(readers), lock_(lock), clock_(clock), path_(std::move(path)), schedule_(*this, [this] {
        return clock_.now();
      }) {}

StreamRow stream_row(Connection& connection, const StreamName& name, std::string_view operation) {
  auto row = connection.prepared("SELECT id, next_position - 1, trimmed_to, bytes FROM stream WHERE name = ?")
                 .query(name.str());
  if (!row.next()) throw unknown_stream(operation, name);
  return {row.integer(0), row.number(1), row.number(2), row.number(3)};
}

std::vector<StreamInfo> SqliteLog::infos(Connection& connection, const StreamName* only) const {
  std::vector<StreamInfo> all;
  const auto wanted = only ? std::optional<std::string>(only->str()) : std::nullopt;
  auto rows = connection
                  .prepared(
                      "SELECT id, name, created_at, events, bytes, next_position - 1, trimmed_to, retention, "
                      "last_trim_at, last_trim FROM stream WHERE ?1 IS NULL OR name = ?1 ORDER BY name")
                  .query(wanted);
  while (rows.next()) {
    StreamInfo info{.name = StreamName(rows.text(1)),
                    .created_at = rows.time(2),
                    .events = rows.number(3),
                    .bytes = rows.number(4),
                    .last = Position(rows.number(5)),
                    .trimmed_to = Position(rows.number(6)),
                    .durable_to = Position(std::min(writer_.durable_to(rows.integer(0)), rows.number(5))),
                    .retention = decode_retention(rows.text(7)).retention,
                    .last_trim = decode_trim(rows.text(9))};
    if (rows.integer(8) != 0) info.last_trim_at = rows.time(8);
    auto first =
        connection
            .prepared("SELECT position, stored_at FROM " + event_table(rows.integer(0)) + " ORDER BY position LIMIT 1")
            .query();
    if (first.next()) {
      info.first = Position(first.number(0));
      info.oldest = first.time(1);
    }
    all.push_back(std::move(info));
  }
  return all;
}

Durability SqliteLog::level_of(std::int64_t stream_id, Ordinal position) const {
  return position <= writer_.durable_to(stream_id) ? Durability::durable : Durability::relaxed;
}

ledger::Ordinal last_before(Connection& connection, std::int64_t stream_id, ledger::Ordinal from, ledger::Ordinal to,
                            Timestamp time) {
  Statement& probe = connection.prepared("SELECT position, stored_at FROM " + event_table(stream_id) +
                                         " WHERE position <= ? ORDER BY position DESC LIMIT 1");
  Ordinal low = from - 1;  // everything up to here was stored before `time`
  Ordinal high = to + 1;   // and nothing from here on
  while (high - low > 1) {
    const Ordinal middle = low + (high - low) / 2;
    auto row = probe.query(middle);
    if (!row.next() || row.number(0) <= low || row.time(1) < time) {
      low = middle;
    } else {
      high = row.number(0);
    }
  }
  return low;
}

namespace {

void record_retention(State& state, const StreamName& name, const Retention& retention) {
  state.connection()
      .prepared("UPDATE stream SET retention = ? WHERE id = ?")
      .run(encode_retention({retention, std::nullopt}), state.stream(name, "set retention").id);
}

}  // namespace

void SqliteLog::create_stream(const StreamName& name, const Retention& retention) {
  retention.validate();
  writer_.call(true, [&](State& state) {
    if (state.find_stream(name)) throw stream_exists(name);
    state.add_stream(name);
    if (retention != Retention{}) record_retention(state, name, retention);
  });
  schedule_.wake();
}

std::vector<StreamInfo> SqliteLog::streams() {
  return readers_.read([this](Connection& connection) { return infos(connection, nullptr); });
}

StreamInfo SqliteLog::stream(const StreamName& name) {
  auto found = readers_.read([&](Connection& connection) { return infos(connection, &name); });
  if (found.empty()) throw unknown_stream("read stream", name);
  return std::move(found.front());
}

std::vector<AppendResult> SqliteLog::append(const StreamName& stream, std::span<const Event> events,
                                            Durability durability) {
  Append operation(writer_, stream, events, durability);
  const Durability reached = writer_.wait_for(operation);
  return operation.take_results(reached);
}

void SqliteLog::append_async(const StreamName& stream, std::vector<Event> events, Durability durability,
                             AppendCompletion done) {
  writer_.post(std::make_unique<AsyncAppend>(writer_, stream, std::move(events), durability, std::move(done)));
}

Page SqliteLog::read(const StreamName& name, const ReadQuery& query) {
  const ReadFilter wanted(query);
  const Ordinal after = ordinal_of(query.after, "read");
  return readers_.read([&](Connection& connection) {
    const StreamRow stream = stream_row(connection, name, "read");
    Page page;
    Ordinal position = std::max(after, stream.trimmed_to);
    if (after != 0 && after < stream.trimmed_to) {
      const auto oldest = connection.integer("SELECT coalesce(min(position), 0) FROM " + event_table(stream.id));
      page.gap = Position(oldest != 0 ? static_cast<Ordinal>(oldest) : stream.trimmed_to + 1);
    }
    if (query.since) {
      position =
          std::max(position, last_before(connection, stream.id, stream.trimmed_to + 1, stream.head, *query.since));
    }
    auto rows = connection
                    .prepared(std::string("SELECT position, stored_at, ") + kEventColumns + " FROM " +
                              event_table(stream.id) + " WHERE position > ? ORDER BY position")
                    .query(position);
    std::size_t scanned = 0;
    std::size_t bytes = 0;
    constexpr int kFirst = 2;
    while (true) {
      if (page.events.size() >= query.limit || scanned >= query.max_scan) break;
      if (bytes >= query.max_bytes && !page.events.empty()) break;
      if (!rows.next() || (query.until && rows.time(1) >= *query.until)) {
        page.at_end = true;
        break;
      }
      ++scanned;
      position = rows.number(0);
      const auto key = [&rows] { return order_key(rows, kFirst); };
      if (!wanted.matches(rows.text(kFirst + kTypeColumn), rows.text(kFirst + kSourceColumn), key)) continue;
      page.events.push_back({Position(position), rows.time(1), decode_event(rows, kFirst)});
      bytes += event_bytes(page.events.back().event);
    }
    if (!page.at_end && position >= stream.head) page.at_end = true;
    page.next = Position(position);
    return page;
  });
}

std::vector<FoundEvent> SqliteLog::find(const StreamName& name, std::string_view id,
                                        std::optional<std::string_view> source) {
  return readers_.read([&](Connection& connection) {
    const StreamRow stream = stream_row(connection, name, "find");
    const std::string which = source ? " WHERE id = ?1 AND source = ?2" : " WHERE id = ?1";
    const std::string limit = " LIMIT " + std::to_string(kMostFound);
    const auto query = [&](const std::string& sql) {
      Statement& statement = connection.prepared(sql + which + limit);
      return source ? statement.query(id, *source) : statement.query(id);
    };
    std::vector<FoundEvent> found;
    {
      auto rows =
          query(std::string("SELECT position, stored_at, ") + kEventColumns + " FROM " + event_table(stream.id));
      while (rows.next()) {
        const Ordinal position = rows.number(0);
        found.push_back({StoredEvent{Position(position), rows.time(1), decode_event(rows, 2)}, std::nullopt,
                         level_of(stream.id, position)});
      }
    }
    auto rows = query("SELECT position, trimmed_at, source FROM " + trimmed_table(stream.id));
    const Timestamp oldest_known = clock_.now() - writer_.dedup_keep();
    while (found.size() < kMostFound && rows.next()) {
      if (rows.time(1) < oldest_known) continue;  // only not tidied away yet
      FoundEvent trimmed;
      trimmed.stored.position = Position(rows.number(0));
      trimmed.stored.event.id = id;
      trimmed.stored.event.source = rows.text(2);
      trimmed.trimmed_at = rows.time(1);
      trimmed.durability = level_of(stream.id, rows.number(0));
      found.push_back(std::move(trimmed));
    }
    std::sort(found.begin(), found.end(),
              [](const FoundEvent& a, const FoundEvent& b) { return a.stored.position < b.stored.position; });
    return found;
  });
}

StreamInfo SqliteLog::change_retention(const StreamName& name, const RetentionChange& change) {
  writer_.call(true, [&](State& state) {
    const std::int64_t id = state.stream(name, "set retention").id;
    Retention retention;
    {
      auto row = state.connection().prepared("SELECT retention FROM stream WHERE id = ?").query(id);
      if (row.next()) retention = decode_retention(row.text(0)).retention;
    }
    retention = change(retention);
    retention.validate();
    record_retention(state, name, retention);
  });
  schedule_.wake();
  return stream(name);
}

Position SqliteLog::position_before(const StreamName& name, Timestamp time) {
  return readers_.read([&](Connection& connection) {
    const StreamRow stream = stream_row(connection, name, "find position");
    return Position(last_before(connection, stream.id, stream.trimmed_to + 1, stream.head, time));
  });
}

std::unique_ptr<Watch> SqliteLog::watch(std::function<void()> changed) {
  return writer_.watch(std::move(changed));
}

}  // namespace millrace::store::sqlite
