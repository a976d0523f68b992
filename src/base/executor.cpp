// SPDX-License-Identifier: Apache-2.0
#include "base/executor.hpp"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "millrace/error.hpp"

namespace millrace {

struct Executor::Impl {
  std::mutex mutex;
  std::condition_variable work;  ///< a task was queued, or stopping
  std::condition_variable room;  ///< a task was taken, or stopping
  std::deque<std::function<void()>> queue;
  std::size_t limit = 0;
  bool stopping = false;

  std::mutex joining;  ///< a second stop() waits for the first
  std::vector<std::thread> threads;

  // noexcept: a task that throws breaks its promise and ends the program where it threw.
  void run() noexcept {
    std::unique_lock lock(mutex);
    for (;;) {
      work.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      auto task = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      room.notify_one();
      task();
      task = nullptr;  // what it holds is destroyed outside the lock
      lock.lock();
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work.notify_all();
    room.notify_all();
    const std::lock_guard lock(joining);
    for (auto& thread : threads) {
      if (thread.joinable()) thread.join();
    }
  }
};

Executor::Executor(std::size_t threads, std::size_t queue_limit, const char* thread_name)
    : impl_(std::make_unique<Impl>()) {
  if (threads == 0) throw Error(Errc::invalid_argument, "start executor", thread_name, "threads must be at least 1");
  if (queue_limit == 0) {
    throw Error(Errc::invalid_argument, "start executor", thread_name, "queue_limit must be at least 1");
  }
  impl_->limit = queue_limit;
  const std::string name = std::string(thread_name).substr(0, 15);  // the kernel keeps no more
  try {
    for (std::size_t i = 0; i < threads; ++i) {
      impl_->threads.emplace_back([impl = impl_.get()] { impl->run(); });
      ::pthread_setname_np(impl_->threads.back().native_handle(), name.c_str());
    }
  } catch (...) {
    impl_->stop();
    throw;
  }
}

Executor::~Executor() {
  impl_->stop();
}

bool Executor::try_post(std::function<void()> task) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->stopping || impl_->queue.size() >= impl_->limit) return false;
    impl_->queue.push_back(std::move(task));
  }
  impl_->work.notify_one();
  return true;
}

bool Executor::post(std::function<void()> task) {
  {
    std::unique_lock lock(impl_->mutex);
    impl_->room.wait(lock, [&] { return impl_->stopping || impl_->queue.size() < impl_->limit; });
    if (impl_->stopping) return false;
    impl_->queue.push_back(std::move(task));
  }
  impl_->work.notify_one();
  return true;
}

void Executor::stop() {
  impl_->stop();
}

}  // namespace millrace
