"""What the READMEs of four earlier systems show, by the requests package, against a running Turnpike with every door open.

Set by the test that starts the gateway: BASE (its address), TOKEN (an access token), ADMIN (an admin token of resale), OWN (a
token of resale with budgets). Each call that succeeds is charged once; the test that started this counts them.
"""

import os
import unittest

import requests

BASE = os.environ["BASE"]
TOKEN = os.environ["TOKEN"]
ADMIN = os.environ["ADMIN"]
OWN = os.environ["OWN"]
HELLO = [{"role": "user", "content": "Hello"}]


class Agent(unittest.TestCase):
    def test_chat(self):
        answer = requests.post(
            f"{BASE}/chat", headers={"Authorization": f"Bearer {TOKEN}"}, json={"model": "gpt-4o", "messages": HELLO}
        )
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(answer.json()["usage"]["total_tokens"], 68)
        refused = requests.post(f"{BASE}/chat", headers={"Authorization": "Bearer nobody's"}, json={})
        self.assertEqual((refused.status_code, refused.text), (401, "token error"))


class Resale(unittest.TestCase):
    def user(self, name):
        """Makes a user unless there is one: the key `tokens` tells."""
        asked = {"token": ADMIN, "userName": name}
        told = requests.get(f"{BASE}/tokens", json=asked).json()
        if "tokens" not in told:
            made = requests.post(
                f"{BASE}/generate-token", json={**asked, "userTokenLimit": 10000, "chatGptTokenLimit": 10000}
            ).json()
            self.assertTrue(made["success"])
            told = requests.get(f"{BASE}/tokens", json=asked).json()
        return told["tokens"]

    def test_first_generation(self):
        self.assertEqual(self.user("requests"), [10000, 10000])
        call = {
            "token": ADMIN,
            "userNameToken": "requests",
            "query": "Hello",
            "dialogName": "44444",
            "model": "gpt-4o",
            "systemMessageContent": "Be brief",
            "tokenLimit": 1000,
            "singleMessage": False,
        }
        told = requests.post(f"{BASE}/chatgpt", json=call).json()
        self.assertEqual((told["success"], told["response"]), (True, "Hi there"))
        self.assertEqual([told["tokensUsed"], told["remainingTokens"]], self.user("requests"))
        history = requests.get(f"{BASE}/dialog-history", json={"token": ADMIN, "dialogName": "44444"}).json()["history"]
        self.assertEqual([said["role"] for said in history], ["system", "user", "assistant"])
        update = {"token": ADMIN, "userName": "requests", "newUserTokenLimit": 0, "newChatGptTokenLimit": 5}
        self.assertTrue(requests.post(f"{BASE}/update-token", json=update).json()["success"])
        self.assertEqual(self.user("requests"), [0, 5])
        refused = requests.post(f"{BASE}/chatgpt", json=call)
        self.assertEqual((refused.status_code, refused.json()["userTokens"]), (403, [0, 5]))

    def test_second_generation(self):
        told = requests.post(f"{BASE}/chatgpt", json={"token": OWN, "query": "Hello"}).json()
        self.assertEqual(told["tokensUsed"], {"requestTokensUsed": 53, "responseTokensUsed": 15})
        refused = requests.post(f"{BASE}/chatgpt", json={"token": "nobody's", "query": "Hello"})
        self.assertEqual((refused.status_code, refused.json()["success"]), (401, False))


class Simple(unittest.TestCase):
    def test_a_dialogue_goes_on(self):
        dialogue = []
        for turn in ["Hello", "Again"]:
            call = {
                "api_key": TOKEN,
                "user_content": turn,
                "system_content": "Be brief",
                "continuous_dialogue": dialogue,
                "model": "gpt-4o",
                "max_tokens": 3000,
            }
            told = requests.post(f"{BASE}/api", json=call).json()
            self.assertEqual((told["code"], told["current_response"]), (200, told["data"]["response"]))
            dialogue = told["result"]
        self.assertEqual([said["role"] for said in dialogue], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual(requests.get(f"{BASE}/api").status_code, 403)


class Complete(unittest.TestCase):
    def test_prompt_and_messages(self):
        headers = {"access-token": TOKEN, "Content-Type": "application/json"}
        for call in [{"prompt": "Hello"}, {"messages": HELLO, "generate_params": {"temperature": 0.2}}]:
            call.setdefault("generate_params", {})["model_name"] = "gpt-4o"
            told = requests.post(f"{BASE}/chat_complete", headers=headers, json=call)
            self.assertEqual((told.headers["content-type"], told.json()["status"]), ("application/json", "ok"))
            self.assertEqual(told.json()["text"], told.json()["choices"][0]["message"]["content"])
        refused = requests.post(f"{BASE}/chat_complete", headers={"access-token": "123456"}, json={"prompt": "Hello"})
        self.assertEqual((refused.status_code, refused.json()["status"]), (403, "error"))


if __name__ == "__main__":
    unittest.main()
