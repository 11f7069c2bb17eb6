"""Programs by hand, with nats-py alone: what evtool's figures on a NATS store stand beside."""

_CONNECT = """
import asyncio, sys, nats
from nats.js import api
async def connect():
    nc = await nats.connect(sys.argv[1].split(","))
    return nc, nc.jetstream(publish_async_max_pending=1000)
"""

APPEND = (
    _CONNECT
    + """
async def main():
    nc, js = await connect()
    name = sys.argv[2]
    info = nc._server_info
    await js.add_stream(name=name, subjects=[name], num_replicas=3 if info.get("cluster") else 1)
    for number, line in enumerate(sys.stdin.buffer):
        await js.publish_async(name, line.strip(), headers={"Nats-Msg-Id": str(number)})
    await js.publish_async_completed()
    await js.delete_stream(name)
    await nc.close()
asyncio.run(main())
"""
)

READ = (
    _CONNECT
    + """
async def main():
    nc, js = await connect()
    stream = "evtool_" + sys.argv[2]
    left = int(sys.argv[3])
    config = api.ConsumerConfig(ack_policy=api.AckPolicy.NONE, mem_storage=True, num_replicas=1)
    sub = await js.pull_subscribe("evtool." + sys.argv[2], stream=stream, config=config)
    while left:
        messages = await sub.fetch(min(left, 1000))
        sys.stdout.buffer.write(b"".join([message.data + b"\\n" for message in messages]))
        left -= len(messages)
    await nc.close()
asyncio.run(main())
"""
)

ONE_SHOT = (
    _CONNECT
    + """
async def main():
    nc, js = await connect()
    await js.publish("evtool.once", b'{"data":{"n":1}}')
    await nc.close()
asyncio.run(main())
"""
)

# Follows with the program that argv[3] is, publishes by hand, and prints the seconds that each event took to come out.
FOLLOW = (
    _CONNECT
    + """
import subprocess, time
async def main():
    nc, js = await connect()
    subprocess.run([sys.argv[3], "append", "f", "0"], check=True)
    follower = subprocess.Popen([sys.argv[3], "tail", "f", "-n", "0", "-f"], stdout=subprocess.PIPE)
    loop = asyncio.get_running_loop()
    async def line():
        return await loop.run_in_executor(None, follower.stdout.readline)
    first = asyncio.ensure_future(line())
    while not first.done():
        await js.publish("evtool.f", b'{"data":"begin"}')
        await asyncio.wait([first], timeout=0.1)
    await js.publish("evtool.f", b'{"data":"begun"}')
    while b"begun" not in await line():
        pass
    for number in range(int(sys.argv[2])):
        await asyncio.sleep(0.002)
        start = time.perf_counter()
        await nc.publish("evtool.f", b'{"data":%d}' % number)
        await nc.flush()
        await line()
        print(time.perf_counter() - start)
    follower.terminate()
    await nc.close()
asyncio.run(main())
"""
)

WORKER = """
import os
rest = b""
while data := os.read(0, 1 << 18):
    *lines, rest = (rest + data).split(b"\\n")
    os.write(1, b"".join([line[10:line.index(b",", 10)] + b"\\n" for line in lines]))
"""
