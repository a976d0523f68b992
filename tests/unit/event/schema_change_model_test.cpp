// SPDX-License-Identifier: Apache-2.0
// Random changes to random data, against a model that works on a document instead of text.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <optional>
#include <random>

#include "event/schema_change.hpp"
#include "millrace/error.hpp"

namespace millrace {
namespace {

namespace json = boost::json;
using Random = std::mt19937;

struct Refused {};

int pick(Random& random, int below) {
  return std::uniform_int_distribution<int>(0, below - 1)(random);
}

std::string name(Random& random) {
  return std::string(1, static_cast<char>('a' + pick(random, 3)));
}

json::value value(Random& random, int depth) {
  switch (pick(random, depth == 0 ? 2 : 4)) {
    case 0:
      return pick(random, 100);
    case 1:
      return nullptr;
    case 2: {
      json::array array;
      for (int i = pick(random, 3); i > 0; --i) array.push_back(value(random, depth - 1));
      return array;
    }
    default: {
      json::object object;
      for (int i = pick(random, 4); i > 0; --i) object[name(random)] = value(random, depth - 1);
      return object;
    }
  }
}

std::string pointer(Random& random) {
  std::string out;
  for (int i = 1 + pick(random, 3); i > 0; --i) {
    out += '/';
    out += pick(random, 4) == 0 ? std::to_string(pick(random, 3)) : name(random);
  }
  return out;
}

SchemaChange change(Random& random) {
  switch (pick(random, 4)) {
    case 0:
      return SchemaChange::rename(pointer(random), name(random));
    case 1:
      return SchemaChange::add(pointer(random), json::serialize(value(random, 1)));
    case 2:
      return SchemaChange::remove(pointer(random));
    default:
      return SchemaChange::move(pointer(random), pointer(random));
  }
}

struct Place {
  json::value* parent = nullptr;
  std::string token;
};

json::value* child(json::value& parent, const std::string& token) {
  if (auto* object = parent.if_object()) return object->if_contains(token);
  auto* array = parent.if_array();
  if (array == nullptr || token.find_first_not_of("0123456789") != std::string::npos) return nullptr;
  const std::size_t index = std::stoul(token);
  return index < array->size() ? &(*array)[index] : nullptr;
}

Place place(json::value& root, const std::string& path) {
  Place found{&root, {}};
  for (std::size_t at = 1;;) {
    const std::size_t end = path.find('/', at);
    found.token = path.substr(at, end - at);
    if (end == std::string::npos) return found;
    found.parent = child(*found.parent, found.token);
    if (found.parent == nullptr) return found;
    at = end + 1;
  }
}

void put(json::value& root, const std::string& path, json::value what, bool keep) {
  const Place at = place(root, path);
  auto* object = at.parent == nullptr ? nullptr : at.parent->if_object();
  if (object == nullptr) throw Refused{};
  if (object->contains(at.token)) {
    if (!keep) throw Refused{};
    return;
  }
  object->emplace(at.token, std::move(what));
}

void take(Place at) {
  if (auto* object = at.parent->if_object()) {
    object->erase(at.token);
  } else {
    auto& array = at.parent->as_array();
    array.erase(array.begin() + std::stol(at.token));
  }
}

void apply_to_model(json::value& root, const SchemaChange& change) {
  if (change.kind == SchemaChange::Kind::add) return put(root, change.path, json::parse(change.value), true);
  const Place at = place(root, change.path);
  json::value* found = at.parent == nullptr ? nullptr : child(*at.parent, at.token);
  if (found == nullptr) return;
  const json::value copy = *found;
  switch (change.kind) {
    case SchemaChange::Kind::remove:
      return take(at);
    case SchemaChange::Kind::rename: {
      auto* object = at.parent->if_object();
      if (object == nullptr) throw Refused{};
      if (at.token == change.to) return;
      if (object->contains(change.to)) throw Refused{};
      object->erase(at.token);
      object->emplace(change.to, copy);
      return;
    }
    default:
      take(at);
      put(root, change.to, copy, false);
  }
}

TEST(SchemaChangeModel, TextAndDocumentAgree) {
  Random random(20261121);
  int made = 0;
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    json::value model = value(random, 3);
    const std::string before = json::serialize(model);
    std::vector<SchemaChange> changes;
    while (changes.size() < 3) {
      SchemaChange next = change(random);
      try {
        next.validate();
      } catch (const Error&) {  // a move into itself
        continue;
      }
      changes.push_back(std::move(next));
    }
    std::string trace = before;
    for (const SchemaChange& each : changes) trace += " | " + each.to_string();
    std::optional<std::string> after;
    try {
      after = apply_changes(before, changes);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::upcast_failed);
    }
    try {
      for (const SchemaChange& each : changes) apply_to_model(model, each);
      ASSERT_TRUE(after) << trace;
      ASSERT_EQ(json::parse(*after), model) << trace;
      ++made;
    } catch (const Refused&) {
      ASSERT_FALSE(after) << trace;
      ++refused;
    }
  }
  EXPECT_GT(made, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace millrace
