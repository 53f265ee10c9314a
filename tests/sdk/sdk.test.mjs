// The openai package for Node, unmodified, through a running Turnpike whose upstream is the sandbox model.
// Set by the test that starts the gateway: OPENAI_BASE_URL, OPENAI_API_KEY, and POOR_API_KEY (a token with next to no budget).

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = "sandbox";
const messages = [{ role: "user", content: "Hello" }];

test("json", async () => {
  const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
  assert.match(response.headers.get("x-turnpike-exchange"), /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  assert.ok(data.choices[0].message.content);
  assert.ok(data.usage.completion_tokens > 0);
});

test("stream with usage", async () => {
  let last;
  const stream = await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) last = chunk;
  assert.deepEqual(last.choices, []);
  assert.ok(last.usage.completion_tokens > 0);
});

test("stream without usage", async () => {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    assert.ok(!chunk.usage);
    text += chunk.choices[0].delta.content ?? "";
  }
  assert.ok(text);
});

test("completions", async () => {
  const answer = await client.completions.create({ model, prompt: "Hello", max_tokens: 5 });
  assert.ok(answer.usage.completion_tokens <= 5);
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model, input: "a", dimensions: 8 });
  assert.equal(answer.data[0].embedding.length, 8);
});

test("responses", async () => {
  const answer = await client.responses.create({ model, input: "Hello" });
  assert.ok(answer.output_text);
  assert.ok(answer.usage.output_tokens > 0);
});

test("responses stream", async () => {
  let completed;
  for await (const event of await client.responses.create({ model, input: "Hello", stream: true })) {
    if (event.type === "response.completed") completed = event.response;
  }
  assert.ok(completed.usage.output_tokens > 0);
});

test("models", async () => {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  assert.ok(names.includes(model));
});

test("wrong token", async () => {
  await assert.rejects(
    client.withOptions({ apiKey: "tp-wrong" }).chat.completions.create({ model, messages }),
    (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key",
  );
});

test("over budget is not retried", async () => {
  let attempts = 0;
  const poor = new OpenAI({
    apiKey: process.env.POOR_API_KEY,
    maxRetries: 2,
    fetch: (...args) => {
      attempts += 1;
      return fetch(...args);
    },
  });
  await assert.rejects(
    poor.chat.completions.create({ model, messages }),
    (error) => error instanceof OpenAI.RateLimitError && error.code === "insufficient_quota",
  );
  assert.equal(attempts, 1);
});

test("unpriced model", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "no-such-model", messages }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
});

test("ambiguous body", async () => {
  await assert.rejects(client.chat.completions.create({ model, messages, Model: "other" }), OpenAI.BadRequestError);
});

test("cancel in mid-stream", async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const _ of stream) {
    stream.controller.abort();
    break;
  }
});
