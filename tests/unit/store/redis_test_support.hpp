// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/redis/client.hpp"
#include "support/gate.hpp"
#include "support/redis_server.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MILLRACE_SANITIZED 1
#else
#define MILLRACE_SANITIZED 0
#endif

namespace millrace::store::redis {

using test::Gate;
using test::RedisServer;

inline Script script_of(std::string_view source) {
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(source.data()), source.size(), digest.data());
  std::string hex;
  for (const unsigned char byte : digest) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return {"test_script", source, hex};
}

/// Waits for what must come; only a failure takes long.
inline bool eventually(const std::function<bool()>& condition, std::chrono::seconds limit = std::chrono::seconds(30)) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

/// The Error that `action` throws; {internal} "nothing was thrown" when it does not.
inline Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return {Errc::internal, "", "", "nothing was thrown"};
}

inline std::string gate_url(const Gate& gate, const std::string& options = {}) {
  return "redis://127.0.0.1:" + std::to_string(gate.port()) + (options.empty() ? "" : "?" + options);
}

}  // namespace millrace::store::redis
