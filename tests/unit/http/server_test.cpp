// SPDX-License-Identifier: Apache-2.0
#include "http/server.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include "http/client.hpp"
#include "millrace/error.hpp"

namespace millrace::http {
namespace {

using namespace std::chrono_literals;

/// A socket as a rude client has it.
class Raw {
 public:
  explicit Raw(const std::string& address) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    const timeval patience{20, 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) throw std::runtime_error("connect");
  }
  ~Raw() { hang_up(); }
  void send(const std::string& text) const {
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  void hang_up() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }
  /// Until the server ends it.
  std::string read_all() const {
    std::string out;
    char buffer[4096];
    for (ssize_t got = 0; (got = recv(socket_, buffer, sizeof buffer, 0)) > 0;)
      out.append(buffer, static_cast<std::size_t>(got));
    return out;
  }
  std::string read_until(const std::string& end) const {
    std::string out;
    char c = 0;
    while (!out.ends_with(end) && recv(socket_, &c, 1, 0) == 1) out += c;
    return out;
  }

 private:
  int socket_;
};

/// A server whose exchanges are handed to the test.
class ServerTest : public testing::Test {
 protected:
  struct Arrived {
    Request request;
    std::shared_ptr<Exchange> exchange;
  };

  Server& start(ServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    server_ = std::make_unique<Server>(options, &ServerTest::admit,
                                       [this](Request request, std::shared_ptr<Exchange> exchange) {
                                         if (request.path == "/echo")
                                           return exchange->respond({200, {}, request.method + " " + request.body});
                                         if (request.path == "/throw")
                                           throw Error(Errc::not_found, "look", "it", "not there");
                                         const std::lock_guard lock(mutex_);
                                         arrived_.push_back({std::move(request), std::move(exchange)});
                                         some_.notify_all();
                                       });
    return *server_;
  }
  static Admission admit(const Request& request) {
    if (request.path == "/secret") return Response{401, {}, "no"};
    return BodyLimit{1000, "max_batch_bytes"};
  }
  Arrived next() {
    std::unique_lock lock(mutex_);
    if (!some_.wait_for(lock, 20s, [this] { return !arrived_.empty(); })) throw std::runtime_error("no request came");
    Arrived out = std::move(arrived_.front());
    arrived_.pop_front();
    return out;
  }
  Client client() { return Client({"http://" + server_->address()}); }

  std::mutex mutex_;
  std::condition_variable some_;
  std::deque<Arrived> arrived_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AnswersAndKeepsTheConnection) {
  start();
  Client one = client();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(one.request("POST", "/echo", {}, "x").body, "POST x");
  EXPECT_EQ(server_->stats().accepted, 1U);
}

TEST_F(ServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  Raw raw(server_->address());
  raw.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
      "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3");
  next().exchange->respond({200, {}, "2"});
  const std::string all = raw.read_all();
  const auto first = all.find("POST 1");
  const auto second = all.find("\r\n\r\n2");
  const auto third = all.find("POST 3");
  ASSERT_NE(third, std::string::npos) << all;
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
}

TEST_F(ServerTest, UnderstandsChunkedBodiesAndExpect) {
  start();
  Raw raw(server_->address());
  raw.send(
      "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nConnection: "
      "close\r\n\r\n");
  EXPECT_EQ(raw.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  raw.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_NE(raw.read_all().find("POST abcde"), std::string::npos);
}

TEST_F(ServerTest, NamesTheLimitABodyExceeds) {
  start();
  Client one = client();
  const Response response = one.request("POST", "/echo", {}, std::string(1001, 'x'));
  EXPECT_EQ(response.status, 413U);
  EXPECT_NE(response.body.find("server.max_batch_bytes (1000 bytes)"), std::string::npos) << response.body;
  EXPECT_EQ(one.request("POST", "/echo", {}, std::string(1000, 'x')).status, 200U);

  Raw raw(server_->address());
  raw.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'x') +
           "\r\n0\r\n\r\n");
  EXPECT_TRUE(raw.read_all().starts_with("HTTP/1.1 413"));
}

TEST_F(ServerTest, RefusesBeforeTheBodyIsSent) {
  start();
  Raw raw(server_->address());
  raw.send("POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_TRUE(raw.read_all().starts_with("HTTP/1.1 401"));
}

TEST_F(ServerTest, AnswersMalformedRequestsWithAProblem) {
  start();
  const std::vector<std::pair<std::string, std::string>> cases{
      {"rubbish\r\n\r\n", "400"},
      {"GET /echo HTTP/1.1\r\n\r\n", "400"},  // no Host
      {"GET /echo?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400"},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", "417"},
      {"GET /echo HTTP/2.0\r\nHost: a\r\n\r\n", "505"}};
  for (const auto& [request, status] : cases) {
    Raw raw(server_->address());
    raw.send(request);
    const std::string answer = raw.read_all();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + status)) << request << answer;
    EXPECT_NE(answer.find("application/problem+json"), std::string::npos) << request;
  }
}

TEST_F(ServerTest, LimitsTheHead) {
  ServerOptions options;
  options.max_header_bytes = 1024;
  start(options);
  Raw raw(server_->address());
  raw.send("GET /echo HTTP/1.1\r\nHost: a\r\nX: " + std::string(2000, 'x') + "\r\n\r\n");
  EXPECT_TRUE(raw.read_all().starts_with("HTTP/1.1 431"));
}

TEST_F(ServerTest, ASlowClientIsToldAndASilentOneIsDropped) {
  ServerOptions options;
  options.request_timeout = 200ms;
  start(options);
  Raw slow(server_->address());
  Raw silent(server_->address());
  slow.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx");
  EXPECT_TRUE(slow.read_all().starts_with("HTTP/1.1 408"));
  EXPECT_EQ(silent.read_all(), "");
}

TEST_F(ServerTest, RefusesConnectionsBeyondTheLimit) {
  ServerOptions options;
  options.max_connections = 1;
  start(options);
  Client first = client();
  EXPECT_EQ(first.request("GET", "/echo").status, 200U);
  Client second = client();
  EXPECT_EQ(second.request("GET", "/echo").status, 503U);
  EXPECT_EQ(first.request("GET", "/echo").status, 200U);
}

TEST_F(ServerTest, HeadHasNoBodyButItsLength) {
  start();
  Raw raw(server_->address());
  raw.send("HEAD /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string answer = raw.read_all();
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
  EXPECT_NE(answer.find("Content-Length: 5\r\n"), std::string::npos) << answer;
}

TEST_F(ServerTest, WhatAHandlerThrowsIsAnswered) {
  start();
  EXPECT_EQ(client().request("GET", "/throw").status, 404U);
}

TEST_F(ServerTest, ADroppedExchangeIsAnswered500) {
  start();
  auto answer = std::async(std::launch::async, [this] { return client().request("GET", "/later").status; });
  next().exchange.reset();
  EXPECT_EQ(answer.get(), 500U);
}

TEST_F(ServerTest, AClientThatHangsUpIsNoticedAndItsAnswerReportedUnsent) {
  start();
  Raw raw(server_->address());
  raw.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
  const Arrived arrived = next();
  std::promise<void> gone;
  arrived.exchange->on_closed([&] { gone.set_value(); });
  raw.hang_up();
  ASSERT_EQ(gone.get_future().wait_for(20s), std::future_status::ready);
  std::promise<bool> sent;
  arrived.exchange->respond({200, {}, "deliveries"}, [&](bool ok) { sent.set_value(ok); });
  EXPECT_FALSE(sent.get_future().get());
}

TEST_F(ServerTest, ReportsAnAnswerAsSent) {
  start();
  auto answer = std::async(std::launch::async, [this] { return client().request("GET", "/later").body; });
  std::promise<bool> sent;
  next().exchange->respond({200, {}, "here"}, [&](bool ok) { sent.set_value(ok); });
  EXPECT_TRUE(sent.get_future().get());
  EXPECT_EQ(answer.get(), "here");
}

TEST_F(ServerTest, StreamsAndHearsTheClientLeave) {
  start();
  std::string got;
  auto reading = std::async(std::launch::async, [&] {
    Client one = client();
    one.stream(
        "/later", {}, [&](std::string_view chunk) { return (got += chunk) != "onetwo"; }, 20s);
  });
  auto stream = next().exchange->start_stream(200, {{"Content-Type", "text/event-stream"}});
  std::promise<void> gone;
  stream->on_closed([&] { gone.set_value(); });
  EXPECT_TRUE(stream->write("one"));
  EXPECT_TRUE(stream->write("two"));
  reading.get();
  ASSERT_EQ(gone.get_future().wait_for(20s), std::future_status::ready);
  EXPECT_FALSE(stream->write("three"));
}

TEST_F(ServerTest, AStreamAsksItsWriterToWaitAndToGoOn) {
  ServerOptions options;
  options.stream_buffer = 1 << 20;
  start(options);
  Raw raw(server_->address());
  raw.send("GET /later HTTP/1.1\r\nHost: a\r\n\r\n");
  auto stream = next().exchange->start_stream(200, {});
  std::promise<void> again;
  std::atomic<bool> once{false};
  stream->on_writable([&] {
    if (!once.exchange(true)) again.set_value();
  });
  const std::string chunk(256 << 10, 'x');
  std::size_t written = 0;
  while (stream->writable() && written < (256U << 20)) {
    ASSERT_TRUE(stream->write(chunk));
    written += chunk.size();
  }
  ASSERT_LT(written, 256U << 20);
  stream->write("end");
  raw.read_until("end");
  EXPECT_EQ(again.get_future().wait_for(20s), std::future_status::ready);
}

TEST_F(ServerTest, DrainingLetsRunningRequestsFinish) {
  start();
  auto answer = std::async(std::launch::async, [this] { return client().request("GET", "/later"); });
  const Arrived arrived = next();
  server_->drain();
  EXPECT_FALSE(server_->wait_idle(10ms));
  arrived.exchange->respond({200, {}, "late"});
  EXPECT_TRUE(server_->wait_idle(20s));
  const Response response = answer.get();
  EXPECT_EQ(response.body, "late");
  EXPECT_EQ(*find_header(response.headers, "Connection"), "close");
  EXPECT_THROW(client().request("GET", "/echo"), Error);
}

TEST_F(ServerTest, AnExchangeMayOutliveTheServer) {
  start();
  auto answer = std::async(std::launch::async, [this] {
    try {
      client().request("GET", "/later");
      return Errc::internal;
    } catch (const Error& error) {
      return error.code();
    }
  });
  const Arrived arrived = next();
  server_->stop();
  EXPECT_EQ(answer.get(), Errc::outcome_unknown);
  bool sent = true;
  arrived.exchange->respond({}, [&](bool ok) { sent = ok; });
  EXPECT_FALSE(sent);
}

TEST_F(ServerTest, SaysThatThePortIsTaken) {
  start();
  ServerOptions options;
  options.listen = server_->address();
  try {
    Server second(options, &ServerTest::admit, [](Request, const std::shared_ptr<Exchange>&) {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::busy);
    EXPECT_EQ(error.object(), server_->address());
  }
}

TEST(Listen, KnowsWhatOnlyThisMachineReaches) {
  EXPECT_TRUE(is_loopback("127.0.0.1:0"));
  EXPECT_TRUE(is_loopback("[::1]:8420"));
  EXPECT_FALSE(is_loopback("0.0.0.0:8420"));
  EXPECT_FALSE(is_loopback("[::]:8420"));
  for (const char* bad : {"127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", ":80", "127.0.0.1:x"})
    EXPECT_THROW(is_loopback(bad), Error) << bad;
}

TEST(Client, SaysThatNobodyIsThere) {
  Client client({"http://127.0.0.1:1"});
  try {
    client.request("GET", "/");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unavailable);
  }
}

}  // namespace
}  // namespace millrace::http
