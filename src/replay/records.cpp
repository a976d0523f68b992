// SPDX-License-Identifier: Apache-2.0
#include "replay/records.hpp"

#include "millrace/error.hpp"
#include "store/ledger/replay_id.hpp"

namespace millrace {
namespace replay {
namespace {

constexpr std::string_view kPrefix = "millrace/replay/";
constexpr std::chrono::hours kKeepFinished{7 * 24};

std::string key_of(std::string_view replayid) {
  return std::string(kPrefix) + std::string(replayid);
}

ReplayRecord record_of(const KeyValueEntry& entry) {
  ReplayRecord record = decode_record(entry.value);
  record.version = entry.version;
  return record;
}

std::optional<ReplayRecord> find(KeyValue& kv, std::string_view replayid) {
  ledger::check_replay_id(replayid);
  const auto entry = kv.get(key_of(replayid));
  return entry ? std::optional(record_of(*entry)) : std::nullopt;
}

Error not_found(std::string_view operation, std::string_view replayid) {
  return {Errc::not_found, std::string(operation), std::string(replayid),
          "there is no record of such a replay; see millrace replay list"};
}

}  // namespace

std::uint64_t save_record(KeyValue& kv, const ReplayRecord& record) {
  const std::string key = key_of(record.report.replayid);
  const std::string value = encode_record(record);
  if (value.size() > kMostRecordBytes) {
    throw Error(Errc::too_large, "record replay", record.report.replayid,
                "what it asks for takes more than " + std::to_string(kMostRecordBytes) +
                    " bytes: name fewer types, sources or keys");
  }
  std::optional<Milliseconds> ttl;
  if (record.report.finished()) ttl = kKeepFinished;
  const auto version =
      record.version == 0 ? kv.set_if_absent(key, value, ttl) : kv.compare_and_swap(key, record.version, value, ttl);
  if (version) return *version;
  if (record.version == 0) {
    throw Error(Errc::already_exists, "begin replay", record.report.replayid,
                "there is a replay of this id; resume it, forget it, or choose another id");
  }
  throw Error(Errc::busy, "record replay", record.report.replayid,
              "somebody else resumed this replay, or it was forgotten; this one goes no further");
}

}  // namespace replay

std::vector<ReplayRecord> replay_records(KeyValue& kv) {
  constexpr std::size_t kPage = 100;
  std::vector<ReplayRecord> records;
  std::string after;
  for (;;) {
    const auto entries = kv.scan(replay::kPrefix, after, kPage);
    for (const KeyValueEntry& entry : entries) records.push_back(replay::record_of(entry));
    if (entries.size() < kPage) return records;
    after = entries.back().key;
  }
}

ReplayRecord replay_record(KeyValue& kv, std::string_view replayid) {
  auto record = replay::find(kv, replayid);
  if (!record) throw replay::not_found("read replay", replayid);
  return std::move(*record);
}

void forget_replay(KeyValue& kv, std::string_view replayid) {
  ledger::check_replay_id(replayid);
  if (!kv.erase(replay::key_of(replayid))) throw replay::not_found("forget replay", replayid);
}

}  // namespace millrace
