// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <limits>
#include <thread>

#include "base/utf8.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/sse.hpp"
#include "cli/table.hpp"

namespace millrace::cli {
namespace {

constexpr std::uint64_t kMostEvents = 1'000'000'000'000;  ///< more is a typing error

struct Options {
  std::string stream = "events", after;
  std::vector<std::string> types;
  std::uint64_t limit = 0;  ///< 0 = no end
  bool no_follow = false;
  bool as_stored = false;
};

/// Prints events and counts them against --limit.
class Printer {
 public:
  Printer(bool json, std::uint64_t limit)
      : json_(json), left_(limit == 0 ? std::numeric_limits<std::uint64_t>::max() : limit) {}

  void event(const std::string& position, const boost::json::value& event) {
    --left_;
    if (json_) {
      print_json(boost::json::object{{"position", position}, {"event", event}});
      return;
    }
    std::string line = position;
    for (const char* name : {"time", "type", "source", "subject"}) line += "  " + cell_at(event, name);
    const auto& attributes = event.as_object();
    if (const auto* data = attributes.if_contains("data")) {
      line += "  " + (data->is_string() ? cell(*data) : printable(boost::json::serialize(*data)));
    } else if (const auto* bytes = attributes.if_contains("data_base64")) {
      line += "  base64:" + cell(*bytes);
    }
    if (const auto* error = attributes.if_contains("upcasterror")) line += "  as stored: " + cell(*error);
    print(line);
  }

  void gap(const std::string& after, const std::string& first) const {
    std::fprintf(stderr, "millrace tail: events after %s and before %s were trimmed\n", printable(after).c_str(),
                 printable(first).c_str());
  }

  [[nodiscard]] std::uint64_t left() const { return left_; }

 private:
  bool json_;
  std::uint64_t left_;
};

Query query_of(const Options& o, const std::string& after) {
  Query query{{"after", after}};
  for (const auto& types : o.types) query.emplace_back("types", types);
  if (o.as_stored) query.emplace_back("upcast", "false");
  return query;
}

/// Page by page until the end, for --no-follow.
int read_pages(Target& target, const Options& o, Printer& printer) {
  std::string after = o.after.empty() ? "beginning" : o.after;
  while (printer.left() > 0) {
    Query query = query_of(o, after);
    query.emplace_back("limit", std::to_string(std::min<std::uint64_t>(printer.left(), 1000)));
    const auto page = target.get(stream_path(o.stream, "/events"), query);
    if (const auto* gap = page.as_object().if_contains("gap"); gap != nullptr && gap->is_object()) {
      printer.gap(cell_at(*gap, "after"), cell_at(*gap, "first"));
    }
    for (const auto& item : page.at("events").as_array()) printer.event(cell_at(item, "position"), item.at("event"));
    after = cell_at(page, "next");
    if (page.at("at_end").as_bool()) break;
  }
  return kOk;
}

/// One connection; `last` is moved on with every position seen.
void follow_once(Target& target, const Options& o, Printer& printer, std::string& last) {
  http::Request request;
  request.method = "GET";
  request.path = stream_path(o.stream, "/tail");
  request.query = query_of(o, o.after.empty() ? "end" : o.after);
  request.headers.emplace_back("Accept", "text/event-stream");
  if (!last.empty()) request.headers.emplace_back("Last-Event-ID", last);
  SseParser parser;
  target.stream(request, [&](std::string_view chunk) {
    return parser.feed(chunk, [&](const SseParser::Message& message) {
      if (message.event == "gap") {
        const auto gap = boost::json::parse(message.data);
        printer.gap(cell_at(gap, "after"), cell_at(gap, "first"));
      } else if (!message.data.empty()) {
        printer.event(message.id, boost::json::parse(message.data));
      }
      if (!message.id.empty()) last = message.id;
      return printer.left() > 0;
    });
  });
}

/// Follows for ever; a lost connection is taken up again where it broke.
int follow(Target& target, const Options& o, Printer& printer) {
  std::string last;
  std::chrono::milliseconds wait{0};
  for (;;) {
    const std::string before = last;
    try {
      follow_once(target, o, printer, last);
      if (printer.left() == 0) return kOk;
      std::fprintf(stderr, "millrace tail: the daemon ended the stream; connecting again\n");
    } catch (const Error& error) {
      // The first connection must succeed; and what is refused for good is not asked for again.
      const bool later = is_transient(error.code()) || error.code() == Errc::stopped;  // a restart
      if (last.empty() || !later) throw;
      std::fprintf(stderr, "millrace tail: %s; connecting again\n", printable(error.message()).c_str());
    }
    wait = last != before
               ? std::chrono::milliseconds{100}
               : std::min(std::max(wait * 2, std::chrono::milliseconds{100}), std::chrono::milliseconds{5000});
    std::this_thread::sleep_for(wait);
  }
}

int tail(Context& context, const Options& o) {
  const auto target = context.open();
  Printer printer(context.json, o.limit);
  return o.no_follow ? read_pages(*target, o, printer) : follow(*target, o, printer);
}

}  // namespace

void add_tail(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "tail", "Print events as they come; --json prints one object per line",
      [](CLI::App& command, Options& o) {
        command.add_option("--stream", o.stream, "Stream to read")->capture_default_str();
        command.add_option("--after", o.after,
                           "beginning, end or a position (default: end; with --no-follow: beginning)");
        add_list(command, "--types", o.types, "Only of these types (patterns)");
        command.add_option("--limit", o.limit, "End after so many events")
            ->check(CLI::Range(std::uint64_t{1}, kMostEvents));
        command.add_flag("--as-stored", o.as_stored, "In the schema version they were written in");
        command.add_flag("--no-follow", o.no_follow, "End where the stream ends now");
      },
      [&context](const Options& o) { return tail(context, o); });
}

}  // namespace millrace::cli
