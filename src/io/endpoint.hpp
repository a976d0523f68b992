// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Where a server is and how it is spoken to. Plain values.

#include <cstdint>
#include <optional>
#include <string>

namespace millrace::io {

/// TLS of a client. The server's certificate and the name in it are checked unless told otherwise.
struct TlsOptions {
  std::string ca_file = {};      ///< PEM file of the CAs to trust; empty: those of the system
  std::string cert_file = {};    ///< our own certificate, for servers that ask; with `key_file` or not at all
  std::string key_file = {};     ///< its key, not encrypted
  std::string server_name = {};  ///< the name asked for (SNI) and looked for in the certificate; empty: the host
  bool verify = true;            ///< false: whoever answers is believed; anybody on the way can read and change

  bool operator==(const TlsOptions&) const = default;
};

/// A TCP host and port, or the path of a Unix socket.
struct Endpoint {
  std::string host = {};  ///< a name, an IPv4 or an IPv6 address (without brackets); empty for a Unix socket
  std::uint16_t port = 0;
  std::string path = {};  ///< of a Unix socket
  std::optional<TlsOptions> tls = {};

  /// "localhost:6379", "[::1]:6379", "/run/redis.sock".
  [[nodiscard]] std::string describe() const;
  bool operator==(const Endpoint&) const = default;
};

}  // namespace millrace::io
