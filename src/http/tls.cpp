// SPDX-License-Identifier: Apache-2.0
#include "http/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cerrno>
#include <ctime>
#include <fstream>
#include <system_error>

#include "base/log.hpp"
#include "base/time.hpp"
#include "http/certificate.hpp"
#include "millrace/error.hpp"

namespace millrace::http {
namespace {

namespace ssl = boost::asio::ssl;

constexpr const char* kOperation = "load the TLS certificate";

std::string read_file(const std::string& path, const char* setting) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (in && !text.empty()) return text;
  const int code = errno;
  const std::string native = code == 0 ? std::string() : std::generic_category().message(code);
  const Errc errc = code == ENOENT   ? Errc::not_found
                    : code == EACCES ? Errc::permission_denied
                                     : Errc::invalid_argument;
  throw Error(
      errc, kOperation, path,
      std::string("server.") + setting + (code == 0 ? " names an empty file" : " names a file that cannot be read"),
      native);
}

/// What OpenSSL put aside about its last failure; empties its queue.
std::string openssl_says() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "" : reason;
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw Error(Errc::invalid_argument, kOperation, path, why, openssl_says());
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned int in_size, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";  // its length, then its name
  unsigned char* chosen = nullptr;  // without const because OpenSSL's function serves both sides
  if (SSL_select_next_proto(&chosen, out_size, kOurs, sizeof kOurs - 1, in, in_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

/// Broken dates are read as the epoch: nobody takes such a certificate.
Timestamp time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return Timestamp{std::chrono::seconds{timegm(&parts)}};
}

/// A context with the certificate and its key.
TlsContext read_pair(const std::string& cert, const std::string& key) {
  const std::string chain = read_file(cert, "tls_cert");
  const std::string secret = read_file(key, "tls_key");
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);  // an idle connection is cheap
  SSL_CTX_set_alpn_select_cb(native, &choose_protocol, nullptr);
  // Without this OpenSSL would ask the terminal.
  SSL_CTX_set_default_passwd_cb(native, [](char*, int, int, void*) { return 0; });

  ERR_clear_error();
  boost::system::error_code bad;
  context->use_certificate_chain(boost::asio::buffer(chain), bad);
  if (bad) refuse(cert, "server.tls_cert must name a PEM file with the certificate: " + bad.message());
  ERR_clear_error();
  context->use_private_key(boost::asio::buffer(secret), ssl::context::pem, bad);
  const auto why = static_cast<unsigned long>(bad.value());
  const bool another = ERR_GET_LIB(why) == ERR_LIB_X509 && ERR_GET_REASON(why) == X509_R_KEY_VALUES_MISMATCH;
  if (bad && !another) {
    refuse(key, "server.tls_key must name a PEM file with a private key that is not encrypted: " + bad.message());
  }
  if (bad || SSL_CTX_check_private_key(native) != 1) {
    refuse(key, "server.tls_key is not the key of the certificate in server.tls_cert (" + cert + ")");
  }
  return context;
}

CertificateDates dates_of(const TlsContext& context) {
  const X509* certificate = SSL_CTX_get0_certificate(context->native_handle());
  return {time_of(X509_get0_notBefore(certificate)), time_of(X509_get0_notAfter(certificate))};
}

}  // namespace

TlsContext load_tls(const std::string& cert, const std::string& key) {
  TlsContext context = read_pair(cert, key);
  const auto [not_before, not_after] = dates_of(context);
  const Timestamp now = wall_now();
  if (not_after < now) {
    log::warn("certificate_expired", cert, "clients will refuse it: renew it");
  } else if (not_before > now) {
    log::warn("certificate_not_yet_valid", cert, "clients will refuse it: check the clock");
  }
  return context;
}

CertificateDates inspect_certificate(const std::string& cert, const std::string& key) {
  return dates_of(read_pair(cert, key));
}

bool was_plain_http(const boost::system::error_code& error) {
  return error.category() == boost::asio::error::get_ssl_category() &&
         ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST;
}

}  // namespace millrace::http
