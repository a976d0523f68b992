// SPDX-License-Identifier: Apache-2.0
#include "store/ledger/replay_id.hpp"

#include "millrace/error.hpp"
#include "millrace/types.hpp"

namespace millrace::ledger {

void check_replay_id(std::string_view replayid) {
  try {
    (void)GroupName(replayid);  // one rule for all names
  } catch (const Error& error) {
    throw Error(error.code(), "check replay id", error.object(), error.message());
  }
}

}  // namespace millrace::ledger
