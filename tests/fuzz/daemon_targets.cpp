// SPDX-License-Identifier: Apache-2.0

// What the daemon is sent, and what the command line reads: events in lines, and what the daemon sends back.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "cli/ndjson.hpp"
#include "cli/sse.hpp"
#include "daemon/params.hpp"
#include "daemon/publish_body.hpp"
#include "fuzz.hpp"
#include "http/message.hpp"
#include "millrace/codec.hpp"

namespace millrace::fuzz {

void publish_body(std::string_view input) {
  static constexpr daemon::PublishLimits kLimits{1 << 10, 1 << 10};
  Bytes bytes(input);
  http::Request request;
  request.method = "POST";
  while (!bytes.empty()) {
    const std::string_view line = bytes.line();
    if (line.empty()) break;
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos) request.headers.emplace_back(line.substr(0, colon), line.substr(colon + 1));
  }
  request.body = bytes.rest();
  daemon::PublishMode mode{};
  try {
    mode = daemon::publish_mode(request);
  } catch (const daemon::UnsupportedMediaType&) {
    return;
  }
  const auto decoded = value_or_refusal([&] { return daemon::decode_publish(request, mode, kLimits); });
  if (!decoded) return;
  require(decoded->bad.size() <= 100, "at most a hundred are named");
  for (const auto& bad : decoded->bad) require(!bad.detail.empty(), "a bad event is told why");
  if (!decoded->bad.empty()) return;
  for (const Event& event : decoded->events) {
    validate(event);
    require(!event.data || event.data->size() <= kLimits.max_event_bytes, "nothing beyond the limit");
    require(!event.extension(kErasedTime), "nobody brings along that an event was erased");
  }
  // The same events as a batch are taken the same way.
  http::Request batch;
  batch.headers = {{"Content-Type", "application/cloudevents-batch+json"}};
  batch.body = encode_json_batch(decoded->events);
  const auto again = daemon::decode_publish(batch, daemon::PublishMode::batch, kLimits);
  require(again.bad.empty() && again.events.size() == decoded->events.size(), "as a batch they are as many");
  for (std::size_t i = 0; i < again.events.size() && mode != daemon::PublishMode::binary; ++i) {
    require(again.events[i] == decoded->events[i], "as a batch they are the same");
  }
}

void params(std::string_view input) {
  static constexpr std::array<std::string_view, 4> kKnown{"a", "b", "after", "types"};
  Bytes bytes(input);
  const std::string query(bytes.line());
  const std::string body(bytes.rest());
  if (const auto pairs = value_or_refusal([&] { return http::parse_query(query); })) {
    std::string written;
    for (const auto& [name, value] : *pairs) {
      written += (written.empty() ? "" : "&") + http::percent_encode(name) + '=' + http::percent_encode(value);
    }
    require(http::parse_query(written) == *pairs, "a query comes back from " + written);
    value_or_refusal([&] {
      const daemon::Query known(*pairs, kKnown);
      for (const auto& [name, value] : *pairs) {
        require(std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end(), "an unknown parameter is refused");
        require(known.text(name) == value, "a parameter is what was sent");
      }
      for (const std::string_view name : kKnown) {
        value_or_refusal([&] { return known.list(name); });
        value_or_refusal([&] { return known.positions(name); });
        value_or_refusal([&] { return known.time(name); });
        value_or_refusal([&] { return known.boolean(name); });
        const auto number = value_or_refusal([&] { return known.number(name, 7, {3, 9}); });
        require(!number || (*number >= 3 && *number <= 9), "a number is within its range");
      }
      return true;
    });
  }
  require(http::percent_decode(http::percent_encode(body)) == body, "percent-encoding gives back the bytes");
  value_or_refusal([&] {
    const daemon::Members members(body, {"a", "b", "max_dataversion"});
    for (const std::string_view name : {"a", "b"}) {
      value_or_refusal([&] { return members.text(name); });
      value_or_refusal([&] { return members.texts(name); });
      value_or_refusal([&] { return members.boolean(name); });
      value_or_refusal([&] { return members.time(name); });
      const auto number = value_or_refusal([&] { return members.number(name, {3, 9}); });
      require(!number || !*number || (**number >= 3 && **number <= 9), "a member is within its range");
    }
    value_or_refusal([&] { return daemon::max_dataversion_of(members); });
    return true;
  });
}

void sse(std::string_view input) {
  using Messages = std::vector<std::array<std::string, 3>>;
  const auto cut = [&](std::size_t size) {
    cli::SseParser parser;
    Messages messages;
    for (std::size_t from = 0; from < input.size(); from += size) {
      parser.feed(input.substr(from, size), [&](const cli::SseParser::Message& message) {
        messages.push_back({message.id, message.event, message.data});
        return true;
      });
    }
    return messages;
  };
  const Messages whole = cut(input.size() + 1);
  require(cut(1) == whole && cut(3) == whole, "chunks do not change what was said");
  for (const auto& [id, event, data] : whole) {
    require(id.find('\n') == std::string::npos && event.find('\n') == std::string::npos, "an id is one line");
  }
}

namespace {

/// A socket that gives each piece to a read of its own.
class Pieces {
 public:
  Pieces(std::string_view text, std::size_t size) {
    require(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends_.data()) == 0, "the machine gives a socket");
    for (std::size_t from = 0; from < text.size(); from += size) {
      const std::string_view piece = text.substr(from, size);
      require(::write(ends_[1], piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()), "it takes a piece");
    }
    ::shutdown(ends_[1], SHUT_WR);
  }
  ~Pieces() {
    for (const int end : ends_) ::close(end);
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;
  [[nodiscard]] int descriptor() const { return ends_[0]; }

 private:
  std::array<int, 2> ends_{-1, -1};
};

}  // namespace

void ndjson(std::string_view input) {
  Bytes bytes(input);
  const std::size_t longest = 1 + bytes.below(64);
  const std::size_t wanted = 1 + bytes.byte();
  const std::string_view text = bytes.rest();
  // What should come, from the whole text at once. A line is too long by its bytes as they stand there.
  std::vector<std::pair<std::uint64_t, std::string>> lines;
  bool too_long = false;
  std::uint64_t number = 0;
  for (std::string_view rest = text; !rest.empty() && !too_long;) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    ++number;
    too_long = line.size() > longest;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!too_long && line.find_first_not_of(" \t") != std::string_view::npos) lines.emplace_back(number, line);
  }

  const Pieces input_in_pieces(text, std::max(wanted, text.size() / 64 + 1));  // a socket holds only so many
  cli::LineReader reader(input_in_pieces.descriptor(), longest);
  std::size_t got = 0;
  bool refused = false;
  try {
    require(reader.ready(), "what is there, or that nothing will come, is ready");
    while (const auto line = reader.next()) {
      require(got < lines.size(), "no more lines than there are: " + *line);
      require(*line == lines[got].second && reader.line_number() == lines[got].first, "line " + std::to_string(got));
      ++got;
    }
  } catch (const Error& error) {
    refused = error.code() == Errc::too_large;
    require(refused, std::string("only a line's length is refused: ") + error.what());
    require(error.object() == "line " + std::to_string(number), "a line that is too long is named: " + error.object());
  }
  require(got == lines.size() && refused == too_long, "all lines come, up to one that is too long");
  if (refused) return;
  require(reader.bytes_read() == text.size() && reader.line_number() == number, "every byte and line was counted");
  require(reader.ready() && !reader.next(), "the end stays the end");
}

}  // namespace millrace::fuzz
