// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/log.hpp"

#include <algorithm>

#include "base/log.hpp"
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

struct StreamRow {
  std::int64_t id = 0;
  Ordinal head = 0;
  Ordinal trimmed_to = 0;
};

StreamRow stream_row(Connection& connection, const StreamName& name, std::string_view operation) {
  auto row =
      connection.prepared("SELECT id, next_position - 1, trimmed_to FROM stream WHERE name = ?").query(name.str());
  if (!row.next()) throw unknown_stream(operation, name);
  return {row.integer(0), row.number(1), row.number(2)};
}

std::vector<StreamInfo> infos(Connection& connection, const StreamName* only) {
  std::vector<StreamInfo> all;
  const auto wanted = only ? std::optional<std::string>(only->str()) : std::nullopt;
  auto rows = connection
                  .prepared(
                      "SELECT id, name, created_at, events, bytes, next_position - 1, trimmed_to FROM stream "
                      "WHERE ?1 IS NULL OR name = ?1 ORDER BY name")
                  .query(wanted);
  while (rows.next()) {
    StreamInfo info{StreamName(rows.text(1)),
                    rows.time(2),
                    rows.number(3),
                    rows.number(4),
                    {},
                    Position(rows.number(5)),
                    Position(rows.number(6)),
                    {}};
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

}  // namespace

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

void SqliteLog::create_stream(const StreamName& name) {
  writer_.call(true, [&](State& state) {
    if (state.find_stream(name)) {
      throw Error(Errc::already_exists, "create stream", name.str(), "there is a stream of that name");
    }
    state.add_stream(name);
  });
}

std::vector<StreamInfo> SqliteLog::streams() {
  return readers_.read([](Connection& connection) { return infos(connection, nullptr); });
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
  const PatternList types(query.types);
  const PatternList sources(query.sources);
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
      if (!types.matches(rows.text(kFirst + kTypeColumn)) || !sources.matches(rows.text(kFirst + 1))) continue;
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
  if (!source) throw Error(Errc::internal, "find", name.str(), "not built yet: by id alone");
  return readers_.read([&](Connection& connection) -> std::vector<FoundEvent> {
    const StreamRow stream = stream_row(connection, name, "find");
    auto row = connection
                   .prepared(std::string("SELECT position, stored_at, ") + kEventColumns + " FROM " +
                             event_table(stream.id) + " WHERE id = ? AND source = ?")
                   .query(id, *source);
    if (!row.next()) return {};
    return {FoundEvent{StoredEvent{Position(row.number(0)), row.time(1), decode_event(row, 2)}, {}, {}}};
  });
}

StreamInfo SqliteLog::set_retention(const StreamName& name, const Retention&) {
  throw Error(Errc::internal, "set retention", name.str(), "not built yet");
}

std::optional<Position> SqliteLog::erase(const StreamName& name, std::string_view, std::string_view) {
  throw Error(Errc::internal, "erase", name.str(), "not built yet");
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
