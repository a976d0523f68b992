// SPDX-License-Identifier: Apache-2.0

// What a store keeps of a replay: read from any text, and written from any record.

#include "base/utf8.hpp"
#include "fuzz.hpp"
#include "millrace/replay.hpp"
#include "millrace/store.hpp"
#include "replay/records.hpp"

namespace millrace::fuzz {
namespace {

void check_round(const ReplayRecord& record) {
  const std::string json = replay::encode_record(record);
  try {
    const ReplayRecord again = replay::decode_record(json);
    require(again == record, "a record comes back from " + json + ", not " + replay::encode_record(again));
  } catch (const Error& error) {
    throw Broken("what was written can be read: " + json + ": " + error.what());
  }
}

/// Whoever goes on with a replay takes it from whoever read the record before.
void check_kept(ReplayRecord record) {
  const auto store = open_store("memory:");
  KeyValue& kv = store->kv();
  const auto refused = [&](const ReplayRecord& stale, Errc code) {
    try {
      replay::save_record(kv, stale);
    } catch (const Error& error) {
      return error.code() == code;
    }
    return false;
  };
  record.version = 0;
  const std::string id = record.report.replayid;
  const std::uint64_t first = replay::save_record(kv, record);
  require(refused(record, Errc::already_exists), "an id is given once");
  ReplayRecord kept = replay_record(kv, id);
  require(kept.version == first, "a record has the version it was written as");
  const std::uint64_t second = replay::save_record(kv, kept);
  require(second > first && refused(kept, Errc::busy), "one goes on with a replay, the other is told");
  kept.version = record.version;
  require(kept == record, "what is kept is what was written");
  require(replay_records(kv).size() == 1, "it is listed");
  forget_replay(kv, id);
  require(replay_records(kv).empty(), "it is forgotten");
}

std::vector<std::string> texts(Bytes& bytes) {
  std::vector<std::string> out;
  for (std::size_t n = bytes.below(4); n > 0; --n) out.emplace_back(bytes.line());
  return out;
}

std::uint64_t number(Bytes& bytes) {
  std::uint64_t value = 0;
  for (std::size_t n = bytes.below(9); n > 0; --n) value = value << 8 | bytes.byte();
  return value;
}

std::optional<Position> position(Bytes& bytes) {
  const std::size_t kind = bytes.below(3);
  if (kind == 0) return std::nullopt;
  const std::uint64_t low = number(bytes);
  return kind == 1 ? Position(low) : Position(number(bytes), low);
}

std::optional<Timestamp> time(Bytes& bytes) {
  if (bytes.below(2) == 0) return std::nullopt;
  // Years that RFC 3339 can write.
  return Timestamp(std::chrono::microseconds(number(bytes) % 253'402'300'800'000'000));
}

/// \throws Error for what no replay can be asked for
ReplayRecord read_record(Bytes bytes) {
  ReplayRecord record;
  ReplayReport& report = record.report;
  report.replayid = GroupName(bytes.line()).str();
  report.state = static_cast<ReplayState>(bytes.below(4));
  record.query.stream = StreamName(bytes.line());
  record.query.after = position(bytes).value_or(Position{});
  record.query.up_to = position(bytes);
  record.query.types = texts(bytes);
  record.query.sources = texts(bytes);
  record.query.keys = texts(bytes);
  record.query.since = time(bytes);
  record.query.until = time(bytes);
  record.query.limit = number(bytes);
  record.query.validate();
  record.target = static_cast<ReplayRecord::Target>(bytes.below(3));
  if (record.target != ReplayRecord::Target::handler) record.target_name = GroupName(bytes.line()).str();
  record.on_error = bytes.below(2) == 0 ? ReplayOnError::stop : ReplayOnError::count;
  record.pace = ReplayPace::parse(bytes.line());
  for (std::uint64_t* count : {&report.read, &report.delivered, &report.failed, &report.erased, &report.passed}) {
    *count = number(bytes);
  }
  report.next = position(bytes).value_or(Position{});
  report.end = position(bytes).value_or(Position{});
  report.gap = position(bytes);
  record.open_from = position(bytes);
  report.first_error = printable(bytes.rest());
  return record;
}

}  // namespace

void replay_record(std::string_view input) {
  if (const auto record = value_or_refusal([&] { return replay::decode_record(input); })) {
    check_round(*record);
    check_kept(*record);
  }
  if (const auto record = value_or_refusal([&] { return read_record(Bytes(input)); })) {
    check_round(*record);
    check_kept(*record);
  }
}

}  // namespace millrace::fuzz
