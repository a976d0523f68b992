// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/json.hpp>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/retention.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {};

/// How old the oldest unsettled event may be, in seconds, when no consumer is there.
constexpr double kPatience = 60;

/// Whoever asks how things are wants to hear that nobody answers. Longer than the daemon itself waits for its store.
constexpr std::chrono::milliseconds kAnswerPatience{5'000};

struct Problem {
  std::string what;
  std::string look;  ///< the command to look at it
};

/// What is wrong with one group.
void judge_group(const boost::json::value& group, std::vector<Problem>& problems) {
  const std::string name = cell_at(group, "name");
  const std::string show = "millrace groups show " + name;
  const auto& lag = group.at("lag");
  const double oldest = lag.at("oldest_seconds").to_number<double>();
  const auto unsettled = lag.at("ahead").to_number<std::uint64_t>() + lag.at("waiting").to_number<std::uint64_t>();
  if (const std::string stalled = cell_at(group, "stalled"); stalled != "-") {
    problems.push_back({"group " + name + " is stalled: " + stalled, "millrace pending " + name});
  } else if (group.at("paused").as_bool() && unsettled > 0) {
    problems.push_back({"group " + name + " is paused with " + std::to_string(unsettled) + " events to go",
                        "millrace groups resume " + name});
  } else if (unsettled > 0 && oldest > kPatience && group.at("consumers").as_array().empty()) {
    problems.push_back({"group " + name + " has " + std::to_string(unsettled) + " events to go, the oldest stored " +
                            human_seconds(oldest) + " ago, and no consumer",
                        show});
  }
  if (const auto dead = group.at("dead").to_number<std::uint64_t>(); dead > 0) {
    problems.push_back(
        {"group " + name + " has " + std::to_string(dead) + " dead letters", "millrace dlq list " + name});
  }
}

void judge_health(const boost::json::value& health, std::vector<Problem>& problems) {
  for (const auto& check : health.at("checks").as_array()) {
    if (cell_at(check, "status") != "ok") {
      problems.push_back({cell_at(check, "name") + " is " + cell_at(check, "status") + ": " + cell_at(check, "detail"),
                          "millrace stats"});
    }
  }
}

void print_screen(const std::string& target, const boost::json::value& health, const boost::json::value& stats) {
  Table top({"WHAT", "STATE"});
  // A store that the command opened itself stands in the check of the store already.
  const auto& checks = health.at("checks").as_array();
  const bool named = std::any_of(checks.begin(), checks.end(),
                                 [&](const auto& check) { return cell_at(check, "detail") == printable(target); });
  if (!named) top.row({"asked", target});
  for (const auto& check : checks) {
    top.row({cell_at(check, "name"),
             cell_at(check, "status") + (cell_at(check, "detail") == "-" ? "" : ": " + cell_at(check, "detail"))});
  }
  top.row({"events", cell_at(stats, "store.total_events")});
  top.row({"pending", cell_at(stats, "store.pending_events")});
  top.row({"dead letters", cell_at(stats, "store.dlq_events")});
  top.print("");
  print("");
  Table groups({"GROUP", "STREAM", "#AHEAD", "#IN FLIGHT", "#WAITING", "#OLDEST", "#DEAD"});
  for (const auto& group : stats.at("groups").as_array()) {
    groups.row({cell_at(group, "name"), cell_at(group, "stream"), cell_at(group, "lag.ahead"),
                cell_at(group, "lag.in_flight"), cell_at(group, "lag.waiting"),
                human_seconds(group.at("lag").at("oldest_seconds").to_number<double>()), cell_at(group, "dead")});
  }
  groups.print("no groups");
  print("");
  print_streams(stats.at("streams"));
  print("");
}

int status(Context& context) {
  const auto target = context.open(kAnswerPatience);
  http::Request request;
  request.method = "GET";
  request.path = "/health";
  // 503 is an answer here, not a failure: it carries what is wrong.
  const http::Response answer = target->send(request);
  if (answer.status != 200 && answer.status != 503) throw_problem(answer, "GET /health");
  boost::system::error_code bad;
  const auto health = boost::json::parse(answer.body, bad);
  if (bad || !health.is_object() || !health.as_object().contains("checks")) throw_problem(answer, "GET /health");

  std::vector<Problem> problems;
  judge_health(health, problems);
  boost::json::value stats;
  try {
    stats = target->get("/v1/stats");
    for (const auto& group : stats.at("groups").as_array()) judge_group(group, problems);
  } catch (const CannotConnect&) {
    throw;
  } catch (const Error& error) {
    problems.push_back({error.what(), "millrace stats"});
  }
  if (context.json) {
    boost::json::array wrong;
    for (const auto& [what, look] : problems) wrong.push_back(boost::json::object{{"problem", what}, {"look", look}});
    print_json(
        boost::json::object{{"well", problems.empty()}, {"problems", wrong}, {"health", health}, {"stats", stats}});
    return problems.empty() ? kOk : kFailed;
  }
  if (!stats.is_null()) print_screen(target->name(), health, stats);
  if (problems.empty()) print(coloured("all is well", Colour::green));
  for (const auto& [what, look] : problems) print(coloured(printable(what), Colour::red) + "; look: " + look);
  return problems.empty() ? kOk : kFailed;
}

}  // namespace

void add_status(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "status", "One screen: is all well? Exit code 0 if so, else 1", [](CLI::App&, Options&) {},
      [&context](const Options&) { return status(context); });
}

}  // namespace millrace::cli
