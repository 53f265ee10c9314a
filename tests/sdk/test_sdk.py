"""The openai package for Python, unmodified, through a running Turnpike whose upstream is the sandbox model.

Set by the test that starts the gateway: OPENAI_BASE_URL, OPENAI_API_KEY, and POOR_API_KEY (a token with next to no budget).
"""

import os
import unittest

import openai
from openai import OpenAI

MODEL = "sandbox"
HELLO = [{"role": "user", "content": "Hello"}]


class Sdk(unittest.TestCase):
    def setUp(self):
        self.client = OpenAI(max_retries=0)
        self.addCleanup(self.client.close)

    def test_json(self):
        raw = self.client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO)
        self.assertRegex(raw.headers["x-turnpike-exchange"], r"^[0-9a-f]{8}-[0-9a-f]{4}-7")
        answer = raw.parse()
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_stream_with_usage(self):
        chunks = list(
            self.client.chat.completions.create(
                model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_stream_without_usage(self):
        chunks = list(self.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        self.assertTrue(all(chunk.usage is None for chunk in chunks))
        self.assertTrue("".join(chunk.choices[0].delta.content or "" for chunk in chunks))

    def test_completions(self):
        answer = self.client.completions.create(model=MODEL, prompt="Hello", max_tokens=5)
        self.assertLessEqual(answer.usage.completion_tokens, 5)

    def test_embeddings(self):
        answer = self.client.embeddings.create(model=MODEL, input=["a", "b"], dimensions=8)
        self.assertEqual([len(item.embedding) for item in answer.data], [8, 8])
        self.assertGreater(answer.usage.prompt_tokens, 0)

    def test_responses(self):
        answer = self.client.responses.create(model=MODEL, input="Hello")
        self.assertTrue(answer.output_text)
        self.assertGreater(answer.usage.output_tokens, 0)

    def test_responses_stream(self):
        with self.client.responses.stream(model=MODEL, input="Hello") as stream:
            for _ in stream:
                pass
            self.assertGreater(stream.get_final_response().usage.output_tokens, 0)

    def test_models(self):
        self.assertIn(MODEL, [model.id for model in self.client.models.list()])

    def test_wrong_token(self):
        with self.assertRaises(openai.AuthenticationError) as raised:
            self.client.with_options(api_key="tp-wrong").chat.completions.create(model=MODEL, messages=HELLO)
        self.assertEqual(raised.exception.code, "invalid_api_key")

    def test_over_budget_is_not_retried(self):
        poor = self.client.with_options(api_key=os.environ["POOR_API_KEY"], max_retries=2)
        with self.assertRaises(openai.RateLimitError) as raised:
            poor.chat.completions.create(model=MODEL, messages=HELLO)
        self.assertEqual(raised.exception.code, "insufficient_quota")
        # The number of the attempt is in the request that failed last.
        self.assertEqual(raised.exception.request.headers["x-stainless-retry-count"], "0")

    def test_unpriced_model(self):
        with self.assertRaises(openai.NotFoundError) as raised:
            self.client.chat.completions.create(model="no-such-model", messages=HELLO)
        self.assertEqual(raised.exception.code, "model_not_found")

    def test_ambiguous_body(self):
        with self.assertRaises(openai.BadRequestError):
            self.client.chat.completions.create(model=MODEL, messages=HELLO, extra_body={"Model": "other"})

    def test_cancel_in_mid_stream(self):
        stream = self.client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        next(iter(stream))
        stream.close()

    def test_upstream_errors_keep_their_class(self):
        for status, kind in [(400, openai.BadRequestError), (429, openai.RateLimitError), (500, openai.InternalServerError)]:
            with self.assertRaises(kind):
                self.client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": f"sandbox-error-{status}"}]
                )


if __name__ == "__main__":
    unittest.main(verbosity=2)
