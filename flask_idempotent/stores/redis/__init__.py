"""The store on a Redis-protocol server: Redis 7.0 or later, Valkey 7.2 or later."""
