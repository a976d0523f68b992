// SPDX-License-Identifier: Apache-2.0

// Every promise of DESIGN §4, on every store.

#include <gtest/gtest.h>

#include <cstdlib>
#include <tuple>

#include "subject.hpp"

namespace millrace::conformance {
namespace {

class Conformance : public testing::TestWithParam<std::tuple<std::size_t, std::size_t>> {};

TEST_P(Conformance, Holds) {
  const StoreCase& store_case = store_cases()[std::get<0>(GetParam())];
  const Check& check = checks()[std::get<1>(GetParam())];
  if (!store_case.persistent && (check.run == check_reopen || check.run == check_several_processes)) {
    GTEST_SKIP() << store_case.name << " keeps nothing beyond its process";
  }
  if (!store_case.redis.empty() && std::system("command -v redis-server >/dev/null") != 0) {
    if (std::getenv("CI") != nullptr) FAIL() << "redis-server is missing, and CI must have it";
    GTEST_SKIP() << "redis-server is missing";
  }
  Subject subject(store_case);
  try {
    check.run(subject);
  } catch (const Violation& violation) {
    ADD_FAILURE() << violation.what() << "\nrepeat with MILLRACE_TEST_SEED=" << subject.seed();
  }
  EXPECT_EQ(subject.denied(), "") << "the documented rights are not enough";
}

INSTANTIATE_TEST_SUITE_P(Stores, Conformance,
                         testing::Combine(testing::Range<std::size_t>(0, store_cases().size()),
                                          testing::Range<std::size_t>(0, checks().size())),
                         [](const auto& param) {
                           return store_cases()[std::get<0>(param.param)].name + "_" +
                                  checks()[std::get<1>(param.param)].name;
                         });

}  // namespace
}  // namespace millrace::conformance
