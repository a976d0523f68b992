// SPDX-License-Identifier: Apache-2.0
#include "store/redis/pipeline.hpp"

#include <algorithm>
#include <utility>

namespace millrace::store::redis {
namespace {

/// After so many "no such script" the answer is given to the caller: somebody flushes them all the time.
constexpr int kMostLostScripts = 5;

std::string milliseconds(Milliseconds time) {
  return std::to_string(time.count()) + " ms";
}

std::string_view bytes_of(const Request& request) {
  return request.large ? std::string_view(*request.large) : request.bytes;
}

bool is_lost_script(const Request& request) {
  const Reply& first = request.replies.front();
  return request.script != nullptr && first.is_error() && first.text.starts_with("NOSCRIPT ");
}

bool all_errors(const std::vector<Reply>& replies) {
  return std::all_of(replies.begin(), replies.end(), [](const Reply& reply) { return reply.is_error(); });
}

}  // namespace

Pipeline::Pipeline(std::string server, Milliseconds connect_timeout, unsigned replicas)
    : server_(std::move(server)), connect_timeout_(connect_timeout), replicas_(replicas) {}

void Pipeline::push(RequestPtr request) {
  queue_.push_back(std::move(request));
}

void Pipeline::write(Request& request, std::size_t limit, Output& out) {
  bool whole_text = false;
  if (request.lost_scripts > 0) {
    // Its text went out after this request did: the server knows it by now.
    const auto [sent, first] = script_sent_.try_emplace(request.script->sha1, 0);
    whole_text = first || sent->second < request.sent_as || request.lost_scripts > 1;
    if (whole_text) sent->second = counter_ + 1;
  }
  request.sent_as = ++counter_;
  const std::string_view bytes = bytes_of(request);
  if (!whole_text && bytes.size() > limit) {
    if (!request.large) request.large = std::make_shared<const std::string>(std::move(request.bytes));
    out.large = request.large;
    return;
  }
  if (!whole_text) {
    out.gathered += bytes;
    return;
  }
  const std::string_view source = request.script->source;
  out.gathered += bytes.substr(0, bytes.find('\n') + 1);  // how many words: the same as with the digest
  out.gathered += "$4\r\nEVAL\r\n$" + std::to_string(source.size()) + "\r\n";
  out.gathered += source;
  out.gathered += "\r\n";
  out.gathered += bytes.substr(request.script_args);
}

Output Pipeline::take_output(std::size_t limit, Steady now) {
  Output out;
  if (!lost_.empty()) return out;  // who comes later hears later
  while (!out.large && out.gathered.size() < limit) {
    std::deque<RequestPtr>& from = again_.empty() ? queue_ : again_;
    if (from.empty()) break;
    if (!out.gathered.empty() && out.gathered.size() + bytes_of(*from.front()).size() > limit) break;
    RequestPtr request = std::move(from.front());
    from.pop_front();
    write(*request, limit, out);
    request->sent_at = now;
    sent_.push_back(std::move(request));
  }
  return out;
}

void Pipeline::on_bytes(Steady now) {
  heard_ = now;
}

void Pipeline::on_reply(Reply reply, Steady now) {
  heard_ = now;
  if (sent_.empty()) return;
  Request& front = *sent_.front();
  front.replies.push_back(std::move(reply));
  if (front.replies.size() < front.commands) return;
  RequestPtr request = std::move(sent_.front());
  sent_.pop_front();
  if (overdue_ > 0) {
    --overdue_;
    return;
  }
  complete(std::move(request), now);
}

void Pipeline::complete(RequestPtr request, Steady now) {
  if (is_lost_script(*request) && request->lost_scripts < kMostLostScripts) {
    ++request->lost_scripts;
    request->replies.clear();
    request->queued_at = now;
    again_.push_back(std::move(request));
    return;
  }
  std::vector<Reply> replies = std::move(request->replies);
  if (request->confirm) {
    const Reply confirmed = std::move(replies.back());
    replies.pop_back();
    if (!all_errors(replies) && (confirmed.kind != Reply::Kind::integer || confirmed.integer < replicas_)) {
      const std::string count = confirmed.is_error() ? confirmed.text : std::to_string(confirmed.integer);
      return fail(std::move(request), Errc::outcome_unknown,
                  "the server has it, but not " + std::to_string(replicas_) +
                      " replicas confirmed it in time; retry with the same ids",
                  "WAIT: " + count);
    }
  }
  if (std::any_of(replies.begin(), replies.end(),
                  [](const Reply& reply) { return reply.is_error() && !reply.text.starts_with("MILLRACE "); })) {
    ++errors_;
  }
  finish(std::move(request), std::move(replies));
}

void Pipeline::on_connected() {
  connected_ = true;
  why_down_.clear();
  script_sent_.clear();
}

void Pipeline::on_down(const Error& why, Steady now) {
  connected_ = false;
  why_down_ = why.message() + (why.native().empty() ? "" : " (" + why.native() + ")");
  std::deque<RequestPtr> sent;
  sent.swap(sent_);
  sent.erase(sent.begin(), sent.begin() + static_cast<std::ptrdiff_t>(std::exchange(overdue_, 0)));
  if (lost_.empty()) why_lost_ = why_down_;  // else nothing was sent since
  for (RequestPtr& request : sent) {
    if (request->writes || request->lost) {
      lost_.push_back(std::move(request));
    } else {
      request->lost = true;
      request->replies.clear();
      request->queued_at = now;
      again_.push_back(std::move(request));
    }
  }
}

void Pipeline::fail_lost(std::size_t& most) {
  for (; most > 0 && !lost_.empty(); --most) {
    RequestPtr request = std::move(lost_.front());
    lost_.pop_front();
    if (request->writes) {
      fail(std::move(request), Errc::outcome_unknown,
           "no answer came, and it may have been done; retry with the same ids: " + why_lost_);
    } else {
      fail(std::move(request), Errc::unavailable, "lost its connection twice: " + why_lost_);
    }
  }
}

void Pipeline::fail_lost() {
  std::size_t all = lost_.size();
  fail_lost(all);
}

Steady Pipeline::unsent_expiry(const Request& request) const {
  return request.queued_at + (connected_ ? request.patience : connect_timeout_);
}

void Pipeline::expire(std::deque<RequestPtr>& waiting, Steady now, std::size_t& most) {
  for (; most > 0 && !waiting.empty() && unsent_expiry(*waiting.front()) <= now; --most) {
    RequestPtr request = std::move(waiting.front());
    waiting.pop_front();
    const std::string message =
        connected_ ? "timed out before it was sent: the server took nothing for " + milliseconds(request->patience)
                   : "timed out: no connection for " + milliseconds(connect_timeout_) +
                         (why_down_.empty() ? std::string() : ": " + why_down_);
    fail(std::move(request), Errc::unavailable, message);
  }
}

bool Pipeline::on_time(Steady now, std::size_t most) {
  fail_lost(most);
  expire(again_, now, most);
  expire(queue_, now, most);
  for (; most > 0 && overdue_ < sent_.size() && sent_[overdue_]->sent_at + sent_[overdue_]->patience <= now; --most) {
    // What stays behind only takes its answers, should they still come.
    auto stays = std::make_unique<Request>();
    stays->commands = sent_[overdue_]->commands;
    stays->sent_at = sent_[overdue_]->sent_at;
    stays->patience = sent_[overdue_]->patience;
    stays->replies = std::move(sent_[overdue_]->replies);
    RequestPtr request = std::exchange(sent_[overdue_], std::move(stays));
    ++overdue_;
    const std::string waited = "timed out: no answer for " + milliseconds(request->patience);
    if (request->writes) {
      fail(std::move(request), Errc::outcome_unknown, waited + ", and it may have been done; retry with the same ids");
    } else {
      fail(std::move(request), Errc::unavailable, waited);
    }
  }
  return overdue_ > 0 && heard_ < sent_.front()->sent_at;
}

std::optional<Steady> Pipeline::next_deadline() const {
  if (!lost_.empty()) return Steady{};  // at once
  std::optional<Steady> next;
  const auto consider = [&next](Steady time) { next = next ? std::min(*next, time) : time; };
  if (!again_.empty()) consider(unsent_expiry(*again_.front()));
  if (!queue_.empty()) consider(unsent_expiry(*queue_.front()));
  if (overdue_ < sent_.size()) consider(sent_[overdue_]->sent_at + sent_[overdue_]->patience);
  return next;
}

std::optional<Steady> Pipeline::oldest() const {
  std::optional<Steady> oldest;
  const auto consider = [&oldest](const Request& request) {
    oldest = std::min(oldest.value_or(request.queued_at), request.queued_at);
  };
  if (!lost_.empty()) consider(*lost_.front());
  if (!again_.empty()) consider(*again_.front());
  if (!queue_.empty()) consider(*queue_.front());
  if (overdue_ < sent_.size()) consider(*sent_[overdue_]);
  return oldest;
}

void Pipeline::fail_unsent(const Error& why) {
  for (std::deque<RequestPtr>* waiting : {&again_, &queue_}) {
    while (!waiting->empty()) {
      RequestPtr request = std::move(waiting->front());
      waiting->pop_front();
      fail(std::move(request), why.code(), why.message(), why.native());
    }
  }
}

void Pipeline::fail(RequestPtr request, Errc code, std::string message, std::string native) {
  ++errors_;
  Error error(code, request->operation, server_, std::move(message), std::move(native));
  finish(std::move(request), std::move(error));
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): the request ends here
void Pipeline::finish(RequestPtr request, std::variant<std::vector<Reply>, Error> outcome) {
  if (request->done) request->done(std::move(outcome));
}

}  // namespace millrace::store::redis
