// SPDX-License-Identifier: Apache-2.0
#include "http/client.hpp"

#include <curl/curl.h>

#include <array>
#include <mutex>
#include <utility>

#include "millrace/error.hpp"

namespace millrace::http {
namespace {

struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, ListFree>;

void append(List& list, const std::string& text) {
  curl_slist* longer = curl_slist_append(list.get(), text.c_str());
  if (longer == nullptr) throw std::bad_alloc();
  if (list == nullptr) {
    list.reset(longer);
  }
}

/// What one transfer writes into.
struct Transfer {
  Response response;
  const std::function<bool(std::string_view)>* on_chunk = nullptr;
  bool hung_up = false;
  std::exception_ptr failure;  ///< what the callback threw; curl is C, it must not pass through
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view chunk(data, size * count);
  if (transfer.on_chunk == nullptr || transfer.response.status != 200) {
    transfer.response.body += chunk;
    return chunk.size();
  }
  try {
    if ((*transfer.on_chunk)(chunk)) return chunk.size();
    transfer.hung_up = true;
  } catch (...) {
    transfer.failure = std::current_exception();
  }
  return 0;
}

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  std::string_view line(data, size * count);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {  // a new head: after "100 Continue" the real one follows
    transfer.response.headers.clear();
    const std::size_t space = line.find(' ');
    transfer.response.status = 0;
    for (std::size_t i = space + 1;
         space != std::string_view::npos && i < line.size() && line[i] >= '0' && line[i] <= '9'; ++i) {
      transfer.response.status = transfer.response.status * 10 + static_cast<unsigned>(line[i] - '0');
    }
  } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    transfer.response.headers.emplace_back(std::string(line.substr(0, colon)), std::string(value));
  }
  return size * count;
}

}  // namespace

struct Client::Impl {
  explicit Impl(ClientOptions given) : options(std::move(given)) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
    handle = curl_easy_init();
    if (handle == nullptr) throw Error(Errc::internal, "make an HTTP client", options.url, "curl_easy_init failed");
    while (options.url.ends_with('/')) options.url.pop_back();
  }
  ~Impl() { curl_easy_cleanup(handle); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  template <class Value>
  void set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(handle, option, value);
    if (code != CURLE_OK)
      throw Error(Errc::internal, "set up an HTTP request", options.url, "libcurl refused an option",
                  curl_easy_strerror(code));
  }

  List prepare(std::string_view path, const std::vector<Header>& headers, Transfer& transfer) {
    curl_easy_reset(handle);  // keeps the connection
    const std::string url = options.url + std::string(path);
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_NOPROXY, "*");  // a daemon is talked to directly
    if (!options.ca_file.empty()) set(CURLOPT_CAINFO, options.ca_file.c_str());
    said[0] = '\0';
    set(CURLOPT_ERRORBUFFER, said.data());
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, &transfer);
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, &transfer);
    List list;
    for (const Header& header : headers) append(list, header.first + ": " + header.second);
    if (!options.token.empty()) append(list, "Authorization: Bearer " + options.token);
    append(list, "Expect:");  // waiting for "100 Continue" costs a round trip or a second
    set(CURLOPT_HTTPHEADER, list.get());
    return list;
  }

  [[noreturn]] void fail(CURLcode code, std::string_view path) const {
    const std::string object = options.url + std::string(path);
    const char* native = curl_easy_strerror(code);
    switch (code) {
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
        throw Error(Errc::invalid_argument, "request", object, "not an http:// or https:// URL", native);
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_CONNECT:
        throw Error(Errc::unavailable, "connect to", options.url,
                    "nobody answers there; is the daemon running (millrace serve)?", native);
      case CURLE_SSL_CONNECT_ERROR: {
        // OpenSSL reads the version of a TLS record where an HTTP server has written "HTTP/1.1 400 …".
        const std::string why = native_of(native);
        const bool plain = why.find("wrong version number") != std::string::npos;
        throw Error(Errc::unavailable, "connect to", options.url,
                    plain ? "something answers there, but that port does not speak TLS: ask with http://"
                          : "something answers there, but no TLS connection came about",
                    why);
      }
      case CURLE_PEER_FAILED_VERIFICATION:
        throw Error(Errc::unavailable, "connect to", options.url,
                    "its certificate is not trusted: name the PEM file of its CA, or of the certificate itself when it "
                    "is self-signed, with --ca-file or MILLRACE_CA_FILE, and use a host name that it is made for",
                    native_of(native));
      case CURLE_SSL_CACERT_BADFILE:
        throw Error(Errc::invalid_argument, "connect to", options.ca_file,
                    "--ca-file is no readable PEM file of certificates", native_of(native));
      case CURLE_OPERATION_TIMEDOUT: {
        double connected = 0;
        curl_easy_getinfo(handle, CURLINFO_CONNECT_TIME, &connected);
        if (connected <= 0) throw Error(Errc::unavailable, "connect to", options.url, "no connection in time", native);
        throw Error(Errc::timed_out, "request", object, "no answer in time", native);
      }
      default:
        throw Error(Errc::outcome_unknown, "request", object, "the connection broke before the answer was complete",
                    native);
    }
  }

  /// libcurl's own words when it has some, else those for the code.
  [[nodiscard]] std::string native_of(const char* usual) const { return said[0] != '\0' ? said.data() : usual; }

  ClientOptions options;
  std::array<char, CURL_ERROR_SIZE> said{};
  CURL* handle = nullptr;
};

Client::Client(ClientOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

Response Client::request(std::string_view method, std::string_view path, const std::vector<Header>& headers,
                         std::string_view body, Milliseconds timeout) {
  Transfer transfer;
  const List list = impl_->prepare(path, headers, transfer);
  const std::string verb(method);
  if (method == "HEAD") {
    impl_->set(CURLOPT_NOBODY, 1L);
  } else if (method != "GET") {
    impl_->set(CURLOPT_CUSTOMREQUEST, verb.c_str());
  }
  if (!body.empty() || method == "POST" || method == "PUT") {
    impl_->set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    impl_->set(CURLOPT_POSTFIELDS, body.empty() ? "" : body.data());
    const bool typed = find_header(headers, "Content-Type") != nullptr;
    if (!typed) {
      curl_slist* longer = curl_slist_append(list.get(), "Content-Type:");  // none, rather than curl's form type
      if (longer == nullptr) throw std::bad_alloc();
    }
  }
  impl_->set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  const CURLcode code = curl_easy_perform(impl_->handle);
  if (code != CURLE_OK) impl_->fail(code, path);
  return std::move(transfer.response);
}

Response Client::stream(std::string_view path, const std::vector<Header>& headers,
                        const std::function<bool(std::string_view)>& on_chunk, Milliseconds idle_timeout) {
  Transfer transfer;
  transfer.on_chunk = &on_chunk;
  const List list = impl_->prepare(path, headers, transfer);
  impl_->set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  impl_->set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(std::max<std::int64_t>(1, idle_timeout.count() / 1000)));
  const CURLcode code = curl_easy_perform(impl_->handle);
  if (transfer.failure) std::rethrow_exception(transfer.failure);
  if (code != CURLE_OK && !transfer.hung_up) impl_->fail(code, path);
  return std::move(transfer.response);
}

}  // namespace millrace::http
