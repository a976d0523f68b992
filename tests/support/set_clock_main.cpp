// SPDX-License-Identifier: Apache-2.0

// Preloaded into a server, this moves its clock by as many seconds as the file MILLRACE_CLOCK_FILE says.

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>

namespace {

long offset() {
  const char* path = std::getenv("MILLRACE_CLOCK_FILE");
  const int file = path == nullptr ? -1 : ::open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[32] = {};
  const ssize_t size = ::read(file, text, sizeof text - 1);
  ::close(file);
  return size > 0 ? std::strtol(text, nullptr, 10) : 0;
}

}  // namespace

extern "C" int gettimeofday(struct timeval* time, void*) noexcept {
  const long result = ::syscall(SYS_gettimeofday, time, nullptr);
  time->tv_sec += offset();
  return static_cast<int>(result);
}
