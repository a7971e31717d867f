"""The users of the demo: 50% lists, 20% details, 10% portfolios, 10% quotes, 10% payments.

Environment: THINK_MIN, THINK_MAX (seconds between a user's requests, 1 and 3); PORTFOLIOS (how many of 90 plus as many
requests ask for a portfolio, 10).
"""

import os
import random

from locust import FastHttpUser, between, task

AGENCIES = 100
ACCOUNTS = 50_000  # both as in demo/sql/seed.sql
PAYING_ACCOUNTS = 1000  # few, so that one blocker of these rows meets every payment


class Clerk(FastHttpUser):
    wait_time = between(float(os.environ.get("THINK_MIN", "1")), float(os.environ.get("THINK_MAX", "3")))

    @task(50)
    def list_accounts(self):
        self.client.get(f"/api/v1/accounts?agency={random.randint(1, AGENCIES)}", name="account-list")

    @task(20)
    def account(self):
        self.client.get(f"/api/v1/accounts/{random.randint(1, ACCOUNTS)}", name="account-detail")

    @task(int(os.environ.get("PORTFOLIOS", "10")))
    def portfolio(self):
        self.client.get(f"/api/v1/portfolios/{random.randint(1, AGENCIES)}", name="portfolio-detail")

    @task(10)
    def quote(self):
        self.client.get("/api/v1/market/quote?symbol=ACME", name="market-quote")

    @task(10)
    def pay(self):
        payment = {"account": random.randint(1, PAYING_ACCOUNTS), "amount": "1.50"}
        self.client.post("/api/v1/transactions", json=payment, name="transaction-create")
