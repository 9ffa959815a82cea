/**
 * A process that claims to be a primary: connects to a clone with a given certificate and says what the scenario wants. Prints
 * what came of it as one JSON document. Arguments: HOST PORT CA CERTIFICATE KEY and a scenario as JSON.
 */
import { readFileSync } from "node:fs";
import { connect, type TLSSocket } from "node:tls";
import type { CheckpointEnd } from "../../../src/checkpoint/operations.ts";
import { IMAGE_VERSION } from "../../../src/checkpoint/operations.ts";
import type { View } from "../../../src/cluster/spec.ts";
import { FrameReader, FrameWriter, type Message, STREAM_VERSION } from "../../../src/replication/frames.ts";

export interface Scenario {
  application: string;
  /** Whom it claims to be. */
  node: string;
  term: number;
  view: View;
  revision: number;
  stream: number;
  version?: number;
  /** What follows a first, good checkpoint (epoch 1). */
  then:
    | "nothing"
    | "altered"
    | "truncated"
    | "cut"
    | "repeated"
    | "older"
    | "noise"
    | "huge"
    | "unknown-image"
    | "good";
}

export interface Outcome {
  accepted: boolean;
  refused?: string;
  acknowledged: number[];
  goodbye?: string;
  /** The connection was ended by the clone. */
  closed: boolean;
  error?: string;
}

const PATIENCE_MS = 3000;

function end(epoch: number, version = IMAGE_VERSION): Message {
  const at = new Date().toISOString();
  const clock = String(process.hrtime.bigint());
  const figures = { at, stopUs: 1, pages: 0, bytes: 0, clock };
  const body: CheckpointEnd = { version, epoch, term: 1, changed: [], gone: [], final: false, ...figures };
  return { type: "end", end: body, digest: 0 };
}

function misbehave(socket: TLSSocket, writer: FrameWriter, scenario: Scenario): void {
  const encode = (message: Message) => Buffer.concat(writer.encode(message));
  const note: Message = { type: "operation", operation: { op: "process-end", pid: 77 } };
  switch (scenario.then) {
    case "nothing":
      return;
    case "good":
      socket.write(encode(end(2)));
      return;
    case "altered": {
      // Still well-formed: only the checksum can tell.
      const frame = encode(note);
      const at = frame.lastIndexOf(77);
      frame[at] = 78;
      socket.write(Buffer.concat([frame, encode(end(2))]));
      return;
    }
    case "truncated":
      // Bytes are missing in mid-stream: everything after it is read as something else.
      socket.write(Buffer.concat([encode(note).subarray(0, 9), encode(end(2)), encode(end(3))]));
      return;
    case "cut":
      socket.end(encode(end(2)).subarray(0, 20));
      return;
    case "repeated": {
      const frame = encode(end(2));
      socket.write(Buffer.concat([frame, frame]));
      return;
    }
    case "older":
      socket.write(encode(end(1)));
      return;
    case "noise":
      socket.write(Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 31 + 7) & 0xff)));
      return;
    case "huge":
      socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0]));
      return;
    case "unknown-image":
      socket.write(encode(end(2, 99)));
      return;
  }
}

async function play(): Promise<Outcome> {
  const [host, port, ca, certificate, key, text] = process.argv.slice(2) as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const scenario = JSON.parse(text) as Scenario;
  const outcome: Outcome = { accepted: false, acknowledged: [], closed: false };
  const writer = new FrameWriter();
  const reader = new FrameReader();
  const now = String(process.hrtime.bigint());
  const { application, node, term, view, revision, stream, version = STREAM_VERSION } = scenario;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const socket = connect({
    host,
    port: Number(port),
    ...{ ca: readFileSync(ca), cert: readFileSync(certificate), key: readFileSync(key) },
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  const send = (message: Message) => socket.write(Buffer.concat(writer.encode(message)));
  // A real primary is never silent for long.
  const heart = setInterval(() => outcome.accepted && scenario.then !== "cut" && !socket.destroyed && beat(), 20);
  const beat = () => socket.writable && scenario.then === "nothing" && send({ type: "heartbeat" });
  setTimeout(resolve, PATIENCE_MS);
  socket.on("secureConnect", () =>
    send({
      type: "hello",
      hello: {
        version,
        application,
        node,
        term,
        view,
        revision,
        stream,
        clocks: { monotonic: now, boottime: now },
        key: Buffer.alloc(16),
      },
    }),
  );
  socket.on("error", (error) => {
    outcome.error = error.message;
  });
  socket.on("close", () => {
    outcome.closed = true;
    resolve();
  });
  socket.on("data", (bytes) => {
    for (const message of reader.feed(bytes)) {
      if (message.type === "accepted") {
        outcome.accepted = true;
        send(end(1));
      } else if (message.type === "refused") outcome.refused = message.reason;
      else if (message.type === "goodbye") outcome.goodbye = message.reason;
      else if (message.type === "acknowledged") {
        outcome.acknowledged.push(message.epoch);
        if (message.epoch === 1) misbehave(socket, writer, scenario);
        else if (scenario.then === "good") resolve();
      }
    }
  });
  await ended;
  clearInterval(heart);
  socket.destroy();
  return outcome;
}

if (import.meta.main) {
  process.stdout.write(JSON.stringify(await play()));
  process.exit(0);
}
