// SPDX-License-Identifier: Apache-2.0
#include "store/sqlite/rows.hpp"

#include <algorithm>

#include "store/records.hpp"

namespace millrace::store::sqlite {
std::string order_key(const Statement::Rows& row, int first) {
  // Parsing is for the few that have the attribute.
  const std::string_view extensions = row.text(first + kExtensionsColumn);
  if (extensions.find("\"partitionkey\":") != std::string_view::npos) {
    for (const Extension& extension : decode_extensions(extensions)) {
      if (extension.name == "partitionkey") return to_string(extension.value);
    }
  }
  return std::string(row.text(first + kSubjectColumn));
}

bool row_is_erased(const Statement::Rows& row, int first) {
  if (!row.is_null(first + kDataColumn)) return false;
  const std::string_view extensions = row.text(first + kExtensionsColumn);
  if (extensions.find(kErasedTime) == std::string_view::npos) return false;
  const std::vector<Extension> all = decode_extensions(extensions);
  return std::any_of(all.begin(), all.end(), [](const Extension& e) { return e.name == kErasedTime; });
}

Event decode_event(const Statement::Rows& row, int first) {
  Event event;
  event.id = row.text(first);
  event.source = row.text(first + 1);
  event.type = row.text(first + 2);
  event.subject = row.text(first + 3);
  event.time = row.text(first + 4);
  event.datacontenttype = row.text(first + 5);
  event.dataschema = row.text(first + 6);
  event.extensions = decode_extensions(row.text(first + 7));
  if (const auto data = row.blob(first + 8)) event.data.emplace(*data);
  return event;
}

}  // namespace millrace::store::sqlite
