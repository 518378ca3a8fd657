#!/usr/bin/env python3
"""A partner municipality's consumer, written from the contract alone.

Follows one agreement's feed, prints a line for each event, checks that
positions have no gap, and keeps the last position (with its epoch) in a file,
so that it goes on there when its stream ends, and when it is started again.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import time

import grpc

PROTO = pathlib.Path(__file__).resolve().parent.parent / "proto"

# How a stream ends that is resumed, and seconds to rest before.
RESUMED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
REST = 1


def generated():
    """Generates code from the contract and makes it importable."""
    out = tempfile.mkdtemp(prefix="samen-partner-")
    files = [
        str(path.relative_to(PROTO))
        for package in ("samen", "cloudevents")
        for path in sorted((PROTO / package).rglob("*.proto"))
    ]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", ".",
         f"--python_out={out}", f"--grpc_python_out={out}", *files],
        cwd=PROTO, check=True,
    )
    sys.path.insert(0, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--agreement", required=True)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--certificate", type=pathlib.Path, required=True)
    parser.add_argument("--key", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--until", type=int, help="stop after this position")
    arguments = parser.parse_args()

    generated()
    from samen.regional.v1 import feed_pb2, feed_pb2_grpc
    from samen.requests.v1 import events_pb2

    credentials = grpc.ssl_channel_credentials(
        arguments.root.read_bytes(),
        arguments.key.read_bytes(),
        arguments.certificate.read_bytes(),
    )
    position, epoch = 0, 0
    if arguments.checkpoint.exists():
        position, epoch = map(int, arguments.checkpoint.read_text().split())
    caught_up = False
    with grpc.secure_channel(arguments.address, credentials) as channel:
        feed = feed_pb2_grpc.FeedServiceStub(channel)
        while True:
            request = feed_pb2.SubscribeRequest(
                agreement_id=arguments.agreement, after=position, epoch=epoch
            )
            try:
                for item in feed.Subscribe(request):
                    kind = item.WhichOneof("item")
                    if kind == "caught_up" and not caught_up:
                        caught_up = True
                        print(f"caught up at {item.position}", flush=True)
                    elif kind in ("event", "tombstone"):
                        if item.position != position + 1:
                            sys.exit(f"a gap: {item.position} after {position}")
                        position, epoch = item.position, item.epoch
                        if kind == "event":
                            show(item, events_pb2)
                        # Only after the event was dealt with.
                        arguments.checkpoint.write_text(f"{position} {epoch}")
                    if arguments.until and position >= arguments.until:
                        return
            except grpc.RpcError as error:
                # Streams end: with their age, when they were not read for too
                # long, when the server goes. Whatever else it is, somebody has
                # to look at it.
                if error.code() not in RESUMED:
                    raise
            time.sleep(REST)


def show(item, events):
    event = item.event
    subject = event.attributes["subject"].ce_string
    sequence = int(event.attributes["sequence"].ce_string)
    if sequence != item.position:
        sys.exit(f"sequence {sequence} at position {item.position}")
    filed = events.RequestFiled()
    if event.proto_data.Unpack(filed) and filed.id != subject:
        sys.exit(f"event {event.id} is about {filed.id}, not {subject}")
    print(item.position, event.type, subject, flush=True)


if __name__ == "__main__":
    main()
