// The openai package for Node, unmodified: realtime and responses over WebSockets, through a running Turnpike whose upstream is
// scripted. Set by the test that starts the gateway: OPENAI_BASE_URL, OPENAI_API_KEY, and POOR_API_KEY, whose budget no turn fits into.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { ResponsesWS } from "openai/resources/responses/ws";

const client = new OpenAI({ maxRetries: 0 });
const first = (socket, kind) =>
  new Promise((resolve, reject) => {
    socket.on(kind, resolve);
    if (kind !== "error") socket.on("error", reject);
  });

test("each turn has its usage", async () => {
  const socket = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client);
  await once(socket.socket, "open");
  for (let turn = 0; turn < 2; turn += 1) {
    const done = first(socket, "response.done");
    socket.send({ type: "response.create" });
    assert.equal((await done).response.usage.total_tokens, 219);
  }
  socket.close();
});

test("a turn that no budget covers is told as an error", async () => {
  const poor = new OpenAI({ maxRetries: 0, apiKey: process.env.POOR_API_KEY });
  const socket = new OpenAIRealtimeWS({ model: "gpt-realtime" }, poor);
  await once(socket.socket, "open");
  const error = first(socket, "error");
  socket.send({ type: "response.create" });
  assert.equal((await error).error.code, "insufficient_quota");
  socket.close();
});

test("a response", async () => {
  const socket = new ResponsesWS(client);
  const done = first(socket, "response.completed");
  socket.send({ type: "response.create", model: "gpt-4o", input: "Hi", max_output_tokens: 20 });
  assert.equal((await done).response.usage.total_tokens, 15);
  socket.close();
});
