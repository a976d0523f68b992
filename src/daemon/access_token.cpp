// SPDX-License-Identifier: Apache-2.0
#include "daemon/access_token.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <charconv>

#include "base/time.hpp"
#include "daemon/access.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {
namespace {

constexpr std::size_t kKeyBytes = 32;

}  // namespace

AccessTokens::AccessTokens() : key_(kKeyBytes, '\0') {
  if (RAND_bytes(reinterpret_cast<unsigned char*>(key_.data()), kKeyBytes) != 1) {
    throw Error(Errc::unavailable, "start", "access tokens", "the machine gave no random bytes for their key");
  }
}

std::string AccessTokens::signature(std::string_view text) const {
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac{};
  unsigned length = 0;
  HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), reinterpret_cast<const unsigned char*>(text.data()),
       text.size(), mac.data(), &length);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", mac.at(i));
  return hex;
}

std::string AccessTokens::make(const StreamName& stream, Timestamp expires) const {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(expires).time_since_epoch().count();
  const std::string text = fmt::format("{}.{}", seconds, stream.str());
  return text + '.' + signature(text);
}

bool AccessTokens::good_for(std::string_view token, std::string_view stream, Timestamp now) const {
  const std::size_t last = token.rfind('.');
  if (last == std::string_view::npos) return false;
  const std::string_view text = token.substr(0, last);
  const std::string expected = signature(text);
  const std::string_view given = token.substr(last + 1);
  // What it says is looked at only once it is known who said it.
  if (given.size() != expected.size() || CRYPTO_memcmp(given.data(), expected.data(), expected.size()) != 0)
    return false;
  std::int64_t seconds = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (failure != std::errc{}) return false;
  const auto used = static_cast<std::size_t>(end - text.data());
  return used < text.size() && text.substr(used + 1) == stream && now < Timestamp{std::chrono::seconds{seconds}};
}

void make_access_token(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"scope", "stream", "ttl_s"});
  if (call->who() == nullptr) {
    throw Error(Errc::invalid_argument, "make access token", "token",
                "this daemon asks nobody for a token; tail without access_token");
  }
  if (const auto scope = body.text("scope"); scope && *scope != "consume") {
    throw Error(Errc::invalid_argument, "make access token", "scope",
                "an access token is for tailing, so its scope is consume, not " + *scope);
  }
  const StreamName stream(body.required("stream"));
  check_stream(call->who(), stream.str());
  static_cast<void>(services.store.log().stream(stream));
  const auto longest = static_cast<std::uint64_t>(kLongestAccessToken.count());
  const std::chrono::seconds ttl{static_cast<std::int64_t>(body.number("ttl_s", {1, longest}).value_or(60))};
  // Rounded up: one for a second is good for one, not for what is left of this one.
  const Timestamp expires = std::chrono::ceil<std::chrono::seconds>(
      std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now()) + ttl);
  call->json(JsonWriter()
                 .text("access_token", services.access_tokens.make(stream, expires))
                 .text("expires_at", format_rfc3339(expires))
                 .finish());
}

}  // namespace millrace::daemon
