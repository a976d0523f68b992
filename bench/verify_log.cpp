// SPDX-License-Identifier: Apache-2.0
#include "contender.hpp"
#include "millrace/store.hpp"
#include "workload.hpp"

namespace bench {

void verify_log(millrace::Store& store, std::uint64_t count, std::string_view who) {
  Roll roll(count);
  millrace::ReadQuery query;
  query.limit = kBatch;
  for (bool at_end = false; !at_end;) {
    const auto page = store.log().read(millrace::kDefaultStream, query);
    for (const auto& stored : page.events) roll.mark(stored.event.id);
    query.after = page.next;
    at_end = page.at_end;
  }
  roll.check(who);
}

}  // namespace bench
