// SPDX-License-Identifier: Apache-2.0
#include "store/common.hpp"

#include <algorithm>
#include <numeric>

#include "base/time.hpp"

namespace millrace::store {
namespace {

std::uint64_t fnv1a(std::uint64_t hash, std::string_view bytes) {
  for (const char byte : bytes) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 0x100000001B3ULL;
  }
  return hash;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : ",") + text;
  return all.empty() ? "(all)" : all;
}

std::vector<std::string> as_set(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  return texts;
}

[[noreturn]] void mismatch(const GroupName& group, const char* field, const std::string& recorded,
                           const std::string& named) {
  throw Error(Errc::group_mismatch, "ensure group", field,
              "group " + group.str() + " was created with " + field + " " + recorded + ", not " + named +
                  "; name what is recorded, or delete the group and create it anew");
}

}  // namespace

std::size_t event_bytes(const Event& event) {
  std::size_t bytes = event.id.size() + event.source.size() + event.type.size() + event.subject.size() +
                      event.time.size() + event.datacontenttype.size() + event.dataschema.size();
  for (const Extension& extension : event.extensions) {
    const auto* text = std::get_if<std::string>(&extension.value);
    bytes += extension.name.size() + (text ? text->size() : sizeof(std::int32_t));
  }
  return bytes + (event.data ? event.data->size() : 0);
}

std::uint64_t content_fingerprint(std::string_view type, std::optional<std::string_view> data) {
  // FNV-1a: it guards against mistakes (an id used twice), not against malice.
  std::uint64_t hash = fnv1a(0xCBF29CE484222325ULL, type);
  hash = fnv1a(hash, data ? std::string_view("\0d", 2) : std::string_view("\0n", 2));
  return data ? fnv1a(hash, *data) : hash;
}

void mark_erased(Event& event, Timestamp now) {
  event.data.reset();
  event.set_extension(kErasedTime, format_rfc3339(now));
}

bool is_erased(const Event& event) {
  return !event.data && event.extension(kErasedTime) != nullptr;
}

std::optional<Timestamp> expires_at(const Event& event) {
  if (event.extensions.empty()) return std::nullopt;
  const AttributeValue* value = event.extension("expirytime");
  const auto* text = value ? std::get_if<std::string>(value) : nullptr;
  return text ? parse_rfc3339(*text) : std::nullopt;
}

ledger::Ordinal ordinal_of(Position position, std::string_view operation) {
  if (position.high != 0) {
    throw Error(Errc::invalid_argument, std::string(operation), position.to_string(),
                "not a position of this store: its positions are 1, 2, 3 …");
  }
  return position.low;
}

GroupIdentity new_group(const GroupName& group, const GroupSpec& spec) {
  if (!spec.stream || !spec.start) {
    throw Error(Errc::unknown_group, "ensure group", group.str(),
                std::string("there is no such group; name ") + (spec.stream ? "" : "a stream ") +
                    (!spec.stream && !spec.start ? "and " : "") + (spec.start ? "" : "a start ") + "to create it");
  }
  GroupIdentity identity{*spec.stream, *spec.start, spec.types.value_or(std::vector<std::string>{}),
                         spec.order.value_or(OrderRule{}), spec.settings.value_or(GroupSettings{})};
  check_types(identity.types);
  identity.settings.validate();
  return identity;
}

void check_group(const GroupName& group, const GroupSpec& spec, const GroupIdentity& recorded) {
  if (spec.stream && *spec.stream != recorded.stream) {
    mismatch(group, "stream", recorded.stream.str(), spec.stream->str());
  }
  if (spec.start && *spec.start != recorded.start) {
    mismatch(group, "start", recorded.start.to_string(), spec.start->to_string());
  }
  if (spec.types && as_set(*spec.types) != as_set(recorded.types)) {
    mismatch(group, "types", joined(recorded.types), joined(*spec.types));
  }
  if (spec.order && *spec.order != recorded.order) {
    mismatch(group, "order", recorded.order.to_string(), spec.order->to_string());
  }
  if (spec.settings) spec.settings->validate();
}

std::vector<std::size_t> settling_order(std::span<const Settlement> settlements) {
  std::vector<std::size_t> order(settlements.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto earlier = [&](std::size_t a, std::size_t b) {
    return settlements[a].lease.position < settlements[b].lease.position;
  };
  if (!std::is_sorted(order.begin(), order.end(), earlier)) std::stable_sort(order.begin(), order.end(), earlier);
  return order;
}

void check_types(const std::vector<std::string>& patterns) {
  (void)PatternList(patterns);
}

void check_consumer(const std::string& consumer, Milliseconds lease) {
  if (consumer.empty() || consumer.size() > 256) {
    throw Error(Errc::invalid_argument, "claim", "consumer", "a consumer has a name of 1 to 256 bytes");
  }
  if (lease < Milliseconds{1} || lease > std::chrono::hours{24}) {
    throw Error(Errc::invalid_argument, "claim", "lease",
                "a lease lasts from 1 ms to 24 h, not " + std::to_string(lease.count()) + " ms");
  }
}

void check_claim(const ClaimRequest& request) {
  const auto* lease = std::get_if<Milliseconds>(&request.hold);
  check_consumer(request.consumer, lease ? *lease : Milliseconds{1});
  if (request.max == 0) throw Error(Errc::invalid_argument, "claim", "max", "a claim asks for at least one event");
  if (request.max_bytes == 0) {
    throw Error(Errc::invalid_argument, "claim", "max_bytes", "a claim asks for at least one byte");
  }
}

void check_key(std::string_view key, std::string_view operation) {
  if (key.empty() || key.size() > 512) {
    throw Error(Errc::invalid_argument, std::string(operation), std::string(key.substr(0, 64)),
                "a key has 1 to 512 bytes, not " + std::to_string(key.size()));
  }
}

void check_ttl(std::optional<Milliseconds> ttl, std::string_view operation) {
  if (ttl && *ttl <= Milliseconds{0}) {
    throw Error(Errc::invalid_argument, std::string(operation), "ttl",
                "a time to live is at least 1 ms, not " + std::to_string(ttl->count()));
  }
}

std::string after_prefix(std::string_view prefix) {
  std::string next(prefix);
  while (!next.empty() && next.back() == '\xFF') next.pop_back();
  if (!next.empty()) next.back() = static_cast<char>(static_cast<unsigned char>(next.back()) + 1);
  return next;
}

ReadFilter::ReadFilter(const ReadQuery& query)
    : all_(query.types.empty() && query.sources.empty() && query.keys.empty()),
      types_(query.types),
      sources_(query.sources),
      keys_(query.keys.begin(), query.keys.end()) {}

bool ReadFilter::matches(const Event& event) const {
  return matches(event.type, event.source, [&event] { return OrderRule{}.key_of(event).value_or(std::string{}); });
}

bool ReadFilter::matches(std::string_view type, std::string_view source,
                         const std::function<std::string()>& order_key) const {
  return types_.matches(type) && sources_.matches(source) && (keys_.empty() || keys_.contains(order_key()));
}

Error unknown_stream(std::string_view operation, const StreamName& stream) {
  return Error(Errc::unknown_stream, std::string(operation), stream.str(),
               "there is no such stream; streams are created on purpose (millrace streams create)");
}

Error stream_exists(const StreamName& stream) {
  return Error(Errc::already_exists, "create stream", stream.str(), "there is a stream of that name");
}

Error unknown_group(std::string_view operation, const GroupName& group) {
  return Error(Errc::unknown_group, std::string(operation), group.str(), "there is no such group");
}

}  // namespace millrace::store
