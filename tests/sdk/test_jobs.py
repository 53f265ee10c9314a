"""openai-python, unmodified: a file, a batch, its answers, a video."""

import json
import time

from openai import NotFoundError, OpenAI

client = OpenAI(max_retries=0)

request = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "How many legs has a spider?"}]},
}
file = client.files.create(file=("a.jsonl", json.dumps(request).encode()), purpose="batch")
assert file.id in [it.id for it in client.files.list()]
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
for _ in range(600):
    batch = client.batches.retrieve(batch.id)
    if batch.status == "completed":
        break
    time.sleep(0.1)
assert batch.status == "completed", batch
answer = json.loads(client.files.content(batch.output_file_id).text)
assert answer["response"]["body"]["usage"]["total_tokens"] == 68, answer
assert [it.id for it in client.batches.list()] == [batch.id]

video = client.videos.create(model="sora-2", prompt="a cat", seconds="8", size="1280x720")
assert client.videos.retrieve(video.id).id == video.id

try:
    client.files.content("file-nobody-has")
    raise AssertionError("a foreign file was given away")
except NotFoundError:
    pass
