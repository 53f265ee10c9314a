// The openai and Anthropic packages for Node, unmodified: images, audio, messages and Azure, through a running Turnpike whose
// upstream is scripted. Set by the test that starts the gateway: OPENAI_BASE_URL, GATEWAY_URL (without /v1), OPENAI_API_KEY.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI, { AzureOpenAI, toFile } from "openai";

const { GATEWAY_URL, OPENAI_API_KEY: apiKey } = process.env;
const client = new OpenAI({ maxRetries: 0 });
const claude = new Anthropic({ baseURL: GATEWAY_URL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];
const wav = () => toFile(Buffer.alloc(20_000), "a.wav");

test("images", async () => {
  const answer = await client.images.generate({ model: "dall-e-2", prompt: "a cat", n: 2, size: "256x256" });
  assert.equal(answer.data.length, 2);
});

test("image edit", async () => {
  const image = await toFile(Buffer.from("PNG"), "a.png", { type: "image/png" });
  const answer = await client.images.edit({ model: "gpt-image-1", image, prompt: "a dog" });
  assert.equal(answer.usage.output_tokens, 10);
});

test("transcription", async () => {
  const answer = await client.audio.transcriptions.create({ model: "whisper-1", file: await wav() });
  assert.equal(answer.text, "Hello.");
});

test("transcription stream", async () => {
  const stream = await client.audio.transcriptions.create({ model: "gpt-4o-transcribe", file: await wav(), stream: true });
  let last;
  for await (const event of stream) last = event;
  assert.equal(last.type, "transcript.text.done");
});

test("speech", async () => {
  const answer = await client.audio.speech.create({ model: "tts-1", input: "Hello there", voice: "alloy" });
  assert.equal(await answer.text(), "ID3 sound");
});

test("azure", async () => {
  const azure = new AzureOpenAI({ baseURL: `${GATEWAY_URL}/openai`, apiKey, apiVersion: "2024-10-21", maxRetries: 0 });
  const answer = await azure.chat.completions.create({ model: "my-deployment", messages });
  assert.equal(answer.usage.total_tokens, 68);
});

test("message", async () => {
  const answer = await claude.messages.create({ model: "claude-x", max_tokens: 100, messages });
  assert.equal(answer.content[0].text, "Hi");
});

test("message stream", async () => {
  const final = await claude.messages.stream({ model: "claude-x", max_tokens: 100, messages }).finalMessage();
  assert.equal(final.usage.output_tokens, 20);
});

test("errors have Anthropic's classes", async () => {
  const wrong = new Anthropic({ baseURL: GATEWAY_URL, apiKey: "tp-wrong", maxRetries: 0 });
  await assert.rejects(wrong.messages.create({ model: "claude-x", max_tokens: 100, messages }), Anthropic.AuthenticationError);
});
