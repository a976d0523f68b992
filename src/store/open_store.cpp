// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <iterator>
#include <string>

#include "store/url.hpp"

namespace millrace {
namespace store {

#define MILLRACE_STORE(scheme, function) \
  std::unique_ptr<Store> function(const StoreUrl& url, const StoreOptions& options);
#define MILLRACE_STORE_FILES(scheme, restore, migrate)          \
  void restore(const std::string& backup, const StoreUrl& url); \
  Migration migrate(const StoreUrl& url, bool dry_run);
#include "store/backends.inc"
#undef MILLRACE_STORE
#undef MILLRACE_STORE_FILES

namespace {

struct Backend {
  std::string_view scheme;
  std::unique_ptr<Store> (*open)(const StoreUrl&, const StoreOptions&);
};
struct Files {
  std::string_view scheme;
  void (*restore)(const std::string& backup, const StoreUrl&);
  Migration (*migrate)(const StoreUrl&, bool dry_run);
};

#define MILLRACE_STORE(scheme, function) Backend{#scheme, &(function)},
#define MILLRACE_STORE_FILES(scheme, restore, migrate)
constexpr Backend kBackends[] = {
#include "store/backends.inc"
};
#undef MILLRACE_STORE
#undef MILLRACE_STORE_FILES

#define MILLRACE_STORE(scheme, function)
#define MILLRACE_STORE_FILES(scheme, restore, migrate) Files{#scheme, &(restore), &(migrate)},
constexpr Files kFiles[] = {
#include "store/backends.inc"
};
#undef MILLRACE_STORE
#undef MILLRACE_STORE_FILES

const Backend& backend_of(const StoreUrl& url, const std::string& operation) {
  std::string known;
  for (const Backend& backend : kBackends) {
    if (backend.scheme == url.scheme) return backend;
    known += (known.empty() ? "" : ", ") + std::string(backend.scheme) + ":";
  }
  throw Error(Errc::invalid_argument, operation, url.scheme + ":",
              "there is no store of this kind; the kinds are " + known);
}

const Files& files_of(const StoreUrl& url, const std::string& operation) {
  const auto* const found = std::find_if(std::begin(kFiles), std::end(kFiles),
                                         [&](const Files& files) { return files.scheme == url.scheme; });
  if (found != std::end(kFiles)) return *found;
  backend_of(url, operation);
  throw Error(Errc::invalid_argument, operation, url.scheme + ":",
              "a store of this kind has no file of its own that could be restored or migrated");
}

}  // namespace
}  // namespace store

std::unique_ptr<Store> open_store(const StoreOptions& options) {
  const store::StoreUrl url = store::parse_store_url(options.url);
  return store::backend_of(url, "open store").open(url, options);
}

std::unique_ptr<Store> open_store(std::string_view url) {
  StoreOptions options;
  options.url = url;
  return open_store(options);
}

void restore_store(const std::string& backup, std::string_view url_text) {
  const store::StoreUrl url = store::parse_store_url(url_text);
  store::files_of(url, "restore").restore(backup, url);
}

Migration migrate_store(std::string_view url_text, bool dry_run) {
  const store::StoreUrl url = store::parse_store_url(url_text);
  return store::files_of(url, "migrate").migrate(url, dry_run);
}

}  // namespace millrace
