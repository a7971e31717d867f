import os
import time

from django.db import connection, transaction
from django.db.models import F
from django.http import Http404
from django.utils import timezone
from rest_framework import generics
from rest_framework.decorators import api_view
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from orders import portfolios
from orders.models import Account
from orders.serializers import AccountDetailSerializer, AccountSerializer, PortfolioSerializer, TransactionSerializer

# The file says how many milliseconds the imagined price service takes, so that a fault can make it slow while all runs.
UPSTREAM_DELAY_FILE = os.environ.get("UPSTREAM_DELAY_FILE", "")
UPSTREAM_DELAY_MS = 20  # where there is no such file


@api_view(["GET"])
def health(request):
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    return Response({"status": "ok"})


class NewestFirst(CursorPagination):
    page_size = 50
    ordering = "-created_at"


class AccountList(generics.ListAPIView):
    """Open accounts, newest first: the runbook's most common query."""

    serializer_class = AccountSerializer
    pagination_class = NewestFirst

    def get_queryset(self):
        accounts = Account.objects.select_related("debtor").filter(status__in=["new", "assigned"])
        agency = self.request.query_params.get("agency", "")
        return accounts.filter(agency_id=agency) if agency.isdecimal() else accounts

    def list(self, request, *args, **kwargs):
        response = super().list(request, *args, **kwargs)
        response.data["portfolio"] = portfolios.known(request.query_params.get("agency", ""))
        return response


class AccountDetail(generics.RetrieveAPIView):
    queryset = Account.objects.select_related("debtor", "agency")
    serializer_class = AccountDetailSerializer


class PortfolioList(generics.ListAPIView):
    """The totals of every agency, added up anew: whoever asks for them fills the cache."""

    serializer_class = PortfolioSerializer

    def get_queryset(self):
        return portfolios.all_of_them()


class PortfolioDetail(generics.RetrieveAPIView):
    """The totals of one agency: where they are not in the cache, reads all payments, for want of an index (see schema.sql)."""

    serializer_class = PortfolioSerializer

    def get_object(self):
        portfolio = portfolios.one(self.kwargs["agency"])
        if portfolio is None:
            raise Http404
        return portfolio


class TransactionCreate(generics.CreateAPIView):
    """Take a payment: locks the account's row, so that this is what a blocker stops."""

    serializer_class = TransactionSerializer

    @transaction.atomic
    def perform_create(self, serializer):
        payment = serializer.validated_data
        Account.objects.filter(pk=payment["account"].pk).update(balance=F("balance") - payment["amount"])
        serializer.save(status="completed", created_at=timezone.now())


def upstream_delay_ms():
    try:
        with open(UPSTREAM_DELAY_FILE) as file:
            return float(file.read())
    except (OSError, ValueError):  # a price service that takes its usual time
        return UPSTREAM_DELAY_MS


@api_view(["GET"])
def market_quote(request):
    """A quote from the price service upstream: while it waits, it holds a worker, and nothing of the database."""
    time.sleep(upstream_delay_ms() / 1000)
    return Response({"symbol": request.query_params.get("symbol", "ACME"), "price": "101.25"})
