// SPDX-License-Identifier: Apache-2.0

// A consumer process that embeds the library, for tests that kill it:
//   test_consumer <store URL> <group> <name> <milliseconds per event> <lease in ms> <concurrency>
// Prints "ready", then for each event "begin <id> <attempt>" and "end <id>"; SIGTERM ends it in good order, and then it
// prints "stale <n>", the answers that came too late.

#include <csignal>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "millrace/subscription.hpp"

namespace {

using namespace millrace;

void say(const std::string& line) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

int consume(char** argv) {
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &end, nullptr);  // the threads made from here on inherit it

  StoreOptions store_options;
  store_options.url = argv[1];
  const auto store = open_store(store_options);
  SubscriptionOptions options{.group = argv[2], .start = Start::beginning()};
  options.consumer = argv[3];
  options.lease = Milliseconds{std::stol(argv[5])};
  options.concurrency = std::stoul(argv[6]);
  options.batch = 20;
  const Milliseconds takes{std::stol(argv[4])};
  Subscription subscription(*store, std::move(options), [takes](const Delivery& delivery) {
    say("begin " + delivery.event.id + " " + std::to_string(delivery.attempt));
    std::this_thread::sleep_for(takes);
    say("end " + delivery.event.id);
    return Outcome::ack();
  });
  say("ready");
  int signal = 0;
  sigwait(&end, &signal);
  const bool clean = subscription.stop(Milliseconds{20'000});
  const auto stats = subscription.stats();
  say("stale " + std::to_string(stats.stale));
  return clean ? 0 : 3;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  try {
    return consume(argv);
  } catch (const std::exception& error) {
    say(std::string("failed ") + error.what());
    return 1;
  }
}
