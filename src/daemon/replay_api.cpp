// SPDX-License-Identifier: Apache-2.0
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"
#include "millrace/replay.hpp"
#include "replay/records.hpp"
#include "replay/store_ports.hpp"
#include "store/ledger/replay_id.hpp"

namespace millrace::daemon {
namespace {

constexpr std::size_t kMostPositions = 10'000;

std::vector<Position> positions_of(const Members& body) {
  const auto texts = body.texts("positions");
  if (!texts || texts->empty() || texts->size() > kMostPositions) {
    throw Error(Errc::invalid_argument, "replay", "positions",
                "needs 1 to " + std::to_string(kMostPositions) + " positions");
  }
  std::vector<Position> positions;
  positions.reserve(texts->size());
  for (const std::string& text : *texts) positions.push_back(Position::parse(text));
  return positions;
}

}  // namespace

void replay_to_group(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"replayid", "positions", "dry_run"});
  const GroupName group(call->path("group"));
  const std::string replayid = body.required("replayid");
  ledger::check_replay_id(replayid);  // in a dry run, too
  const std::vector<Position> positions = positions_of(body);
  const bool dry_run = body.boolean("dry_run").value_or(false);
  const auto statuses = dry_run ? replay::would_replay(services.store.ledger(), group, positions)
                                : services.store.ledger().replay(group, replayid, positions);
  JsonWriter array('[');
  for (const ReplayStatus status : statuses) array.text({}, to_string(status));
  call->json(JsonWriter().boolean("dry_run", dry_run).raw("statuses", array.finish()).finish());
}

void list_replays(Services& services, const CallPtr& call) {
  JsonWriter array('[');
  for (const ReplayRecord& record : replay_records(services.store.kv())) array.element(replay::encode_record(record));
  call->json(JsonWriter().raw("replays", array.finish()).finish());
}

void show_replay(Services& services, const CallPtr& call) {
  call->json(replay::encode_record(replay_record(services.store.kv(), call->path("id"))));
}

void put_replay(Services& services, const CallPtr& call) {
  ReplayRecord record = replay::decode_record(call->request().body);
  if (record.report.replayid != call->path("id")) {
    throw Error(Errc::invalid_argument, "record replay", call->path("id"),
                "the record is of another replay, " + record.report.replayid);
  }
  record.version = replay::save_record(services.store.kv(), record);
  call->json(replay::encode_record(record));
}

void forget_replay(Services& services, const CallPtr& call) {
  const std::string& id = call->path("id");
  millrace::forget_replay(services.store.kv(), id);
  call->json(JsonWriter().text("forgotten", id).finish());
}

}  // namespace millrace::daemon
