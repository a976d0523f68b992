// SPDX-License-Identifier: Apache-2.0
#include "event/schema_change.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <charconv>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/utf8.hpp"
#include "event/json_text.hpp"
#include "millrace/codec.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

constexpr std::size_t kMaxDepth = kMaxJsonDepth - 1;  // the event around the data is one level

[[noreturn]] void refuse_change(std::string_view field, std::string message) {
  throw Error(Errc::invalid_argument, "declare schema change", std::string(field), std::move(message));
}

[[noreturn]] void fail(const SchemaChange& change, std::string_view why) {
  throw Error(Errc::upcast_failed, "upcast", "", fmt::format("{}: {}", change.to_string(), why));
}

/// The reference tokens of a JSON Pointer, RFC 6901; nullopt when it is none.
std::optional<std::vector<std::string>> tokens_of(std::string_view pointer) {
  std::vector<std::string> tokens;
  if (!pointer.empty() && pointer.front() != '/') return std::nullopt;
  for (std::size_t at = 0; at < pointer.size(); ++at) {
    const char c = pointer[at];
    if (c == '/') {
      tokens.emplace_back();
    } else if (c != '~') {
      tokens.back() += c;
    } else {
      const char escaped = at + 1 < pointer.size() ? pointer[++at] : '\0';
      if (escaped != '0' && escaped != '1') return std::nullopt;
      tokens.back() += escaped == '0' ? '~' : '/';
    }
  }
  return tokens;
}

std::string unquoted(std::string_view name) {
  if (name.find('\\') == std::string_view::npos) return std::string(name.substr(1, name.size() - 2));
  return std::string(boost::json::parse(boost::json::string_view(name.data(), name.size())).get_string());
}

std::string quoted(std::string_view name) {
  std::string out;
  append_json_string(out, name);
  return out;
}

/// A JSON value: the text that stood there, until somebody has to look inside.
class Node {
 public:
  explicit Node(std::string_view text) : text_(json_text::trim(text)) {}

  [[nodiscard]] bool is_object() const { return text_.front() == '{'; }
  [[nodiscard]] bool is_array() const { return text_.front() == '['; }

  /// The member or element, or nullptr. Good until this node is changed.
  Node* child(std::string_view token) {
    const auto index = find(token);
    return index ? &children_[*index] : nullptr;
  }
  /// To an object that has none of that name.
  void add(std::string_view name, Node value) {
    open();
    names_.push_back({std::string(name), quoted(name)});
    children_.push_back(std::move(value));
  }
  void rename(std::string_view from, std::string_view to) {
    if (const auto index = find(from)) names_[*index] = {std::string(to), quoted(to)};
  }
  void remove(std::string_view token) {
    const auto index = find(token);
    if (!index) return;
    const auto offset = static_cast<std::ptrdiff_t>(*index);
    children_.erase(children_.begin() + offset);
    if (is_object()) names_.erase(names_.begin() + offset);
  }

  void write(std::string& out) const {
    if (!open_) {
      out += text_;
      return;
    }
    out += text_.front();
    for (std::size_t i = 0; i < children_.size(); ++i) {
      if (i > 0) out += ',';
      if (is_object()) {
        out += names_[i].quoted;
        out += ':';
      }
      children_[i].write(out);
    }
    out += is_object() ? '}' : ']';
  }

 private:
  struct Name {
    std::string plain;   ///< as a pointer names it
    std::string quoted;  ///< as it is written
  };

  void open() {
    if (std::exchange(open_, true)) return;
    if (is_array()) {
      for (const std::string_view element : json_text::elements(text_)) children_.emplace_back(element);
      return;
    }
    const auto members = json_text::members(text_);
    std::unordered_map<std::string, std::size_t> last;
    for (std::size_t i = 0; i < members.size(); ++i) last.insert_or_assign(unquoted(members[i].name), i);
    for (std::size_t i = 0; i < members.size(); ++i) {
      std::string plain = unquoted(members[i].name);
      if (last.at(plain) != i) continue;
      names_.push_back({std::move(plain), std::string(members[i].name)});
      children_.emplace_back(members[i].value);
    }
  }

  std::optional<std::size_t> find(std::string_view token) {
    if (!is_object() && !is_array()) return std::nullopt;
    open();
    std::size_t index = 0;
    if (is_object()) {
      while (index < names_.size() && names_[index].plain != token) ++index;
    } else {
      const char* end = token.data() + token.size();
      const auto [stop, bad] = std::from_chars(token.data(), end, index);
      const bool canonical = bad == std::errc{} && stop == end && (token == "0" || token.front() != '0');
      if (!canonical) return std::nullopt;
    }
    return index < children_.size() ? std::optional(index) : std::nullopt;
  }

  std::string_view text_;
  bool open_ = false;
  std::vector<Name> names_;  ///< of an object, one for each child
  std::vector<Node> children_;
};

/// Where a pointer leads: the node that holds the place, and the last token. No parent: it is not there.
struct Place {
  Node* parent = nullptr;
  std::string token;
};

Place place_of(Node& root, std::string_view pointer) {
  std::vector<std::string> tokens = tokens_of(pointer).value_or(std::vector<std::string>{});
  Place place{&root, std::move(tokens.back())};
  tokens.pop_back();
  for (const std::string& token : tokens) {
    place.parent = place.parent->child(token);
    if (place.parent == nullptr) break;
  }
  return place;
}

/// The place of a member that is to be put there.
Place object_place(Node& root, const SchemaChange& change, std::string_view pointer) {
  Place place = place_of(root, pointer);
  if (place.parent == nullptr) fail(change, fmt::format("the object that {} belongs to is not there", pointer));
  if (!place.parent->is_object()) fail(change, fmt::format("what {} belongs to is not an object", pointer));
  return place;
}

void rename(Node& root, const SchemaChange& change) {
  const Place place = place_of(root, change.path);
  if (place.parent == nullptr || place.parent->child(place.token) == nullptr) return;
  if (!place.parent->is_object()) fail(change, "an element of an array has no name");
  if (place.token == change.to) return;
  if (place.parent->child(change.to) != nullptr) fail(change, "there is a member of that name already");
  place.parent->rename(place.token, change.to);
}

void add(Node& root, const SchemaChange& change) {
  const Place place = object_place(root, change, change.path);
  if (place.parent->child(place.token) == nullptr) place.parent->add(place.token, Node(change.value));
}

void remove(Node& root, const SchemaChange& change) {
  const Place place = place_of(root, change.path);
  if (place.parent != nullptr) place.parent->remove(place.token);
}

void move(Node& root, const SchemaChange& change) {
  const Place from = place_of(root, change.path);
  Node* found = from.parent == nullptr ? nullptr : from.parent->child(from.token);
  if (found == nullptr) return;
  Node moved = *found;
  from.parent->remove(from.token);
  const Place to = object_place(root, change, change.to);
  if (to.parent->child(to.token) != nullptr) fail(change, "there is something in that place already");
  to.parent->add(to.token, std::move(moved));
}

}  // namespace

SchemaChange SchemaChange::rename(std::string path, std::string name) {
  return {Kind::rename, std::move(path), std::move(name), {}};
}
SchemaChange SchemaChange::add(std::string path, std::string json) {
  return {Kind::add, std::move(path), {}, std::move(json)};
}
SchemaChange SchemaChange::remove(std::string path) {
  return {Kind::remove, std::move(path), {}, {}};
}
SchemaChange SchemaChange::move(std::string path, std::string to) {
  return {Kind::move, std::move(path), std::move(to), {}};
}

std::string SchemaChange::to_string() const {
  switch (kind) {
    case Kind::rename:
      return fmt::format("rename {} to {}", path, to);
    case Kind::add:
      return fmt::format("add {} = {}", path, value);
    case Kind::remove:
      return fmt::format("remove {}", path);
    case Kind::move:
      return fmt::format("move {} to {}", path, to);
  }
  return {};
}

void SchemaChange::validate() const {
  const auto check_pointer = [](std::string_view field, const std::string& pointer) {
    const auto tokens = tokens_of(pointer);
    if (!tokens || !is_utf8(pointer)) {
      refuse_change(field,
                    fmt::format("\"{}\" is not a JSON Pointer (RFC 6901): it begins with /, and ~ is written ~0, "
                                "/ within a name ~1",
                                printable(pointer)));
    }
    if (tokens->empty()) refuse_change(field, "\"\" is the whole data; name a member of it, such as /path");
  };
  check_pointer("path", path);
  if (kind == Kind::rename && !is_utf8(to)) refuse_change("to", "must be UTF-8");
  if (kind == Kind::rename && to.starts_with('/')) {
    refuse_change("to",
                  fmt::format("\"{}\" must be the member's new name alone, not a path; a move goes to a path", to));
  }
  if (kind == Kind::move) {
    check_pointer("to", to);
    if (to == path || to.starts_with(path + '/')) {
      refuse_change("to", fmt::format("{} lies within {}, which is moved", to, path));
    }
  }
  if (kind == Kind::add && !json_text::is_valid(value, kMaxDepth)) {
    refuse_change("value", fmt::format("\"{}\" is not JSON; a text is written \"\\\"text\\\"\"", printable(value)));
  }
}

std::string apply_changes(std::string_view json, std::span<const SchemaChange> changes) {
  if (!json_text::is_valid(json, kMaxDepth)) throw Error(Errc::upcast_failed, "upcast", "", "its data is not JSON");
  Node root(json);
  for (const SchemaChange& change : changes) {
    switch (change.kind) {
      case SchemaChange::Kind::rename:
        rename(root, change);
        break;
      case SchemaChange::Kind::add:
        add(root, change);
        break;
      case SchemaChange::Kind::remove:
        remove(root, change);
        break;
      case SchemaChange::Kind::move:
        move(root, change);
        break;
    }
  }
  std::string out;
  out.reserve(json.size() + 64);
  root.write(out);
  if (!json_text::is_valid(out, kMaxDepth)) {
    throw Error(Errc::upcast_failed, "upcast", "", fmt::format("its data would nest deeper than {} levels", kMaxDepth));
  }
  return out;
}

}  // namespace millrace
