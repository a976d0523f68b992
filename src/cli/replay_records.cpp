// SPDX-License-Identifier: Apache-2.0
#include "cli/replay_records.hpp"

#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "replay/records.hpp"

namespace millrace::cli {
namespace {

struct ListOptions {};
struct OneOptions {
  std::string replayid;
};

std::string path_of(const std::string& replayid) {
  return "/v1/replays/" + http::percent_encode(replayid);
}

std::string target_text(const boost::json::value& record) {
  const auto& target = record.at("target");
  if (target.is_null()) return "a handler or stdout";
  return target.as_object().contains("group") ? "group " + cell_at(target, "group")
                                              : "stream " + cell_at(target, "stream");
}

int list(Context& context) {
  const auto answer = context.open()->get("/v1/replays");
  if (context.json) {
    print_json(answer);
    return kOk;
  }
  Table table({"REPLAY", "STATE", "STREAM", "TO", "#READ", "#DELIVERED", "#FAILED", "#AT", "#OF"});
  for (const auto& record : answer.at("replays").as_array()) {
    table.row({cell_at(record, "replayid"), cell_at(record, "state"), cell_at(record, "query.stream"),
               target_text(record), cell_at(record, "read"), cell_at(record, "delivered"), cell_at(record, "failed"),
               cell_at(record, "next"), cell_at(record, "end")});
  }
  table.print("no replays");
  return kOk;
}

int show(Context& context, const OneOptions& o) {
  const auto record = context.open()->get(path_of(o.replayid));
  if (context.json) {
    print_json(record);
    return kOk;
  }
  Table table({"KEY", "VALUE"});
  for (const auto& member : record.as_object()) {
    if (member.key() == "query" || member.key() == "target") continue;
    table.row({std::string(member.key()), cell(member.value())});
  }
  table.row({"target", target_text(record)});
  for (const auto& member : record.at("query").as_object()) {
    table.row({"query." + std::string(member.key()), cell(member.value())});
  }
  table.print("");
  return kOk;
}

int forget(Context& context, const OneOptions& o) {
  const auto answer = context.open()->remove(path_of(o.replayid));
  if (context.json) {
    print_json(answer);
  } else {
    print("forgot replay " + printable(o.replayid) + "; what it delivered stays");
  }
  return kOk;
}

void replayid_option(CLI::App& command, OneOptions& o) {
  command.add_option("replayid", o.replayid, "As `replay list` shows it")->required();
}

}  // namespace

ReplayRecord read_replay_record(Target& target, const std::string& replayid) {
  return replay::decode_record(boost::json::serialize(target.get(path_of(replayid))));
}

void add_replay_records(CLI::App& replay, Context& context) {
  add_command<ListOptions>(
      replay, context, "list", "Replays that are recorded, and how far they are", [](CLI::App&, ListOptions&) {},
      [&context](const ListOptions&) { return list(context); });
  add_command<OneOptions>(replay, context, "show", "All that is recorded of one replay", replayid_option,
                          [&context](const OneOptions& o) { return show(context, o); });
  add_command<OneOptions>(replay, context, "forget", "Forget a replay's record; one that runs is ended by it",
                          replayid_option, [&context](const OneOptions& o) { return forget(context, o); });
}

}  // namespace millrace::cli
