// SPDX-License-Identifier: Apache-2.0
#include "event/base64.hpp"

#include <array>
#include <cstdint>

namespace millrace {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kBad = 0xFF;

constexpr auto kValues = [] {
  std::array<std::uint8_t, 256> values{};
  values.fill(kBad);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  }
  return values;
}();

constexpr std::uint32_t byte_at(std::string_view text, std::size_t i) {
  return static_cast<unsigned char>(text[i]);
}

}  // namespace

void append_base64(std::string& out, std::string_view bytes) {
  out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
  std::size_t i = 0;
  const auto put = [&](std::uint32_t group, unsigned count) {
    for (unsigned n = 0; n < count; ++n) out += kAlphabet[(group >> (18 - 6 * n)) & 0x3FU];
  };
  for (; i + 3 <= bytes.size(); i += 3) {
    put(byte_at(bytes, i) << 16U | byte_at(bytes, i + 1) << 8U | byte_at(bytes, i + 2), 4);
  }
  if (bytes.size() - i == 1) {
    put(byte_at(bytes, i) << 16U, 2);
    out += "==";
  } else if (bytes.size() - i == 2) {
    put(byte_at(bytes, i) << 16U | byte_at(bytes, i + 1) << 8U, 3);
    out += '=';
  }
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t group = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint8_t value = kValues[byte_at(text, i)];
    if (value == kBad) return std::nullopt;
    group = group << 6U | value;
    if (i % 4 != 3) continue;
    bytes += static_cast<char>(group >> 16U & 0xFFU);
    bytes += static_cast<char>(group >> 8U & 0xFFU);
    bytes += static_cast<char>(group & 0xFFU);
    group = 0;
  }
  if (padding == 1) {  // 18 bits: two bytes and two bits over
    if ((group & 0x3U) != 0) return std::nullopt;
    bytes += static_cast<char>(group >> 10U & 0xFFU);
    bytes += static_cast<char>(group >> 2U & 0xFFU);
  } else if (padding == 2) {  // 12 bits: one byte and four bits over
    if ((group & 0xFU) != 0) return std::nullopt;
    bytes += static_cast<char>(group >> 4U & 0xFFU);
  }
  return bytes;
}

}  // namespace millrace
