// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Between claim and handler: events are brought up to date.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "millrace/key_value.hpp"
#include "millrace/schema.hpp"
#include "millrace/subscription.hpp"

namespace millrace::delivery {

/// Thread-safe. Upcasting runs where the handler runs, so that a slow or failing upcaster is that delivery's affair.
class Upcasting : public std::enable_shared_from_this<Upcasting> {
 public:
  /// \param schemas  nullptr: events are handed over as stored, but never newer than the pin
  /// \param newest   the newest version the handler knows
  Upcasting(std::shared_ptr<const SchemaRegistry> schemas, std::optional<std::int32_t> newest);

  /// The group's `max_dataversion`, as of the last claim.
  void pin(std::optional<std::int32_t> max_dataversion) { pin_.store(max_dataversion.value_or(0)); }

  [[nodiscard]] Handler before(Handler handler) const;
  [[nodiscard]] AsyncHandler before(AsyncHandler handler) const;

 private:
  [[nodiscard]] std::optional<std::int32_t> max() const;

  std::shared_ptr<const SchemaRegistry> schemas_;
  std::int32_t newest_;
  std::atomic<std::int32_t> pin_{0};
};

/// A step that a program has, as the store remembers it for daemons.
struct ProgramStep {
  std::string type;
  std::int32_t from = 1;
  std::string description;  ///< of the version it leads to
};

/// Remembers every step of the registry. \throws Error as KeyValue
void record_steps(KeyValue& store, const SchemaRegistry& schemas);
std::vector<ProgramStep> recorded_steps(KeyValue& store);
/// Forgets one; false when none is recorded. A program that has it records it again when it subscribes.
bool forget_step(KeyValue& store, const std::string& type, std::int32_t from);

}  // namespace millrace::delivery
