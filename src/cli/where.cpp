// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>

#include "base/time.hpp"
#include "cli/context.hpp"
#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "cli/where_text.hpp"

namespace millrace::cli {
namespace {

struct Options {
  std::string id, source, stream;
};

[[noreturn]] void refuse_unknown(const Options& o) {
  std::string where = o.source.empty() ? "" : " from " + o.source;
  if (!o.stream.empty()) where += " in stream " + o.stream;
  throw Error(Errc::not_found, "where", o.id,
              "no such event" + where +
                  " is known: it was never published here, or it stands under another id, source or stream (millrace "
                  "streams list, millrace tail), or it was trimmed longer ago than the store's dedup_keep");
}

int where(Context& context, const Options& o) {
  Query query{{"id", o.id}};
  if (!o.source.empty()) query.emplace_back("source", o.source);
  if (!o.stream.empty()) query.emplace_back("stream", o.stream);
  const auto answer = context.open()->get("/v1/events", query);
  const auto& matches = answer.at("matches").as_array();
  if (context.json) print_json(answer);
  if (matches.empty()) refuse_unknown(o);
  if (context.json) return kOk;
  const Timestamp now = wall_now();
  for (std::size_t i = 0; i < matches.size(); ++i) print((i == 0 ? "" : "\n") + describe_match(matches[i], now));
  return kOk;
}

}  // namespace

void add_where(CLI::App& app, Context& context) {
  add_command<Options>(
      app, context, "where", "All that is known of one event: when it was stored, and where it is in every group",
      [](CLI::App& command, Options& o) {
        command.add_option("id", o.id, "Its id")->required();
        command.add_option("--source", o.source, "Only from this source");
        command.add_option("--stream", o.stream, "Only in this stream");
      },
      [&context](const Options& o) { return where(context, o); });
}

}  // namespace millrace::cli
