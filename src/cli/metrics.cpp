// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <cstdlib>
#include <string_view>

#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string metric;
};

/// The lines of Prometheus text 0.0.4, https://prometheus.io/docs/instrumenting/exposition_formats/.
template <class Each>
void each_line(std::string_view text, Each each) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (const std::string_view line = text.substr(0, end); !line.empty()) each(line);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
}

/// The name a line is about; `# HELP name …` too.
std::string_view name_of(std::string_view line) {
  if (line.starts_with("# ")) {
    const std::size_t space = line.find(' ', 2);
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find_first_of("{ "));
}

/// A histogram's series carry a suffix.
bool belongs_to(std::string_view name, std::string_view metric) {
  if (!name.starts_with(metric)) return false;
  const std::string_view rest = name.substr(metric.size());
  return rest.empty() || rest == "_bucket" || rest == "_sum" || rest == "_count";
}

/// `name{a="b"} 1` → {"name","labels","value"}
boost::json::object sample_of(std::string_view line) {
  boost::json::object labels;
  const std::string_view name = name_of(line);
  std::size_t at = name.size();
  if (at < line.size() && line[at] == '{') {
    ++at;
    while (at < line.size() && line[at] != '}') {
      const std::size_t equals = line.find('=', at);
      if (equals == std::string_view::npos) break;
      const std::string_view label = line.substr(at, equals - at);
      std::string value;
      for (at = equals + 2; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\' && at + 1 < line.size()) {
          ++at;
          value += line[at] == 'n' ? '\n' : line[at];
        } else {
          value += line[at];
        }
      }
      labels[label] = value;
      ++at;
      if (at < line.size() && line[at] == ',') ++at;
    }
    ++at;
  }
  // As text: JSON has no NaN and no infinity.
  const std::size_t first = line.find_first_not_of(' ', at);
  const std::string_view number = first == std::string_view::npos ? std::string_view{} : line.substr(first);
  return {{"name", name}, {"labels", labels}, {"value", number.substr(0, number.find(' '))}};
}

int metrics(Context& context, const Options& o) {
  http::Request request;
  request.method = "GET";
  request.path = "/metrics";
  const http::Response answer = context.open()->send(request);
  if (answer.status >= 400) throw_problem(answer, "GET /metrics");
  boost::json::array samples;
  std::string text;
  each_line(answer.body, [&](std::string_view line) {
    if (!o.metric.empty() && !belongs_to(name_of(line), o.metric)) return;
    text.append(text.empty() ? "" : "\n").append(line);
    if (!line.starts_with('#')) samples.push_back(sample_of(line));
  });
  if (text.empty())
    throw Error(Errc::not_found, "read metrics", o.metric, "is no metric of this daemon; see millrace metrics");
  if (context.json) {
    print_json(samples);
  } else {
    print(text);
  }
  return kOk;
}

}  // namespace

void add_metrics(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "metrics", "What /metrics says, in Prometheus text",
      [](CLI::App& command, Options& o) { command.add_option("--metric", o.metric, "Only this one"); },
      [&context](const Options& o) { return metrics(context, o); });
}

}  // namespace millrace::cli
