// SPDX-License-Identifier: Apache-2.0
#include "cli/target_ports.hpp"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/time.hpp"
#include "cli/exit.hpp"
#include "cli/publisher.hpp"
#include "cli/replay_records.hpp"
#include "cli/table.hpp"
#include "millrace/codec.hpp"
#include "replay/records.hpp"

namespace millrace::cli {
namespace {

Error not_understood(std::string_view what) {
  return {Errc::internal, "replay", std::string(what),
          "the daemon answered something this program does not understand"};
}

/// `{"position":…,"stored_at":…,"event":{…}}`; the event goes to the codec as the bytes that stand there.
StoredEvent stored_event(std::string_view line) {
  constexpr std::string_view kEvent = ",\"event\":";
  const std::size_t at = line.find(kEvent);  // neither a position nor a time holds it
  if (at == std::string_view::npos || !line.ends_with('}')) throw not_understood("event");
  const auto head = boost::json::parse(std::string(line.substr(0, at)) + '}');
  const auto stored_at = parse_rfc3339(cell_at(head, "stored_at"));
  if (!stored_at) throw not_understood("stored_at");
  const std::size_t from = at + kEvent.size();
  return {Position::parse(cell_at(head, "position")), *stored_at,
          decode_json(line.substr(from, line.size() - from - 1))};
}

const std::string& required_header(const http::Response& response, std::string_view name) {
  const std::string* value = http::find_header(response.headers, name);
  if (value == nullptr) throw not_understood(name);
  return *value;
}

ReplayStatus status_of(std::string_view name) {
  for (const ReplayStatus status : {ReplayStatus::accepted, ReplayStatus::open, ReplayStatus::ahead,
                                    ReplayStatus::filtered_out, ReplayStatus::gone}) {
    if (to_string(status) == name) return status;
  }
  throw not_understood("status " + std::string(name));
}

AppendStatus append_status_of(const std::string& name) {
  if (name == "conflict") return AppendStatus::conflict;
  return name == "duplicate" ? AppendStatus::duplicate : AppendStatus::stored;
}

}  // namespace

Position TargetPorts::end_of(const StreamName& stream) {
  const auto answer = target_.get("/v1/streams");
  for (const auto& info : answer.at("streams").as_array()) {
    if (cell_at(info, "name") != stream.str()) continue;
    return info.at("last").is_null() ? Position{} : Position::parse(cell_at(info, "last"));
  }
  throw Error(Errc::unknown_stream, "replay", stream.str(), "there is no such stream; see millrace streams list");
}

Page TargetPorts::read(const StreamName& stream, const ReadQuery& query) {
  http::Request request;
  request.method = "GET";
  request.path = stream_path(stream.str(), "/events");
  request.headers = {{"Accept", "application/x-ndjson"}};
  request.query = {{"after", query.after == Position{} ? "beginning" : query.after.to_string()},
                   {"limit", std::to_string(query.limit)}};
  for (const std::string& type : query.types) request.query.emplace_back("types", type);
  for (const std::string& source : query.sources) request.query.emplace_back("source", source);
  for (const std::string& key : query.keys) request.query.emplace_back("key", key);
  if (!upcast_) request.query.emplace_back("upcast", "false");
  if (query.since) request.query.emplace_back("since", format_rfc3339(*query.since));
  if (query.until) request.query.emplace_back("until", format_rfc3339(*query.until));
  const http::Response response = target_.send(request);
  if (response.status >= 400) throw_problem(response, "GET " + request.path);
  Page page;
  page.next = Position::parse(required_header(response, "Millrace-Next"));
  page.at_end = required_header(response, "Millrace-At-End") == "true";
  if (const std::string* gap = http::find_header(response.headers, "Millrace-Gap-First")) {
    page.gap = Position::parse(*gap);
  }
  std::string_view left = response.body;
  while (!left.empty()) {
    const std::size_t end = left.find('\n');
    page.events.push_back(stored_event(left.substr(0, end)));
    left = end == std::string_view::npos ? std::string_view() : left.substr(end + 1);
  }
  return page;
}

std::vector<AppendResult> TargetPorts::append(const StreamName& stream, std::span<const Event> copies) {
  std::vector<AppendResult> results;
  results.reserve(copies.size());
  Publisher publisher(target_, {stream.str(), "durable"}, [&](const Publisher::Result& result) {
    results.push_back({append_status_of(result.status), {}, Durability::durable});
  });
  for (std::size_t i = 0; i < copies.size(); ++i) publisher.add(copies[i], i + 1);
  publisher.flush();
  return results;
}

replay::Ports::GroupNow TargetPorts::group(const GroupName& name) {
  const auto info = target_.get(group_path(name.str()));
  return {StreamName(cell_at(info, "stream")), info.at("paused").as_bool(), !info.at("consumers").as_array().empty()};
}

std::vector<ReplayStatus> TargetPorts::hand_in(const GroupName& group, std::string_view replayid,
                                               std::span<const Position> positions) {
  std::vector<ReplayStatus> statuses;
  try {
    statuses = post_positions(group, replayid, positions, false);
  } catch (const CannotConnect&) {
    throw;  // it was not sent
  } catch (const Error&) {
    maybe_opened_.insert(positions.begin(), positions.end());
    throw;
  }
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const bool handed_in_before = maybe_opened_.erase(positions[i]) > 0;
    if (handed_in_before && statuses[i] == ReplayStatus::open) statuses[i] = ReplayStatus::accepted;
  }
  return statuses;
}

std::vector<ReplayStatus> TargetPorts::would_hand_in(const GroupName& group, std::span<const Position> positions) {
  return post_positions(group, "dry-run", positions, true);
}

std::vector<ReplayStatus> TargetPorts::post_positions(const GroupName& group, std::string_view replayid,
                                                      std::span<const Position> positions, bool dry_run) {
  boost::json::array list;
  for (const Position& position : positions) list.emplace_back(position.to_string());
  boost::json::object body{{"replayid", replayid}, {"positions", std::move(list)}};
  if (dry_run) body["dry_run"] = true;
  const auto answer = target_.post(group_path(group.str(), "/replay"), body);
  std::vector<ReplayStatus> statuses;
  for (const auto& status : answer.at("statuses").as_array()) statuses.push_back(status_of(cell(status)));
  if (statuses.size() != positions.size()) throw not_understood("statuses");
  return statuses;
}

std::vector<Position> TargetPorts::open_between(const GroupName& group, Position after, Position last) {
  std::vector<Position> open;
  while (after < last) {
    const auto answer =
        target_.get(group_path(group.str(), "/pending"), {{"after", after.to_string()}, {"limit", "1000"}});
    for (const auto& event : answer.at("pending").as_array()) {
      const Position position = Position::parse(cell_at(event, "position"));
      if (position <= last) open.push_back(position);
    }
    if (answer.at("next").is_null()) break;
    after = Position::parse(cell_at(answer, "next"));
  }
  return open;
}

std::uint64_t TargetPorts::save(const ReplayRecord& record) {
  flush_();
  ReplayRecord ours = record;
  ours.version = version_of(record);
  const std::string path = "/v1/replays/" + http::percent_encode(record.report.replayid);
  try {
    newest_ = target_.put(path, replay::encode_record(ours)).at("version").to_number<std::uint64_t>();
  } catch (const CannotConnect&) {
    throw;  // it was not sent
  } catch (const Error&) {
    unsure_ = std::move(ours);
    throw;
  }
  return newest_;
}

/// The version that the record has there as far as it is ours: a write whose answer was lost may have made a new one.
std::uint64_t TargetPorts::version_of(const ReplayRecord& record) {
  newest_ = std::max(newest_, record.version);
  if (!unsure_) return newest_;
  try {
    ReplayRecord there = read_replay_record(target_, record.report.replayid);
    const std::uint64_t version = std::exchange(there.version, unsure_->version);
    if (there == *unsure_) newest_ = version;
  } catch (const Error& error) {
    if (error.code() != Errc::not_found) throw;  // forgotten: writing it says so
  }
  unsure_.reset();
  return newest_;
}

void TargetPorts::wait(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
}

}  // namespace millrace::cli
