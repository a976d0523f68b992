// SPDX-License-Identifier: Apache-2.0
#include "event/schema_change.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "millrace/error.hpp"

namespace millrace {
namespace {

using testing::HasSubstr;

std::string apply(std::string_view json, const std::vector<SchemaChange>& changes) {
  for (const SchemaChange& change : changes) change.validate();
  return apply_changes(json, changes);
}

std::string failure(std::string_view json, const std::vector<SchemaChange>& changes) {
  try {
    return "made " + apply(json, changes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::upcast_failed);
    return error.message();
  }
}

std::string invalid(const SchemaChange& change) {
  try {
    change.validate();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.object() + ": " + error.message();
  }
  return "is valid";
}

TEST(SchemaChange, RenamesAMemberWhereItStands) {
  EXPECT_EQ(apply(R"({"a":1,"path":"/x","b":2})", {SchemaChange::rename("/path", "file_path")}),
            R"({"a":1,"file_path":"/x","b":2})");
  EXPECT_EQ(apply(R"({"m":{"path":1}})", {SchemaChange::rename("/m/path", "p")}), R"({"m":{"p":1}})");
}

TEST(SchemaChange, KeepsEveryByteItDoesNotName) {
  const std::string kept = R"({ "big" : 12345678901234567890123, "dec":1.10,  "e":1E5, "t":"\u00e9\/" , "n":[ 1, 2 ]})";
  EXPECT_EQ(apply(R"({"x": )" + kept + R"(, "y":-0.0})", {SchemaChange::add("/z", " 1.50 ")}),
            R"({"x":)" + kept + R"(,"y":-0.0,"z":1.50})");
  EXPECT_EQ(apply(kept, {}), kept);
}

TEST(SchemaChange, AddsOnlyWhatIsAbsent) {
  EXPECT_EQ(apply("{}", {SchemaChange::add("/tags", "[]")}), R"({"tags":[]})");
  EXPECT_EQ(apply(R"({"tags":["x"]})", {SchemaChange::add("/tags", "[]")}), R"({"tags":["x"]})");
  EXPECT_EQ(apply(R"({"tags":null})", {SchemaChange::add("/tags", "[]")}), R"({"tags":null})");
  EXPECT_EQ(apply("{}", {SchemaChange::add("/m", "{}"), SchemaChange::add("/m/a", "1")}), R"({"m":{"a":1}})");
}

TEST(SchemaChange, RemovesMembersAndElements) {
  EXPECT_EQ(apply(R"({"a":1,"b":2})", {SchemaChange::remove("/a")}), R"({"b":2})");
  EXPECT_EQ(apply("[1,2,3]", {SchemaChange::remove("/1")}), "[1,3]");
  EXPECT_EQ(apply("[1,2]", {SchemaChange::remove("/2"), SchemaChange::remove("/01"), SchemaChange::remove("/-")}),
            "[1,2]");
  EXPECT_EQ(apply(R"({"a":1})", {SchemaChange::remove("/b/c"), SchemaChange::remove("/a/b")}), R"({"a":1})");
}

TEST(SchemaChange, MovesAValueWithAllItHolds) {
  EXPECT_EQ(apply(R"({"w":1.0,"size":{}})", {SchemaChange::move("/w", "/size/w")}), R"({"size":{"w":1.0}})");
  EXPECT_EQ(apply(R"({"a":{"b":{"c":1}}})", {SchemaChange::add("/a/b/d", "2"), SchemaChange::move("/a/b", "/b")}),
            R"({"a":{},"b":{"c":1,"d":2}})");
  EXPECT_EQ(apply(R"({"l":[1,2]})", {SchemaChange::move("/l/0", "/first")}), R"({"l":[2],"first":1})");
}

TEST(SchemaChange, NothingHappensToWhatIsAbsent) {
  const std::string json = R"({"a":1})";
  EXPECT_EQ(apply(json, {SchemaChange::rename("/b", "c"), SchemaChange::move("/b", "/x/y")}), json);
}

TEST(SchemaChange, NeverOverwrites) {
  EXPECT_EQ(failure(R"({"a":1,"b":2})", {SchemaChange::rename("/a", "b")}),
            "rename /a to b: there is a member of that name already");
  EXPECT_EQ(failure(R"({"a":1,"b":2})", {SchemaChange::move("/a", "/b")}),
            "move /a to /b: there is something in that place already");
}

TEST(SchemaChange, SaysWhatTheDataLacks) {
  EXPECT_EQ(failure("{}", {SchemaChange::add("/m/a", "1")}),
            "add /m/a = 1: the object that /m/a belongs to is not there");
  EXPECT_EQ(failure("[]", {SchemaChange::add("/a", "1")}), "add /a = 1: what /a belongs to is not an object");
  EXPECT_EQ(failure("\"text\"", {SchemaChange::add("/a", "1")}), "add /a = 1: what /a belongs to is not an object");
  EXPECT_EQ(failure("[1]", {SchemaChange::rename("/0", "a")}), "rename /0 to a: an element of an array has no name");
  EXPECT_EQ(failure("{not json", {SchemaChange::remove("/a")}), "its data is not JSON");
  EXPECT_EQ(failure("", {SchemaChange::remove("/a")}), "its data is not JSON");
}

TEST(SchemaChange, PointersAreEscapedAsTheirRfcSays) {
  EXPECT_EQ(apply(R"({"a/b":1,"m~n":2,"":3,"~1":4})", {SchemaChange::remove("/a~1b"), SchemaChange::remove("/m~0n"),
                                                       SchemaChange::remove("/"), SchemaChange::rename("/~01", "x")}),
            R"({"x":4})");
  EXPECT_EQ(apply(R"({"caf\u00e9":1})", {SchemaChange::rename("/café", "tea\"")}), R"({"tea\"":1})");
}

TEST(SchemaChange, OfARepeatedNameTheLastCounts) {
  EXPECT_EQ(apply(R"({"a":1,"b":0,"\u0061":2})", {SchemaChange::rename("/a", "c")}), R"({"b":0,"c":2})");
  EXPECT_EQ(apply(R"({"a":1,"a":2})", {SchemaChange::remove("/a")}), "{}");
}

TEST(SchemaChange, ResultsNestNoDeeperThanTheyMayTravel) {
  const std::string deep = std::string(254, '[') + std::string(254, ']');
  EXPECT_THAT(failure(R"({"a":)" + deep + R"(,"b":{}})", {SchemaChange::move("/a", "/b/a")}), HasSubstr("deeper than"));
}

TEST(SchemaChange, WhatCannotWorkIsRefusedWhenItIsDeclared) {
  EXPECT_THAT(invalid(SchemaChange::rename("path", "x")), HasSubstr("path: \"path\" is not a JSON Pointer"));
  EXPECT_THAT(invalid(SchemaChange::rename("/a~2", "x")), HasSubstr("is not a JSON Pointer"));
  EXPECT_THAT(invalid(SchemaChange::rename("/a~", "x")), HasSubstr("is not a JSON Pointer"));
  EXPECT_THAT(invalid(SchemaChange::remove("")), HasSubstr("is the whole data"));
  EXPECT_THAT(invalid(SchemaChange::rename("/a", "/b")), HasSubstr("new name alone"));
  EXPECT_THAT(invalid(SchemaChange::move("/a", "/a/b")), HasSubstr("lies within"));
  EXPECT_THAT(invalid(SchemaChange::move("/a", "/a")), HasSubstr("lies within"));
  EXPECT_THAT(invalid(SchemaChange::add("/a", "brisque")), HasSubstr("is not JSON; a text is written"));
  EXPECT_EQ(invalid(SchemaChange::move("/a", "/ab")), "is valid");
}

TEST(SchemaChange, ManyMembersCostTheirNumber) {
  std::string json = "{";
  for (int i = 0; i < 200'000; ++i) json += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":0";
  json += '}';
  EXPECT_EQ(apply(json, {SchemaChange::remove("/k7")}).size(), json.size() - 7);
}

}  // namespace
}  // namespace millrace
