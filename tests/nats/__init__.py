"""The store on NATS JetStream, against real servers."""
