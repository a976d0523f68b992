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

/// hiredis gathers a text until it is whole, and then it is copied: of many megabytes that takes longer than anybody
/// should wait for this thread. A text from this size on is taken past it piece by piece; hiredis sees an empty one.
constexpr std::size_t kLargeText = 256UL << 10;
constexpr std::string_view kEmptyText = "0\r\n\r\n";  // what follows the '$'

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

struct ReplyReader::State {
  Reply root;
  std::string large;
  bool large_whole = false;  ///< the next text is `large`
};

struct ReplyReader::Maker {
  /// Where the reply that `task` describes belongs: the root, or its place in the array around it.
  static Reply& place_of(const redisReadTask* task) {
    if (task->parent == nullptr) return static_cast<State*>(task->privdata)->root;
    return static_cast<Reply*>(task->parent->obj)->items[static_cast<std::size_t>(task->idx)];
  }

  // hiredis is C: nothing may be thrown through it. Null tells it that there was no memory.
  template <class Make>
  static void* made(const redisReadTask* task, Make make) noexcept {
    try {
      Reply& reply = place_of(task);
      make(reply);
      return &reply;
    } catch (...) {
      return nullptr;
    }
  }

  static void* make_text(const redisReadTask* task, char* text, std::size_t size) {
    return made(task, [&](Reply& reply) {
      reply.kind = task->type == REDIS_REPLY_ERROR ? Reply::Kind::error : Reply::Kind::text;
      State& state = *static_cast<State*>(task->privdata);
      if (std::exchange(state.large_whole, false)) {
        reply.text = std::exchange(state.large, {});
      } else {
        reply.text.assign(text, size);
      }
    });
  }

  static void* make_array(const redisReadTask* task, int size) {
    return made(task, [&](Reply& reply) {
      if (size > kMostItems) throw std::bad_alloc();
      reply.kind = Reply::Kind::array;
      reply.items.resize(static_cast<std::size_t>(size));
    });
  }

  static void* make_integer(const redisReadTask* task, long long value) {
    return made(task, [&](Reply& reply) {
      reply.kind = Reply::Kind::integer;
      reply.integer = value;
    });
  }

  static void* make_nil(const redisReadTask* task) {
    return made(task, [](Reply&) {});
  }

  static void keep(void*) {}  // the root owns all of it
};

void ReplyReader::Free::operator()(redisReader* reader) const {
  redisReaderFree(reader);
}

ReplyReader::ReplyReader() : state_(std::make_unique<State>()) {
  static redisReplyObjectFunctions functions = {&Maker::make_text, &Maker::make_array, &Maker::make_integer,
                                                &Maker::make_nil, &Maker::keep};
  reader_.reset(redisReaderCreateWithFunctions(&functions));
  if (!reader_) throw std::bad_alloc();
  reader_->privdata = state_.get();
  reader_->maxbuf = kKeptBuffer;
}

ReplyReader::~ReplyReader() = default;

void ReplyReader::give(std::string_view bytes) {
  if (redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) != REDIS_OK) throw std::bad_alloc();
}

void ReplyReader::feed(std::string_view bytes) {
  if (large_missing_ > 0) bytes = take_large(bytes);
  if (!bytes.empty()) give(bytes);
}

/// Takes what belongs to the large text; answers the rest.
std::string_view ReplyReader::take_large(std::string_view bytes) {
  const std::string_view mine = bytes.substr(0, large_missing_);
  state_->large += mine;
  large_missing_ -= mine.size();
  if (large_missing_ > 0) return {};
  state_->large.resize(state_->large.size() - 2);  // the end of its line
  state_->large_whole = true;
  give(kEmptyText);
  return bytes.substr(mine.size());
}

/// When what hiredis waits for is the rest of a large text, from now on it is gathered here.
void ReplyReader::begin_large() {
  redisReader& reader = *reader_;
  if (large_missing_ > 0 || reader.ridx < 0 || reader.rstack[reader.ridx].type != REDIS_REPLY_STRING) return;
  // It has read the '$'; the length and what has come of the text are still in its buffer.
  const std::string_view rest(reader.buf + reader.pos, reader.len - reader.pos);
  const std::size_t line = rest.find("\r\n");
  std::size_t size = 0;
  if (line == std::string_view::npos) return;
  const auto [end, failure] = std::from_chars(rest.data(), rest.data() + line, size);
  if (failure != std::errc{} || end != rest.data() + line || size < kLargeText || size > kLargestCommand) return;
  state_->large.reserve(size + 2);
  state_->large = rest.substr(line + 2);  // not all, else it would not wait
  large_missing_ = size + 2 - state_->large.size();
  reader.pos = reader.len;  // it is through with all of that
}

std::optional<Reply> ReplyReader::next() {
  void* whole = nullptr;
  if (redisReaderGetReply(reader_.get(), &whole) != REDIS_OK) {
    throw Error(Errc::corrupt, "read the server's answer", "", "this is not the protocol of Redis",
                static_cast<const char*>(reader_->errstr));
  }
  if (whole == nullptr) {
    begin_large();
    return std::nullopt;
  }
  return std::exchange(state_->root, Reply{});
}

}  // namespace millrace::store::redis
