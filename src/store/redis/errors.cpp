// SPDX-License-Identifier: Apache-2.0
#include "store/redis/errors.hpp"

#include <optional>
#include <utility>

namespace millrace::store::redis {
namespace {

constexpr std::string_view kOurs = "MILLRACE ";

struct Mapping {
  std::string_view begins;    ///< how the reply begins
  std::string_view contains;  ///< and what stands in it; empty: anything
  Errc errc;
  std::string_view advice;
};

// The first that fits counts. The words are those of Redis 7; all but the first word may change, so that what is
// recognised by its text alone falls back to something as careful.
constexpr Mapping kMappings[] = {
    {"OOM ", "", Errc::store_full, "the server is out of memory (maxmemory); trim, or give it more"},
    {"MISCONF ", "No space left", Errc::store_full, "the server's disk is full; free space, then retry"},
    {"MISCONF ", "", Errc::unavailable, "the server cannot write to its disk and refuses writes; look into its log"},
    {"READONLY ", "", Errc::unavailable, "the server is a replica, or has become one; name the master"},
    {"LOADING ", "", Errc::unavailable, "the server is still loading its data"},
    {"MASTERDOWN ", "", Errc::unavailable, "the server is a replica that lost its master"},
    {"BUSY ", "", Errc::unavailable, "the server is busy with somebody's script"},
    {"NOREPLICAS ", "", Errc::unavailable, "the server has fewer replicas than it wants for a write"},
    {"TRYAGAIN ", "", Errc::unavailable, "the server asks to try again"},
    {"NOSCRIPT ", "", Errc::unavailable, "the server keeps losing its scripts; does somebody flush them?"},
    {"ERR max number of clients", "", Errc::unavailable, "the server has no connection left (maxclients)"},
    {"NOAUTH ", "", Errc::permission_denied, "the server wants a password; put it into the URL"},
    {"WRONGPASS ", "", Errc::permission_denied, "the server does not know this user with this password"},
    {"ERR invalid password", "", Errc::permission_denied, "the server does not take this password"},
    {"ERR AUTH ", "", Errc::permission_denied, "the URL has a password, and the server has none set"},
    {"NOPERM ", "", Errc::permission_denied, "the server's ACL forbids this to our user"},
    {"DENIED ", "", Errc::permission_denied, "the server's protected mode takes connections of its own machine only"},
    {"ERR Client sent AUTH", "", Errc::permission_denied, "the URL has a password, and the server has none set"},
    {"MOVED ", "", Errc::invalid_argument, "the server is part of a cluster, which this store does not support"},
    {"ASK ", "", Errc::invalid_argument, "the server is part of a cluster, which this store does not support"},
    {"CROSSSLOT ", "", Errc::invalid_argument, "the server is part of a cluster, which this store does not support"},
    {"CLUSTERDOWN ", "", Errc::invalid_argument, "the server is part of a cluster, which this store does not support"},
    {"ERR DB index", "", Errc::invalid_argument, "the server has no database of this number"},
    {"ERR invalid DB index", "", Errc::invalid_argument, "the server has no database of this number"},
    {"ERR", "exceeds maximum allowed size", Errc::too_large, "more than the server keeps in one value"},
    {"WRONGTYPE ", "", Errc::corrupt, "a key of the store holds something else: does another program use its prefix?"},
    {"NOGROUP ", "", Errc::unknown_group, "the server has no such stream or group (any more)"},
    {"BUSYGROUP ", "", Errc::already_exists, "the server has a group of this name already"},
    {"NOPROTO ", "", Errc::unsupported_version, "the server does not speak this protocol"},
    {"ERR unknown command", "", Errc::unsupported_version, "the server does not know a command, or it was renamed"},
};

const Mapping* mapping_of(std::string_view reply) noexcept {
  for (const Mapping& mapping : kMappings) {
    if (reply.starts_with(mapping.begins) && reply.find(mapping.contains) != std::string_view::npos) return &mapping;
  }
  return nullptr;
}

std::string_view take_word(std::string_view& text) noexcept {
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(std::min(text.size(), word.size() + 1));
  return word;
}

std::optional<Errc> errc_named(std::string_view name) noexcept {
  for (int i = 0; i <= static_cast<int>(Errc::internal); ++i) {
    if (to_string(static_cast<Errc>(i)) == name) return static_cast<Errc>(i);
  }
  return std::nullopt;
}

}  // namespace

Errc errc_of(std::string_view reply) noexcept {
  if (reply.starts_with(kOurs)) {
    reply.remove_prefix(kOurs.size());
    return errc_named(take_word(reply)).value_or(Errc::internal);
  }
  const Mapping* mapping = mapping_of(reply);
  return mapping != nullptr ? mapping->errc : Errc::internal;
}

Error to_error(std::string_view reply, std::string operation, const std::string& server) {
  if (reply.starts_with(kOurs)) {
    std::string_view rest = reply.substr(kOurs.size());
    if (const std::optional<Errc> code = errc_named(take_word(rest))) {
      const std::string_view object = take_word(rest);
      return {*code, std::move(operation), object == "-" ? std::string() : std::string(object), std::string(rest)};
    }
  }
  const Mapping* mapping = mapping_of(reply);
  return {mapping != nullptr ? mapping->errc : Errc::internal, std::move(operation), server,
          std::string(mapping != nullptr ? mapping->advice : "unexpected answer of the server"), std::string(reply)};
}

}  // namespace millrace::store::redis
