// SPDX-License-Identifier: Apache-2.0
#include "io/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "millrace/error.hpp"

namespace millrace::io {
namespace {

namespace ssl = boost::asio::ssl;

[[noreturn]] void refuse(const std::string& file, const char* why, const boost::system::error_code& error) {
  ERR_clear_error();
  throw Error(Errc::invalid_argument, "set up TLS", file, why, error.message());
}

}  // namespace

TlsContext load_client_tls(const TlsOptions& options) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
  SSL_CTX* native = context->native_handle();
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Without this OpenSSL would ask the terminal.
  SSL_CTX_set_default_passwd_cb(native, [](char*, int, int, void*) { return 0; });

  boost::system::error_code error;
  if (!options.verify) {
    context->set_verify_mode(ssl::verify_none);
  } else {
    context->set_verify_mode(ssl::verify_peer);
    if (options.ca_file.empty()) {
      context->set_default_verify_paths(error);
    } else {
      context->load_verify_file(options.ca_file, error);
    }
    if (error) refuse(options.ca_file, "is no PEM file of certificates to trust", error);
  }
  if (options.cert_file.empty() != options.key_file.empty()) {
    throw Error(Errc::invalid_argument, "set up TLS", options.cert_file + options.key_file,
                "a certificate of our own and its key are given together");
  }
  if (!options.cert_file.empty()) {
    context->use_certificate_chain_file(options.cert_file, error);
    if (error) refuse(options.cert_file, "is no PEM file with a certificate", error);
    context->use_private_key_file(options.key_file, ssl::context::pem, error);
    if (error) refuse(options.key_file, "is no PEM file with that certificate's key, not encrypted", error);
  }
  return context;
}

}  // namespace millrace::io
