"""Every time of the protocol, in seconds unless the name says otherwise.

A request learns within ``STORE_FAILS_WITHIN``, two seconds, that the store is dead or silent:

* It waits for a free connection, and then to connect to a dead store:
  ``POOL_TIMEOUT + CONNECT_TIMEOUT`` = 1.6.
* It waits for a free connection, and then for the reply of a silent store:
  ``POOL_TIMEOUT + REPLY_TIMEOUT`` = 1.8.
* Its connection breaks, and it sends the command once more on a new one:
  ``RESEND_WITHIN + CONNECT_TIMEOUT + REPLY_TIMEOUT`` = 1.7.
* It waits for a free connection, and then for replicas that do not confirm its write:
  ``POOL_TIMEOUT + REPLICAS_TIMEOUT`` = 1.6.
* The wrong server answers, and it sends the command once more on a new connection:
  ``MOVE_WITHIN + CONNECT_TIMEOUT + REPLY_TIMEOUT`` = 2.0.

Where Sentinels name the server, what they say is part of the time to connect:

* It waits for a free connection, the Sentinels, and then to connect to a dead store:
  ``POOL_TIMEOUT + SENTINEL_AT_LEAST + CONNECT_TIMEOUT - SENTINEL_AT_LEAST`` = 1.6.
* It waits for a free connection, the Sentinels, and then for the greeting of a silent store:
  ``POOL_TIMEOUT + SENTINEL_AT_LEAST + REPLY_TIMEOUT`` = 2.0.
* No connection is open, and the Sentinels answer late:
  ``SENTINEL_WITHIN + CONNECT_TIMEOUT - SENTINEL_AT_LEAST + REPLY_TIMEOUT`` = 2.0.

Where a cluster has the keys, what its nodes say is part of the time to find the right one:

* The slots are not known yet, and then the node is silent:
  ``MOVE_WITHIN + CONNECT_TIMEOUT + REPLY_TIMEOUT`` = 2.0.
* A node names another one, or has failed and been replaced: the same, as a command is sent to
  another node only within ``MOVE_WITHIN``, and does not wait for a free connection then.

A waiter starts its last poll ``REPLY_TIMEOUT`` before its own timeout, or ``STORE_FAILS_WITHIN``
where the store failed before. So a silent store does not make a request overshoot its timeout.

A lease is renewed when a third of it is over. The worker has six rounds in a lease, so a renewal
starts when half of the lease is over at the latest, and one that fails is tried twice more.

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

# Sentinels.

#: A request waits for the Sentinels' answers until it is this old, ...
SENTINEL_WITHIN = 0.6
#: ... and this long at least. Connecting to the server that they name may take less time by this.
SENTINEL_AT_LEAST = 0.2
#: They are asked this often while the store is used: what is sent to a demoted primary in this time
#: is lost. Three Sentinels take 0.13 % of a processor for each process.
SENTINEL_EVERY = 0.5
#: They are not asked any more, and all connections closed, when the store was not used for so long.
SENTINEL_UNUSED_AFTER = 5.0

# Confirmation by replicas (``min_replicas``).

#: The longest wait for replicas to confirm a write. It is part of a reply, which may take longer.
REPLICAS_TIMEOUT = 0.7
#: While replicas are missing, they are asked this often for a confirmation.
REPLICAS_EVERY = 1.0
#: The latest time at which a command that confirms another may be sent: what is left is enough for
#: a free connection and a reply.
CONFIRM_WITHIN = STORE_FAILS_WITHIN - POOL_TIMEOUT - REPLY_TIMEOUT

# Connections.

#: An idle connection is trusted for this long. Firewalls and NAT drop flows without notice, some
#: after four minutes.
CONNECTION_MAX_IDLE = 60.0
#: A connection is opened again after this time, so that new credentials and addresses take effect.
CONNECTION_MAX_AGE = 600.0
#: All connections are dropped at most this often. Where those that were opened since reach the
#: wrong server too, the address leads there.
POOL_DROP_EVERY = 1.0

#: The pause after an unexpected error in a background thread.
BACKGROUND_ERROR_PAUSE = 1.0

# Clusters.

#: The nodes are asked which slots they have at most this often, ...
SLOTS_EVERY = 1.0
#: ... and by a request that finds the last answer older than this.
SLOTS_MAX_AGE = 10.0
#: The pause before a command is sent again some of whose keys have migrated.
TRY_AGAIN_AFTER = 0.02

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
