// SPDX-License-Identifier: Apache-2.0
#include "store/redis/resp.hpp"

#include <hiredis/read.h>

#include <charconv>
#include <new>
#include <utility>

#include "millrace/error.hpp"

namespace millrace::store::redis {
namespace {

constexpr std::size_t kLargestCommand = 512UL << 20;  // the most a server takes in one value
constexpr int kMostItems = 64 << 20;                  // an array of more is no answer to anything we ask
constexpr std::size_t kKeptBuffer = 1UL << 20;
constexpr std::size_t kFrame = 16;  // at most so much stands around a word

void append_header(char kind, std::size_t number, std::string& out) {
  char text[24];
  const auto end = std::to_chars(text, text + sizeof text, number).ptr;
  out += kind;
  out.append(text, end);
  out += "\r\n";
}

void append_word(std::string_view word, std::string& out) {
  append_header('$', word.size(), out);
  out += word;
  out += "\r\n";
}

/// Where the reply that `task` describes belongs: the root, or its place in the array around it.
Reply& place_of(const redisReadTask* task) {
  if (task->parent == nullptr) return *static_cast<Reply*>(task->privdata);
  return static_cast<Reply*>(task->parent->obj)->items[static_cast<std::size_t>(task->idx)];
}

// hiredis is C: nothing may be thrown through it. Null tells it that there was no memory.
template <class Make>
void* made(const redisReadTask* task, Make make) noexcept {
  try {
    Reply& reply = place_of(task);
    make(reply);
    return &reply;
  } catch (...) {
    return nullptr;
  }
}

void* make_text(const redisReadTask* task, char* text, std::size_t size) {
  return made(task, [&](Reply& reply) {
    reply.kind = task->type == REDIS_REPLY_ERROR ? Reply::Kind::error : Reply::Kind::text;
    reply.text.assign(text, size);
  });
}

void* make_array(const redisReadTask* task, int size) {
  return made(task, [&](Reply& reply) {
    if (size > kMostItems) throw std::bad_alloc();
    reply.kind = Reply::Kind::array;
    reply.items.resize(static_cast<std::size_t>(size));
  });
}

void* make_integer(const redisReadTask* task, long long value) {
  return made(task, [&](Reply& reply) {
    reply.kind = Reply::Kind::integer;
    reply.integer = value;
  });
}

void* make_nil(const redisReadTask* task) {
  return made(task, [](Reply&) {});
}

void keep(void*) {}  // the root owns all of it

redisReplyObjectFunctions kFunctions = {&make_text, &make_array, &make_integer, &make_nil, &keep};

}  // namespace

void EncodedWords::add(std::string_view word) {
  ++count;
  append_word(word, bytes);
}

void EncodedWords::add(const EncodedWords& words) {
  count += words.count;
  bytes += words.bytes;
}

void format_command(const std::vector<std::string_view>& command, std::string& out) {
  format_command(command, EncodedWords{}, out);
}

void format_command(const std::vector<std::string_view>& head, const EncodedWords& rest, std::string& out) {
  std::size_t total = rest.bytes.size();
  for (const std::string_view word : head) total += word.size() + kFrame;
  if (total > kLargestCommand) {
    throw Error(Errc::too_large, "send to the server", head.empty() ? std::string() : std::string(head.front()),
                "more than 512 MiB in one command");
  }
  out.reserve(out.size() + total + kFrame);
  append_header('*', head.size() + rest.count, out);
  for (const std::string_view word : head) append_word(word, out);
  out += rest.bytes;
}

void format_command(const std::vector<std::string>& command, std::string& out) {
  format_command(std::vector<std::string_view>(command.begin(), command.end()), out);
}

void ReplyReader::Free::operator()(redisReader* reader) const {
  redisReaderFree(reader);
}

ReplyReader::ReplyReader() : reader_(redisReaderCreateWithFunctions(&kFunctions)) {
  if (!reader_) throw std::bad_alloc();
  reader_->privdata = &root_;
  reader_->maxbuf = kKeptBuffer;
}

ReplyReader::~ReplyReader() = default;

void ReplyReader::feed(std::string_view bytes) {
  if (redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) != REDIS_OK) throw std::bad_alloc();
}

std::optional<Reply> ReplyReader::next() {
  void* whole = nullptr;
  if (redisReaderGetReply(reader_.get(), &whole) != REDIS_OK) {
    throw Error(Errc::corrupt, "read the server's answer", "", "this is not the protocol of Redis",
                static_cast<const char*>(reader_->errstr));
  }
  if (whole == nullptr) return std::nullopt;
  return std::exchange(root_, Reply{});
}

}  // namespace millrace::store::redis
