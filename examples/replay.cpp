// SPDX-License-Identifier: Apache-2.0
// Deliver old events again: to a handler, into another stream, to one group. Usage: replay [store URL or path]
#include <iostream>
#include <millrace/millrace.hpp>

using namespace millrace;

namespace {

void index(const Event& event) {
  std::cout << event.id << " of replay " << event.attribute("replayid").value_or("none") << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  auto store = open_store(argc > 1 ? argv[1] : "memory:");
  Bus bus(store.get());
  bus.publish(EventBuilder("order.placed", "/shop").subject("order-42").json(R"({"total": 12})").build());
  store->log().create_stream("audit");
  Subscription mail(*store, {.group = "mail", .start = Start::beginning()},
                    [](const Delivery&) { return Outcome::ack(); });
  mail.drain(std::chrono::seconds{10});
  const Timestamp yesterday =
      std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now()) - std::chrono::hours{24};

  ReplayQuery query{.types = {"order.*"}, .since = yesterday};
  ReplayReport report =
      bus.replay(query, [](const StoredEvent& stored) { index(stored.event); }, {.on_error = ReplayOnError::count});
  std::cout << report.read << " read, " << report.delivered << " delivered, " << report.failed << " failed\n";

  bus.replay(query, IntoStream{"audit"});
  bus.replay(query, ToGroup{"mail"}, {.pace = ReplayPace::original()});
  return mail.drain(std::chrono::seconds{10}) ? 0 : 1;
}
