"""The store on a Redis-protocol server: Redis 6.0 or later, Valkey 7.2 or later."""
