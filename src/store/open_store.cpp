// SPDX-License-Identifier: Apache-2.0

#include <string>

#include "store/url.hpp"

namespace millrace {
namespace store {

#define MILLRACE_STORE(scheme, function) \
  std::unique_ptr<Store> function(const StoreUrl& url, const StoreOptions& options);
#include "store/backends.inc"
#undef MILLRACE_STORE

namespace {

struct Backend {
  std::string_view scheme;
  std::unique_ptr<Store> (*open)(const StoreUrl&, const StoreOptions&);
};

#define MILLRACE_STORE(scheme, function) Backend{#scheme, &(function)},
constexpr Backend kBackends[] = {
#include "store/backends.inc"
};
#undef MILLRACE_STORE

}  // namespace
}  // namespace store

std::unique_ptr<Store> open_store(const StoreOptions& options) {
  const store::StoreUrl url = store::parse_store_url(options.url);
  std::string known;
  for (const store::Backend& backend : store::kBackends) {
    if (backend.scheme == url.scheme) return backend.open(url, options);
    known += (known.empty() ? "" : ", ") + std::string(backend.scheme) + ":";
  }
  throw Error(Errc::invalid_argument, "open store", url.scheme + ":",
              "there is no store of this kind; the kinds are " + known);
}

std::unique_ptr<Store> open_store(std::string_view url) {
  StoreOptions options;
  options.url = url;
  return open_store(options);
}

}  // namespace millrace
