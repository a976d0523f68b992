// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace millrace {

/// A UUID version 7 (RFC 9562 §5.7), lower case, strictly increasing within a process. Thread-safe.
std::string new_uuid_v7();

}  // namespace millrace
