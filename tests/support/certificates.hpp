// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace millrace::test {

/// Makes, in this directory, a CA (ca.crt) and two pairs it signed for "localhost" and 127.0.0.1: server.crt and
/// server.key, client.crt and client.key. Good for two days.
void make_certificates(const std::string& directory);

}  // namespace millrace::test
