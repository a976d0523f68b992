// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <boost/json.hpp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/time.hpp"
#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/replay_records.hpp"
#include "cli/table.hpp"
#include "cli/target_ports.hpp"
#include "daemon/params.hpp"
#include "millrace/codec.hpp"
#include "replay/engine.hpp"
#include "replay/records.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string stream, after, up_to, since, until, to_group, into, pace, on_error, replayid, resume;
  std::vector<std::string> types, sources, keys;
  std::uint64_t limit = 0;
  bool dry_run = false;
};

std::atomic<bool> told_to_stop{false};

/// The first Ctrl-C (or SIGTERM) ends the replay cleanly, the second one the process.
void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_stop = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void flush_stdout() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error(Errc::unavailable, "replay", "stdout", "cannot be written to", std::strerror(errno));
  }
}

/// What comes to stdout: one event per line, or with --json as `tail --json` prints it. Written out when the record is.
ReplayHandler printing(bool json) {
  return [json, line = std::string()](const StoredEvent& stored) mutable {
    line.clear();
    if (json) line = "{\"position\":\"" + stored.position.to_string() + "\",\"event\":";
    encode_json_to(stored.event, line);
    line += json ? "}\n" : "\n";
    std::fwrite(line.data(), 1, line.size(), stdout);
    if (std::ferror(stdout) != 0) flush_stdout();
  };
}

ReplayTarget target_of(const ReplayRecord& record, bool json) {
  if (record.target == ReplayRecord::Target::stream) return IntoStream{record.target_name};
  if (record.target == ReplayRecord::Target::group) return ToGroup{record.target_name};
  return printing(json);
}

ReplayRecord asked_record(const Options& o, replay::Ports& ports) {
  ReplayQuery query;
  ReplayOptions options;
  ReplayTarget target = ReplayHandler([](const StoredEvent&) {});  // stands for stdout
  if (!o.into.empty()) target = IntoStream{o.into};
  if (!o.to_group.empty()) {
    target = ToGroup{o.to_group};
    query.stream = ports.group(o.to_group).stream;
  }
  if (!o.stream.empty()) query.stream = StreamName(o.stream);
  if (!o.after.empty() && o.after != "beginning") query.after = Position::parse(o.after);
  if (!o.up_to.empty()) query.up_to = Position::parse(o.up_to);
  if (!o.since.empty()) query.since = daemon::parse_time(o.since, "--since");
  if (!o.until.empty()) query.until = daemon::parse_time(o.until, "--until");
  query.types = split_lists(o.types, "--types");
  query.sources = split_lists(o.sources, "--source");
  query.keys = o.keys;
  query.limit = o.limit;
  options.replayid = o.replayid;
  if (!o.pace.empty()) options.pace = ReplayPace::parse(o.pace);
  if (o.on_error == "count") options.on_error = ReplayOnError::count;
  return replay::new_record(query, target, options);
}

bool asks_anything(const Options& o) {
  return !(o.stream + o.after + o.up_to + o.since + o.until + o.to_group + o.into + o.pace + o.on_error + o.replayid)
              .empty() ||
         !o.types.empty() || !o.sources.empty() || !o.keys.empty() || o.limit > 0 || o.dry_run;
}

// ---- What is told ----

/// Events on stdout leave stderr for what is said about them.
void tell(const ReplayRecord& record, const std::string& text) {
  if (record.target != ReplayRecord::Target::handler) return print(text);
  std::fprintf(stderr, "%s\n", text.c_str());
}

class ProgressLine {
 public:
  explicit ProgressLine(const ReplayRecord& record) : before_(record.report.read), began_(now()) {}

  void show(const ReplayProgress& progress) {
    tell_of_waiting(progress.waiting);
    if (!line_.due()) return;
    const double seconds = std::chrono::duration<double>(now() - began_).count();
    const auto done = static_cast<double>(progress.report.read - std::min(before_, progress.report.read));
    std::string text = fmt::format("{} delivered, at position {} of {}, {:.0f}/s", progress.report.delivered,
                                   progress.report.next.to_string(), progress.report.end.to_string(),
                                   seconds > 0 ? done / seconds : 0.0);
    if (progress.at) text += ", stored " + format_rfc3339(*progress.at);
    if (!progress.waiting.empty()) text += "; waiting: " + progress.waiting;
    line_.draw(text);
  }

 private:
  static std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }

  /// Where no line is drawn, a replay that stands still says once why.
  void tell_of_waiting(const std::string& why) {
    if (why.empty()) {
      waiting_since_.reset();
      told_ = false;
    } else if (!waiting_since_) {
      waiting_since_ = now();
    } else if (!told_ && isatty(STDERR_FILENO) == 0 && now() - *waiting_since_ > kQuietFor) {
      std::fprintf(stderr, "millrace replay: waiting: %s\n", why.c_str());
      told_ = true;
    }
  }

  static constexpr std::chrono::seconds kQuietFor{2};
  Progress line_{0};
  std::uint64_t before_;
  std::chrono::steady_clock::time_point began_;
  std::optional<std::chrono::steady_clock::time_point> waiting_since_;
  bool told_ = false;
};

std::string go_on(const ReplayRecord& record) {
  return "go on with: millrace replay --resume " + record.report.replayid;
}

std::string summary(const ReplayRecord& record) {
  const ReplayReport& report = record.report;
  std::string text = fmt::format("replay {} {}: {} read, {} delivered", report.replayid, to_string(report.state),
                                 report.read, report.delivered);
  if (report.failed > 0) text += fmt::format(", {} failed", report.failed);
  if (report.erased > 0) text += fmt::format(", {} erased ones left out", report.erased);
  if (report.passed > 0) text += fmt::format(", {} not opened (ahead, open, filtered out or gone)", report.passed);
  if (!report.first_error.empty()) text += "; first error: " + report.first_error;
  if (report.gap) {
    text += "; events were trimmed before it could read them, the oldest left was " + report.gap->to_string();
  }
  return text;
}

int report(const Context& context, const ReplayRecord& record) {
  if (context.json) {
    tell(record, replay::encode_record(record));
  } else {
    tell(record, summary(record));
    if (!record.report.finished()) tell(record, go_on(record));
  }
  return record.report.finished() && record.report.failed == 0 ? kOk : kFailed;
}

// ---- What is done ----

boost::json::value edge_json(const std::optional<StoredEvent>& stored) {
  if (!stored) return {};
  return boost::json::object{{"position", stored->position.to_string()},
                             {"stored_at", format_rfc3339(stored->stored_at)}};
}

int dry_run(const Context& context, replay::Ports& ports, const ReplayRecord& record) {
  const replay::Preview preview = replay::preview(ports, record);
  boost::json::object types;
  for (const auto& [type, count] : preview.types) types[type] = count;
  boost::json::object statuses;
  for (const auto& [status, count] : preview.statuses) statuses[std::string(to_string(status))] = count;
  if (context.json) {
    boost::json::object out{{"dry_run", true},
                            {"stream", record.query.stream.str()},
                            {"events", preview.events},
                            {"types", types},
                            {"erased", preview.erased},
                            {"first", edge_json(preview.first)},
                            {"last", edge_json(preview.last)}};
    if (record.target == ReplayRecord::Target::group) out["statuses"] = statuses;
    print_json(out);
    return kOk;
  }
  print(fmt::format("would replay {} events of stream {}; nothing was changed", preview.events,
                    record.query.stream.str()));
  for (const auto& [name, edge] : {std::pair("first", &preview.first), std::pair("last", &preview.last)}) {
    if (*edge) {
      print(fmt::format("{}: position {}, stored {}", name, (*edge)->position.to_string(),
                        format_rfc3339((*edge)->stored_at)));
    }
  }
  if (preview.erased > 0) print(fmt::format("{} of them are erased", preview.erased));
  for (const auto& [status, count] : preview.statuses) print(fmt::format("{} {}", count, to_string(status)));
  Table table({"#EVENTS", "TYPE"});
  for (const auto& [type, count] : preview.types) table.row({std::to_string(count), printable(type)});
  if (!table.empty()) table.print("");
  return kOk;
}

/// Waits between two tries while a daemon is away, which is mostly one that starts again.
class Patience {
 public:
  /// False when it is over. Every try that got further begins anew.
  bool wait(const Error& error, std::uint64_t read) {
    const auto now = std::chrono::steady_clock::now();
    if (!until_ || read != read_) {
      std::fprintf(stderr, "millrace replay: %s; trying again for %d s\n", printable(error.what()).c_str(),
                   static_cast<int>(kPatience.count()));
      until_ = now + kPatience;
      pause_ = kFirstPause;
      read_ = read;
    }
    if (now + pause_ > *until_) return false;
    for (auto left = pause_; left.count() > 0 && !told_to_stop; left -= kSlice) std::this_thread::sleep_for(kSlice);
    pause_ = std::min(2 * pause_, kLongestPause);
    return !told_to_stop;
  }

 private:
  using Pause = std::chrono::milliseconds;
  static constexpr std::chrono::seconds kPatience{60};
  static constexpr Pause kFirstPause{100}, kLongestPause{2000}, kSlice{100};
  std::optional<std::chrono::steady_clock::time_point> until_;
  Pause pause_ = kFirstPause;
  std::uint64_t read_ = 0;
};

/// What a daemon that starts again answers, or does not. Busy is not among them: then somebody else took the replay.
bool may_come_back(const Error& error) {
  switch (error.code()) {
    case Errc::unavailable:
    case Errc::outcome_unknown:
    case Errc::timed_out:
    case Errc::stopped:
      return true;
    default:
      return false;
  }
}

/// What this process knows is newer than the record, so nothing it has printed is printed again.
void run_patiently(const Context& context, TargetPorts& ports, ReplayRecord& record, const ReplayTarget& target,
                   const replay::RunOptions& options) {
  Patience patience;
  for (;;) {
    try {
      return replay::run(ports, record, target, options);
    } catch (const Error& error) {
      const bool begun = record.version > 0;
      const bool of_daemon = context.store.empty() && std::ferror(stdout) == 0;
      if (!begun || !of_daemon || !may_come_back(error)) throw;
      if (!patience.wait(error, record.report.read)) throw;
    }
  }
}

int replay_events(Context& context, const Options& o) {
  if (!o.resume.empty() && asks_anything(o)) {
    throw Error(Errc::invalid_argument, "read flags", "--resume",
                "goes on with what was asked then; no other option of the replay can stand beside it");
  }
  const auto target = context.open();
  TargetPorts ports(*target, flush_stdout, [] { return told_to_stop.load(); });
  ReplayRecord record = o.resume.empty() ? asked_record(o, ports) : read_replay_record(*target, o.resume);
  if (record.target == ReplayRecord::Target::handler) ports.read_upcast();
  stop_on_signals();
  if (o.dry_run) return dry_run(context, ports, record);
  try {
    ProgressLine line(record);
    run_patiently(context, ports, record, target_of(record, context.json),
                  {.progress = [&line](const ReplayProgress& progress) { line.show(progress); }});
  } catch (const Error&) {
    if (record.version > 0) std::fprintf(stderr, "millrace %s\n", (summary(record) + "; " + go_on(record)).c_str());
    throw;
  }
  return report(context, record);
}

void describe(CLI::App& command, Options& o) {
  command.add_option("--stream", o.stream, "Stream to read (default: events; with --to-group the group's)");
  add_list(command, "--types", o.types, "Only of these types (patterns)");
  add_list(command, "--source", o.sources, "Only of these sources (patterns)");
  add_list(command, "--key", o.keys, "Only with this order key (partitionkey, else subject), exactly");
  command.add_option("--after", o.after, "Begin after this position (default: beginning)");
  command.add_option("--up-to", o.up_to,
                     "End with this position (default: where the stream ends when the replay begins)");
  command.add_option("--since", o.since, "Only stored at this RFC 3339 time or after");
  command.add_option("--until", o.until, "Only stored before this RFC 3339 time");
  command.add_option("--limit", o.limit, "End after so many events")->check(CLI::Range(std::uint64_t{1}, UINT64_MAX));
  auto* group = command.add_option("--to-group", o.to_group, "Open them once more in this group, and in no other");
  command.add_option("--into", o.into, "Append copies with the id <replayid>:<id> to this stream")->excludes(group);
  command.add_option("--pace", o.pace, "fast (default), original, or a factor: 2 = twice the original pace");
  command.add_option("--on-error", o.on_error, "stop (default): end before the event; count: go on")
      ->check(CLI::IsMember({"stop", "count"}));
  command.add_flag("--dry-run", o.dry_run, "Say what would happen; change nothing");
  command.add_option("--replayid", o.replayid, "Its id (default: a new one)");
  command.add_option("--resume", o.resume, "Go on with the replay of this id, as it was asked for then");
}

}  // namespace

void add_replay(CLI::App& app, Context& context) {
  CLI::App& replay = add_command<Options>(
      app, context, "replay",
      "Deliver old events again: to stdout as NDJSON, to one group, or into another stream; --resume goes on with one",
      describe, [&context](const Options& o) { return replay_events(context, o); });
  add_replay_records(replay, context);
}

}  // namespace millrace::cli
