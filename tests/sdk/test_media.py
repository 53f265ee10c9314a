"""The openai and anthropic packages for Python, unmodified: images, audio, messages and Azure, through a running Turnpike
whose upstream is scripted.

Set by the test that starts the gateway: OPENAI_BASE_URL, GATEWAY_URL (without /v1) and OPENAI_API_KEY.
"""

import io
import os
import unittest
import wave

import anthropic
from openai import AzureOpenAI, OpenAI

ROOT = os.environ["GATEWAY_URL"]
TOKEN = os.environ["OPENAI_API_KEY"]
HELLO = [{"role": "user", "content": "Hello"}]


def recording():
    """Half a second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(24000)
        out.writeframes(bytes(24000))
    return ("a.wav", file.getvalue())


class Media(unittest.TestCase):
    def setUp(self):
        self.client = OpenAI(max_retries=0)
        self.addCleanup(self.client.close)
        self.claude = anthropic.Anthropic(base_url=ROOT, api_key=TOKEN, max_retries=0)
        self.addCleanup(self.claude.close)

    def test_images(self):
        answer = self.client.images.generate(model="dall-e-2", prompt="a cat", n=2, size="256x256")
        self.assertEqual(len(answer.data), 2)

    def test_image_edit(self):
        answer = self.client.images.edit(model="gpt-image-1", image=("a.png", b"PNG"), prompt="a dog")
        self.assertEqual(answer.usage.output_tokens, 10)

    def test_transcription(self):
        answer = self.client.audio.transcriptions.create(model="whisper-1", file=recording())
        self.assertEqual(answer.text, "Hello.")

    def test_plain_transcription(self):
        answer = self.client.audio.transcriptions.create(model="whisper-1", file=recording(), response_format="text")
        self.assertEqual(answer, "Hello.\n")

    def test_transcription_stream(self):
        stream = self.client.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording(), stream=True)
        self.assertEqual(list(stream)[-1].type, "transcript.text.done")

    def test_speech(self):
        answer = self.client.audio.speech.create(model="tts-1", input="Hello there", voice="alloy")
        self.assertEqual(answer.read(), b"ID3 sound")

    def test_moderation(self):
        self.assertEqual(self.client.moderations.create(input="Hello").results, [])

    def test_azure(self):
        client = AzureOpenAI(azure_endpoint=ROOT, api_key=TOKEN, api_version="2024-10-21", max_retries=0)
        answer = client.chat.completions.create(model="my-deployment", messages=HELLO)
        self.assertEqual(answer.usage.total_tokens, 68)

    def test_message(self):
        answer = self.claude.messages.create(model="claude-x", max_tokens=100, messages=HELLO)
        self.assertEqual((answer.content[0].text, answer.usage.output_tokens), ("Hi", 20))

    def test_message_stream(self):
        with self.claude.messages.stream(model="claude-x", max_tokens=100, messages=HELLO) as stream:
            self.assertEqual("".join(stream.text_stream), "Hi")
            self.assertEqual(stream.get_final_message().usage.output_tokens, 20)

    def test_count_tokens(self):
        self.assertEqual(self.claude.messages.count_tokens(model="claude-x", messages=HELLO).input_tokens, 9)

    def test_errors_have_anthropics_classes(self):
        wrong = self.claude.with_options(api_key="tp-wrong")
        with self.assertRaises(anthropic.AuthenticationError) as raised:
            wrong.messages.create(model="claude-x", max_tokens=100, messages=HELLO)
        self.assertEqual(raised.exception.body["error"]["type"], "authentication_error")
        with self.assertRaises(anthropic.NotFoundError):
            self.claude.messages.create(model="no-such-model", max_tokens=100, messages=HELLO)


if __name__ == "__main__":
    unittest.main(verbosity=2)
