// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "io/endpoint.hpp"

namespace millrace::io {

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

/// A client's context: TLS 1.2 or newer. Reads the files, so do it once and not on a thread that must not wait.
/// \throws Error{invalid_argument} naming the file
TlsContext load_client_tls(const TlsOptions& options);

}  // namespace millrace::io
