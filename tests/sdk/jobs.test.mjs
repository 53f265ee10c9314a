// openai-node, unmodified: a file, a batch, its answers, a video.
import assert from 'node:assert/strict'
import test from 'node:test'
import OpenAI, { toFile } from 'openai'

const client = new OpenAI({ maxRetries: 0 })

test('a batch is made of a file and its answers are there', async () => {
  const request = {
    custom_id: 'a',
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'gpt-4o', max_tokens: 100, messages: [{ role: 'user', content: 'How many legs has a spider?' }] },
  }
  const file = await client.files.create({ file: await toFile(Buffer.from(JSON.stringify(request)), 'a.jsonl'), purpose: 'batch' })
  let batch = await client.batches.create({ input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' })
  for (let i = 0; i < 600 && batch.status !== 'completed'; i++) {
    await new Promise((done) => setTimeout(done, 100))
    batch = await client.batches.retrieve(batch.id)
  }
  assert.equal(batch.status, 'completed')
  const answer = JSON.parse(await (await client.files.content(batch.output_file_id)).text())
  assert.equal(answer.response.body.usage.total_tokens, 68)
})

test('a video is begun', async () => {
  const video = await client.videos.create({ model: 'sora-2', prompt: 'a cat', seconds: '8', size: '1280x720' })
  assert.equal((await client.videos.retrieve(video.id)).id, video.id)
})
