// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace millrace::cli {

/// The whole command line. Returns the exit code; see exit.hpp.
int run(int argc, char** argv);

}  // namespace millrace::cli
