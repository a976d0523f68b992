// SPDX-License-Identifier: Apache-2.0
#include "workload.hpp"

#include <charconv>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace bench {
namespace {

constexpr std::size_t kDataBytes = 256;
constexpr std::size_t kKeys = 1000;
constexpr std::uint64_t kEventsPerMillisecond = 100;  // the pace of the ids, near what the contenders reach

std::uint64_t xorshift(std::uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void put_hex(char* out, std::uint64_t value, int digits) {
  for (int i = digits - 1; i >= 0; --i, value >>= 4) out[i] = "0123456789abcdef"[value & 15];
}

// RFC 9562 §5.7: 48 bits of milliseconds, 12 bits that grow within one, 14 random bits, and the number.
std::string uuid_v7(std::uint64_t ms, std::uint64_t within, std::uint64_t random, std::uint64_t number) {
  std::string text(36, '-');
  put_hex(&text[0], ms >> 16, 8);
  put_hex(&text[9], ms & 0xffff, 4);
  put_hex(&text[14], 0x7000 | (within & 0xfff), 4);
  put_hex(&text[19], 0x8000 | (random & 0x3fff), 4);
  put_hex(&text[24], number, 12);
  return text;
}

// RFC 9562 §5.4, with the number in the place of the last random bits: an index sorts by the first ones.
std::string uuid_v4(std::uint64_t random, std::uint64_t number) {
  std::string text = uuid_v7(random >> 16, random, random >> 3, number);
  text[14] = '4';
  return text;
}

}  // namespace

Workload::Workload(std::size_t sources, Ids ids) : ids_(ids), random_(0x9E3779B97F4A7C15ULL) {
  using namespace std::chrono;
  first_ms_ = static_cast<std::uint64_t>(duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count());
  for (std::size_t i = 0; i < sources; ++i) sources_.push_back("/bench/source-" + std::to_string(i));
  noise_.resize(1 << 16);
  for (char& c : noise_) c = static_cast<char>('a' + xorshift(random_) % 26);
}

millrace::Event Workload::next() {
  const std::uint64_t n = number_++;
  const std::uint64_t r = xorshift(random_);
  millrace::Event event;
  event.id = ids_ == Ids::random ? uuid_v4(r, n)
                                 : uuid_v7(first_ms_ + n / kEventsPerMillisecond, n % kEventsPerMillisecond, r, n);
  event.source = sources_[n % sources_.size()];
  event.type = "bench.event";
  event.subject = "key-" + std::to_string(r % kKeys);
  event.time = "2026-01-01T00:00:00.000000000Z";
  event.datacontenttype = "application/json";
  auto& data = event.data.emplace();
  data.reserve(kDataBytes);
  data = "\"";
  data.append(noise_, r % (noise_.size() - kDataBytes), kDataBytes - 2);
  data += '"';
  return event;
}

std::vector<millrace::Event> Workload::take(std::size_t count) {
  std::vector<millrace::Event> events;
  events.reserve(count);
  for (std::size_t i = 0; i < count; ++i) events.push_back(next());
  return events;
}

void Roll::mark(std::string_view id) {
  std::uint64_t number = 0;
  const char* const begin = id.size() == 36 ? id.data() + 24 : id.data();
  const char* const end = id.data() + id.size();
  if (std::from_chars(begin, end, number, 16).ptr != end || number >= seen_.size())
    throw std::runtime_error("read back an event that was never given: " + std::string(id));
  if (seen_[number]) throw std::runtime_error("read back twice: " + std::string(id));
  seen_[number] = true;
  ++marked_;
}

void Roll::check(std::string_view who) const {
  if (marked_ != seen_.size())
    throw std::runtime_error(std::string(who) + " holds " + std::to_string(marked_) + " of " +
                             std::to_string(seen_.size()) + " events");
}

void flatten(const millrace::Event& event, std::string& out) {
  const auto put = [&](std::string_view field) {
    const auto size = static_cast<std::uint32_t>(field.size());
    char prefix[sizeof size];
    std::memcpy(prefix, &size, sizeof size);
    out.append(prefix, sizeof prefix).append(field);
  };
  for (const std::string* field :
       {&event.id, &event.source, &event.type, &event.subject, &event.time, &event.datacontenttype, &event.dataschema})
    put(*field);
  put(event.data ? std::string_view(*event.data) : std::string_view());
}

}  // namespace bench
