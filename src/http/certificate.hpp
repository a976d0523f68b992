// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What a certificate is good for, without serving with it.

#include <string>

#include "millrace/types.hpp"

namespace millrace::http {

struct CertificateDates {
  Timestamp not_before = {};
  Timestamp not_after = {};
};

/// Looks at the files that a server would speak TLS with: the first certificate of `cert`, and whether `key` is its.
/// \throws Error{not_found, permission_denied, invalid_argument} naming the file, as a server with them would
CertificateDates inspect_certificate(const std::string& cert, const std::string& key);

}  // namespace millrace::http
