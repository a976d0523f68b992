# SPDX-License-Identifier: Apache-2.0
"""A gate between a client and a server that makes the network as bad as a test wants it.

    gate = Gate(connect)            # connect() gives a socket to the server; raises OSError when there is none
    gate.port                       # where clients connect to, for as long as the gate lives
    gate.delay = 0.2                # every piece in both directions comes so much later
    gate.hole = True                # what is sent vanishes; connections stay open and are accepted
    gate.open = False               # new connections are closed at once, those that exist are cut
    gate.cut()                      # those that exist are cut
    gate.cut_reply(after=7)         # the next reply ends after so many bytes, and with it its connection
    gate.lose_reply()               # the next reply never comes: its connection is cut instead

Standard library only. A connection costs two threads.
"""

import socket
import threading
import time


class Gate:
    def __init__(self, connect):
        self._connect = connect
        self._lock = threading.Lock()
        self._pairs = set()
        self._cut_after = None
        self._open = True
        self.delay = 0.0
        self.hole = False
        self.accepted = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def open(self):
        return self._open

    @open.setter
    def open(self, value):
        self._open = value
        if not value:
            self.cut()

    def cut(self):
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self._end(pair)

    def cut_reply(self, after):
        with self._lock:
            self._cut_after = after

    def lose_reply(self):
        self.cut_reply(0)

    @property
    def cutting(self):
        """The next reply is still to be cut."""
        return self._cut_after is not None

    def close(self):
        self._open = False
        self._listener.close()
        self.cut()

    @staticmethod
    def _end(pair):
        for end in pair:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                if not self._open:
                    raise ConnectionRefusedError
                server = self._connect()
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._carry, args=(client, server, pair, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, pair, True), daemon=True).start()

    def _carry(self, source, sink, pair, replies):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                if self.delay:
                    time.sleep(self.delay)
                if self.hole:
                    continue
                if replies:
                    with self._lock:
                        after, self._cut_after = self._cut_after, None
                    if after is not None:
                        if after:
                            sink.sendall(data[:after])
                        self.cuts += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        with self._lock:
            self._pairs.discard(pair)
        self._end(pair)
