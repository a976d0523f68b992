// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <iterator>

#include "base/time.hpp"
#include "base/utf8.hpp"
#include "base/uuid.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/ndjson.hpp"
#include "cli/publisher.hpp"
#include "cli/table.hpp"
#include "millrace/codec.hpp"

namespace millrace::cli {
namespace {

constexpr std::size_t kLongestLine = 64 << 20;
constexpr std::uint64_t kConflictsShown = 10;

struct Options {
  std::string input, type, source, subject, data, data_file, content_type, id, time;
  std::vector<std::string> extensions;
  std::string stream = "events", durability = "durable";
};

std::string default_source() {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') return "/cli";
  return "//" + std::string(host) + "/cli";
}

/// What only the command line fills in: the builder does the same in C++.
void complete(Event& event) {
  if (event.id.empty()) event.id = new_uuid_v7();
  if (event.source.empty()) event.source = default_source();
  if (event.time.empty()) event.time = rfc3339_now_nanoseconds();
}

std::string content_type_of(const std::string& data) {
  boost::system::error_code bad;
  boost::json::parse(data, bad);
  if (!bad) return "application/json";
  return is_utf8(data) ? "text/plain; charset=utf-8" : "application/octet-stream";
}

Event event_of(const Options& o) {
  Event event;
  event.type = o.type;
  event.source = o.source;
  event.subject = o.subject;
  event.id = o.id;
  event.time = o.time;
  for (const std::string& extension : o.extensions) {
    const std::size_t equals = extension.find('=');
    if (equals == std::string::npos) {
      throw Error(Errc::invalid_argument, "read flags", "--ext", "\"" + extension + "\" is not name=value");
    }
    event.set_extension(extension.substr(0, equals), extension.substr(equals + 1));
  }
  if (!o.data_file.empty()) {
    std::ifstream in(o.data_file, std::ios::binary);
    event.data.emplace(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    if (!in.is_open() || in.bad())
      throw Error(Errc::invalid_argument, "read flags", "--data-file", "cannot read " + o.data_file);
  } else if (!o.data.empty()) {
    event.data = o.data;
  }
  if (event.data) event.datacontenttype = o.content_type.empty() ? content_type_of(*event.data) : o.content_type;
  complete(event);
  validate(event);
  return event;
}

int publish_one(Context& context, const Options& o) {
  const Event event = event_of(o);
  const auto target = context.open();
  Publisher::Result answered{};
  Publisher publisher(*target, {o.stream, o.durability}, [&](const Publisher::Result& result) { answered = result; });
  publisher.add(event, 1);
  publisher.flush();
  const bool conflict = answered.status == "conflict";
  if (context.json) {
    print_json(
        boost::json::object{{"id", event.id},
                            {"status", answered.status},
                            {"position", conflict ? boost::json::value() : boost::json::value(answered.position)},
                            {"durability", conflict ? boost::json::value() : boost::json::value(answered.durability)}});
  }
  if (conflict) {
    throw InvalidInput(Errc::invalid_event, "publish", event.id,
                       "is there already with another type or other data; nothing was stored");
  }
  if (!context.json) {
    print(printable(event.id) + ": " + (answered.status == "stored" ? "stored at " : "already there, at ") +
          "position " + answered.position + " (" + answered.durability + ")");
  }
  return kOk;
}

/// Bytes of stdin when it is a file, for the progress line.
std::uint64_t input_size() {
  struct stat status {};
  return fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
}

void publish_lines(Publisher& publisher) {
  LineReader reader(STDIN_FILENO, kLongestLine);
  Progress progress(input_size());
  while (const auto line = reader.next()) {
    Event event;
    try {
      event = decode_json_lenient(*line);
      complete(event);
      validate(event);
    } catch (const Error& error) {
      publisher.flush();  // what stood before it was valid
      throw InvalidInput(error.code(), "publish", "line " + std::to_string(reader.line_number()),
                         error.object() + ": " + error.message(), error.native());
    }
    publisher.add(event, reader.line_number());
    if (!reader.ready()) publisher.flush();  // a slow writer's events do not wait for their batch to fill
    progress.update(publisher.counts().acknowledged(), reader.bytes_read());
  }
  publisher.flush();
}

void report(const Context& context, const Publisher::Counts& counts) {
  if (context.json) {
    print_json(boost::json::object{
        {"acknowledged", counts.acknowledged()},
        {"stored", counts.stored},
        {"duplicates", counts.duplicates},
        {"conflicts", counts.conflicts},
        {"last_line", counts.last_line},
        {"durability", counts.durability.empty() ? boost::json::value() : boost::json::value(counts.durability)}});
    return;
  }
  std::string text =
      fmt::format("{} acknowledged: {} stored, {} duplicates", counts.acknowledged(), counts.stored, counts.duplicates);
  if (counts.conflicts > 0) text += fmt::format("; {} conflicts", counts.conflicts);
  if (!counts.durability.empty()) text += " (" + counts.durability + ")";
  print(text);
}

int publish_stdin(Context& context, const Options& o) {
  const auto target = context.open();
  std::uint64_t conflicts = 0;
  Publisher publisher(*target, {o.stream, o.durability}, [&](const Publisher::Result& result) {
    if (result.status != "conflict" || ++conflicts > kConflictsShown) return;
    std::fprintf(stderr, "millrace publish: line %llu: %s is there already with another type or other data\n",
                 static_cast<unsigned long long>(result.line), printable(result.id).c_str());
  });
  try {
    publish_lines(publisher);
  } catch (const CannotConnect&) {
    if (publisher.counts().last_line > 0) report(context, publisher.counts());
    throw;
  } catch (const Error&) {
    report(context, publisher.counts());  // exactly what is safe, whatever went wrong
    throw;
  }
  report(context, publisher.counts());
  if (conflicts == 0) return kOk;
  throw InvalidInput(Errc::invalid_event, "publish", "",
                     std::to_string(conflicts) + " events were not stored: their ids are taken by other events");
}

int publish(Context& context, const Options& o) {
  const bool from_stdin = o.input == "-" || (o.type.empty() && isatty(STDIN_FILENO) == 0);
  if (from_stdin && !(o.type + o.source + o.subject + o.data + o.data_file + o.content_type + o.id + o.time).empty()) {
    throw Error(Errc::invalid_argument, "read flags", "",
                "events come whole from stdin or one from flags (then --type is needed), not both");
  }
  if (from_stdin) return publish_stdin(context, o);
  if (o.type.empty())
    throw Error(Errc::invalid_argument, "read flags", "--type", "is needed, or events as NDJSON on stdin");
  return publish_one(context, o);
}

}  // namespace

void add_publish(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "publish",
      "Publish one event by flags, or many as NDJSON from stdin; exits 0 only when all are acknowledged",
      [](CLI::App& command, Options& o) {
        command
            .add_option("input", o.input,
                        "- = read NDJSON from stdin, one CloudEvent per line; id, source and time may be absent")
            ->check(CLI::IsMember({"-"}));
        // An empty text is a variable of a script that was not set, not a wish for the default.
        const CLI::Validator something([](const std::string& text) { return text.empty() ? "is empty" : ""; }, "");
        command.add_option("--type", o.type, "Type of the event")->check(something);
        command.add_option("--source", o.source, "Source, a URI reference (default: //<host>/cli)")->check(something);
        command.add_option("--subject", o.subject, "Subject; events of one subject stay in order")->check(something);
        auto* data = command.add_option("--data", o.data, "Data, as text");
        command.add_option("--data-file", o.data_file, "File that holds the data")->excludes(data);
        command.add_option("--content-type", o.content_type,
                           "Content type of the data (default: JSON if it is, else text, else bytes)");
        command.add_option("--id", o.id, "Id; the same source and id is stored once (default: a UUIDv7)")
            ->check(something);
        command.add_option("--time", o.time, "RFC 3339 (default: now)")->check(something);
        add_list(command, "--ext", o.extensions, "Extension attribute, name=value; may be repeated");
        command.add_option("--stream", o.stream, "Stream to publish to")->capture_default_str();
        command
            .add_option("--durability", o.durability, "durable: on disk; relaxed: safe from a crash of the daemon only")
            ->check(CLI::IsMember({"durable", "relaxed"}))
            ->capture_default_str();
      },
      [&context](const Options& o) { return publish(context, o); });
}

}  // namespace millrace::cli
