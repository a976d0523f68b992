// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace millrace::test {

/// A TCP gate in front of a server on a Unix socket: what goes through can be held back, cut off or swallowed.
class Gate {
 public:
  explicit Gate(std::string target_socket);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }

  void open();        ///< everything goes through (as at the beginning)
  void black_hole();  ///< nothing goes through, in either direction, and nobody is told
  /// Answers come so much later.
  void delay_answers(std::chrono::milliseconds time) { delay_ms_ = time.count(); }
  /// Every connection is closed after so many further bytes of answers.
  void cut_after(std::int64_t bytes) { cut_after_ = bytes; }
  void cut_now();  ///< closes every connection
  /// The next request with these bytes in it is carried out, but instead of its answer every connection is closed.
  void lose_answer_to(const std::string& words);
  [[nodiscard]] bool losing() const;  ///< it has not come by yet
  void refuse(bool on);               ///< closes every new connection at once
  [[nodiscard]] int accepted() const { return accepted_; }
  [[nodiscard]] std::int64_t asked_bytes() const { return asked_bytes_; }  ///< that came from clients

 private:
  struct Pair;
  void run();
  bool pump(Pair& pair, bool to_client);

  std::string target_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> holding_{false};
  std::atomic<bool> refusing_{false};
  std::atomic<bool> cutting_{false};
  std::atomic<std::int64_t> delay_ms_{0};
  std::atomic<std::int64_t> cut_after_{-1};
  std::atomic<int> accepted_{0};
  std::atomic<std::int64_t> asked_bytes_{0};
  std::atomic<bool> ending_{false};
  mutable std::mutex mutex_;
  std::string lost_words_;  ///< empty: none
  std::vector<std::unique_ptr<Pair>> pairs_;
  std::thread thread_;
};

}  // namespace millrace::test
