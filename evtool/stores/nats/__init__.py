"""The second store: topics are streams of NATS JetStream, and groups its durable consumers."""
