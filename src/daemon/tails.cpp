// SPDX-License-Identifier: Apache-2.0
#include "daemon/tails.hpp"

#include "base/log.hpp"
#include "daemon/json.hpp"
#include "daemon/schemas.hpp"
#include "millrace/codec.hpp"

namespace millrace::daemon {

namespace {

/// A block at least every 15 s: so many, and up to a second until the next tick.
constexpr std::chrono::seconds kQuiet{13};
constexpr std::size_t kPageEvents = 500;
constexpr std::size_t kPageBytes = 256 << 10;

}  // namespace

std::string sse_event(const Position& position, const Event& event) {
  std::string out = "id: " + position.to_string() + "\ndata: ";
  encode_json_to(event, out);
  out += "\n\n";
  return out;
}

std::string sse_id(const Position& position) {
  return "id: " + position.to_string() + "\n\n";
}

std::string sse_gap(const Position& after, const Position& first) {
  return "event: gap\ndata: " +
         JsonWriter().text("after", after.to_string()).text("first", first.to_string()).finish() + "\n\n";
}

struct Tails::Tail {
  std::uint64_t id = 0;
  StreamName stream = kDefaultStream;
  std::vector<std::string> types;
  bool upcast = true;
  std::shared_ptr<http::Stream> out;
  // Under the mutex of Tails:
  Position after;
  bool reading = false;
  bool again = false;
  std::chrono::steady_clock::time_point last_write;
};

void Tails::open(const std::shared_ptr<Call>& call, const StreamName& stream, Position after,
                 std::vector<std::string> types, bool upcast) {
  auto tail = std::make_shared<Tail>();
  tail->stream = stream;
  tail->types = std::move(types);
  tail->upcast = upcast;
  tail->after = after;
  tail->last_write = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    if (ended_) throw Error(Errc::stopped, "tail", stream.str(), "the daemon is stopping");
    std::vector<http::Header> headers{{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-store"}};
    // Pages of any origin may read it: the right to is in the URL, and nothing a browser adds by itself gives it.
    if (call->query().text("access_token")) headers.emplace_back("Access-Control-Allow-Origin", "*");
    tail->out = call->start_stream(std::move(headers));
    if (tail->out == nullptr) return;
    tail->out->write(sse_id(after));  // so that a client knows where it is before the first event
    tail->id = ++last_id_;
    tails_.emplace(tail->id, tail);
  }
  const std::weak_ptr<Tail> weak = tail;  // the tail owns the stream that owns these callbacks
  tail->out->on_writable([this, weak] {
    if (const auto alive = weak.lock()) look(alive);
  });
  tail->out->on_closed([this, id = tail->id] {
    std::shared_ptr<Tail> gone;  // destroyed outside the lock
    const std::lock_guard lock(mutex_);
    if (const auto found = tails_.find(id); found != tails_.end()) {
      gone = std::move(found->second);
      tails_.erase(found);
    }
  });
  look(tail);
}

void Tails::changed() {
  std::vector<std::shared_ptr<Tail>> all;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, tail] : tails_) all.push_back(tail);
  }
  for (const auto& tail : all) look(tail);
}

void Tails::look(const std::shared_ptr<Tail>& tail) {
  {
    const std::lock_guard lock(mutex_);
    tail->again = true;
    if (tail->reading) return;
    tail->reading = true;
  }
  services_.soon([this, tail] { read(tail); });
}

/// One page, then the others' turn.
void Tails::read(const std::shared_ptr<Tail>& tail) {
  ReadQuery query;
  {
    const std::lock_guard lock(mutex_);
    tail->again = false;
    if (ended_ || !tail->out->writable()) {  // on_writable looks again
      tail->reading = false;
      return;
    }
    query.after = tail->after;
  }
  query.limit = kPageEvents;
  query.max_bytes = kPageBytes;
  query.types = tail->types;
  bool more = false;
  try {
    Page page = services_.store.log().read(tail->stream, query);
    std::string out;
    if (page.gap) out += sse_gap(query.after, *page.gap);
    for (StoredEvent& stored : page.events) {
      if (tail->upcast) services_.schemas.show(stored.event);
      out += sse_event(stored.position, stored.event);
    }
    const bool wrote = !out.empty();
    if (wrote) tail->out->write(std::move(out));
    const std::lock_guard lock(mutex_);
    tail->after = page.next;
    if (wrote) tail->last_write = std::chrono::steady_clock::now();
    more = !page.at_end;
  } catch (const Error& error) {
    if (!is_transient(error.code())) {
      log::write(log::Level::warn, error);
      tail->out->close();  // the client comes back with Last-Event-ID and is told
      const std::lock_guard lock(mutex_);
      tail->reading = false;
      tails_.erase(tail->id);
      return;
    }
    log::write(log::Level::warn, error);  // the next tick looks again
  }
  {
    const std::lock_guard lock(mutex_);
    tail->reading = false;
    more = more || tail->again;
  }
  if (more) look(tail);
}

void Tails::tick() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::shared_ptr<Tail>> quiet;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, tail] : tails_) {
      if (now - tail->last_write < kQuiet || tail->reading) continue;
      tail->last_write = now;
      tail->out->write(sse_id(tail->after));
      quiet.push_back(tail);
    }
  }
  for (const auto& tail : quiet) look(tail);
}

void Tails::end() {
  std::map<std::uint64_t, std::shared_ptr<Tail>> all;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    all.swap(tails_);
  }
  for (const auto& [id, tail] : all) tail->out->close();
}

std::size_t Tails::count() const {
  const std::lock_guard lock(mutex_);
  return tails_.size();
}

}  // namespace millrace::daemon
