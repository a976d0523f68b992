// SPDX-License-Identifier: Apache-2.0

// The hostile neighbour of the option set `redis_neighbour` is at work: else its checks would prove nothing.

#include "neighbour.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "subject.hpp"

namespace millrace::conformance {
namespace {

TEST(HostileNeighbour, DoesWhatItSaysBesideEveryCheck) {
  const auto& cases = store_cases();
  const auto found = std::find_if(cases.begin(), cases.end(), [](const auto& one) { return one.hostile_neighbour; });
  if (found == cases.end()) GTEST_SKIP() << "this build has no Redis store";
  if (std::system("command -v redis-server >/dev/null") != 0) {
    if (std::getenv("CI") != nullptr) FAIL() << "redis-server is missing, and CI must have it";
    GTEST_SKIP() << "redis-server is missing";
  }
  Subject subject(*found);
  const GroupName group("g");
  subject.ledger().ensure_group(group, from_beginning());
  const auto enough = [&] {
    const Neighbour::Deeds deeds = subject.neighbour()->deeds();
    return deeds.acked >= 50 && deeds.stolen >= 50 && deeds.removed >= 20 && deeds.set >= 50 && deeds.destroyed >= 5;
  };
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  int round = 0;
  for (; !enough() && std::chrono::steady_clock::now() < until; ++round) {
    std::vector<Event> events;
    for (int i = 0; i < 20; ++i) events.push_back(make_event(std::to_string(round) + "/" + std::to_string(i)));
    subject.append(events);
    const auto held = subject.ledger().claim(group, claim_by("c", 100)).deliveries;
    ASSERT_EQ(held.size(), events.size()) << "in round " << round;
    ASSERT_EQ(settle_all(subject, group, held, Outcome::ack()), 0U) << "in round " << round;
  }
  EXPECT_TRUE(enough()) << "after " << round << " rounds";
  EXPECT_EQ(subject.ledger().group(group).processed, 20U * static_cast<unsigned>(round));
}

}  // namespace
}  // namespace millrace::conformance
