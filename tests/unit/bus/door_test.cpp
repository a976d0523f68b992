// SPDX-License-Identifier: Apache-2.0

// What may come in.

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "fake_store.hpp"
#include "millrace/bus.hpp"

namespace millrace {
namespace {

Event pretending_to_be_erased() {
  Event event = test::an_event("x");
  event.set_extension(kErasedTime, std::string("2026-11-20T00:00:00Z"));
  return event;
}

void expect_refused(const Error& error) {
  EXPECT_EQ(error.code(), Errc::invalid_event);
  EXPECT_EQ(error.object(), kErasedTime);
}

TEST(Door, EventThatPretendsToBeErasedIsRefused) {
  test::FakeStore store;
  Bus bus(&store);
  try {
    bus.publish(std::vector{test::an_event("good"), pretending_to_be_erased()});
    ADD_FAILURE() << "it was published";
  } catch (const Error& error) {
    expect_refused(error);
  }
  std::optional<AppendAnswer> answer;
  bus.publish_async({pretending_to_be_erased()}, {}, [&](AppendAnswer given) { answer = std::move(given); });
  ASSERT_TRUE(answer && std::holds_alternative<Error>(*answer));
  expect_refused(std::get<Error>(*answer));
  EXPECT_EQ(bus.stats().published, 0U);
  EXPECT_EQ(bus.stats().failed, 3U);
}

TEST(Door, WhatAStoreHasErasedCanBeReadBack) {
  EXPECT_NO_THROW(validate(pretending_to_be_erased()));
}

}  // namespace
}  // namespace millrace
