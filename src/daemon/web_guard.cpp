// SPDX-License-Identifier: Apache-2.0
#include "daemon/web_guard.hpp"

#include <arpa/inet.h>

#include <array>
#include <string>

namespace millrace::daemon {
namespace {

/// "[::1]:8420" → "::1", "localhost:80" → "localhost"
std::string host_of(std::string_view authority) {
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    return std::string(end == std::string_view::npos ? std::string_view{} : authority.substr(1, end - 1));
  }
  return std::string(authority.substr(0, authority.find(':')));
}

/// Names below `localhost` are loopback too (RFC 6761 §6.3).
bool is_local(const std::string& host) {
  static constexpr std::string_view kDomain = ".localhost";
  if (http::iequals(host, kDomain.substr(1))) return true;
  if (host.size() > kDomain.size() &&
      http::iequals(std::string_view(host).substr(host.size() - kDomain.size()), kDomain))
    return true;
  std::array<unsigned char, sizeof(in6_addr)> address{};
  if (inet_pton(AF_INET, host.c_str(), address.data()) == 1) return address[0] == 127;
  if (inet_pton(AF_INET6, host.c_str(), address.data()) != 1) return false;
  std::array<unsigned char, sizeof(in6_addr)> one{};
  one.back() = 1;
  return address == one;
}

}  // namespace

std::optional<http::Problem> refuse_web_page(const http::Request& request, std::string_view listen) {
  const std::string* host = request.header("Host");
  if (host != nullptr && !is_local(host_of(*host)) && !http::iequals(host_of(*host), host_of(listen))) {
    return http::Problem{403, "permission_denied",
                         "the Host '" + *host +
                             "' is neither a loopback name nor server.listen; a daemon without server.token is asked "
                             "as 127.0.0.1 or localhost only",
                         false, "Host"};
  }
  const std::string* origin = request.header("Origin");
  if (origin == nullptr) return std::nullopt;
  const std::size_t scheme = origin->find("://");
  const bool same = scheme != std::string::npos && host != nullptr &&
                    http::iequals(std::string_view(*origin).substr(scheme + 3), *host);
  if (same) return std::nullopt;
  return http::Problem{403, "permission_denied",
                       "a web page of the origin '" + *origin +
                           "' may not ask a daemon without server.token: set one, or ask from the page's own server",
                       false, "Origin"};
}

}  // namespace millrace::daemon
