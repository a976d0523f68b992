// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "io/stream.hpp"
#include "support/certificates.hpp"

namespace millrace::io {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Local = asio::local::stream_protocol;
using testing::HasSubstr;
using Code = boost::system::error_code;

constexpr Milliseconds kPatient{60'000};
constexpr Milliseconds kImpatient{50};

/// An empty folder, gone with the test.
class Folder {
 public:
  Folder() {
    path_ = (std::filesystem::temp_directory_path() / "millrace-io-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no folder like " + path_);
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// One attempt, and what came of it.
struct Attempted {
  std::unique_ptr<Stream> stream = {};
  std::optional<Error> error = {};
  int calls = 0;
};

/// A client, and servers beside it on the same loop: one thread, so nothing depends on who is faster.
class Connect : public testing::Test {
 protected:
  asio::io_context loop_;
  tcp::acceptor acceptor_{loop_};

  /// A port of this machine; nobody listens there before `acceptor_.listen()`.
  Endpoint bound() {
    const tcp::endpoint any(asio::ip::address_v4::loopback(), 0);
    acceptor_.open(any.protocol());
    acceptor_.bind(any);
    return {.host = "127.0.0.1", .port = acceptor_.local_endpoint().port()};
  }
  Endpoint listening() {
    Endpoint endpoint = bound();
    acceptor_.listen();
    return endpoint;
  }

  std::shared_ptr<Connecting> begin(const Endpoint& endpoint, Milliseconds timeout, Attempted& result) {
    const TlsContext tls = endpoint.tls ? load_client_tls(*endpoint.tls) : nullptr;
    return connect(loop_, endpoint, tls, timeout, [&result](std::unique_ptr<Stream> stream, const Error* error) {
      ++result.calls;
      result.stream = std::move(stream);
      if (error) result.error = *error;
    });
  }
  void run_until(const std::function<bool()>& done) {
    loop_.restart();
    while (!done()) ASSERT_NE(loop_.run_one(), 0U) << "nothing is left to happen";
  }
  Attempted attempt(const Endpoint& endpoint, Milliseconds timeout = kPatient) {
    Attempted result;
    const auto connecting = begin(endpoint, timeout, result);
    EXPECT_EQ(result.calls, 0) << "it is never called from within";
    run_until([&] { return result.calls != 0; });
    loop_.poll();
    EXPECT_EQ(result.calls, 1);
    EXPECT_NE(result.stream == nullptr, result.error == std::nullopt) << "either a stream or an error";
    return result;
  }
  Error refused(const Endpoint& endpoint, Milliseconds timeout = kPatient) {
    Attempted result = attempt(endpoint, timeout);
    if (!result.error) return {Errc::internal, "test", "", "it connected"};
    EXPECT_EQ(result.error->operation(), "connect to");
    EXPECT_EQ(result.error->object(), endpoint.describe());
    return *result.error;
  }
  std::string read(Stream& stream) {
    std::string text(100, '\0');
    std::optional<Code> done;
    stream.read_some(asio::buffer(text), [&](const Code& error, std::size_t size) {
      done = error;
      text.resize(size);
    });
    run_until([&] { return done.has_value(); });
    return *done ? done->message() : text;
  }
};

// ---- TCP ----

TEST_F(Connect, BytesGoBothWays) {
  Endpoint endpoint = listening();
  tcp::socket server(loop_);
  acceptor_.async_accept(server, [](const Code&) {});
  const Attempted result = attempt(endpoint);
  ASSERT_TRUE(result.stream) << result.error->what();
  run_until([&] { return server.is_open(); });
  asio::write(server, asio::buffer(std::string("hello")));
  EXPECT_EQ(read(*result.stream), "hello");

  std::optional<std::size_t> written;
  result.stream->write_some(asio::buffer("hi", 2), [&](const Code& error, std::size_t size) {
    EXPECT_FALSE(error) << error.message();
    written = size;
  });
  run_until([&] { return written.has_value(); });
  char got[2] = {};
  EXPECT_EQ(asio::read(server, asio::buffer(got)), 2U);
  EXPECT_EQ(std::string(got, 2), "hi");
  server.close();
  EXPECT_EQ(read(*result.stream), Code(asio::error::eof).message());
}

TEST_F(Connect, ClosingEndsWhatIsPending) {
  Endpoint endpoint = listening();
  const Attempted result = attempt(endpoint);
  ASSERT_TRUE(result.stream);
  char byte = 0;
  std::optional<Code> done;
  result.stream->read_some(asio::buffer(&byte, 1), [&](const Code& error, std::size_t) { done = error; });
  loop_.restart();
  loop_.poll();
  EXPECT_FALSE(done);
  result.stream->close();
  run_until([&] { return done.has_value(); });
  EXPECT_TRUE(*done);
}

TEST_F(Connect, ANameIsLookedUp) {
  Endpoint endpoint = listening();
  endpoint.host = "localhost";  // ::1 may come first, where nobody listens: then the next address is tried
  EXPECT_TRUE(attempt(endpoint).stream);
}

TEST_F(Connect, ARefusalIsTold) {
  const Error error = refused(bound());
  EXPECT_EQ(error.code(), Errc::unavailable);
  EXPECT_THAT(error.message(), HasSubstr("nobody answers there"));
  EXPECT_THAT(error.native(), HasSubstr("refused"));
}

TEST_F(Connect, ANameThatIsNoneIsTold) {
  const Error error = refused({.host = "no host", .port = 1});
  EXPECT_EQ(error.code(), Errc::unavailable);
  EXPECT_THAT(error.message(), HasSubstr("the host's name cannot be looked up"));
}

TEST_F(Connect, AServerThatTakesNobodyInTimeIsTold) {
  const Endpoint endpoint = bound();
  acceptor_.listen(0);
  tcp::socket first(loop_);  // the only one that fits in the queue; further ones wait
  first.connect(acceptor_.local_endpoint());
  const Error error = refused(endpoint, kImpatient);
  EXPECT_EQ(error.code(), Errc::unavailable);
  EXPECT_THAT(error.message(), HasSubstr("timed out: connecting took longer than 50 ms"));
}

TEST_F(Connect, WhatIsCancelledIsNeverCalled) {
  const Endpoint endpoint = listening();
  Attempted at_once;
  begin(endpoint, kPatient, at_once)->cancel();

  Endpoint silent = endpoint;  // nobody shakes hands there
  silent.tls.emplace();
  Attempted shaking;
  const auto connecting = begin(silent, kPatient, shaking);
  tcp::socket server(loop_);
  std::optional<std::size_t> greeted;
  char greeting[16] = {};
  acceptor_.async_accept(server, [&](const Code&) {
    // It connected twice: of the attempt that was given up at once, there is only an end.
    server.async_read_some(asio::buffer(greeting), [&](const Code& error, std::size_t size) {
      if (!error) return void(greeted = size);
      server.close();
      acceptor_.async_accept(server, [&](const Code&) {
        server.async_read_some(asio::buffer(greeting), [&](const Code&, std::size_t more) { greeted = more; });
      });
    });
  });
  run_until([&] { return greeted.has_value(); });
  EXPECT_GT(*greeted, 0U) << "the handshake has begun";
  connecting->cancel();
  connecting->cancel();
  server.close();
  loop_.restart();
  loop_.run();  // comes back, though nobody waited a minute: nothing is pending any more
  EXPECT_EQ(at_once.calls + shaking.calls, 0);
}

// ---- Unix sockets ----

TEST_F(Connect, AUnixSocketIsConnectedTo) {
  const Folder folder;
  Local::acceptor acceptor(loop_, Local::endpoint(folder.file("s")));
  const Attempted result = attempt({.path = folder.file("s")});
  ASSERT_TRUE(result.stream) << result.error->what();
  Local::socket server(loop_);
  acceptor.accept(server);
  asio::write(server, asio::buffer(std::string("hello")));
  EXPECT_EQ(read(*result.stream), "hello");
}

TEST_F(Connect, AUnixSocketThatIsMissingIsTold) {
  const Folder folder;
  const Error missing = refused({.path = folder.file("s")});
  EXPECT_EQ(missing.code(), Errc::unavailable);
  EXPECT_THAT(missing.message(), HasSubstr("nobody listens on this socket"));

  { const Local::acceptor gone(loop_, Local::endpoint(folder.file("left"))); }
  EXPECT_THAT(refused({.path = folder.file("left")}).message(), HasSubstr("nobody listens on this socket"));
  EXPECT_THAT(refused({.path = folder.file(std::string(200, 'x'))}).message(), HasSubstr("no path of a Unix socket"));
}

// ---- TLS ----

class ConnectByTls : public Connect {
 protected:
  static void SetUpTestSuite() {
    folder_.emplace();
    test::make_certificates(folder_->path());
  }
  static void TearDownTestSuite() { folder_.reset(); }
  static std::string file(const std::string& name) { return folder_->file(name); }

  /// A server with the test's certificate, for one connection; it greets whoever gets through.
  Endpoint serving() {
    Endpoint endpoint = listening();
    context_.use_certificate_chain_file(file("server.crt"));
    context_.use_private_key_file(file("server.key"), asio::ssl::context::pem);
    server_.emplace(loop_, context_);  // takes what the context has now
    acceptor_.async_accept(server_->next_layer(), [this](const Code&) {
      server_->async_handshake(asio::ssl::stream_base::server, [this](const Code& error) {
        if (!error) asio::async_write(*server_, asio::buffer("hello", 5), [](const Code&, std::size_t) {});
      });
    });
    endpoint.tls = TlsOptions{.ca_file = file("ca.crt")};
    return endpoint;
  }
  void expect_connected(const Endpoint& endpoint) {
    const Attempted result = attempt(endpoint);
    ASSERT_TRUE(result.stream) << result.error->what();
    EXPECT_EQ(read(*result.stream), "hello");
  }
  void expect_distrusted(const Endpoint& endpoint) {
    const Error error = refused(endpoint);
    EXPECT_EQ(error.code(), Errc::unavailable);
    EXPECT_THAT(error.message(), HasSubstr("its certificate is not trusted"));
    EXPECT_NE(error.native(), "");
  }

  asio::ssl::context context_{asio::ssl::context::tls_server};
  std::optional<asio::ssl::stream<tcp::socket>> server_;

 private:
  static inline std::optional<Folder> folder_;
};

TEST_F(ConnectByTls, AServerIsTrustedByItsCaAndItsAddress) {
  expect_connected(serving());
}

TEST_F(ConnectByTls, AServerIsTrustedByAnotherNameThatWasAskedFor) {
  Endpoint endpoint = serving();
  endpoint.tls->server_name = "localhost";
  expect_connected(endpoint);
}

TEST_F(ConnectByTls, AServerOfAnotherNameIsNotTrusted) {
  Endpoint endpoint = serving();
  endpoint.tls->server_name = "redis.example";
  expect_distrusted(endpoint);
}

TEST_F(ConnectByTls, AServerOfAnotherCaIsNotTrusted) {
  Endpoint endpoint = serving();
  endpoint.tls->ca_file = "";  // those of the system
  expect_distrusted(endpoint);
}

TEST_F(ConnectByTls, WhoDoesNotVerifyConnectsToAnybody) {
  Endpoint endpoint = serving();
  endpoint.tls = TlsOptions{.server_name = "redis.example", .verify = false};
  expect_connected(endpoint);
}

TEST_F(ConnectByTls, AServerThatNeverShakesHandsIsTold) {
  Endpoint endpoint = listening();
  endpoint.tls = TlsOptions{.ca_file = file("ca.crt")};
  const Error error = refused(endpoint, kImpatient);
  EXPECT_EQ(error.code(), Errc::unavailable);
  EXPECT_THAT(error.message(), HasSubstr("timed out: the TLS handshake took longer than 50 ms"));
}

TEST_F(ConnectByTls, AServerThatSpeaksSomethingElseIsTold) {
  Endpoint endpoint = listening();
  endpoint.tls = TlsOptions{.ca_file = file("ca.crt")};
  tcp::socket server(loop_);
  acceptor_.async_accept(server,
                         [&](const Code&) { asio::write(server, asio::buffer(std::string("-ERR what?\r\n"))); });
  EXPECT_THAT(refused(endpoint).message(), HasSubstr("no TLS connection"));
}

TEST_F(ConnectByTls, AServerThatHangsUpIsTold) {
  Endpoint endpoint = listening();
  endpoint.tls = TlsOptions{.ca_file = file("ca.crt")};
  tcp::socket server(loop_);
  acceptor_.async_accept(server, [&](const Code&) { server.close(); });
  EXPECT_THAT(refused(endpoint).message(), HasSubstr("no TLS connection"));
}

TEST_F(ConnectByTls, AFileThatIsNoCertificateIsNamed) {
  const auto refusal = [](const TlsOptions& options) -> std::string {
    try {
      (void)load_client_tls(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      return error.object() + ' ' + error.message();
    }
    return "accepted";
  };
  const std::string cert = file("client.crt");
  const std::string key = file("client.key");
  EXPECT_EQ(refusal({.ca_file = file("ca.crt"), .cert_file = cert, .key_file = key}), "accepted");
  EXPECT_THAT(refusal({.ca_file = file("none")}), HasSubstr(file("none") + " is no PEM file of certificates"));
  EXPECT_THAT(refusal({.ca_file = key}), HasSubstr(key + " is no PEM file of certificates"));
  EXPECT_THAT(refusal({.cert_file = cert}), HasSubstr("are given together"));
  EXPECT_THAT(refusal({.key_file = key}), HasSubstr("are given together"));
  EXPECT_THAT(refusal({.cert_file = key, .key_file = key}), HasSubstr(key + " is no PEM file with a certificate"));
  EXPECT_THAT(refusal({.cert_file = cert, .key_file = file("server.key")}), HasSubstr("that certificate's key"));
}

TEST(Endpoint, DescribesItself) {
  EXPECT_EQ((Endpoint{.host = "localhost", .port = 6379}).describe(), "localhost:6379");
  EXPECT_EQ((Endpoint{.host = "::1", .port = 6379}).describe(), "[::1]:6379");
  EXPECT_EQ((Endpoint{.path = "/run/redis.sock"}).describe(), "/run/redis.sock");
}

}  // namespace
}  // namespace millrace::io
