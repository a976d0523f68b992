// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Which call a request is: a table of method, path template, known query parameters and handler.

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/access.hpp"
#include "daemon/call.hpp"

namespace millrace::daemon {

/// Where a handler runs.
enum class Pool {
  ingest,  ///< publishing: decodes, hands over to the store's writer; waits only while the writer's queue is full
  work,    ///< everything that asks the store and waits for its answer
  watch,   ///< how things are: it must be said most of all while everything else waits for the store
};

struct Route {
  std::string_view method;
  std::string_view path;  ///< "/v1/streams/{stream}/events"
  std::vector<std::string_view> parameters;
  void (*handler)(Services&, const std::shared_ptr<Call>&);
  // A row that says nothing is the most closed one.
  Needs needs = Needs::admin;
  Reach reach = Reach::store;
  Pool pool = Pool::work;
};

/// The whole surface.
std::span<const Route> routes();

struct Match {
  const Route* route = nullptr;             ///< nullptr: see `allowed`
  std::map<std::string, std::string> path;  ///< "stream" → "events", percent-decoded
  std::string allowed;                      ///< methods the path has; empty = no such path
  std::string_view known_path;              ///< the template, when the path is known
};

/// HEAD is answered wherever GET is. Pure. \throws Error{invalid_argument} for broken percent-encoding
Match match(std::span<const Route> table, std::string_view method, std::string_view path);

}  // namespace millrace::daemon
