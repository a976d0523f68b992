// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// The one error type of Millrace. A failure is an exception of type `millrace::Error`; what is a normal
/// answer (a duplicate, a stale lease, an empty page) is a value, never an exception.

#include <stdexcept>
#include <string>
#include <string_view>

namespace millrace {

/// The closed list of what can go wrong. Each has a stable snake_case name (`to_string`), which is what
/// the HTTP API sends as `code`, what `--json` prints and what the log carries.
enum class Errc {
  invalid_argument,  ///< the caller passed something that can never work: a bad name, URL, option, position
  invalid_event,     ///< the event breaks a CloudEvents rule; the message names the attribute and the rule
  too_large,         ///< the event or batch exceeds a limit; the message names the limit
  unknown_stream,    ///< no stream of that name; streams are created on purpose
  unknown_group,     ///< no group of that name
  already_exists,    ///< creating something that is there
  group_mismatch,    ///< a claim names another stream, filter, start or order than the group was created with
  not_found,         ///< some other object is not there: a key, a dead letter, a file
  busy,              ///< somebody else holds it: a second daemon on one file, a lock not obtained in time
  store_full,        ///< below the disk floor or out of space: nothing was written; retry after space was made
  unavailable,       ///< the store cannot be reached or refused; nothing was written: retry freely
  outcome_unknown,   ///< it may or may not have been written (a failed fsync, a connection cut): retry with the same id
  timed_out,         ///< a deadline passed before the answer; nothing is known to be wrong
  stopped,           ///< the object was told to stop; nothing was done
  permission_denied,    ///< file or network permissions, or a missing token
  read_only,            ///< the store was opened for reading, or its file cannot be written
  corrupt,              ///< the bytes on disk are not what was written, or are not a Millrace store at all
  upcast_failed,        ///< an event's schema version cannot be brought to the one wanted; the message says which step
  unsupported_version,  ///< written by a newer Millrace (or needs a newer server); the message says both versions
  internal,             ///< a bug in Millrace
};

/// Stable name, e.g. "outcome_unknown".
std::string_view to_string(Errc code) noexcept;

/// True when the same call, unchanged, may succeed later: `busy`, `store_full`, `unavailable`,
/// `outcome_unknown`, `timed_out`. (For `outcome_unknown` "the same call" means with the same event ids.)
bool is_transient(Errc code) noexcept;

/// What every failing call throws.
class Error : public std::runtime_error {
 public:
  /// \param operation what was being done, e.g. "append", "open store".
  /// \param object    what it was done to: a stream, a path, an attribute name; may be empty.
  /// \param message   what was wrong and what to do, for a person; no trailing period.
  /// \param native    the backend's own words or code ("SQLITE_FULL: …"); may be empty.
  Error(Errc code, std::string operation, std::string object, std::string message, std::string native = {});

  [[nodiscard]] Errc code() const noexcept { return code_; }
  [[nodiscard]] const std::string& operation() const noexcept { return operation_; }
  [[nodiscard]] const std::string& object() const noexcept { return object_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::string& native() const noexcept { return native_; }
  // what(): "append events: the disk is full … [store_full; SQLITE_FULL]"

 private:
  Errc code_;
  std::string operation_;
  std::string object_;
  std::string message_;
  std::string native_;
};

}  // namespace millrace
