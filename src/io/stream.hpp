// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Connecting, and a connected stream of bytes, whether over TCP, a Unix socket or TLS.

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <functional>
#include <memory>

#include "io/endpoint.hpp"
#include "io/tls.hpp"
#include "millrace/error.hpp"
#include "millrace/types.hpp"

namespace millrace::io {

/// One strand at a time; one read and one write may be pending. Closing it ends what is pending, soon and with an
/// error; the stream and the buffers must live until then.
class Stream {
 public:
  using Done = std::function<void(const boost::system::error_code&, std::size_t)>;

  Stream() = default;
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// At least one byte, or an error: `eof` when the other side closed.
  virtual void read_some(boost::asio::mutable_buffer into, Done done) = 0;
  virtual void write_some(boost::asio::const_buffer from, Done done) = 0;
  virtual void close() noexcept = 0;
};

/// An attempt to connect. Keep it as long as it runs.
class Connecting {
 public:
  /// The stream, or null and why not: {unavailable}, or {permission_denied} when a Unix socket's file forbids it.
  using Done = std::function<void(std::unique_ptr<Stream>, const Error*)>;

  Connecting() = default;
  virtual ~Connecting() = default;
  Connecting(const Connecting&) = delete;
  Connecting& operator=(const Connecting&) = delete;
  virtual void cancel() = 0;  ///< `done` is not called any more
};

/// Resolves, connects and shakes hands, all of it within `timeout`; what ran out of time is named. `done` is called
/// once, from the loop, never from within this call.
/// \param tls a context made of `endpoint.tls`; null when it has none
std::shared_ptr<Connecting> connect(boost::asio::io_context& loop, const Endpoint& endpoint, const TlsContext& tls,
                                    Milliseconds timeout, Connecting::Done done);

}  // namespace millrace::io
