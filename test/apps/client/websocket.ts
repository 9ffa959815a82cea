/** A WebSocket: the server answers "NAME" with "NAME COUNT", and tells of its own accord every tick, without a gap. */
import type { Conversation } from "./conversation.ts";
import { expect } from "./conversation.ts";
import type { Target } from "./wire.ts";

export async function openWebSocket({ host, port }: Target, index: number): Promise<Conversation> {
  const socket = new WebSocket(`ws://${host}:${port}/socket`);
  const name = `socket-${process.pid}-${index}`;
  let count = 0;
  let lastTick: number | undefined;
  let broken: Error | undefined;
  const answers: string[] = [];
  let wake = () => {};
  const breaks = (reason: string) => {
    broken ??= new Error(reason);
    wake();
  };
  const opened = Promise.withResolvers<void>();
  socket.addEventListener("open", () => opened.resolve());
  socket.addEventListener("error", () => opened.reject(new Error("The WebSocket cannot be opened")));
  socket.addEventListener("close", ({ code }) => breaks(`The WebSocket was closed with code ${code}`));
  socket.addEventListener("message", ({ data }) => {
    const text = String(data);
    if (!text.startsWith("tick ")) {
      answers.push(text);
      return wake();
    }
    const tick = Number(text.slice(5));
    if (lastTick !== undefined && tick !== lastTick + 1) breaks(`Tick ${tick} after tick ${lastTick}`);
    lastTick = tick;
  });
  await opened.promise;
  return {
    async turn() {
      socket.send(name);
      while (answers.length === 0) {
        if (broken) throw broken;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (broken) throw broken;
      expect(answers.shift()!, `${name} ${++count}`, "count");
    },
    close: () => socket.close(),
  };
}
