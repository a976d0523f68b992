// SPDX-License-Identifier: Apache-2.0
// Publish an event, have it on disk, and let a durable group handle it. Usage: quickstart [store URL or path]
#include <iostream>
#include <millrace/millrace.hpp>

int main(int argc, char** argv) {
  using namespace millrace;
  auto store = open_store(argc > 1 ? argv[1] : "memory:");
  Bus bus(store.get());
  bus.publish(EventBuilder("order.placed", "/shop").subject("order-42").json(R"({"total": 12})").build());

  Subscription printer(*store, {.group = "printer", .types = {"order.*"}, .start = Start::beginning()},
                       [](const Delivery& delivery) {
                         std::cout << delivery.position.to_string() << " " << delivery.event.type << "\n";
                         return Outcome::ack();
                       });
  return printer.drain(std::chrono::seconds{10}) ? 0 : 1;
}
