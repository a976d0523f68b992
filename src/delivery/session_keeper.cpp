// SPDX-License-Identifier: Apache-2.0
#include "delivery/session_keeper.hpp"

#include <utility>

#include "base/log.hpp"

namespace millrace::delivery {

SessionKeeper::SessionKeeper(Ledger& ledger, Milliseconds lease, Lost lost)
    : ledger_(ledger), lease_(lease), lost_(std::move(lost)), thread_([this] { run(); }) {}

SessionKeeper::~SessionKeeper() {
  {
    const std::lock_guard lock(mutex_);
    quit_ = true;
    condition_.notify_one();
  }
  thread_.join();
}

void SessionKeeper::keep(SessionId session) {
  const std::lock_guard lock(mutex_);
  session_ = session;
  plan_.emplace(lease_, std::chrono::steady_clock::now());
  condition_.notify_one();
}

void SessionKeeper::let_go() {
  const std::lock_guard lock(mutex_);
  session_.reset();
}

void SessionKeeper::run() {
  bool failing = false;
  std::unique_lock lock(mutex_);
  while (!quit_) {
    if (!session_) {
      condition_.wait(lock);
      continue;
    }
    if (std::chrono::steady_clock::now() < plan_->next()) {
      condition_.wait_until(lock, plan_->next());
      continue;
    }
    const SessionId session = *session_;
    lock.unlock();
    const Time begun = std::chrono::steady_clock::now();
    bool alive = true;
    bool answered = true;
    try {
      alive = ledger_.renew_session(session);
    } catch (const Error& error) {
      answered = false;
      if (!failing) log::write(log::Level::warn, error);
    }
    failing = !answered;
    if (!alive) lost_(session);
    lock.lock();
    if (session_ != session) continue;
    if (!alive) {
      session_.reset();
    } else if (answered) {
      plan_->renewed(begun);
    } else {
      plan_->failed(std::chrono::steady_clock::now());
    }
  }
}

}  // namespace millrace::delivery
