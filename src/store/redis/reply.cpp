// SPDX-License-Identifier: Apache-2.0
#include "store/redis/reply.hpp"

#include "millrace/error.hpp"

namespace millrace::store::redis {
namespace {

const char* name_of(Reply::Kind kind) {
  switch (kind) {
    case Reply::Kind::nil:
      return "nothing";
    case Reply::Kind::integer:
      return "an integer";
    case Reply::Kind::text:
      return "a text";
    case Reply::Kind::array:
      return "an array";
    case Reply::Kind::error:
      return "an error";
  }
  return "something unknown";
}

void expect(const Reply& reply, Reply::Kind wanted) {
  if (reply.kind == wanted) return;
  throw Error(Errc::corrupt, "read the server's answer", "",
              std::string("it is ") + name_of(reply.kind) + " where " + name_of(wanted) + " belongs",
              reply.is_error() ? reply.text : std::string());
}

}  // namespace

const std::string& Reply::as_text() const {
  expect(*this, Kind::text);
  return text;
}

std::int64_t Reply::as_integer() const {
  expect(*this, Kind::integer);
  return integer;
}

const std::vector<Reply>& Reply::as_array() const {
  expect(*this, Kind::array);
  return items;
}

}  // namespace millrace::store::redis
