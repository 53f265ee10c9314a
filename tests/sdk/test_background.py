"""The openai package for Python, unmodified: a response in the background through a running Turnpike.

Set by the test that starts the gateway: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import unittest

import openai
from openai import OpenAI


class Background(unittest.TestCase):
    def test_life(self):
        with OpenAI(max_retries=0) as client:
            begun = client.responses.create(model="gpt-4o", input="Hi", background=True)
            self.assertEqual((begun.id, begun.status), ("resp_1", "queued"))
            self.assertEqual(client.responses.retrieve(begun.id).status, "queued")
            self.assertEqual(client.responses.cancel(begun.id).status, "cancelled")
            client.responses.delete(begun.id)
            with self.assertRaises(openai.NotFoundError) as caught:
                client.responses.retrieve(begun.id)
            self.assertEqual(caught.exception.code, "not_found")
            with self.assertRaises(openai.NotFoundError) as caught:
                client.responses.create(model="gpt-4o", input="Hi", previous_response_id="resp_foreign")
            self.assertEqual(caught.exception.param, "previous_response_id")


if __name__ == "__main__":
    unittest.main()
