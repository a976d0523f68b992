// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "store/sqlite/writer.hpp"

namespace millrace::store::sqlite {

/// Appends events to a stream. Whatever can be prepared is prepared in the constructor, on the caller's thread.
class Append : public Operation {
 public:
  /// `events` and `stream` must outlive the operation.
  Append(Writer& writer, const StreamName& stream, std::span<const Event> events, Durability durability);
  void run(State& state) override;
  void finish(const Error*, Durability) noexcept override {}

  /// In input order, `durability` filled in.
  std::vector<AppendResult> take_results(Durability reached);

 private:
  AppendResult append(State& state, StreamState& stream, std::size_t index);
  bool seen_before_trim(State& state, StreamState& stream, const Event& event, AppendResult& result);

  Writer& writer_;
  const StreamName& name_;
  std::span<const Event> events_;
  std::vector<std::string> extensions_;  ///< encoded; empty when no event has any
  std::vector<AppendResult> results_;
};

}  // namespace millrace::store::sqlite
