"""The second store: topics are streams of NATS JetStream, and groups its durable consumers."""

# What an address may say beside its servers, in a URL or in the settings file: see `evtool.stores.nats.address`.
FILES = ("creds", "nkey", "ca", "cert", "key")
PARAMETERS = (*FILES, "domain", "replicas", "inbox")
SETTINGS = ("user", "password", "token", *PARAMETERS)
