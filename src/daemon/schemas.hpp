// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What the daemon knows of schema versions, and how it brings events up to date for those who ask over HTTP.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/config.hpp"
#include "delivery/upcasting.hpp"
#include "millrace/schema.hpp"
#include "millrace/store.hpp"

namespace millrace::daemon {

/// \throws Error{invalid_argument} as SchemaRegistry
SchemaRegistry registry_of(const std::vector<Config::Schema>& schemas);

/// Adds the steps that only programs have. Where a step is declared, that one holds.
void add_program_steps(SchemaRegistry& schemas, const std::vector<delivery::ProgramStep>& steps);

/// `{"schemas":[…]}`, what `GET /v1/schemas` answers.
std::string schemas_json(const SchemaRegistry& schemas);

/// The declared steps, and which ones programs on the same store are known to have. Thread-safe.
class Schemas {
 public:
  /// Reads what programs recorded. \throws Error as KeyValue
  Schemas(Store& store, const std::vector<Config::Schema>& declared);

  /// Forgets a step that a program recorded. \throws Error{not_found}, and as KeyValue
  void forget(const std::string& type, std::int32_t from);
  /// Reads it again. Blocks for the store. What fails is logged, and what was known stays.
  void refresh();
  [[nodiscard]] std::shared_ptr<const SchemaRegistry> registry() const;

  /// A claim whose events are up to date. One that cannot be upcast is settled as a failure, with its reason, and never
  /// shown; what came with it is released and claimed again.
  /// \throws Error as Ledger::claim; {upcast_failed} when a step is in a program only: everything was released
  ClaimAnswer claim(const GroupName& group, const ClaimRequest& request) const;

  /// For readers: up to date, or as stored with the extension `upcasterror`.
  void show(Event& event) const;

 private:
  Store& store_;
  const SchemaRegistry declared_;
  mutable std::mutex mutex_;
  std::shared_ptr<const SchemaRegistry> registry_;
};

}  // namespace millrace::daemon
