"""Every time of the protocol, in seconds unless the name says otherwise.

A request learns within ``STORE_FAILS_WITHIN`` seconds that the store is dead or silent:

=====================================================  =========================================
it waits for a connection of the pool, then for one     POOL_TIMEOUT + CONNECT_TIMEOUT     = 1.6
to be opened, by a store that is dead
it waits for a connection of the pool, then for a       POOL_TIMEOUT + REPLY_TIMEOUT       = 1.8
reply, from a store that is silent
its connection breaks, and it opens another one and     RESEND_WITHIN + CONNECT_TIMEOUT
waits for the reply there                               + REPLY_TIMEOUT                    = 1.7
the wrong server answers, and it opens a connection     MOVE_WITHIN + CONNECT_TIMEOUT
to another one and waits for the reply there            + REPLY_TIMEOUT                    = 2.0
=====================================================  =========================================

A waiter whose store answered until now starts its last poll ``REPLY_TIMEOUT`` before its own
timeout, and one whose store failed ``STORE_FAILS_WITHIN`` before it, so that no request overshoots
its timeout because the store is silent.

A lease is renewed when a third of it is over. The worker looks six times in a lease, so that a
renewal starts at half of the lease at the latest, and one that fails is tried twice more.

Code reads these names from the module (``_timing.POLL_EVERY``), so that a test can replace them.
"""

from __future__ import annotations

#: The longest time until a request knows that the store is dead or silent.
STORE_FAILS_WITHIN = 2.0

# One command.

#: The longest wait for a connection of the pool.
POOL_TIMEOUT = 0.9
#: The longest wait for a new connection, and for its TLS handshake.
CONNECT_TIMEOUT = 0.7
#: The longest wait for a reply.
REPLY_TIMEOUT = 0.9
#: A command whose connection breaks this soon is sent once more.
RESEND_WITHIN = 0.1
#: A command that a wrong server answers this soon is sent once more, to the right one.
MOVE_WITHIN = STORE_FAILS_WITHIN - CONNECT_TIMEOUT - REPLY_TIMEOUT

# Connections.

#: An idle connection is trusted for this long. Firewalls and NAT drop flows without notice, some
#: after four minutes.
CONNECTION_MAX_IDLE = 60.0
#: A connection is opened again after this time, so that new credentials and addresses take effect.
CONNECTION_MAX_AGE = 600.0
#: All connections are dropped at most this often. Where those that were opened since reach the
#: wrong server too, the address leads there.
POOL_DROP_EVERY = 1.0

# Waiting for another request.

#: The longest wait for the confirmation of a subscription; then the waiter relies on polling.
SUBSCRIBE_TIMEOUT = 0.5
#: One waiter of each key and process polls the store this often, whatever pub/sub does.
POLL_EVERY = 1.0
#: A silent pub/sub connection is pinged after this time, and dropped after twice this time.
SUBSCRIBER_PING_AFTER = 5.0
#: The pause before a broken pub/sub connection is opened again; it doubles each time, up to the
#: longest.
RECONNECT_FIRST = 0.05
RECONNECT_LONGEST = 1.0

# Leases and pending writes.

#: The part of a lease after which it is renewed.
RENEW_AFTER = 1 / 3
#: The part of a lease after which the worker looks for leases to renew.
WORKER_ROUND = 1 / 6
#: Milliseconds for which a renewal may restore a record that is gone. Less than ``REPLY_TIMEOUT``:
#: a stopped server that carries the renewal out later must not restore a claim that was released.
RESTORE_WITHIN_MS = 800
#: Pending writes are retried this often.
RETRY_EVERY = 1.0
#: Pending writes are retried this often by a process that ends and has nothing else to do.
LINGER_EVERY = 0.2
