// SPDX-License-Identifier: Apache-2.0

// Another process beside the one under test: peer <url> append|consume <name> <count>.
// Prints "acked <position>" for what it acknowledged, anything else is trouble.

#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "millrace/store.hpp"

namespace {

using namespace millrace;

void append(Store& store, const std::string& name, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    Event event;
    event.id = name + "/" + std::to_string(i);
    event.source = "/peer";
    event.type = "t";
    event.subject = "key" + std::to_string(i % 5);
    const auto answer = store.log().append(kDefaultStream, std::vector{event});
    if (answer[0].status != AppendStatus::stored) std::cout << event.id << " was not stored" << std::endl;
  }
}

void consume(Store& store, const std::string& name, std::size_t total) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{120};
  ClaimRequest request;
  request.consumer = name;
  request.max = 10;
  while (store.ledger().group("shared").processed < total) {
    if (std::chrono::steady_clock::now() > deadline) {
      std::cout << "not all was delivered in time" << std::endl;
      return;
    }
    const auto answer = store.ledger().claim("shared", request);
    std::vector<Settlement> settlements;
    for (const Delivery& delivery : answer.deliveries) settlements.push_back({delivery.lease, Outcome::ack()});
    if (settlements.empty()) {
      std::this_thread::sleep_for(Milliseconds{5});
      continue;
    }
    if (!store.ledger().settle("shared", settlements).empty())
      std::cout << "stale though no lease ran out" << std::endl;
    for (const Delivery& delivery : answer.deliveries)
      std::cout << "acked " << delivery.position.to_string() << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    StoreOptions options;
    options.url = argv[1];
    options.access = StoreOptions::Access::tool;
    options.create = false;
    options.min_free_bytes = 0;
    const auto store = open_store(options);
    const std::size_t count = std::stoul(argv[4]);
    if (std::string(argv[2]) == "append") {
      append(*store, argv[3], count);
    } else {
      consume(*store, argv[3], 3 * count);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cout << error.what() << std::endl;
    return 1;
  }
}
