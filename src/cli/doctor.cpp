// SPDX-License-Identifier: Apache-2.0
#include "daemon/doctor.hpp"

#include <boost/json.hpp>

#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {};

void print_finding(const boost::json::value& finding) {
  constexpr std::size_t kLevel = 6;
  constexpr std::size_t kCheck = 13;
  const std::string level = cell_at(finding, "level");
  const std::string check = cell_at(finding, "check");
  const auto gap = [](std::size_t columns, const std::string& text) {
    return std::string(columns > width(text) ? columns - width(text) : 1, ' ');
  };
  const std::string shown = level == "ok" ? coloured(level, Colour::green) : coloured(level, Colour::red);
  print(shown + gap(kLevel, level) + check + gap(kCheck, check) + cell_at(finding, "found"));
  const std::string indent(kLevel + kCheck, ' ');
  if (const std::string risk = cell_at(finding, "at_risk"); risk != "-") print(indent + "at risk: " + risk);
  if (const std::string to_do = cell_at(finding, "to_do"); to_do != "-") print(indent + "to do: " + to_do);
}

/// A daemon is asked, because it knows its own limits; a store is looked at from here, also when it cannot be opened.
boost::json::value examined(Context& context) {
  if (context.store.empty()) return context.open()->get("/v1/doctor");
  daemon::ExamineOptions options;
  options.url = context.store;
  const daemon::Examination seen = daemon::examine(options);
  return boost::json::parse(daemon::findings_json(seen.store, daemon::judge(seen)));
}

int doctor(Context& context) {
  const auto answer = examined(context);
  const bool failed = answer.at("level").as_string() == "fail";
  if (context.json) {
    print_json(answer);
  } else {
    for (const auto& finding : answer.at("findings").as_array()) print_finding(finding);
  }
  return failed ? kFailed : kOk;
}

}  // namespace

void add_doctor(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "doctor",
      "Check the machine before trouble does: of the daemon, or with --store from here. Exit code 1 if a check fails",
      [](CLI::App&, Options&) {}, [&context](const Options&) { return doctor(context); });
}

}  // namespace millrace::cli
