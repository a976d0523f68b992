// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "daemon/access.hpp"
#include "daemon/claims.hpp"
#include "daemon/handlers.hpp"
#include "daemon/json.hpp"

namespace millrace::daemon {
namespace {

constexpr std::uint64_t kMostDeliveries = 1'000;
constexpr std::uint64_t kLongestLease = 24ULL * 3600 * 1000;
constexpr std::uint64_t kLongestRetry = 30ULL * 24 * 3600 * 1000;

/// Creates the group with the configured settings when it is not there, else checks what the caller names.
void ensure(Services& services, const GroupName& group, const Members& body) {
  GroupSpec spec;
  if (const auto stream = body.text("stream")) spec.stream = StreamName(*stream);
  if (const auto start = body.text("start")) spec.start = Start::parse(*start);
  if (const auto order = body.text("order")) spec.order = OrderRule::parse(*order);
  spec.types = body.texts("types");
  const auto pin = max_dataversion_of(body);
  // The claim itself says if it is not there.
  if (!spec.stream && !spec.start && !spec.order && !spec.types && !pin) return;
  try {
    const GroupInfo there =
        services.store.ledger().ensure_group(group, {spec.stream, std::nullopt, spec.types, spec.order, {}});
    if (pin && pin != there.settings.max_dataversion) {
      const auto recorded = there.settings.max_dataversion;
      throw Error(Errc::group_mismatch, "claim", "max_dataversion",
                  "group " + group.str() + " was recorded with " + (recorded ? std::to_string(*recorded) : "none") +
                      ", not " + std::to_string(*pin) + "; change it with POST /v1/groups/" + group.str() +
                      "/settings");
    }
  } catch (const Error& error) {
    if (error.code() != Errc::unknown_group || !spec.stream || !spec.start) throw;
    spec.settings = services.config.delivery.group;
    spec.settings->expires = services.config.delivery.expires;
    spec.settings->max_dataversion = pin;
    services.store.ledger().ensure_group(group, spec);
    return;
  }
  if (spec.start) services.store.ledger().ensure_group(group, spec);  // it is there: compares the start as well
}

struct Leases {
  std::vector<std::string> texts;
  std::vector<Lease> leases;
};

Leases read_leases(const Members& body) {
  Leases out;
  auto texts = body.texts("leases");
  if (!texts) throw Error(Errc::invalid_argument, "read request", "leases", "the member 'leases' is required");
  out.texts = std::move(*texts);
  for (const std::string& text : out.texts) out.leases.push_back(Lease::parse(text));
  return out;
}

void answer(const CallPtr& call, const Leases& leases, const std::vector<std::size_t>& stale_indexes) {
  std::vector<bool> is_stale(leases.texts.size(), false);
  for (const std::size_t index : stale_indexes) is_stale[index] = true;
  JsonWriter done('[');
  JsonWriter stale('[');
  for (std::size_t i = 0; i < leases.texts.size(); ++i) (is_stale[i] ? stale : done).text({}, leases.texts[i]);
  call->json(JsonWriter().raw("done", done.finish()).raw("stale", stale.finish()).finish());
}

void settle(Services& services, const CallPtr& call, const Leases& leases, const Outcome& outcome) {
  const GroupName group(call->path("group"));
  std::vector<Settlement> settlements;
  for (const Lease& lease : leases.leases) settlements.push_back({lease, outcome});
  answer(call, leases, services.store.ledger().settle(group, settlements));
}

}  // namespace

void claim_events(Services& services, const CallPtr& call) {
  const GroupName group(call->path("group"));
  const Members body(call->request().body, {"consumer", "max", "wait_ms", "lease_ms", "stream", "start", "types",
                                            "order", "max_dataversion"});
  const auto& config = services.config;
  ClaimRequest request;
  request.consumer = body.required("consumer");
  request.max = body.number("max", {1, kMostDeliveries}).value_or(100);
  const auto longest = static_cast<std::uint64_t>(config.server.max_wait.count());
  const Milliseconds wait{body.number("wait_ms", {0, longest}).value_or(0)};
  const auto lease = body.number("lease_ms", {1, kLongestLease});
  request.hold = lease ? Milliseconds{*lease} : config.delivery.lease;
  // A named stream is compared with the group's own below, whether the group is there already or not.
  if (const auto stream = body.text("stream")) {
    check_stream(call->who(), *stream);
  } else {
    check_group(services, *call);
  }
  ensure(services, group, body);
  services.claims.claim(call, group, request, wait);
}

void ack_leases(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"leases"});
  settle(services, call, read_leases(body), Outcome::ack());
}

void retry_leases(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"leases", "after_ms", "reason"});
  const auto after = body.number("after_ms", {0, kLongestRetry});
  std::optional<Milliseconds> wait;
  if (after) wait = Milliseconds{*after};
  const std::string reason = body.text("reason").value_or("the consumer asked for a retry");
  settle(services, call, read_leases(body), Outcome::retry(reason, FailureClass::handler, wait));
}

void reject_leases(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"leases", "reason"});
  settle(services, call, read_leases(body), Outcome::reject(body.required("reason")));
}

void release_leases(Services& services, const CallPtr& call) {
  const Members body(call->request().body, {"leases"});
  settle(services, call, read_leases(body), Outcome::release());
}

void extend_leases(Services& services, const CallPtr& call) {
  const GroupName group(call->path("group"));
  const Members body(call->request().body, {"leases", "lease_ms"});
  const auto lease = body.number("lease_ms", {1, kLongestLease});
  const Leases leases = read_leases(body);
  answer(call, leases,
         services.store.ledger().extend(group, leases.leases,
                                        lease ? Milliseconds{*lease} : services.config.delivery.lease));
}

}  // namespace millrace::daemon
