/** Whether the machine at a stream's other end answers: told by its kernel, however late the process there is. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { descriptorOf } from "../../../src/kernel/socket.ts";
import { tcpAnswers } from "../../../src/kernel/tcp-info.ts";
import { Answers } from "../../../src/replication/answers.ts";
import { eventually } from "../../support/eventually.ts";

const near = { leastRttMs: 0.1, rttMs: 0.3, deviationMs: 0.1 };
const far = { leastRttMs: 100, rttMs: 102, deviationMs: 2 };
const busy = { leastRttMs: 0.1, rttMs: 30, deviationMs: 25 };
const waiting = (lastAnswerMs: number, way = near) => ({ unacknowledged: 1, lastAnswerMs, ...way });
const nothing = { unacknowledged: 0, lastAnswerMs: 5000, ...near };

test("an answer is overdue when something has waited for it longer than kernels put answers off", () => {
  const answers = new Answers();
  assert.equal(answers.overdue(waiting(20), 1000), false);
  assert.equal(answers.overdue(waiting(60), 1040), false);
  assert.equal(answers.overdue(waiting(80), 1060), true);
});

test("nothing is owed where nothing was sent, however long nothing came", () => {
  const answers = new Answers();
  assert.equal(answers.overdue(nothing, 1000), false);
  assert.equal(answers.overdue(waiting(5015), 1015), false, "it has only just been sent");
  assert.equal(answers.overdue(nothing, 1030), false);
  assert.equal(answers.overdue(waiting(5100), 1100), false);
});

test("any segment of the peer's counts as an answer", () => {
  const answers = new Answers();
  answers.overdue(waiting(0), 1000);
  assert.equal(answers.overdue(waiting(10), 1100), false);
  answers.heard();
  assert.equal(answers.overdue(waiting(500), 1500), false);
});

test("a far peer is given the time of its way", () => {
  const answers = new Answers();
  answers.overdue(waiting(0, far), 1000);
  assert.equal(answers.overdue(waiting(300, far), 1300), false);
  assert.equal(answers.overdue(waiting(500, far), 1500), true);
});

test("a machine whose answers come late and unevenly is given the time that they take", () => {
  const answers = new Answers();
  answers.overdue(waiting(0, busy), 1000);
  assert.equal(answers.overdue(waiting(120, busy), 1120), false);
  assert.equal(answers.overdue(waiting(140, busy), 1140), true);
});

test("the kernel answers for a process that stands still", async () => {
  const script =
    "require('net').createServer(() => {}).listen(0, '127.0.0.1', function () { console.log(this.address().port) })";
  const peer = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [port] = await once(createInterface({ input: peer.stdout }), "line");
    const socket = connect(Number(port), "127.0.0.1");
    await once(socket, "connect");
    peer.kill("SIGSTOP");
    socket.write("are you there?");
    await eventually(
      "what was sent is acknowledged",
      async () => tcpAnswers(descriptorOf(socket)!).unacknowledged === 0,
    );
    assert.ok(tcpAnswers(descriptorOf(socket)!).leastRttMs < 1000);
    socket.destroy();
    assert.equal(descriptorOf(socket), undefined);
  } finally {
    peer.kill("SIGKILL");
  }
});
