// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// Schema versions: how the data of an event type changed, and how an old event is read by today's handlers.
///
/// The log keeps what was written. `dataversion` (absent = 1) says in which version that is; a registry knows the
/// versions of each type and the steps between them, and brings an event up to date on its way to a handler.
///
///     auto schemas = std::make_shared<SchemaRegistry>();
///     schemas->add({"asset.discovered", 2, "path is called file_path, and there are tags"});
///     schemas->upcast("asset.discovered", 1, {SchemaChange::rename("/path", "file_path"),
///                                             SchemaChange::add("/tags", "[]")});

#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "millrace/event.hpp"
#include "millrace/types.hpp"

namespace millrace {

class Store;

struct SchemaVersion {
  std::string type = {};
  std::int32_t version = 1;
  std::string description = {};
  bool deprecated = false;  ///< still read, no longer what handlers are given
};

/// One declared change to an event's JSON data. Paths are JSON Pointers (RFC 6901); "" is the whole data.
///
/// Works on the text: whatever a change does not name keeps its bytes, so that `1.10` and `12345678901234567890` stay
/// as they are. Only the objects and arrays a path leads through are written anew, without white space between their
/// members. Where a name stands twice in one of those, the last one counts and alone remains.
struct SchemaChange {
  enum class Kind { rename, add, remove, move };

  Kind kind = Kind::add;
  std::string path = {};
  std::string to = {};     ///< of rename: the member's new name; of move: where it goes, a JSON Pointer
  std::string value = {};  ///< of add: JSON

  /// The member at `path` is called `name` from now on, where it stands. Nothing happens when it is absent; there must
  /// be no other member of that name.
  static SchemaChange rename(std::string path, std::string name);
  /// The member at `path` gets this JSON value when it is absent. The object it belongs to must be there.
  static SchemaChange add(std::string path, std::string json);
  /// Nothing happens when it is absent.
  static SchemaChange remove(std::string path);
  /// Nothing happens when it is absent. The object at its new place must be there, and nothing in that place.
  static SchemaChange move(std::string path, std::string to);

  void validate() const;  ///< \throws Error{invalid_argument} naming the field
  /// `rename /path to file_path`
  [[nodiscard]] std::string to_string() const;
  bool operator==(const SchemaChange&) const = default;
};

/// Makes an event of one version into one of the next. May change everything but id, source and type; need not touch
/// `dataversion`. Throwing is how it says that it cannot. Called from several threads at once.
using Upcaster = std::function<void(Event&)>;

/// A C++ type that is the data of one event type in one version: specialise it with
///
///     template <> struct millrace::EventCodec<AssetDiscovered> {
///       static constexpr const char* type = "asset.discovered";
///       static constexpr std::int32_t version = 2;
///       static void encode(const AssetDiscovered& asset, Event& event);  // data, datacontenttype, maybe subject …
///       static AssetDiscovered decode(const Event& event);               // throws when it cannot
///     };
template <class T>
struct EventCodec;

template <class T>
concept TypedEvent = requires(const T& value, Event& event, const Event& stored) {
  std::string_view(EventCodec<T>::type);
  { EventCodec<T>::version } -> std::convertible_to<std::int32_t>;
  EventCodec<T>::encode(value, event);
  { EventCodec<T>::decode(stored) } -> std::convertible_to<T>;
};

/// A new event: `id` a UUIDv7, `time` now, type and `dataversion` of the codec, the rest by the codec.
/// \throws Error{invalid_event}, and whatever `encode` throws
template <TypedEvent T>
Event make_event(std::string_view source, const T& value) {
  Event event = EventBuilder(EventCodec<T>::type, source).build();
  EventCodec<T>::encode(value, event);
  event.type = EventCodec<T>::type;
  event.set_extension("dataversion", std::int32_t{EventCodec<T>::version});
  validate(event);
  return event;
}

/// \throws Error{upcast_failed} that says what the event is and what was wanted
void require_schema(const Event& event, std::string_view type, std::int32_t version);

/// \throws Error{upcast_failed} when it is of another type or version; whatever `decode` throws
template <TypedEvent T>
T decode_event(const Event& event) {
  require_schema(event, EventCodec<T>::type, EventCodec<T>::version);
  return EventCodec<T>::decode(event);
}

/// The versions of each event type and the steps from one to the next. Filled first, used then: const functions are
/// thread-safe, the others are not. Copyable.
class SchemaRegistry {
 public:
  /// \throws Error{invalid_argument}: no type, a version below 1, or one that was described before
  SchemaRegistry& add(SchemaVersion version);
  template <TypedEvent T>
  SchemaRegistry& add(std::string description = {}) {
    return add({EventCodec<T>::type, EventCodec<T>::version, std::move(description)});
  }

  /// The step from version `from` to the next; both are known from then on, described or not. No changes at all: the
  /// versions differ in nothing a handler must know. \throws Error{invalid_argument}: there is one, or a bad change
  SchemaRegistry& upcast(std::string_view type, std::int32_t from, Upcaster upcaster);
  SchemaRegistry& upcast(std::string_view type, std::int32_t from, std::vector<SchemaChange> changes);
  /// The step exists, but in a C++ program and not here: whoever needs it is told so.
  SchemaRegistry& upcast_in_program(std::string_view type, std::int32_t from);

  /// What a version is reached by.
  enum class StepKind { none, declared, code, program };
  struct Entry {
    SchemaVersion schema = {};
    StepKind step = StepKind::none;          ///< from version - 1
    std::vector<SchemaChange> changes = {};  ///< of a declared one
    bool current = false;                    ///< what handlers are given
  };
  [[nodiscard]] std::vector<Entry> versions() const;  ///< by type, then version
  [[nodiscard]] bool empty() const noexcept { return types_.empty(); }

  /// The newest version that is not deprecated (the newest when all are); nullopt for a type nobody described.
  [[nodiscard]] std::optional<std::int32_t> current(std::string_view type) const;

  /// What `upcast` would have to do.
  enum class Need {
    nothing,  ///< it answers the event as it is
    steps,    ///< runs steps, or says why it cannot
    program,  ///< fails, because the next step that is not here is in a program
  };
  [[nodiscard]] Need need(const Event& event, std::optional<std::int32_t> max_dataversion = {}) const;

  /// The event in the current version of its type, or in `max_dataversion` when that is older, with `dataversion` set.
  /// An event that needs no step is answered as it is; so is one of a type nobody described, unless it is newer than
  /// `max_dataversion`. An erased event (`erasedtime`) has no data any more that a step could change: only its
  /// `dataversion` is set.
  /// \throws Error{upcast_failed}, object = the type: a step is missing or in a program; the event is newer than what
  /// is known or than `max_dataversion` (there is no way back); a step threw (its text is in the message), or made an
  /// event that is not valid or has another id, source or type.
  [[nodiscard]] Event upcast(Event event, std::optional<std::int32_t> max_dataversion = {}) const;

 private:
  struct InProgram {};
  using Step = std::variant<std::vector<SchemaChange>, Upcaster, InProgram>;
  struct Type {
    std::map<std::int32_t, std::optional<SchemaVersion>> versions;  ///< without a value: known by a step only
    std::map<std::int32_t, Step> steps;                             ///< by the version they begin with
    std::int32_t current = 1;
    void find_current();
  };
  struct Way;
  Type& type_of(std::string_view type, std::int32_t version);
  SchemaRegistry& put_step(std::string_view type, std::int32_t from, Step step);
  [[nodiscard]] Way way(const Event& event, std::optional<std::int32_t> max_dataversion) const;

  std::map<std::string, Type, std::less<>> types_;
};
std::string_view to_string(SchemaRegistry::StepKind kind) noexcept;

/// An event that cannot be brought up to date.
struct SchemaFailure {
  Position position = {};
  std::string type = {}, source = {}, id = {};
  std::int32_t version = 1;  ///< 0: its `dataversion` is no version
  std::string reason = {};
};

/// Runs events through a registry without giving them to anybody: finds a gap before a handler does.
class SchemaAudit {
 public:
  explicit SchemaAudit(const SchemaRegistry& schemas, std::optional<std::int32_t> max_dataversion = {})
      : schemas_(schemas), max_dataversion_(max_dataversion) {}

  /// Why this event would fail, or nullopt.
  std::optional<SchemaFailure> look(Position position, const Event& event);

  struct Counts {
    std::uint64_t events = 0;      ///< looked at
    std::uint64_t upcast = 0;      ///< of an old version, and came through
    std::uint64_t failed = 0;      ///< would fail
    std::uint64_t in_program = 0;  ///< not tried: a step they need is in a program only
  };
  [[nodiscard]] const Counts& counts() const noexcept { return counts_; }

 private:
  const SchemaRegistry& schemas_;
  std::optional<std::int32_t> max_dataversion_;
  Counts counts_;
};

/// Audits every event of a stream, or those whose type matches one of the patterns. `failed` hears of each failure, in
/// order. \throws Error as EventLog::read
SchemaAudit::Counts audit_schemas(Store& store, const StreamName& stream, const SchemaRegistry& schemas,
                                  const std::vector<std::string>& types = {},
                                  const std::function<void(const SchemaFailure&)>& failed = {});

}  // namespace millrace
