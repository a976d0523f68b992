// SPDX-License-Identifier: Apache-2.0
// Schema versions in C++: two old events, and handlers that only know today's shape. Prints what they were given.
#include <millrace/millrace.hpp>

#include <cstdio>
#include <memory>
#include <string>

using namespace millrace;

struct AssetDiscovered {
  std::string json;  // a program would parse it with the JSON library it uses anyway
};

template <>
struct millrace::EventCodec<AssetDiscovered> {
  static constexpr const char* type = "asset.discovered";
  static constexpr std::int32_t version = 2;
  static void encode(const AssetDiscovered& asset, Event& event) {
    event.data = asset.json;
    event.datacontenttype = "application/json";
  }
  static AssetDiscovered decode(const Event& event) { return {event.data.value()}; }
};

int main() {
  auto store = open_store("memory:");
  Bus bus(store.get());
  bus.publish(EventBuilder("asset.discovered", "/scanner").json(R"({"asset_id":"abc123","path":"/x.jpg"})").build());
  bus.publish(EventBuilder("quality.assessed", "/brisque").json(R"({"asset_id":"abc123","score":71.50})").build());
  bus.publish("/scanner", AssetDiscovered{R"({"asset_id":"def456","file_path":"/y.jpg","tags":["new"]})"});

  // docs/schemas.md begins
  auto schemas = std::make_shared<SchemaRegistry>();
  schemas->add<AssetDiscovered>("path is called file_path, and there are tags");
  schemas->upcast("asset.discovered", 1,
                  {SchemaChange::rename("/path", "file_path"), SchemaChange::add("/tags", "[]")});
  schemas->add({"quality.assessed", 2, "who assessed it, and how sure that is"});
  schemas->upcast("quality.assessed", 1, [](Event& event) {
    std::string& json = event.data.value();
    json.insert(json.rfind('}'), R"(,"provider":"brisque","confidence":0.8)");
  });

  SubscriptionOptions assets{.group = "assets", .start = Start::beginning(), .schemas = schemas};
  Subscription on_asset(*store, assets, [](const AssetDiscovered& asset) {
    std::puts(asset.json.c_str());
    return Outcome::ack();
  });
  // docs/schemas.md ends
  on_asset.drain(Milliseconds{10'000});

  SubscriptionOptions scores{
      .group = "scores", .types = {"quality.*"}, .start = Start::beginning(), .schemas = schemas};
  Subscription on_score(*store, scores, [](const Delivery& delivery) {
    std::puts(delivery.event.data.value().c_str());
    return Outcome::ack();
  });
  on_score.drain(Milliseconds{10'000});
}
