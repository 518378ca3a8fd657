#!/usr/bin/env python3
"""A partner municipality's consumer, written from the contract alone.

Follows one agreement's feed, prints a line for each event, checks that
positions have no gap, and keeps the last position (with its epoch) in a file,
so that it goes on there when its stream ends, and when it is started again.
With `--erasures` it follows what it has to delete instead, deletes it, and
says so.
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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--agreement", help="follow its feed")
    what.add_argument("--erasures", action="store_true", help="follow what is to be deleted")
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--certificate", type=pathlib.Path, required=True)
    parser.add_argument("--key", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--keep", type=pathlib.Path, help="keep events in this folder")
    parser.add_argument("--until", type=int, help="stop after this position or number")
    arguments = parser.parse_args()

    generated()
    from samen.regional.v1 import feed_pb2, feed_pb2_grpc
    from samen.requests.v1 import events_pb2

    credentials = grpc.ssl_channel_credentials(
        arguments.root.read_bytes(),
        arguments.key.read_bytes(),
        arguments.certificate.read_bytes(),
    )
    arguments.caught_up = False
    with grpc.secure_channel(arguments.address, credentials) as channel:
        feed = feed_pb2_grpc.FeedServiceStub(channel)
        while True:
            position, epoch = 0, 0
            if arguments.checkpoint.exists():
                position, epoch = map(int, arguments.checkpoint.read_text().split())
            try:
                if arguments.erasures:
                    done = delete(feed, feed_pb2, arguments, position, epoch)
                else:
                    done = follow(feed, feed_pb2, events_pb2, arguments, position, epoch)
                if done:
                    return
            except grpc.RpcError as error:
                # Streams end: with their age, when they were not read for too
                # long, when the server goes. Whatever else it is, somebody has
                # to look at it.
                if error.code() not in RESUMED:
                    raise
            time.sleep(REST)


def follow(feed, feed_pb2, events_pb2, arguments, position, epoch):
    """Follows an agreement's feed; true when it has come far enough."""
    request = feed_pb2.SubscribeRequest(
        agreement_id=arguments.agreement, after=position, epoch=epoch
    )
    for item in feed.Subscribe(request):
        kind = item.WhichOneof("item")
        if kind == "caught_up":
            if not arguments.caught_up:
                print(f"caught up at {item.position}", flush=True)
            arguments.caught_up = True
        elif kind in ("event", "tombstone"):
            if item.position != position + 1:
                sys.exit(f"a gap: {item.position} after {position}")
            position, epoch = item.position, item.epoch
            if kind == "event":
                show(item, events_pb2)
                if arguments.keep:
                    kept = arguments.keep / arguments.agreement / str(position)
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_bytes(item.event.SerializeToString())
            # Only after the event was dealt with.
            arguments.checkpoint.write_text(f"{position} {epoch}")
        if arguments.until and position >= arguments.until:
            return True
    return False


def delete(feed, feed_pb2, arguments, number, epoch):
    """Deletes what there is to delete, and says so; true when it has come far enough."""
    from samen.regional.v1 import regional_pb2

    request = feed_pb2.SubscribeErasuresRequest(after=number, epoch=epoch)
    for item in feed.SubscribeErasures(request):
        if item.WhichOneof("item") == "erasure":
            if item.number != number + 1:
                sys.exit(f"a gap: {item.number} after {number}")
            number, epoch = item.number, item.epoch
            erasure = item.erasure
            if arguments.keep:
                for position in erasure.positions:
                    kept = arguments.keep / erasure.agreement_id / str(position)
                    kept.unlink(missing_ok=True)
            # Only after it is gone.
            feed.ConfirmErasure(feed_pb2.ConfirmErasureRequest(epoch=epoch, number=number))
            arguments.checkpoint.write_text(f"{number} {epoch}")
            positions = ",".join(map(str, erasure.positions))
            reason = regional_pb2.ErasureReason.Name(erasure.reason)
            print(number, erasure.agreement_id, positions, reason, flush=True)
        if arguments.until and number >= arguments.until:
            return True
    return False


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
