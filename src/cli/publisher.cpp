// SPDX-License-Identifier: Apache-2.0
#include "cli/publisher.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <thread>

#include "cli/exit.hpp"
#include "cli/table.hpp"
#include "millrace/codec.hpp"

namespace millrace::cli {
namespace {

constexpr std::size_t kBatchEvents = 1000;
constexpr std::size_t kBatchBytes = 4 << 20;  ///< well below the daemon's max_batch_bytes; one larger event goes alone

/// A refusal that the same request may escape later.
bool worth_repeating(const http::Response& response) {
  if (response.status < 400) return false;
  boost::system::error_code bad;
  const auto problem = boost::json::parse(response.body, bad);
  const auto* object = bad ? nullptr : problem.if_object();
  const auto* retryable = object == nullptr ? nullptr : object->if_contains("retryable");
  return retryable != nullptr && retryable->is_bool() && retryable->get_bool();
}

/// What it says, when that is that nobody knows whether the events were stored.
std::optional<Error> unknown_outcome(const http::Response& response) {
  try {
    throw_problem(response, "publish");
  } catch (const Error& error) {
    return error.code() == Errc::outcome_unknown ? std::optional(error) : std::nullopt;
  }
}

int strength(std::string_view durability) {
  return durability == "durable" ? 2 : durability == "relaxed" ? 1 : 0;
}

}  // namespace

void Publisher::add(const Event& event, std::uint64_t line) {
  const std::string text = encode_json(event);
  if (!lines_.empty() && (lines_.size() >= kBatchEvents || body_.size() + text.size() > kBatchBytes)) flush();
  body_ += (lines_.empty() ? "[" : ",") + text;
  lines_.push_back(line);
}

void Publisher::flush() {
  if (lines_.empty()) return;
  http::Request request;
  request.method = "POST";
  request.path = stream_path(options_.stream, "/events");
  request.query = {{"durability", options_.durability}};
  request.headers = {{"Content-Type", "application/cloudevents-batch+json"}};
  request.body = body_ + ']';
  const http::Response response = send_patiently(request);
  if (response.status >= 400) refuse(response, "publish");
  take(response);
  body_.clear();
  lines_.clear();
}

/// The answer that settles it. What an attempt left open, the refusal of a later one does not close: the events may
/// have been stored all the same.
http::Response Publisher::send_patiently(const http::Request& request) {
  std::optional<Error> unknown;
  try {
    http::Response response = repeat(request, unknown);
    if (response.status < 400 || !unknown) return response;
  } catch (const Error&) {
    if (!unknown) throw;
  }
  throw Error(unknown->code(), unknown->operation(), lines(),
              unknown->message() + "; later attempts did not tell; send them again with the same ids",
              unknown->native());
}

/// \param unknown becomes the first attempt of which nobody knows
http::Response Publisher::repeat(const http::Request& request, std::optional<Error>& unknown) {
  const auto deadline = std::chrono::steady_clock::now() + options_.patience;
  std::chrono::milliseconds wait{100};
  bool sent_before = counts_.acknowledged() + counts_.conflicts > 0;
  for (;;) {
    const bool last_try = std::chrono::steady_clock::now() + wait > deadline;
    try {
      http::Response response = target_.send(request);
      if (last_try || !worth_repeating(response)) return response;
      if (!unknown) unknown = unknown_outcome(response);
    } catch (const CannotConnect&) {
      if (!sent_before || last_try) throw;  // nobody there from the beginning: no use waiting
    } catch (const Error& error) {
      if (last_try || !is_transient(error.code())) {
        throw Error(error.code(), error.operation(), lines(), error.message() + "; send them again with the same ids",
                    error.native());
      }
      if (!unknown && error.code() == Errc::outcome_unknown) unknown = error;
    }
    sent_before = true;
    std::this_thread::sleep_for(wait);
    wait = std::min(wait * 2, std::chrono::milliseconds{2000});
  }
}

void Publisher::refuse(const http::Response& response, const std::string& operation) const {
  boost::system::error_code bad;
  const auto problem = boost::json::parse(response.body, bad);
  if (!bad && problem.is_object() && problem.as_object().contains("errors")) {
    const auto& errors = problem.at("errors");
    if (errors.is_array() && !errors.get_array().empty()) {
      const auto& first = errors.get_array().front();
      const auto index = first.at("index").to_number<std::size_t>();
      throw InvalidInput(Errc::invalid_event, operation, "line " + std::to_string(lines_.at(index)),
                         cell_at(first, "object") + ": " + cell_at(first, "detail"));
    }
  }
  try {
    throw_problem(response, operation);
  } catch (const Error& error) {
    if (error.code() == Errc::too_large || error.code() == Errc::invalid_event) {
      throw InvalidInput(error.code(), operation, lines(), error.message(), error.native());
    }
    throw;
  }
}

void Publisher::take(const http::Response& response) {
  const auto answer = boost::json::parse(response.body);
  const auto& results = answer.at("results").as_array();
  if (results.size() != lines_.size()) {
    throw Error(Errc::internal, "publish", lines(),
                "was answered with another number of results: " + std::to_string(results.size()));
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    Result result{lines_[i], cell_at(results[i], "id"), cell_at(results[i], "status"), cell_at(results[i], "position"),
                  cell_at(results[i], "durability")};
    if (result.status == "stored") {
      ++counts_.stored;
    } else if (result.status == "duplicate") {
      ++counts_.duplicates;
    } else if (result.status == "conflict") {
      ++counts_.conflicts;
    } else {
      throw Error(Errc::internal, "publish", "line " + std::to_string(lines_[i]),
                  "has an unknown status: " + result.status);
    }
    const bool reached = result.status != "conflict";
    if (reached && (counts_.durability.empty() || strength(result.durability) < strength(counts_.durability))) {
      counts_.durability = result.durability;
    }
    counts_.last_line = lines_[i];
    each_(result);
  }
}

std::string Publisher::lines() const {
  if (lines_.size() == 1) return "line " + std::to_string(lines_.front());
  return "lines " + std::to_string(lines_.front()) + " to " + std::to_string(lines_.back());
}

}  // namespace millrace::cli
