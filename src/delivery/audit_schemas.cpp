// SPDX-License-Identifier: Apache-2.0
#include "millrace/schema.hpp"
#include "millrace/store.hpp"

namespace millrace {

SchemaAudit::Counts audit_schemas(Store& store, const StreamName& stream, const SchemaRegistry& schemas,
                                  const std::vector<std::string>& types,
                                  const std::function<void(const SchemaFailure&)>& failed) {
  SchemaAudit audit(schemas);
  ReadQuery query;
  query.limit = 1000;
  query.types = types;
  for (;;) {
    const Page page = store.log().read(stream, query);
    for (const StoredEvent& stored : page.events) {
      const auto failure = audit.look(stored.position, stored.event);
      if (failure && failed) failed(*failure);
    }
    if (page.at_end) return audit.counts();
    query.after = page.next;
  }
}

}  // namespace millrace
